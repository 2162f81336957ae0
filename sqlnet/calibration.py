"""Confidence that an answer is correct: logistic regression on held-out questions.

It is computed from features of question and query (:data:`SIGNS`), since a network's probabilities
rate each slot among the given columns, but do not show that the question needs another table or
that a word was ignored. It is fitted separately for databases with one table, databases with
several, where queries are wrong far more often, and plans. Its databases are not in the training
data; some questions have no answer, since a needed column is hidden
(``benchmarks/tools/sql_trust.py``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from codegen.sqlnet.query import Clause
from codegen.sqlnet.question_checks import (
    LIGHT_WORDS,
    RIVALS,
    WORDS,
    Doubt,
    QuestionContext,
    is_met,
    is_value,
    unmet,
)
from codegen.sqlnet.words import number_of, stem, tokenize, words_of

SIGNS = (
    *("select", "aggregate", "number", "column", "operator", "value"),
    *("run", "margin", "table", "empty", "conditions", "aggregated", "rows_unread"),
    *("words_left", "unused", "table_named", "select_named", "columns_unnamed", "who", "elsewhere"),
    "relinked",
)
"""Inputs of the confidence.

The log-odds, clipped to [-6, 6], of the least certain slot of a kind (``select`` to ``value``), of
the query chosen by execution (``run``) and of its table (``table``); ``margin``, the lead in
log-probability over the next query with another meaning, at most 6; whether the answer is empty;
the number of conditions; whether there is an aggregate; whether no value could be looked up; the
number of unexplained content words, at most 4, and of columns and tables that are named but unused,
at most 3; the fractions of the table's and of the SELECT column's words that the question has; the
number of condition columns without a word in the question; whether a column of another type answers
who, when or where; the number of values that other columns also contain.
"""

PLAN_SLOTS = {
    "select": "select",
    "aggregate": "companion",
    "number": "order",
    "column": "where",
    "operator": "group",
    "value": "flags",
    "table": "tables",
}
"""Feature -> the plan's slot (:class:`codegen.sqlnet.plan_decode.ScoredPlan`)."""


@dataclass(frozen=True, slots=True)
class ConfidenceModel:
    """Weights of :data:`SIGNS` and ``bias`` by kind (:func:`kind_of`), and the default
    ``threshold``; no answer is returned if the confidence is lower.
    """

    weights: Mapping[str, Mapping[str, float]]
    threshold: float = 0.5

    def confidence(self, signs: Mapping[str, float]) -> float:
        """Returns the confidence of an answer with these features."""
        weights = self.weights[kind_of(signs)]
        score = weights.get("bias", 0.0) + sum(weights.get(k, 0.0) * v for k, v in signs.items())
        return 1 / (1 + math.exp(-max(-700.0, score)))


def kind_of(signs: Mapping[str, float]) -> str:
    """Returns an answer's kind, which selects the weights."""
    if signs.get("planned"):
        return "plans"
    return "several" if signs["several"] else "one"


def load(folder: Path) -> ConfidenceModel:
    """Reads a folder's ``trust.json``, which ``benchmarks/tools/sql_trust.py`` fits."""
    row = json.loads((folder / "trust.json").read_text("utf-8"))
    return ConfidenceModel(row["weights"], row["threshold"])


def doubts(asked: QuestionContext) -> Iterator[Doubt]:
    """Yields doubts about a query: from :mod:`codegen.sqlnet.question_checks`, or else about words
    that may change the question's meaning.
    """
    yield from [*unmet(asked)] or unread(asked)


