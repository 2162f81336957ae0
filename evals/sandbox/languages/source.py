"""Looking at programs of brace languages as far as braces go, and putting a statement at the end of
what they run.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from codegen.errors import InputError

Guard = Callable[[str], str]

_NO_CODE = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)"  # comments
    r'|R"([^\s()\\]{0,16})\(.*?\)\1"'  # raw strings of C++
    r'|"(?:\\.|[^"\\\n])*"|`[^`]*`'  # strings
    r"|'(?:\\(?:[^\n]|u\{?[0-9a-fA-F]+\}?|x[0-9a-fA-F]+)|[^\\'\n])'",  # one character
    re.DOTALL,
)


def masked(text: str) -> str:
    """``text`` with blanks for comments, strings and characters, at the same positions."""
    return _NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def closing_brace(code: str, opening: int) -> int:
    """Where the brace that opens at ``opening`` is closed, in masked code; -1 if it is not."""
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    return -1


def appended(statement: str) -> Guard:
    """Puts a statement behind the text."""
    return lambda text: f"{text}\n{statement}\n"


def in_main(head: str, statement: str) -> Guard:
    """Puts a statement at the end of the last function that ``head`` matches; before a ``return``
    that ends it.
    """
    pattern = re.compile(head)

    def guard(text: str) -> str:
        code = masked(text)
        heads = list(pattern.finditer(code))
        end = closing_brace(code, heads[-1].end() - 1) if heads else -1
        if end < 0:
            raise InputError(
                "The test of a job in mode in_sandbox has no main function that ends.",
                "Its last statement has to be known, or the verdict would be an exit status.",
            )
        last = re.search(r"\breturn\b[^;{}]*;\s*\Z", code[heads[-1].end() : end])
        at = heads[-1].end() + last.start() if last else end
        return f"{text[:at]}\n{statement}\n{text[at:]}"

    return guard
