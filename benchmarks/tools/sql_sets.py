"""Questions on whole databases, from the folder ``sql`` of the shared data, and their verdicts.

A set is a JSONL file of questions and a folder of databases. A question has ``question`` and
``db_id`` or ``tables`` (name -> column names, without rows). The expected answer is ``answer``
(rows; with ``ordered``, and ``accepted`` for other correct answers), or the result of ``query`` or
``queries``; a question without any of these cannot be answered. Abstaining is correct if the
question cannot be answered or has ``abstain_ok``.

Schemas without rows are given as tables; AMBROSIA's and EHRSQL's are not part of the data, and
are assembled from all queries on the same database. ``offices`` is in the folder of this file: a
gym, a parcel service and a vet, with questions written before the parser was run on them. The
parser was later tuned on the first two, but not on the vet.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from codegen.sqlnet.answers import GoldRows, ran, same_rows
from codegen.sqlnet.databases import StatementLimits
from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.query import Column, Table
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql

if TYPE_CHECKING:
    from codegen.sqlnet.examples import Question, WikiTable
    from codegen.sqlnet.parser import SQLNet

SETS = ("everyday", "offices", "spider_dev", "defog_idk", "triagesql", "ambrosia", "ehrsql")
"""Question sets; the confidence is fitted to ``spider_train``."""


_OFFICES = Path(__file__).parent / "offices"


def prepare(name: str, data: Path, out: Path) -> tuple[Path, Path]:
    """Prepares a set's question file and database folder.

    Args:
        name: a key of ``SETS``, or ``spider_train``.
        data: the folder ``sql``.
        out: directory for new files.
    """
    databases = out / name
    databases.mkdir(parents=True, exist_ok=True)
    rows: Iterable[dict[str, Any]]
    if name == "everyday":
        _run(data.glob("everyday_*.sql"), databases)
        rows = map(json.loads, (data / "everyday.jsonl").read_text("utf-8").splitlines())
    elif name == "offices":
        _run(_OFFICES.glob("*.sql"), databases)
        rows = map(json.loads, (_OFFICES / "questions.jsonl").read_text("utf-8").splitlines())
    elif name in ("spider_train", "spider_dev"):
        part = name.removeprefix("spider_")
        _unpack(data / "spider" / f"databases_{part}.tar.xz", databases)
        _unpack(data / "spider" / "databases_made_up.tar.xz", databases, "made_up")
        found = {path.stem for path in databases.iterdir()}
        rows = (r for r in read(data / "spider" / f"{part}.jsonl.gz") if r["db_id"] in found)
    elif name == "defog_idk":
        _unpack(data / "defog" / "databases.tar.xz", databases)
        rows = read(data / "defog" / "idk.jsonl.gz")
    elif name == "triagesql":
        asked = read(data / "unanswerable" / "triagesql_test.jsonl.gz")
        rows = (row for row in asked if row["type"] != "answerable" and all(row["tables"].values()))
    else:
        file, key = {
            "ambrosia": ("ambrosia.jsonl.gz", "ambiguous"),
            "ehrsql": ("ehrsql_mimic3.jsonl.gz", "impossible"),
        }[name]
        rows = _by_queries(list(read(data / "unanswerable" / file)), key)
    questions = out / f"{name}.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return questions, databases


def _run(scripts: Iterable[Path], out: Path) -> None:
    """Creates a SQLite file from each script."""
    for script in scripts:
        path = out / f"{script.stem.removeprefix('everyday_')}.sqlite"
        with sqlite3.connect(path) as connection:
            connection.executescript(script.read_text("utf-8"))
        connection.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a gzipped file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _unpack(archive: Path, out: Path, folder: str = "databases") -> None:
    """Unpacks the SQLite files of an archive's folder."""
    with tarfile.open(archive) as opened:
        for member in opened:
            path = Path(member.name)
            if member.isfile() and path.suffix == ".sqlite" and path.parts[0] == folder:
                content = opened.extractfile(member)
                assert content
                (out / path.name).write_bytes(content.read())


def _by_queries(rows: list[dict[str, Any]], key: str) -> Iterator[dict[str, Any]]:
    """Yields the unanswerable rows, with the tables that their database's queries name."""
    schemas: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        schema = schemas.setdefault(row.get("db_id", "mimic3"), {})
        for query in [row.get("query"), *row.get("readings", ())]:
            if query:
                _add_names(schema, query)
    for row in rows:
        name = row.get("db_id", "mimic3")
        tables = {table: list(columns) for table, columns in schemas[name].items() if columns}
        if row[key] and tables:
            asked = {"id": row["id"], "db_id": name, "question": row["question"]}
            yield {**asked, "tables": tables}


