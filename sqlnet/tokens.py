"""Questions to tokens with their places, so that a value is a slice of the question.

A token is a run of letters, a run of digits, or one other sign. Every border between two kinds of
signs is thus a token border, and a value such as "1996-97" is a span of whole tokens: all but 24
of the 53,650 condition values of WikiSQL's rebuilt training set are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(r"\d+|[^\W\d_]+|[^\w\s]|_")


class Token(NamedTuple):
    """A token and its place: ``question[start:end]``."""

    text: str
    start: int
    end: int


def tokenize(question: str) -> list[Token]:
    """The tokens of a question, in order."""
    return [Token(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(question)]


def find_span(question: str, tokens: list[Token], value: str) -> tuple[int, int] | None:
    """The first and last token of a value's first whole occurrence; case does not count.

    None if the question does not hold the value, or only inside tokens.
    """
    starts = {token.start: i for i, token in enumerate(tokens)}
    ends = {token.end: i for i, token in enumerate(tokens)}
    wanted = value.strip()
    if not wanted:
        return None
    for match in re.finditer(re.escape(wanted), question, re.IGNORECASE):
        if match.start() in starts and match.end() in ends:
            return starts[match.start()], ends[match.end()]
    return None
