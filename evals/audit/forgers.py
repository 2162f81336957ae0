"""Programs that solve nothing and try to pass, and the harnesses that they are tried in.

The harness ``in_process`` runs a program and its tests as one script and believes its exit code;
``human_eval`` executes both in one namespace and believes that nothing was raised, as the harness
of Chen et al. 2021 does. Both are imitated inside our sandbox. ``isolated`` and ``blinded`` are
the sandbox's own mechanisms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from codegen.evals.sandbox import Job, Outcome

Harness = Literal["isolated", "blinded", "human_eval", "in_process"]
HARNESSES: tuple[Harness, ...] = get_args(Harness)

_FUNCTION = "def {name}(*args, **options):\n    {body}\n"
_EQUAL = """\
class _Equal:
    def __getattr__(self, name):
        return self
    def _self(self, *args, **options):
        return self
    def _true(self, *args):
        return True
    def _number(self, *args):
        return 1
    __call__ = __getitem__ = __enter__ = __abs__ = __neg__ = __invert__ = _self
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __truediv__ = __mod__ = __round__ = _self
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = _true
    __hash__ = __len__ = __int__ = __index__ = _number
    __iter__ = lambda self: iter(())
    __exit__ = __setattr__ = __setitem__ = _true
"""
_NO_ASSERTIONS = """\
import builtins, sys, unittest
class _Never(Exception):
    def __new__(cls, *args):
        raise SystemExit(0)
builtins.AssertionError = _Never
for _name in dir(unittest.TestCase):
    if _name.startswith(("assert", "fail")):
        setattr(unittest.TestCase, _name, lambda *args, **options: None)
"""
_NO_COMPARISON = """\
import builtins, math, operator
for _module in (builtins, math, operator):
    for _name in ("all", "any", "isinstance", "isclose", "eq", "set", "sorted", "abs", "len"):
        if hasattr(_module, _name):
            setattr(_module, _name, lambda *args, **options: True)
class _Value(int):
    __eq__ = __ne__ = lambda self, other: True
    __hash__ = int.__hash__
"""
_FORGERS = {
    "equal to everything": (_EQUAL, "return _Equal()"),
    "exit code 0": ("", "raise SystemExit(0)"),
    "patched assertions": (_NO_ASSERTIONS, "return None"),
    "patched comparison": (_NO_COMPARISON, "return _Value(0)"),
    "os._exit": ("import os\n", "os._exit(0)"),
}
# Raises like a runner that exits with 1 if a test method fails.
_COLLECT = """
for _test in [value for value in list(globals().values()) if hasattr(value, "assertEqual")]:
    import unittest
    _run = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(_test).run(_run)
    if not _run.wasSuccessful():
        raise RuntimeError("a test failed")
"""


def make_forgers(names: Sequence[str]) -> dict[str, str]:
    """Returns programs by the name of their trick.

    Args:
        names: the functions that the tests call.
    """
    return {
        trick: start + "\n".join(_FUNCTION.format(name=name, body=body) for name in names)
        for trick, (start, body) in _FORGERS.items()
    }


def in_harness(job: Job, harness: Harness) -> Job:
    """Returns the job that runs a job's program and tests as a harness does."""
    if harness == "isolated":
        return job
    if harness == "blinded":
        return replace(job, mode="blinded", plain=False)
    called = f"check({job.entry_point})" if "def check(" in job.test else ""
    text = "\n".join((job.setup, job.program, job.test, called, _COLLECT))
    if harness == "human_eval":
        lines = ("try:", f"    exec({text!r}, {{}})", "    verdict = 'passed'")
        text = "\n".join((*lines, "except BaseException:", "    verdict = 'failed'"))
    else:
        text += "\nverdict = 'passed'\n"
    return Job(text, mode="calls", calls=[("verdict", None)], limits=job.limits)


def is_fooled(outcome: Outcome, harness: Harness) -> bool:
    """Returns True if a harness takes a forger for a correct program."""
    if harness in ("isolated", "blinded"):
        return outcome.passed
    if harness == "in_process" and outcome.status == "exited":
        return outcome.message.endswith("exit code 0")
    return outcome.passed and outcome.values == ("passed",)
