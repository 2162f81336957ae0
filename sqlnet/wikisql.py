"""WikiSQL's files: questions (``*.jsonl``) and tables (``*.tables.jsonl``), as published.

Source: Zhong, Xiong and Socher 2017, and https://github.com/salesforce/WikiSQL. Tables without
rows (``*.schema.jsonl``) will do where nothing is executed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.sqlnet.query import Query, query_from_row
from codegen.sqlnet.schema import Column, Table, unique_names


@dataclass(frozen=True, slots=True)
class WikiTable:
    """A table with its rows, if the file has them."""

    table: Table
    rows: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One question on a table, with its query."""

    id: str
    text: str
    table: Table
    query: Query


def read_tables(path: str | Path) -> dict[str, WikiTable]:
    """The tables of a file, by id.

    Raises:
        InputError: naming file and line.
    """
    tables = {}
    for where, row in _rows(path):
        try:
            names = unique_names([str(name) for name in row["header"]])
            kinds = ["real" if kind == "real" else "text" for kind in row["types"]]
            columns = tuple(Column(n, k) for n, k in zip(names, kinds, strict=True))  # type: ignore[arg-type]
            rows = tuple(map(tuple, row.get("rows", ())))
            tables[row["id"]] = WikiTable(Table(str(row["id"]), columns), rows)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{where}: not a WikiSQL table ({type(error).__name__}: {error})."
            ) from None
    return tables


def read_questions(
    path: str | Path, tables: Mapping[str, WikiTable], limit: int | None = None
) -> Iterator[Question]:
    """Streams the questions of a file.

    Raises:
        InputError: naming file and line, also where a table is missing.
    """
    for number, (where, row) in enumerate(_rows(path)):
        if limit is not None and number >= limit:
            return
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise InputError(f"{where}: not a WikiSQL question: it has no text 'question'.")
        held = tables.get(str(row.get("table_id")))
        if held is None:
            raise InputError(f"{where}: there is no table {row.get('table_id')!r}.")
        query = query_from_row(row.get("sql") or {}, len(held.table.columns), where)
        yield Question(str(number), row["question"], held.table, query)


def _rows(path: str | Path) -> Iterator[tuple[str, Any]]:
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", json.loads(line)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON lines in UTF-8 ({error}).") from None
