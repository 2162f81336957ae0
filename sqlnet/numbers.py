"""Numbers in English words."""

from __future__ import annotations

import re

from codegen.sqlnet.schema import number_of

_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORTH = {word: value for value, word in enumerate(_UNITS.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), 2)
}
_MULTIPLES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}


def number_in_words(text: str) -> float | None:
    """The number that English words stand for, as in "twenty-one" or "1.5 million"; else None."""
    total, current, seen = 0.0, 0.0, False
    for word in re.findall(r"[\d.,]+|[a-z]+|\S", text.lower().replace("-", " ")):
        if word in _WORTH:
            current += _WORTH[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _MULTIPLES:
            total += max(current, 1) * _MULTIPLES[word]
            current = 0.0
        elif (number := number_of(word)) is not None and not current:
            current = float(number)
        elif word != "and" or not seen:
            return None
        seen = True
    return total + current if seen else None
