"""Runs the published LintSeq generator on programs and measures its CPU time.

A script for another interpreter: the one in which PyPI's ``pylintseq`` is installed. It imports no
module of this project and does not change the package. It reads JSON lines ``{"id", "program",
"seed"}`` and answers each with ``{"id", "cpu_s", "diffs"}``, where ``diffs`` is None if the package
made no sequence; it does not answer a line ``{"warm_up": [text, ...]}``. With ``--versions`` it
prints the versions in use and exits. The timing covers the package's own worker for one sequence
(``subprocess_task`` in its ``generate.py``, with the same arguments):
``lintseq_backward_sampling_pythonic``, whose every check builds a new linter, and
``inflate_edit_path``. It excludes startup, imports, reading and writing, and linting a first
program and the warm-up texts once, after which pylint has parsed the library modules that they
import.

The clock is ``time.process_time`` plus the CPU time of ended children. The package swallows all
exceptions while it lints, so no time limit can be raised inside it: a sequence that takes more than
``CPU_LIMIT_S`` ends this process by SIGPROF, and the caller starts another.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
import tempfile
import time

CPU_LIMIT_S = 120.0
WARM_UP = "import math\n\n\ndef area(radius):\n    return math.pi * radius**2\n"


def _cpu_s() -> float:
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _generate(program: str, seed: int) -> tuple[float, list[str] | None]:
    from pylintseq import utils

    utils.set_seed_everywhere(seed)
    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
    began = _cpu_s()
    path = utils.lintseq_backward_sampling_pythonic(
        program,
        children_per_round=1,
        top_k=1,
        max_population_size=1,
        max_depth=512,
        indent_bias_sampling_factor=1,
        ignore_imports=False,
        ignore_comments=True,
        ignore_global_defs=True,
        ignore_init_errors=False,
    )
    diffs = None if path is None else utils.inflate_edit_path(program, path[0][0])[1]
    spent = _cpu_s() - began
    signal.setitimer(signal.ITIMER_PROF, 0)
    return spent, diffs


def _warm_up(text: str) -> None:
    from pylintseq import utils

    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        utils.file_linter(file.name)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    import pylintseq  # noqa: F401

    packages = ("pylintseq", "pylint", "astroid", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _main() -> None:
    out = sys.stdout  # the package replaces sys.stdout while it lints
    if "--versions" in sys.argv[1:]:
        out.write(json.dumps(_versions()) + "\n")
        return
    _generate(WARM_UP, 0)
    for line in sys.stdin:
        job = json.loads(line)
        if "warm_up" in job:
            for text in job["warm_up"]:
                _warm_up(text)
            continue
        spent, diffs = _generate(job["program"], job["seed"])
        out.write(json.dumps({"id": job["id"], "cpu_s": spent, "diffs": diffs}) + "\n")
        out.flush()


if __name__ == "__main__":
    _main()
