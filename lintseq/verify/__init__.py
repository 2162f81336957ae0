"""Checks of intermediate states that do not rely on the dependency rules.

- ``static``: no check, only the rules.
- ``compile``: Python compiles each state, and never runs it.
- ``ruff``: each state parses, and ruff finds no undefined name or misplaced statement. One process
  checks many states. A test deletes lines at random and compares ruff with the compiler.
- ``pylint``: pylint finds no error, as in the paper's code: :mod:`codegen.lintseq.verify.linter`.

Other languages have two checks (:mod:`codegen.lintseq.verify.compilers`): tree-sitter's for
``compile`` and ``ruff``, the language's own compiler for ``pylint``. ``strict`` is an alias of
``pylint``.

Findings that the whole program also has are ignored. A fast check can be audited with pylint on a
random sample of the states: :func:`codegen.lintseq.resampling.audited`.

The ruff rules report errors, in pylint's sense, that missing lines can cause: E9
(syntax), F404 (late ``__future__``), F50 and F52 (format strings whose arguments do not match), F62
(starred assignments), F7 (misplaced ``return``, ``break``, ``yield``, broken annotations), F82
(undefined names, also in ``__all__``, and locals used before assignment), PLE0115, PLE0117, PLE0118
(``global`` and ``nonlocal`` without a matching binding) and PLE1142 (misplaced ``await``). ``noqa``
comments are ignored.
"""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

from codegen.core.errors import CodegenError, MachineError, require_known
from codegen.core.python_syntax import find_ruff

__all__ = [
    "CHECKS",
    "Check",
    "LintMessage",
    "Verify",
    "batches",
    "check_compile",
    "check_for",
    "check_pylint",
    "check_ruff",
    "new_findings",
]

Item = TypeVar("Item")
_LINE = re.compile(r"\bline \d+")


class LintMessage(NamedTuple):
    """A fault in a state; ``line`` counts from 1, 0 if unknown."""

    line: int
    rule: str
    message: str


# State texts -> the findings in each.
Check = Callable[[Sequence[str]], list[list[LintMessage]]]


def new_findings(
    findings: Iterable[LintMessage], excused: Iterable[LintMessage]
) -> list[LintMessage]:
    """Returns the findings that the whole program does not have, or has less often.

    Line numbers are ignored, also in messages ("already defined line 7"): they move as lines are
    inserted.

    Args:
        findings: findings in a state.
        excused: findings in the whole program.
    """
    left = Counter(map(_key, excused))
    new = []
    for finding in findings:
        key = _key(finding)
        left[key] -= 1
        if left[key] < 0:
            new.append(finding)
    return new


def _key(finding: LintMessage) -> tuple[str, str]:
    return finding.rule, _LINE.sub("line", finding.message)


def check_compile(states: Sequence[str]) -> list[list[LintMessage]]:
    """Compiles each state."""
    with warnings.catch_warnings(action="ignore"):
        return [_compile(state) for state in states]


def _compile(state: str) -> list[LintMessage]:
    try:
        compile(state, "<state>", "exec", dont_inherit=True)
    except SyntaxError as error:
        # "expected an indented block after 'if' statement on line 3": the header is wrong.
        header = re.search(r" on line (\d+)$", error.msg)
        line = int(header[1]) if header else error.lineno or 0
        return [LintMessage(line, "syntax-error", error.msg)]
    except (ValueError, RecursionError, MemoryError) as error:
        return [LintMessage(0, "syntax-error", f"{type(error).__name__}: {error}")]
    return []


_SYNTAX = "invalid-syntax"
_MEMORY = "/dev/shm"
_BATCH_CHARACTERS = 16_000_000

RUFF_RULES = (
    *("E9", "F404", "F50", "F52", "F62", "F7", "F82"),
    *("PLE0115", "PLE0117", "PLE0118", "PLE1142"),
)


def check_ruff(states: Sequence[str]) -> list[list[LintMessage]]:
    """Lints the states with few calls of ruff, mostly one.

    Raises:
        MachineError: if ruff is not installed or does not work, or the disk is full.
        CodegenError: if ruff fails on one of these states.
    """
    findings: list[list[LintMessage]] = [[] for _ in states]
    for batch in batches(enumerate(states), lambda item: len(item[1]), _BATCH_CHARACTERS):
        for row in _rows(batch):
            number = int(Path(row["filename"]).stem)
            findings[number].append(_finding(row, states[number]))
    return findings