def unread(asked: QuestionContext) -> Iterator[Doubt]:
    """Yields doubts about words that may restrict a query for all rows (unpaid, goalkeepers), and
    about the requested item if the query shows another.
    """
    weak = {stem(stem(word)) for word in WORDS["weak"]}
    left = [w for w in words_left(asked) if stem(stem(w.lower())) not in weak]
    heads = _ASKED_FOR.findall(asked.rest) + _COUNTED.findall(asked.rest)
    if any(clause.aggregate == "COUNT" for clause in asked.of("order")):
        heads += _MOST.findall(asked.rest)
    if found := [word for word in left if word in heads]:
        yield not_understood(found)
        return
    if asked.of("where", "having", "never", "group", "order"):
        return
    if len(asked.tables) > 1:  # a verb may express the join: received, awarded
        left = [word for word in left if not word.endswith("ed")]
    names = {stem(word) for _, words in _parts(asked) for word in words}
    pairs = (f"{a.text}{b.text}".lower() for a, b in pairwise(asked.tokens))
    joined = " ".join(pair for pair in pairs if stem(pair) in names)  # such as "high schoolers"
    if left := [word for word in left if word.lower() not in joined]:
        yield not_understood(left)


_ASKED_FOR = re.compile(r"\bwhat (?:is|are|was|were) the (?:\w+ ){0,2}?(\w+) of\b", re.IGNORECASE)
_COUNTED = re.compile(r"\b(?:how many|number of) (?:different |distinct )?(\w+)", re.IGNORECASE)
_MOST = re.compile(r"\b(?:most|fewest|least) (\w+)", re.IGNORECASE)


def not_understood(words: Sequence[str]) -> Doubt:
    """Returns the doubt about unexplained words, at least one."""
    return Doubt("words", f"I did not understand {' and '.join(map(repr, words[:3]))}.")


def explained(asked: QuestionContext) -> list[tuple[str, str]]:
    """Returns each content word of the question, and its interpretation ("": unused)."""
    found, parts = [], _parts(asked)
    for token in asked.tokens:
        word = token.text.lower()
        if not token.text.isalnum():
            continue
        if is_value(asked, token.start, token.end):
            found.append((token.text, "a value"))
        elif cue := next((c for c in asked.cues if c.start <= token.start < c.end), None):
            found.append((token.text, cue.kind if is_met(asked, cue) else ""))
        elif word not in LIGHT_WORDS and not word.isdigit():
            found.append((token.text, _taken_for(word, parts, asked)))
    return found


def _parts(asked: QuestionContext) -> list[tuple[str, tuple[str, ...]]]:
    """Returns the query's parts, with the words that name them."""
    parts = [(f"table {table.name}", table.words) for table in asked.tables]
    for clause in asked.clauses:
        if clause.column:
            parts.append((f"column {clause.column.name}", clause.column.words))
        parts += [(f"value {value}", words_of(value)) for value in clause.values]
    return parts


def words_left(asked: QuestionContext) -> list[str]:
    """Returns the question's content words that no part of the query explains."""
    return [word for word, part in explained(asked) if not part]


_ALIKE = 0.75  # similarity of words with the same meaning


def _taken_for(
    word: str, parts: Sequence[tuple[str, tuple[str, ...]]], asked: QuestionContext
) -> str:
    bare = stem(word)
    for part, words in parts:
        if bare in {stem(one) for one in words}:
            return part
    for part, words in parts:
        if asked.nearest.get(word) == words and not any(_are_rivals(word, w) for w in words):
            return part
        plain = [one for one in words if one not in LIGHT_WORDS]
        if asked.alike and any(
            asked.alike(word, one) >= _ALIKE and not _are_rivals(word, one) for one in plain
        ):
            return part
    return ""


def _are_rivals(one: str, other: str) -> bool:
    a, b = stem(one), stem(other)
    places = [[n for n, s in enumerate(sets) if w in s] for sets in RIVALS for w in (a, b)]
    return any(p and q and p != q for p, q in zip(places[::2], places[1::2], strict=True))


def in_order(names: Sequence[str], said: Sequence[str]) -> bool:
    """Returns True if the names occur in the text, one after the other."""
    size = len(names)
    return any(list(said[i : i + size]) == list(names) for i in range(len(said) - size + 1))


