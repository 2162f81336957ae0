"""The tokens of a question, the words of a name, and the numbers in strings.

A token is a run of letters, a run of digits, or one other character, so that a value such as
"1996-97" is a span of whole tokens: all but 24 of the 53,650 condition values of WikiSQL's rebuilt
training set are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

MAX_TOKENS = 200  # per question; later ones are ignored

LONGEST_NUMBER = 400
"""Maximum characters; a float has at most 309 digits before its decimal point."""

_TOKEN = re.compile(r"\d+|[^\W\d_]+|[^\w\s]|_")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # colors in sqlglot's messages
_RUNS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s]")
_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORTH = {word: value for value, word in enumerate(_UNITS.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), 2)
}
_MULTIPLES = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}


class WordToken(NamedTuple):
    """A token and its position: ``question[start:end]``."""

    text: str
    start: int
    end: int


def tokenize(question: str) -> list[WordToken]:
    """Returns the tokens of a question, in order."""
    return [WordToken(m.group(), m.start(), m.end()) for m in _TOKEN.finditer(question)]


def find_span(question: str, tokens: list[WordToken], value: str) -> tuple[int, int] | None:
    """Returns the first and last token of a value's first occurrence, ignoring case.

    None if the question lacks the value, or has it only inside tokens.
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


def words_of(name: str) -> tuple[str, ...]:
    """Returns the lower-cased words of a name in prose, snake_case, kebab-case or camelCase."""
    words = [word.lower() for run in _RUNS.findall(name) for word in _humps(run)]
    return tuple(words) or (name.lower(),)


def _humps(run: str) -> Iterator[str]:
    """Splits letters before each capital that begins a word: HTTPServer -> HTTP, Server."""
    start = 0
    for i in range(1, len(run)):
        after_small = run[i].isupper() and not run[i - 1].isupper()
        before_small = run[i].isupper() and run[i + 1 : i + 2].islower()
        if after_small or before_small:
            yield run[start:i]
            start = i
    yield run[start:]


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Removes a common English ending from a word, only for matching."""
    if word == "ids":
        return "id"
    for ending in ("ies", "ing", "ers", "ors", "ed", "es", "er", "or", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)].rstrip("ey")
    return word.rstrip("ey") if len(word) > 3 else word


def number_of(text: str) -> int | float | None:
    """Parses a numeric string, or returns None: "1,234" and "$5" are numbers, "3 km" is not."""
    if len(text) > LONGEST_NUMBER:
        return None
    bare = text.strip().lstrip("$€£").strip().replace(",", "")
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", bare, re.ASCII):
        return None
    number = float(bare)
    if math.isinf(number):
        return None
    return int(bare) if re.fullmatch(r"[-+]?\d{1,18}", bare) else number


def number_in_words(text: str) -> float | None:
    """Parses a number in English words, as in "twenty-one" or "1.5 million"; else None."""
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


def quoted(name: str) -> str:
    """Quotes a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def one_line(error: object) -> str:
    """Returns an error's text on one line, without colors or full stop, up to 200 characters."""
    text = " ".join(_COLOURS.sub("", str(error)).split())
    return (text if len(text) <= 200 else text[:197] + "...").rstrip(".")
