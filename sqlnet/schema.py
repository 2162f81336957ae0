"""The tables of a database, and a read-only connection to it.

A :class:`Schema` from a file, a server or a data frame holds its database
(:mod:`codegen.sqlnet.databases`); one from column names has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.sqlnet.databases.files import Database, SqliteDatabase, open_database
from codegen.sqlnet.query import Column, ColumnType, Table


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one database, at least one.

    Attributes:
        database: read-only; None for a schema from names alone.
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
    def of(cls, database: Database) -> Schema:
        """The schema of an open database."""
        return cls(database.tables, database)

    @classmethod
    def open(cls, path: str | Path, *, may_write: bool = False) -> Schema:
        """The schema of a SQLite, DuckDB, Parquet, .csv or .tsv file, detected by its content; or
        of a server, by its address (``postgresql://USER@HOST/NAME``, ``mysql://...``).

        Args:
            may_write: accept a server's role that can write.

        Raises:
            InputError: if the file is missing or of another kind.
            ConfigError: if duckdb or a server's driver is not installed, or the role can write.
            DatabaseError: if it is damaged, locked, out of reach, or holds no table.
        """
        return cls.of(open_database(path, may_write=may_write))

    @classmethod
    def from_csv(cls, *paths: str | Path) -> Schema:
        """The schema of CSV files with headers, one table each, read into memory."""
        return cls.of(SqliteDatabase.from_csv(*paths))

    @classmethod
    def from_dataframe(cls, frame: Any, table: str = "table") -> Schema:
        """The schema of a pandas DataFrame (its index left out), which is copied."""
        return cls.of(SqliteDatabase.from_dataframe(frame, table))

    def table(self, name: str | None = None) -> Table:
        """A table by its name, ignoring case; without a name, the only table.

        Raises:
            InputError: if the name is unknown, or missing though there are several tables.
        """
        listed = ", ".join(table.name for table in self.tables)
        if name is None and len(self.tables) > 1:
            raise InputError("There are several tables.", f"Choose one of: {listed}.")
        for table in self.tables:
            if name is None or table.name.lower() == name.lower():
                return table
        raise InputError(f"Unknown table {name!r}.", f"The tables are: {listed}.")

    def with_aliases(self, aliases: Mapping[str, str]) -> Schema:
        """A copy with other names for columns.

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
                columns.append(replace(column, alias=alias))
            return replace(table, columns=tuple(columns))

        tables = tuple(renamed(table) for table in self.tables)
        if unknown := sorted(keys.keys() - known):
            raise InputError(f"The alias {unknown[0]!r} names no column of the schema.")
        return Schema(tables, self.database)