def named_but_unused(asked: QuestionContext) -> list[str]:
    """Returns columns of the query's tables, and other tables, that the question names in full and
    the query does not use.
    """
    used = {clause.column.name.lower() for clause in asked.clauses if clause.column}
    known = {w for c in asked.clauses if c.column for w in map(stem, c.column.words)}
    known |= {stem(w) for table in asked.tables for w in table.words}
    said = [stem(token.text.lower()) for token in tokenize(asked.rest) if token.text.isalnum()]
    found = []
    for table in asked.tables:
        for column in table.columns:
            names = [stem(word) for word in column.words]
            if column.name.lower() not in used and in_order(names, said) and {*names} - known:
                found.append(column.name)
    for table in asked.others:
        names = [stem(word) for word in table.words]
        if in_order(names, said) and {*names} - known:
            found.append(table.name)
    return found


def grounding(asked: QuestionContext, *, of_plan: bool = False) -> dict[str, float]:
    """Measures how well the question's words name the query's columns; returns some of
    :data:`SIGNS`.

    With ``of_plan``, "which students" also names their name column, and a cell its column.
    """
    said = {*asked.stems}

    def share(words: Sequence[str]) -> float:
        return sum(stem(word) in said for word in words) / len(words)

    shares, unnamed, by_cell = [], 0, set()
    for clause in asked.of("select"):
        if clause.column:
            is_named = of_plan and not clause.aggregate and _is_its_name(asked, clause, said)
            shares.append(1.0 if is_named else share(clause.column.words))
    for clause in asked.of("where", "having"):
        if of_plan and _is_said(asked, clause):
            by_cell.add(clause.table)
        elif clause.column:
            unnamed += not share(clause.column.words)
    tables = [1.0 if table.name in by_cell else share(table.words) for table in asked.tables]
    return {
        "table_named": min(tables),
        "select_named": min(shares, default=1.0),
        "columns_unnamed": float(unnamed),
        "who": float(any(_of_another_sort(asked.question, c) for c in asked.of("select"))),
    }


_NAMES = "name names title fullname full first last firstname lastname fname lname"
_NAMING = frozenset(_NAMES.split())


def _is_its_name(asked: QuestionContext, clause: Clause, said: set[str]) -> bool:
    """Returns True if a column names the rows of a mentioned table, or answers who."""
    assert clause.column
    table = next((t for t in asked.tables if t.name == clause.table), None)
    own = {stem(word) for word in table.words} if table else set()
    rest = {word for word in clause.column.words if stem(word) not in own}
    return rest <= _NAMING and bool(said & {*own, "who", "whom"})


def _is_said(asked: QuestionContext, clause: Clause) -> bool:
    """Returns True if a condition's values are database strings that the question contains."""
    return (
        asked.is_read
        and bool(clause.values)
        and clause.operator in ("=", "!=")
        and all(number_of(value) is None for value in clause.values)
        and all(
            re.search(rf"(?<!\w){re.escape(value.strip())}(?!\w)", asked.question, re.IGNORECASE)
            for value in clause.values
        )
    )


def _of_another_sort(question: str, clause: Clause) -> bool:
    """Returns True if a column of another type answers who, when or where."""
    found = re.search(r"\b(who|whom|when|where)\b", question.lower())
    if not found or clause.column is None:
        return bool(found and found[1] != "when" and clause.aggregate)
    if found[1] == "when":
        return not (clause.dated or clause.column.type == "real")
    return clause.dated or clause.column.type == "real"


def signs(
    asked: QuestionContext, log_probabilities: Mapping[str, float], margin: float, **others: float
) -> dict[str, float]:
    """Returns the :data:`SIGNS` of a query; ``planned`` in ``others`` marks a plan."""
    odds = {kind: max(-6.0, min(6.0, log_odds(p))) for kind, p in log_probabilities.items()}
    return {
        **odds,
        "margin": min(margin, 6.0),
        "words_left": float(min(4, len(words_left(asked)))),
        "unused": float(min(3, len(named_but_unused(asked)))),
        **{name: float(value) for name, value in others.items()},
        **grounding(asked, of_plan=bool(others.get("planned"))),
    }


def log_odds(log_probability: float) -> float:
    """Returns the log-odds of a log-probability, clipped to [-12, 12]."""
    below = min(log_probability, -1e-12)
    odds = below - math.log(-math.expm1(below))
    return max(-12.0, min(12.0, odds))
