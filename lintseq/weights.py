"""How likely each line is drawn as the seed of a deletion, as in the reference code of LintSeq.

Lines deeper in the program weigh more, are deleted earlier and so written later. Blank lines,
comments and the inside of global definitions (``NAME = [`` up to ``]``) are never drawn; they go
with the lines around them.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

_CLOSING = {"(": ")", "[": "]"}


def line_weights(
    lines: Sequence[str],
    starts: Set[int] = frozenset(),
    *,
    ignore_comments: bool = True,
    ignore_imports: bool = False,
    ignore_global_definitions: bool = True,
    indentation_bias: float | None = 1.0,
) -> list[float]:
    """The weight of each line, 0 for one that is never drawn.

    With ``i`` the indentation of a line, see :func:`indentations`, and ``tab`` the first positive
    one, a line weighs 1 if ``i`` is 0, else ``i / tab * indentation_bias``.

    Args:
        lines: of the program.
        starts: numbers of lines that start a piece of the program. A global definition ends before
            the next at the latest; the reference searches its closing bracket to the program's end.
        ignore_comments: whether blank lines and comments are never drawn.
        ignore_imports: whether lines that hold the word ``import`` are never drawn.
        ignore_global_definitions: whether the lines inside global definitions are never drawn.
        indentation_bias: the factor of deeper lines; None lets all lines weigh the same.
    """
    indents = indentations(lines)
    tab = next((indent for indent in indents if indent > 0), 1)
    weights = [0.0] * len(lines)
    closing = ""
    for number, line in enumerate(lines):
        text = line.strip()
        if ignore_comments and (not text or text[0] == "#"):
            continue
        if ignore_imports and "import" in text:
            continue
        if closing and number not in starts:
            if text.endswith(closing):
                closing = ""
            continue
        closing = _opened(text) if ignore_global_definitions else ""
        weights[number] = 1.0
        if indents[number] > 0 and indentation_bias is not None:
            weights[number] = indents[number] / tab * indentation_bias
    return weights


def indentations(lines: Sequence[str]) -> list[int]:
    """The number of characters that indent each line.

    A line with at most one character behind them takes over the indentation of the line before.
    """
    indents: list[int] = []
    for line in lines:
        text = line.lstrip()
        if len(text) <= 1:
            indents.append(indents[-1] if indents else 0)
        else:
            indents.append(len(line) - len(text))
    return indents


def _opened(text: str) -> str:
    """The bracket that closes the global definition a line opens, or ""."""
    name, equals, _ = text.partition("=")
    if equals and text[-1] in _CLOSING and name.replace(" ", "").isupper():
        return _CLOSING[text[-1]]
    return ""
