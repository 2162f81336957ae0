"""The check ``compile``: Python compiles each state, and never runs it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from codegen.lintseq.verify.findings import Finding


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
