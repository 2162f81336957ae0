"""Questions on whole databases, from the folder ``sql`` of the shared data, for ``sqlnet eval``.

Each set becomes a file of questions and a folder of databases, in the form of
:mod:`codegen.sqlnet.trials`. Schemas without rows are given as tables; those of AMBROSIA and EHRSQL
are not part of the data, and are put together from all queries on the same database. ``offices``
lies beside this file: a gym, a parcel service and a vet, with questions written before the parser
was asked. The parser was corrected after those on the first two, not after those on the vet.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

SETS = ("everyday", "offices", "spider_dev", "defog_idk", "triagesql", "ambrosia", "ehrsql")
"""What is measured on; ``spider_train`` is what the confidence is fitted to."""


_OFFICES = Path(__file__).parent / "offices"


def prepare(name: str, data: Path, out: Path) -> tuple[Path, Path]:
    """A set's file of questions and folder of databases.

    Args:
        name: of ``SETS``, or ``spider_train``.
        data: the folder ``sql``.
        out: where files are made.
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
    """A SQLite file for each script."""
    for script in scripts:
        path = out / f"{script.stem.removeprefix('everyday_')}.sqlite"
        with sqlite3.connect(path) as connection:
            connection.executescript(script.read_text("utf-8"))
        connection.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a gzipped file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def _unpack(archive: Path, out: Path, folder: str = "databases") -> None:
    """The SQLite files of a folder of an archive, without the folder."""
    with tarfile.open(archive) as opened:
        for member in opened:
            path = Path(member.name)
            if member.isfile() and path.suffix == ".sqlite" and path.parts[0] == folder:
                content = opened.extractfile(member)
                assert content
                (out / path.name).write_bytes(content.read())


def _by_queries(rows: list[dict[str, Any]], key: str) -> Iterator[dict[str, Any]]:
    """The rows that can't be answered, with the tables that the queries of their database name."""
    schemas: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        schema = schemas.setdefault(row.get("db_id", "mimic3"), {})
        for query in filter(None, [row.get("query"), *row.get("readings", ())]):
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