def _add_names(schema: dict[str, dict[str, None]], query: str) -> None:
    try:
        tree = sqlglot.parse_one(query, dialect="sqlite")
    except SqlglotError:
        return
    names = {table.alias_or_name.lower(): table.name.lower() for table in tree.find_all(exp.Table)}
    for name in names.values():
        schema.setdefault(name, {})
    for column in tree.find_all(exp.Column):
        owner = names.get(column.table.lower()) if column.table else None
        if owner is None and len(set(names.values())) == 1:
            (owner,) = set(names.values())
        if owner is not None and column.name:
            schema[owner][column.name.lower()] = None


_LIMITS = StatementLimits(seconds=20.0, rows=20_000)


@dataclass(frozen=True, slots=True)
class SetQuestion:
    """A question on a schema with its correct answers, none if it cannot be answered."""

    id: str
    database: str
    text: str
    schema: Schema
    expected: tuple[GoldRows, ...] = ()
    abstain_ok: bool = False
    query: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a question.

    Attributes:
        verdict: ``wrong`` means a shown answer is incorrect.
        code: reason for no answer; "" if answered.
        answered_right: True if the best answer, shown or not, is correct.
        answerable: True if abstaining would be wrong.
        signs: features for the confidence.
    """

    id: str
    database: str
    verdict: Literal["right", "abstained", "wrong"]
    code: str
    answered_right: bool
    answerable: bool
    signs: Mapping[str, float]


def ask(parser: SQLNet, question: SetQuestion, min_confidence: float | None = None) -> Outcome:
    """Runs one question as ``sqlnet ask`` does."""
    parse = parser.parse(question.text, question.schema, top_k=1, min_confidence=min_confidence)
    rows = parse.rows.rows if parse.rows else None
    right = rows is not None and any(same_rows(rows, one) for one in question.expected)
    answerable = bool(question.expected) and not question.abstain_ok
    code = parse.doubts[0].code if parse.doubts else "failed" if parse.failure else ""
    verdict: Literal["right", "abstained", "wrong"] = "right" if right else "wrong"
    if code:
        verdict = "abstained" if answerable else "right"
    return Outcome(
        *(question.id, question.database, verdict, code, right, answerable), signs=parse.signs
    )


def read_questions(path: Path, folder: Path) -> Iterator[SetQuestion]:
    """Returns the questions of a file whose query can be run."""
    opened: dict[str, Schema] = {}  # one at a time, since each is a process
    for number, line in enumerate(path.read_text("utf-8").splitlines()):
        row = json.loads(line)
        name = str(row.get("db_id") or row.get("database") or "")
        if "tables" in row:
            schema = Schema(tuple(_bare_table(*item) for item in row["tables"].items()))
        else:
            if name not in opened:
                opened = {name: Schema.open(folder / f"{name}.sqlite")}
            schema = opened[name]
        queries = [query for query in [row.get("query"), *row.get("queries", ())] if query]
        given = [row, *row.get("accepted", ())] if row.get("answer") is not None else []
        expected = [
            GoldRows(tuple(map(tuple, one["answer"])), bool(row.get("ordered")), exact=False)
            for one in given
        ]
        if queries and not given and not row.get("impossible") and schema.database:
            expected = [one for q in queries if (one := ran(schema.database, q, _LIMITS))]
            if not expected:
                continue
        yield SetQuestion(
            *(str(row.get("id", number)), name, str(row["question"]), schema, tuple(expected)),
            abstain_ok=bool(row.get("abstain_ok")),
            query=queries[0] if queries else "",
        )


def _bare_table(name: str, columns: Iterable[str]) -> Table:
    return Table(name, tuple(Column(column) for column in dict.fromkeys(columns)))


def wikisql_questions(
    questions: Iterable[Question], tables: Mapping[str, WikiTable]
) -> Iterator[SetQuestion]:
    """Yields WikiSQL's questions, each on a database of its table."""
    opened: dict[str, Schema] = {}
    for question in questions:
        name = question.table.name
        if name not in opened:
            rows = tables[name].rows
            opened[name] = Schema.of(SqliteDatabase.from_table(question.table, rows))
        schema, statement = opened[name], to_sql(question.query, question.table)
        assert schema.database
        rows = schema.database.execute(statement, _LIMITS).rows
        yield SetQuestion(
            *(question.id, name, question.text, schema, (GoldRows(rows),)), query=statement.text
        )


def is_fitted_to(database: str) -> bool:
    """Returns True if the confidence is fitted to a database; depends only on its name."""
    return crc32(database.encode()) % 2 == 0
