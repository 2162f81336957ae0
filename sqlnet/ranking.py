"""Which table of a database a question is about.

Each table is scored by how probable the network thinks its best query on it, and by the words that
the question shares with the names of the table and its columns, the rarer in the database the
weightier. The weights were fitted on groups of 20 tables of WikiSQL's rebuilt development set, one
of which the question is about (``codegen bench sqlnet`` prints how often it comes first).

Limit: WikiSQL's tables have no telling names; that a word of a table's name weighs twice as much as
one of a column's was not fitted.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from codegen.sqlnet.features import stem
from codegen.sqlnet.schema import Table, words_of
from codegen.sqlnet.tokens import tokenize

MOST_TABLES = 64  # the network reads these many, those that share most with the question
OVERLAP_WEIGHT = 10.0
QUERY_WEIGHT = 0.5
_WORDS = "a an the of in on at to for is was are were be by and or what which who"
_COMMON = frozenset(re.findall(r"\w+", _WORDS))


@dataclass(frozen=True, slots=True)
class RankedTable:
    """A table, and the probability that the question is about it, among those of its database."""

    table: Table
    probability: float


def overlaps(question: str, tables: Sequence[Table]) -> list[float]:
    """For each table, the share of the question's words that its names hold, by weight.

    A word that every table has weighs little, one that a single table has much: log(1 + n / df).
    A table's own name counts besides, by the share of it that is asked for: of downloads and
    downloads_slices, a question about downloads means the first.
    """
    names = [{stem(word) for word in words_of(table.name)} - _COMMON for table in tables]
    held = [_stems(table) for table in tables]
    counts = Counter(word for words in held for word in words)
    asked = {stem(token.text.lower()) for token in tokenize(question)} - _COMMON
    weights = {word: math.log(1 + len(tables) / (counts[word] or len(tables))) for word in asked}
    total = sum(weights.values()) or 1.0
    return [
        (
            sum(weights[w] for w in asked & words)
            + sum(weights[w] for w in asked & name) * len(asked & name) / max(1, len(name))
        )
        / total
        for words, name in zip(held, names, strict=True)
    ]


def rank(
    tables: Sequence[Table], overlap: Sequence[float], log_probability: Sequence[float]
) -> list[RankedTable]:
    """The tables, the most probable first.

    Args:
        tables: at least one.
        overlap: see :func:`overlaps`.
        log_probability: of the best query on each.
    """
    scores = [
        OVERLAP_WEIGHT * shared + QUERY_WEIGHT * best
        for shared, best in zip(overlap, log_probability, strict=True)
    ]
    highest = max(scores)
    masses = [math.exp(score - highest) for score in scores]
    ranked = [
        RankedTable(table, mass / sum(masses)) for table, mass in zip(tables, masses, strict=True)
    ]
    return sorted(ranked, key=lambda item: -item.probability)


def _stems(table: Table) -> set[str]:
    names = [*words_of(table.name), *(word for column in table.columns for word in column.words)]
    return {stem(name) for name in names} - _COMMON
