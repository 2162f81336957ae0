"""Programs that solve nothing and try to pass, and the harnesses that they are tried in.

The harness ``in_process`` runs a program and its tests as one script and believes its exit code;
``human_eval`` executes both in one namespace and believes that nothing was raised, as the harness
of Chen et al. 2021 does. Both are imitated inside our sandbox. ``isolated`` is the task's own job,
and ``blinded`` the same with the tests in the program's process. The programs are in
``assets/forgers.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from codegen.config import read_yaml
from codegen.evals.sandbox import Job, Outcome

Harness = Literal["isolated", "blinded", "human_eval", "in_process"]
HARNESSES: tuple[Harness, ...] = get_args(Harness)
_OURS = ("isolated", "blinded")

# Raises if a test method fails, as a runner does.
_COLLECT = """
for _test in [value for value in list(globals().values()) if hasattr(value, "assertEqual")]:
    import unittest
    _run = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(_test).run(_run)
    if not _run.wasSuccessful():
        raise RuntimeError("a test failed")
"""


@cache
def _tricks() -> dict[str, Any]:
    return read_yaml(Path(__file__).parent / "assets" / "forgers.yaml")


def make_forgers(names: Sequence[str]) -> dict[str, str]:
    """Returns programs by the name of their trick.

    Args:
        names: the functions that the tests call.
    """

    def program(start: str, body: str) -> str:
        functions = (f"def {name}(*args, **options):\n    {body}\n" for name in names)
        return "\n".join((start, *functions))

    return {trick: program(**parts) for trick, parts in _tricks().items()}


def in_harness(job: Job, harness: Harness) -> Job:
    """Returns the job that runs a job's program and tests as a harness does."""
    if harness in _OURS:
        return replace(job, mode="blinded", plain=False) if harness == "blinded" else job
    called = f"check({job.entry_point})" if "def check(" in job.test else ""
    text = "\n".join((job.setup, job.program, job.test, called, _COLLECT))
    text = f"exec({text!r}, {{}})" if harness == "human_eval" else text
    text = f"{text}\nverdict = 'passed'"
    return Job(text, mode="calls", calls=[("verdict", None)], limits=job.limits)


def is_fooled(outcome: Outcome, harness: Harness) -> bool:
    """Returns True if a harness takes a forger for a correct program."""
    if harness == "in_process" and outcome.status == "exited":
        return outcome.message in ("exit code 0", "SystemExit: 0", "SystemExit: None")
    return outcome.passed and (harness in _OURS or outcome.values == ("passed",))
