"""Checks of intermediate states that don't rest on the dependency rules.

- ``static``: none; the rules alone.
- ``compile``: Python compiles each state (and never runs it), so each is syntactically valid.
- ``ruff``: besides, ruff finds no undefined name or misplaced statement. One process looks at many
  states.

Of ruff's rules those are selected that mark an error, in pylint's sense, that can appear when lines
are missing: E9 (syntax), F404 (late ``__future__``), F5 (format strings that don't fit their
arguments), F62 (starred assignments), F7 (``return``, ``break``, ``yield``... out of place, broken
annotations), F82 (undefined names, also in ``__all__``, and locals used before assignment). Left
out are style and unused names (F401, F841: every half-written program has them), redefinitions
(F811: it depends on uses that are not written yet) and doubtful comparisons (F63), which a deletion
can't create. Messages that the whole program has too are excused; ``noqa`` comments are not heeded.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from codegen.errors import CodegenError, ConfigError

Verify = Literal["static", "compile", "ruff"]

_MEMORY = "/dev/shm"  # only the parent of a private directory
_BATCH_CHARS = 8_000_000  # a container may have as little as 64 MB there

RUFF_RULES = ("E9", "F404", "F5", "F62", "F7", "F82")


class Finding(NamedTuple):
    """What a check says about a state; ``line`` counts from 1, 0 if unknown."""

    line: int
    rule: str
    message: str


# A check takes the texts of states, and gives the findings in each.
Check = Callable[[Sequence[str]], list[list[Finding]]]


def check_for(verify: Verify) -> Check | None:
    """The check of that name, None for ``static``.

    Raises:
        ConfigError: if there is none.
    """
    if verify not in _CHECKS:
        raise ConfigError(f"There is no check {verify!r}.", f"Choose one of: {', '.join(_CHECKS)}.")
    return _CHECKS[verify]


def new_findings(findings: Iterable[Finding], excused: Iterable[Finding]) -> list[Finding]:
    """Those that the whole program has not, or less often; line numbers move and don't count."""
    left = Counter((finding.rule, finding.message) for finding in excused)
    new = []
    for finding in findings:
        key = (finding.rule, finding.message)
        left[key] -= 1
        if left[key] < 0:
            new.append(finding)
    return new


def check_compile(states: Sequence[str]) -> list[list[Finding]]:
    """Compiles each state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [_compile(state) for state in states]


def _compile(state: str) -> list[Finding]:
    try:
        compile(state, "<state>", "exec", dont_inherit=True)
    except SyntaxError as error:
        # "expected an indented block after 'if' statement on line 3": the header is what is wrong.
        header = re.search(r" on line (\d+)$", error.msg)
        line = int(header[1]) if header else error.lineno or 0
        return [Finding(line, "syntax-error", error.msg)]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Finding(0, "syntax-error", f"{type(error).__name__}: {error}")]
    return []


def check_ruff(states: Sequence[str]) -> list[list[Finding]]:
    """Compiles each state, and lints those that compile with few calls of ruff, mostly one.

    Raises:
        CodegenError: if ruff is not installed, or fails.
    """
    findings = check_compile(states)
    batch: list[int] = []
    size = 0
    for number, state in enumerate(states):
        if findings[number]:
            continue
        if batch and size + len(state) > _BATCH_CHARS:
            _lint(states, batch, findings)
            batch, size = [], 0
        batch.append(number)
        size += len(state)
    if batch:
        _lint(states, batch, findings)
    return findings


def _lint(states: Sequence[str], batch: Sequence[int], findings: list[list[Finding]]) -> None:
    """Adds ruff's findings in the states of a batch."""
    with tempfile.TemporaryDirectory(prefix="lintseq-", dir=_scratch()) as folder:
        for number in batch:
            path = Path(folder, f"{number}.py")
            path.write_text(states[number], encoding="utf-8", newline="\n")
        for row in _run_ruff(folder):
            number = int(Path(row["filename"]).stem)
            line = (row.get("location") or {}).get("row", 0)
            rule = row.get("code") or "syntax-error"
            findings[number].append(Finding(line, rule, row["message"]))


def _scratch() -> str | None:
    """Where to put many small files: in memory if that's possible and TMPDIR says nothing else."""
    if "TMPDIR" not in os.environ and os.access(_MEMORY, os.W_OK | os.X_OK):
        return _MEMORY
    return None


def _run_ruff(folder: str) -> list[Mapping]:
    command = [
        _ruff(),
        "check",
        "--isolated",
        "--no-cache",
        "--ignore-noqa",
        "--no-respect-gitignore",
        "--quiet",
        "--exit-zero",
        "--output-format=json",
        f"--select={','.join(RUFF_RULES)}",
        f"--target-version=py3{sys.version_info.minor}",
        folder,
    ]
    # One thread: whoever makes much data runs many of these side by side.
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise CodegenError(
            f"ruff failed with exit code {done.returncode}: {done.stderr.strip()[:300]}",
            "Use verify='compile', or install another version of ruff.",
        )
    return json.loads(done.stdout)


_NO_RUFF = ("ruff, which checks the states, is not installed.", "Run: pip install ruff")


def _ruff() -> str:
    try:
        from ruff import find_ruff_bin
    except ImportError:
        try:
            from ruff.__main__ import find_ruff_bin
        except ImportError:
            raise CodegenError(*_NO_RUFF) from None
    try:
        return find_ruff_bin()
    except FileNotFoundError:
        raise CodegenError(*_NO_RUFF) from None


_CHECKS: Mapping[str, Check | None] = {
    "static": None,
    "compile": check_compile,
    "ruff": check_ruff,
}