def batches(
    items: Iterable[Item], size: Callable[[Item], int], most: int, most_items: int | None = None
) -> Iterator[list[Item]]:
    """Yields batches of consecutive items with limited total size; an oversized item is alone."""
    batch: list[Item] = []
    total = 0
    for item in items:
        added = size(item)
        if batch and (total + added > most or len(batch) == most_items):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += added
    if batch:
        yield batch


def _rows(batch: Sequence[tuple[int, str]]) -> list[Mapping]:
    """Writes the states to numbered files, in memory if possible, and returns ruff's findings."""
    in_memory = "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK)
    for folder in (_MEMORY, None) if in_memory else (None,):
        try:
            with tempfile.TemporaryDirectory(prefix="lintseq-", dir=folder) as private:
                for number, state in batch:
                    path = Path(private, f"{number}.py")
                    path.write_text(state, encoding="utf-8", newline="\n")
                return _run_ruff(private)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
    raise MachineError(
        f"No space left for temporary files in {tempfile.gettempdir()}.",
        "Free some space, or set TMPDIR to another directory; then run the same command again.",
    )


def _finding(row: Mapping, state: str) -> LintMessage:
    line = (row.get("location") or {}).get("row", 0)
    rule, message = row.get("code") or _SYNTAX, row["message"]
    if rule == _SYNTAX:
        rule = "syntax-error"
        if message.startswith("Expected an indented block after"):
            line = _header(state, line)
    return LintMessage(line, rule, message)


def _header(state: str, line: int) -> int:
    """Returns the line of the header without a block; ruff reports the following line."""
    lines = state.split("\n")
    for number in range(min(line, len(lines)), 0, -1):
        if lines[number - 1].partition("#")[0].rstrip().endswith(":"):
            return number
    return line


def _run_ruff(folder: str) -> list[Mapping]:
    flags = "--isolated --no-cache --ignore-noqa --no-respect-gitignore --quiet --exit-zero"
    rules = f"--select={','.join(RUFF_RULES)}"
    target = f"--target-version=py3{sys.version_info.minor}"
    command = [find_ruff(), "check", *flags.split(), "--output-format=json", rules, target, folder]
    # One thread, since each worker of a data run has its own ruff.
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        message = f"ruff failed with exit code {done.returncode}: {done.stderr.strip()[:300]}"
        # Distinguish a failure on these states from a broken ruff.
        alone = subprocess.run([*command[:-1], "-"], input="", capture_output=True, text=True)
        if alone.returncode == 0:
            raise CodegenError(message, "Use verify='compile' for this program.")
        raise MachineError(message, "Use verify='compile', or install another version of ruff.")
    return json.loads(done.stdout)


Verify = Literal["static", "compile", "ruff", "pylint", "strict"]
CHECKS: tuple[Verify, ...] = get_args(Verify)


def check_pylint(states: Sequence[str]) -> list[list[LintMessage]]:
    """Lints each state with pylint in a child process, and caches the results.

    Raises:
        CodegenError: if pylint is not installed.
    """
    from codegen.lintseq.verify.linter_process import shared_linter

    return shared_linter().check(states)


_CHECKS: Mapping[str, Check | None] = {
    "static": None,
    "compile": check_compile,
    "ruff": check_ruff,
    "pylint": check_pylint,
    "strict": check_pylint,
}


def check_for(verify: Verify, language: str = "python") -> Check | None:
    """Returns a check by name, None for ``static``.

    Raises:
        ConfigError: for an unknown name.
        MachineError: if the checker of a language other than Python is not installed.
    """
    require_known("check", verify, CHECKS)
    if language == "python" or verify == "static":
        return _CHECKS[verify]
    # Imported late, since a run in Python does not need the sandbox.
    from codegen.lintseq.verify.compilers import compiler_check, syntax_check

    return (compiler_check if verify in ("pylint", "strict") else syntax_check)(language)
