"""Finds braces in programs of brace languages, and inserts a statement at the end of what they run.

Programs are untrusted, so each pattern takes linear time: repetitions that may begin anywhere are
bounded, or extend to the text's end if they are not closed.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from codegen.errors import InputError

# Makes one text of a program and its tests.
Guard = Callable[[str, str], str]

_NO_CODE = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)"  # comments
    r'|R"([^\s()\\]{0,16})\(.*?(?:\)\1"|\Z)'  # raw strings of C++
    r'|"(?:\\.|[^"\\\n])*+(?:"|(?P<open>))|`[^`]*`'  # strings; what an open quote begins is none
    r"|'(?:\\(?:[^\n]|u\{?[0-9a-fA-F]+\}?|x[0-9a-fA-F]+)|[^\\'\n])'",  # one character
    re.DOTALL,
)


# What follows a program that is tested: statements of ours.
_WITH_TESTS = re.compile(r"CodegenAnswers\.|codegen_answer|CODEGEN_TOKEN")
_RETURN = re.compile(r"\breturn\b[^;{}]*;\s*")


def masked(text: str) -> str:
    """``text`` with blanks for comments, strings and characters, at the same positions."""

    def blank(found: re.Match[str]) -> str:
        return found[0] if found["open"] is not None else re.sub(r"[^\n]", " ", found[0])

    return _NO_CODE.sub(blank, text)


def closing_brace(code: str, opening: int) -> int:
    """The position of the brace that closes the one at ``opening``, in masked code; -1 if none."""
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    return -1


def appended(statement: str) -> Guard:
    """Appends a statement to the tests."""
    return lambda program, test: f"{program}\n{test}\n{statement}\n"


def in_main(head: str, statement: str, first: str = "") -> Guard:
    """Inserts a statement at the end of the last function that ``head`` matches, before its final
    ``return``; and ``first`` at its beginning.

    If the tests have such a function, nothing in the program can lead to another one. Some tests
    are only the end of a function that the program begins.
    """
    pattern = re.compile(head)

    def body(code: str) -> tuple[int, int] | None:
        """Where the last such function begins and ends, in masked code."""
        heads = list(pattern.finditer(code))
        end = closing_brace(code, heads[-1].end() - 1) if heads else -1
        return (heads[-1].end(), end) if end >= 0 else None

    def guard(program: str, test: str) -> str:
        before, text, code = f"{program}\n", test, masked(test)
        found = body(code)
        if found is None:
            before, text, code = "", f"{program}\n{test}", masked(f"{program}\n{test}")
            found = body(code)
        if found is None:
            raise InputError(
                "The test of a job in mode in_sandbox has no main function that ends.",
                "Its last statement has to be known, or the verdict would be an exit status.",
            )
        start, end = found
        last = code.rfind("return", start, end)
        at = last if last >= 0 and _RETURN.fullmatch(code, last, end) else end
        return f"{before}{text[:start]}{first}{text[start:at]}\n{statement}\n{text[at:]}"

    return guard


def main_of(head: str, source: str) -> re.Match[str] | None:
    """The function ``main`` that runs: the last one if tests follow the program, else the first."""
    heads = list(re.finditer(head, source))
    return heads[-1 if _WITH_TESTS.search(source) else 0] if heads else None
