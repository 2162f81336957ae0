"""Checks of intermediate states that do not rely on the dependency rules.

- ``static``: none; the rules alone.
- ``compile``: Python compiles each state (and never runs it), so each is syntactically valid.
- ``ruff``: also, ruff finds no undefined name or misplaced statement, many states at a time.
- ``pylint``: pylint finds no error, as in the paper's code: :mod:`codegen.lintseq.verify.linter`.

Other languages have two checks (:mod:`codegen.lintseq.verify.compilers`): tree-sitter's for
``compile`` and ``ruff``, the language's own compiler for ``pylint``; ``strict`` is a name for the
last.

Findings that the whole program has too are excused. A fast check can be audited with pylint on a
random share of the states: :func:`codegen.lintseq.repair.audited`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from codegen.errors import require_known
from codegen.lintseq.verify.checks import Check, Finding, check_compile, check_ruff, new_findings
from codegen.lintseq.verify.linter_process import AUDIT_MIB, shared_linter

__all__ = [
    "CHECKS",
    "Check",
    "Finding",
    "Verify",
    "audit_pylint",
    "check_compile",
    "check_for",
    "check_pylint",
    "check_ruff",
    "new_findings",
]

Verify = Literal["static", "compile", "ruff", "pylint", "strict"]
CHECKS: tuple[Verify, ...] = get_args(Verify)


def check_pylint(states: Sequence[str]) -> list[list[Finding]]:
    """Lints each state with pylint in a child process, and remembers the verdicts.

    Raises:
        CodegenError: if pylint is not installed.
    """
    return shared_linter().check(states)


def audit_pylint(states: Sequence[str]) -> list[list[Finding]]:
    """:func:`check_pylint` with less memory, for few states with many different imports."""
    return shared_linter(AUDIT_MIB).check(states)


_CHECKS: Mapping[str, Check | None] = {
    "static": None,
    "compile": check_compile,
    "ruff": check_ruff,
    "pylint": check_pylint,
    "strict": check_pylint,
}


def check_for(verify: Verify, language: str = "python") -> Check | None:
    """The check of that name, None for ``static``.

    Raises:
        ConfigError: for an unknown name.
        MachineError: if what checks a language other than Python is not installed.
    """
    require_known("check", verify, CHECKS)
    if language == "python" or verify == "static":
        return _CHECKS[verify]
    # The sandbox is of no use to a run in Python.
    from codegen.lintseq.verify.compilers import compiler_check, syntax_check

    return (compiler_check if verify in ("pylint", "strict") else syntax_check)(language)
