"""Audits tests: whether a set of problems can be trusted as an evaluation or as a reward.

    >>> with Sandbox() as sandbox:
    ...     rows, summary = audit(task, out="audit", sandbox=sandbox, settings=Settings())
    >>> summary["weak"]["count"]
    45

For each problem with a reference solution in Python, it reports whether the reference always
passes, dead assertions (:mod:`.tests`), wrong programs that the tests accept (:mod:`.programs`),
proved by inputs (:mod:`.inputs`) or a stronger suite, forgers that pass (:mod:`.programs`), and
tests to add. docs/audit.md has the measurements.

Programs run only in the sandbox; here they are parsed and compiled.
"""

from .problem import AuditRow, AuditSettings, Survivor
from .run import audit, hardened_rows, open_task, suite_of
from .summary import read_finding

__all__ = [
    "AuditRow", "AuditSettings", "Survivor", "audit", "hardened_rows", "open_task", "read_finding",
    "suite_of",
]  # fmt: skip
