"""Questions asked as a user asks them, on whole databases: right, abstained, or wrong.

A JSONL file of questions has ``question`` and ``db_id`` (a file of that name in a folder: .sqlite,
.db, .duckdb, .csv) or ``tables`` (name -> column names, nothing to run). The expected answer is
``answer`` (rows; with ``ordered``, and ``accepted`` for further right answers), or the result of
``query`` or ``queries``; a question with neither can't be answered.

Rows are compared by :mod:`codegen.sqlnet.answers`; found rows may have more columns than an
``answer``. Abstaining is right if the question can't be answered or has ``abstain_ok``. A wrong
answer is one that is shown and not right.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal
from zlib import crc32

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from codegen.errors import InputError
from codegen.paths import plain_name
from codegen.records import read_rows
from codegen.sqlnet import trust
from codegen.sqlnet.answers import Expected, ran, same_rows
from codegen.sqlnet.databases import DatabaseError, StatementLimits
from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.examples import Question, WikiTable
from codegen.sqlnet.joins import PlanError
from codegen.sqlnet.parser import Parse, SQLNet
from codegen.sqlnet.query import Column, Table
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.trust import Trust

Verdict = Literal["right", "abstained", "wrong"]
VERDICTS: tuple[Verdict, ...] = ("right", "abstained", "wrong")

_ENDINGS = (".sqlite", ".db", ".duckdb", ".csv")
_LIMITS = StatementLimits(seconds=20.0, rows=20_000)


@dataclass(frozen=True, slots=True)
class Trial:
    """A question on a schema with its right answers, none if it can't be answered.

    ``query`` is the SQL of the expected rows, if any.
    """

    id: str
    database: str
    question: str
    schema: Schema
    expected: tuple[Expected, ...] = ()
    abstain_ok: bool = False
    query: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a trial.

    Attributes:
        id, database: of the trial.
        verdict: see the module.
        code: why no answer was given; "" if one was.
        confidence: of the best answer, given or not.
        answered_right: whether the best answer is right.
        answerable: whether abstaining would be wrong.
        signs: that the confidence was computed from.
    """

    id: str
    database: str
    verdict: Verdict
    code: str
    confidence: float
    answered_right: bool
    answerable: bool
    signs: Mapping[str, float] = field(repr=False)


def run(
    parser: SQLNet, trial: Trial, min_confidence: float | None = None, *, reads: bool = True
) -> Outcome:
    """Asks one question.

    Args:
        reads: if not, the parser sees names only, and its query is run afterwards.
    """
    schema = trial.schema if reads else Schema(trial.schema.tables)
    parse = parser.parse(trial.question, schema, top_k=1, min_confidence=min_confidence)
    if not reads and (database := trial.schema.database):
        with suppress(DatabaseError, PlanError):
            parse = replace(parse, rows=database.execute(parse.statement(database.dialect)))
    right = _is_right(parse, trial)
    answerable = bool(trial.expected) and not trial.abstain_ok
    if parse.doubts or parse.failure:
        verdict: Verdict = "abstained" if answerable else "right"
        code = parse.doubts[0].code if parse.doubts else "failed"
    else:
        verdict, code = ("right" if right else "wrong"), ""
    return Outcome(
        *(trial.id, trial.database, verdict, code, parse.confidence, right, answerable),
        signs=parse.signs,
    )


def _is_right(parse: Parse, trial: Trial) -> bool:
    rows = parse.rows
    return rows is not None and any(same_rows(rows.rows, wanted) for wanted in trial.expected)


def read_trials(path: str | Path, folder: str | Path) -> Iterator[Trial]:
    """The trials of a file, without those whose query can't be run.

    Raises:
        InputError: naming file and line; also if a database is missing.
    """
    opened: dict[str, Schema] = {}  # one at a time: each is a process
    for where, row in read_rows(path):
        try:
            question = str(row["question"])
            name = str(row.get("db_id") or row.get("database") or "")
            if "tables" in row:
                schema = Schema(tuple(_bare_table(*item) for item in row["tables"].items()))
            else:
                if not name:
                    raise KeyError("db_id")
                if name not in opened:
                    opened = {name: Schema.open(_database_file(Path(folder), name, where))}
                schema = opened[name]
            queries = [q for q in [row.get("query"), *row.get("queries", ())] if q]
            given = [row, *row.get("accepted", ())] if row.get("answer") is not None else []
            expected = [
                Expected(tuple(map(tuple, one["answer"])), bool(row.get("ordered")), exact=False)
                for one in given
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where}: not a question on a database ({error!r}).") from None
        answerable = bool(queries or given) and not row.get("impossible")
        if answerable and not given and schema.database:
            expected = [
                found for query in queries if (found := ran(schema.database, query, _LIMITS))
            ]
            if not expected:
                continue
        yield Trial(
            str(row.get("id", where)),
            name,
            question,
            schema,
            tuple(expected),
            bool(row.get("abstain_ok")),
            queries[0] if queries else "",
        )


