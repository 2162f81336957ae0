"""What one sketch cannot say, told from the words of a question.

The sketch has one table, one column, one aggregate and conditions joined by AND (see
:mod:`codegen.sqlnet.query`). English words for grouping, ordering, alternatives and negation
are looked for. Limit: words alone; a question may ask for a join without any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_CUES = (
    ("grouping", r"\b(for|in|of|by|from) (each|every)\b|\bgroup(ed)? by\b|\bbroken down by\b"),
    ("grouping", r"\bper (?!cent\b|game\b|capita\b|day\b|hour\b|minute\b|year\b)[a-z]+\b"),
    ("grouping", r"\b(average|mean|total|sum|count|number)\b[^?]*\bby [a-z]+\s*\??$"),
    ("ordering", r"\b(sort|sorted|order|ordered|rank|ranked) by\b|\b(as|de)scending\b"),
    ("the first few", r"\b(top|first|last|bottom) (\d+|two|three|four|five|ten|twenty)\b"),
    ("an alternative", r"\beither\b|\bor (not|both)\b"),
    ("negation", r"\b(is|are|was|were|do|does|did|has|have|had)(n't| not) |\bexcept\b|\bwithout\b"),
    (
        "a share",
        r"\b(what|which) (percentage|share|proportion|fraction|ratio)\b|\bhow many percent\b",
    ),
    (
        "a comparison of columns",
        r"\bdifference between\b|\b(more|less|fewer) \w+ than \w+ (has|have)",
    ),
)
_COMPILED = tuple((what, re.compile(pattern, re.IGNORECASE)) for what, pattern in _CUES)


def beyond_the_sketch(question: str, names: Iterable[Sequence[str]] = ()) -> str:
    """What the question seems to ask for that the sketch has no place for; "" if nothing.

    Args:
        question: as it was asked.
        names: the words of columns' names, which are no cues: miles per gallon groups nothing.
    """
    for words in names:
        if any(pattern.search(" ".join(words)) for _, pattern in _COMPILED):
            name = r"\W+".join(map(re.escape, words))
            question = re.sub(rf"\b{name}\b", " ", question, flags=re.IGNORECASE)
    for what, pattern in _COMPILED:
        if pattern.search(question):
            return what
    return ""
