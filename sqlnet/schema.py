"""Tables and columns as the model sees them: names, their words, and a type each.

A :class:`Schema` says what can be asked. Made from a file or a data frame it also holds the
database (:mod:`codegen.sqlnet.databases`) that answers; made from column names it holds none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codegen.errors import InputError

if TYPE_CHECKING:
    from codegen.sqlnet.databases.base import Database

ColumnType = Literal["text", "real"]

LONGEST_NUMBER = 400
"""Characters; a float has at most 309 digits before its point."""

_RUNS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s]")


def words_of(name: str) -> tuple[str, ...]:
    """The lower-cased words of a name in prose, snake_case, kebab-case or camelCase."""
    words = [word.lower() for run in _RUNS.findall(name) for word in _humps(run)]
    return tuple(words) or (name.lower(),)


def _humps(run: str) -> Iterator[str]:
    """Cuts a run of letters before each capital that begins a word: HTTPServer -> HTTP, Server."""
    start = 0
    for i in range(1, len(run)):
        after_small = run[i].isupper() and not run[i - 1].isupper()
        before_small = run[i].isupper() and run[i + 1 : i + 2].islower()
        if after_small or before_small:
            yield run[start:i]
            start = i
    yield run[start:]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as the database has it.
        type: ``real`` if its values are numbers, else ``text``.
        alias: what people call it; what the model reads in the name's place, if given.
    """

    name: str
    type: ColumnType = "text"
    alias: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The words that the model reads."""
        return words_of(self.alias or self.name)


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view, with at least one column; ``namespace`` is a database's schema, or ""."""

    name: str
    columns: tuple[Column, ...]
    namespace: str = ""

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError(f"Table {self.name!r} has no columns.")
        seen: set[str] = set()
        for column in self.columns:
            if column.name.lower() in seen:
                raise InputError(
                    f"Table {self.name!r} has two columns {column.name!r} (case does not count).",
                    "Rename one of them.",
                )
            seen.add(column.name.lower())

    def index(self, name: str) -> int:
        """A column's index by its name; case does not count.

        Raises:
            InputError: if there is none.
        """
        for number, column in enumerate(self.columns):
            if column.name.lower() == name.lower():
                return number
        listed = ", ".join(column.name for column in self.columns)
        raise InputError(f"Table {self.name!r} has no column {name!r}.", f"It has: {listed}.")


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one database, at least one.

    Attributes:
        tables: what can be asked.
        database: what answers, if there is one; it can only be read.
    """

    tables: tuple[Table, ...]
    database: Database | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.tables:
            raise InputError("There is no table to ask.", "Give a database with at least one.")

    @classmethod
    def from_columns(
        cls, columns: Iterable[str] | Mapping[str, ColumnType], table: str = "table"
    ) -> Schema:
        """A schema of one table, from names or from name -> type; names alone mean ``text``."""
        if isinstance(columns, Mapping):
            found = tuple(Column(name, kind) for name, kind in columns.items())
        else:
            found = tuple(Column(name) for name in columns)
        return cls((Table(table, found),))

    @classmethod
    def open(cls, path: str | Path) -> Schema:
        """The schema of a SQLite, DuckDB, .csv or .tsv file, which is told by its content.

        Raises:
            InputError: if there is no such file, or it is none of these.
            DatabaseError: if it is damaged, locked, or holds no table.
        """
        from codegen.sqlnet.databases import open_database

        return open_database(path).schema

    @classmethod
    def from_sqlite(cls, path: str | Path) -> Schema:
        """The schema of a SQLite file; raises as :meth:`open` does."""
        from codegen.sqlnet.databases import SqliteDatabase

        return SqliteDatabase.open(path).schema

    @classmethod
    def from_duckdb(cls, path: str | Path) -> Schema:
        """The schema of a DuckDB file; raises as :meth:`open` does, and needs duckdb."""
        from codegen.sqlnet.databases import DuckDBDatabase

        return DuckDBDatabase.open(path).schema

    @classmethod
    def from_csv(cls, *paths: str | Path) -> Schema:
        """The schema of CSV files with headers, a table each, which are read into memory."""
        from codegen.sqlnet.databases import SqliteDatabase

        return SqliteDatabase.from_csv(*paths).schema

    @classmethod
    def from_dataframe(cls, frame: Any, table: str = "table") -> Schema:
        """The schema of a pandas DataFrame (its index left out), which is copied."""
        from codegen.sqlnet.databases import SqliteDatabase

        return SqliteDatabase.from_dataframe(frame, table).schema

    def table(self, name: str | None = None) -> Table:
        """A table by its name; case does not count. Without one: the only table.

        Raises:
            InputError: if there is none of that name, or several and no name.
        """
        listed = ", ".join(table.name for table in self.tables)
        if name is None and len(self.tables) > 1:
            raise InputError("There are several tables.", f"Choose one of: {listed}.")
        for table in self.tables:
            if name is None:
                return table
            if table.name.lower() == name.lower():
                return table
        raise InputError(f"There is no table {name!r}.", f"There are: {listed}.")

    def with_aliases(self, aliases: Mapping[str, str]) -> Schema:
        """A copy where columns are called otherwise.

        Args:
            aliases: "column" or "table.column" -> what people call it.

        Raises:
            InputError: if a key names no column.
        """
        keys = {key.lower(): value for key, value in aliases.items()}
        known: set[str] = set()

        def renamed(table: Table) -> Table:
            columns = []
            for column in table.columns:
                full, short = f"{table.name}.{column.name}".lower(), column.name.lower()
                known.update((full, short))
                alias = keys.get(full, keys.get(short, column.alias))
                columns.append(Column(column.name, column.type, alias))
            return Table(table.name, tuple(columns), table.namespace)

        tables = tuple(renamed(table) for table in self.tables)
        if unknown := sorted(keys.keys() - known):
            raise InputError(f"The alias {unknown[0]!r} names no column of the schema.")
        return Schema(tables, self.database)


def number_of(text: str) -> int | float | None:
    """The number that a text stands for, or None: "1,234" and "$5" are, "3 km" is not.

    No text of more than :data:`LONGEST_NUMBER` characters is a number.
    """
    if len(text) > LONGEST_NUMBER:
        return None
    bare = text.strip().lstrip("$€£").strip().replace(",", "")
    if not re.fullmatch(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d{1,3})?", bare, re.ASCII):
        return None
    number = float(bare)
    if math.isinf(number):
        return None
    return int(bare) if re.fullmatch(r"[-+]?\d{1,18}", bare) else number


def column_type(values: Iterable[object]) -> ColumnType:
    """``real`` if there are values and all are numbers, or texts that stand for one."""
    found = False
    for value in values:
        if value is None or value == "":
            continue
        is_number = isinstance(value, (int, float)) or (
            isinstance(value, str) and number_of(value) is not None
        )
        if not is_number:
            return "text"
        found = True
    return "real" if found else "text"


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names for the columns of a file: empty ones filled in, second uses numbered."""
    result: list[str] = []
    taken: set[str] = set()
    uses: dict[str, int] = {}  # of a name, so that many equal ones are not tried again and again
    for number, name in enumerate(names, 1):
        base = name.strip() or f"column {number}"
        unique, count = base, uses.get(base.lower(), 1)
        while unique.lower() in taken:
            count += 1
            unique = f"{base} {count}"
        uses[base.lower()] = count
        taken.add(unique.lower())
        result.append(unique)
    return tuple(result)