def _bare_table(name: str, columns: Sequence[str]) -> Table:
    return Table(name, tuple(Column(column) for column in dict.fromkeys(columns)))


def _database_file(folder: Path, name: str, where: str) -> Path:
    plain = plain_name(name, where)
    for ending in _ENDINGS:
        if (found := folder / f"{plain}{ending}").is_file():
            return found
    raise InputError(f"{where}: {folder} holds no database {name!r} ({', '.join(_ENDINGS)}).")


def wikisql_trials(
    questions: Iterable[Question], tables: Mapping[str, WikiTable]
) -> Iterator[Trial]:
    """WikiSQL's questions, each on a database of its table."""
    opened: dict[str, Schema] = {}
    for question in questions:
        name = question.table.name
        if name not in opened:
            database = SqliteDatabase.from_table(question.table, tables[name].rows)
            opened[name] = Schema.of(database)
        schema = opened[name]
        assert schema.database
        statement = to_sql(question.query, question.table)
        rows = schema.database.execute(statement, _LIMITS).rows
        yield Trial(
            question.id, name, question.text, schema, (Expected(rows),), query=statement.text
        )


TOLERATED = 0.04
"""The share of questions that may end wrong on the databases that a threshold is chosen on."""

_ANY = 1e-9  # below every answer's confidence


def fit_trust(
    parser: SQLNet, trials: Iterable[Trial], seed: int = 0
) -> tuple[Trust, list[Outcome], list[Outcome]]:
    """Fits the confidence to half of the trials' databases (:func:`is_fitted_to`).

    Of four questions, one is also asked without a column that it needs, one without reading rows,
    and one both ways. A fit on databases of several tables also chooses the threshold: the lowest
    with which at most :data:`TOLERATED` of the questions end wrong.

    Returns:
        The confidence, and the outcomes by it on the databases of the fit and on the others.

    Raises:
        InputError: if there are too few answers to fit anything.
    """
    rng = random.Random(seed)
    asked: list[Outcome] = []
    for number, trial in enumerate(trials):
        asked.append(run(parser, trial, _ANY))
        other = without_a_column(trial, rng) if number % 4 in (0, 2) else trial
        if other and number % 4 != 3:
            asked.append(run(parser, other, _ANY, reads=number % 4 == 0))
    halves: tuple[list[Outcome], list[Outcome]] = ([], [])
    for outcome in asked:
        halves[not is_fitted_to(outcome.database)].append(outcome)
    weights, threshold = dict(parser.trust.weights), parser.trust.threshold
    for kind in ("one", "several", "plans"):
        of_kind = [o for o in halves[0] if trust.kind_of(o.signs) == kind]
        answered = [o for o in of_kind if not o.code]
        if not answered:
            continue
        if len(answered) < _LEAST:
            raise InputError(
                f"Only {len(answered)} questions are answered at all; {_LEAST} are needed to fit.",
                "Give more questions, on more databases.",
            )
        weights[kind] = trust.fit([o.signs for o in answered], [o.answered_right for o in answered])
        if kind != "one":
            scores = Trust(weights)
            wrong = [scores.confidence(kind, o.signs) for o in answered if not o.answered_right]
            steps = (step / 100 for step in range(20, 100))
            threshold = next(
                (t for t in steps if sum(w >= t for w in wrong) <= TOLERATED * len(of_kind)), 0.99
            )
    found = Trust(weights, threshold)
    fitted, others = ([_judged(o, found) for o in half] for half in halves)
    return found, fitted, others


_LEAST = 50


def is_fitted_to(database: str) -> bool:
    """Whether :func:`fit_trust` fits to a database; decided by its name."""
    return crc32(database.encode()) % 2 == 0


def _judged(outcome: Outcome, by: Trust) -> Outcome:
    """The outcome under another confidence."""
    confidence = by.confidence(trust.kind_of(outcome.signs), outcome.signs)
    if not outcome.code and confidence < by.threshold:
        verdict: Verdict = "abstained" if outcome.answerable else "right"
        return replace(outcome, verdict=verdict, code="confidence", confidence=confidence)
    return replace(outcome, confidence=confidence)


def without_a_column(trial: Trial, rng: random.Random) -> Trial | None:
    """The same question without a column that its query needs, so that it has no answer.

    None if the query shows no such column.
    """
    try:
        tree = sqlglot.parse_one(trial.query, dialect="sqlite")
    except SqlglotError:
        return None
    used = sorted({column.name.lower() for column in tree.find_all(exp.Column)})
    named = {c.name.lower() for table in trial.schema.tables for c in table.columns}
    if not (hidden := [name for name in used if name in named]):
        return None
    name = rng.choice(hidden)
    tables = [kept for table in trial.schema.tables if (kept := _without(table, name))]
    if not tables:
        return None
    schema = Schema(tuple(tables), trial.schema.database)
    return replace(trial, schema=schema, expected=(), query="")


def _without(table: Table, name: str) -> Table | None:
    kept = [n for n, column in enumerate(table.columns) if column.name.lower() != name]
    return table.only(kept) if kept else None
