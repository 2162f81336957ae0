"""How likely each line is drawn as the seed of a deletion, as in the reference code of LintSeq.

Lines deeper in the program weigh more, are deleted earlier and so written later. Blank lines,
comments and the inside of global definitions (``NAME = [`` up to ``]``) are never drawn; they go
with the lines around them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

_CLOSING = {"(": ")", "[": "]"}


def line_weights(lines: Sequence[str], starts: Set[int] = frozenset()) -> list[float]:
    """The weight of each line, 0 for one that is never drawn.

    With ``i`` the indentation of a line in characters (of one with at most one other character:
    that of the line before) and ``tab`` the first positive one, a line weighs 1 if ``i`` is 0, else
    ``i / tab``.

    Args:
        lines: of the program.
        starts: numbers of lines that start a piece of the program. A global definition ends before
            the next at the latest; the reference searches its closing bracket to the program's end.
    """
    indents = _indents(lines)
    tab = next((indent for indent in indents if indent > 0), 1)
    weights = []
    closing = ""
    for number, line in enumerate(lines):
        text = line.strip()
        if closing and number not in starts:
            weights.append(0.0)
            if text.endswith(closing):
                closing = ""
            continue
        closing = _opened(text)
        drawn = bool(text) and not text.startswith("#")
        weights.append((indents[number] / tab or 1.0) if drawn else 0.0)
    return weights


def _indents(lines: Sequence[str]) -> list[int]:
    """The indentation of each line; short ones take over that of the line before."""
    indents: list[int] = []
    for line in lines:
        text = line.strip()
        if len(text) <= 1:
            indents.append(indents[-1] if indents else 0)
        else:
            indents.append(len(line) - len(line.lstrip()))
    return indents


def _opened(text: str) -> str:
    """The bracket that closes the global definition a line opens, or ""."""
    name, equals, _ = text.partition("=")
    if equals and text[-1] in _CLOSING and name.replace(" ", "").isupper():
        return _CLOSING[text[-1]]
    return ""
