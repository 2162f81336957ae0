"""A database's tables with a read-only connection to it, and the users' names for its contents.

A :class:`Schema` from a file, a server or a data frame has its database
(:mod:`codegen.sqlnet.databases`); one from column names has none. A :class:`SemanticLayer` is a
YAML file:

    tables:   {order_items: {synonyms: [sales]}, log: {hidden: true}}
    columns:  {orders.ordered_on: {synonyms: [placed, bought on]}}
    joins:    [orders.customer_id = customers.id]
    values:   {orders.status: {open: pending}}
    measures: {revenue: {sql: SELECT SUM(quantity * price) FROM sales, synonyms: [turnover]}}

All keys are optional. A measure answers questions about only that measure; its
statement passes the same check as any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.core.config import Config, read_config, setting
from codegen.core.errors import ConfigError, InputError
from codegen.sqlnet.databases.files import Database, SqliteDatabase, open_database
from codegen.sqlnet.joins import JoinGraph
from codegen.sqlnet.query import Column, ColumnType, ForeignKey, Statement, Table, UnsafeSQLError
from codegen.sqlnet.question_checks import LIGHT_WORDS
from codegen.sqlnet.sql import validate
from codegen.sqlnet.words import stem, tokenize, words_of


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one database, at least one.

    Attributes:
        database: read-only; None for a schema built from names.
    """

    tables: tuple[Table, ...]
    database: Database | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.tables:
            raise InputError("The schema has no tables.", "Open a database with tables.")

    @classmethod
    def from_columns(
        cls, columns: Iterable[str] | Mapping[str, ColumnType], table: str = "table"
    ) -> Schema:
        """Builds a schema of one table, from names (type ``text``) or from name -> type."""
        if isinstance(columns, Mapping):
            found = tuple(Column(name, kind) for name, kind in columns.items())
        else:
            found = tuple(Column(name) for name in columns)
        return cls((Table(table, found),))

    @classmethod
    def of(cls, database: Database) -> Schema:
        """Builds the schema of an open database."""
        return cls(database.tables, database)

    @classmethod
    def open(cls, path: str | Path, *, may_write: bool = False) -> Schema:
        """Opens the schema of a SQLite, DuckDB, .csv or .tsv file, detected by its content; or
        of a server, by its address (``postgresql://USER@HOST/NAME``, ``mysql://...``).

        Args:
            may_write: accept a server's role that can write.

        Raises:
            InputError: if the file is missing or unsupported.
            ConfigError: if duckdb or a server's driver is not installed, or the role can write.
            DatabaseError: if it is corrupt, locked, unreachable, or has no tables.
        """
        return cls.of(open_database(path, may_write=may_write))

    @classmethod
    def from_csv(cls, *paths: str | Path) -> Schema:
        """Reads the schema of CSV files with headers, one table each, into memory."""
        return cls.of(SqliteDatabase.from_csv(*paths))

    @classmethod
    def from_dataframe(cls, frame: Any, table: str = "table") -> Schema:
        """Builds the schema of a pandas DataFrame (without its index), which is copied."""
        return cls.of(SqliteDatabase.from_dataframe(frame, table))

    def table(self, name: str | None = None) -> Table:
        """Returns a table by its name, ignoring case; without a name, the only table.

        Raises:
            InputError: if the name is unknown, or missing though there are several tables.
        """
        listed = ", ".join(table.name for table in self.tables)
        if name is None and len(self.tables) > 1:
            raise InputError("The database has several tables.", f"Choose one of: {listed}.")
        for table in self.tables:
            if name is None or table.name.lower() == name.lower():
                return table
        raise InputError(f"Unknown table {name!r}.", f"The tables are: {listed}.")


class LayerNames(Config):
    """Names of a table or a column in a layer."""

    synonyms: tuple[str, ...] = setting((), "Synonyms in questions.")
    hidden: bool = setting(False, "Hide the table or column.")


class NamedMeasure(Config):
    """A named quantity."""

    sql: str = setting("", "The SELECT that computes it.")
    synonyms: tuple[str, ...] = setting((), "Synonyms in questions.")

    def _check(self) -> None:
        if not self.sql.strip():
            raise ConfigError("A measure has no sql.", "Set the SELECT that computes it.")


class SemanticLayer(Config):
    """Contents of a layer file."""

    tables: dict[str, LayerNames] = setting({}, "Tables by name.")
    columns: dict[str, LayerNames] = setting({}, "Columns by TABLE.COLUMN.")
    joins: tuple[str, ...] = setting(
        (), "Joins without a declared key, as CHILD.COLUMN = PARENT.COLUMN."
    )
    values: dict[str, dict[str, str]] = setting(
        {}, "Values by TABLE.COLUMN: word in the question -> value in the table."
    )
    measures: dict[str, NamedMeasure] = setting({}, "Measures by name.")

    @classmethod
    def read(cls, path: str | Path) -> SemanticLayer:
        """Reads a file.

        Raises:
            InputError: if it is unreadable or not YAML.
            ConfigError: if a key is unknown or of a wrong type.
        """
        return read_config(cls, path, what="layer")

    def apply(self, schema: Schema) -> Schema:
        """Applies the layer's names to a schema.

        Raises:
            InputError: if a table, column or measure does not fit the database.
        """
        self._check_names(schema)
        tables = {name.lower(): named for name, named in self.tables.items()}
        hidden = {name for name, named in tables.items() if named.hidden}
        kept = tuple(
            self._renamed(table, tables.get(table.name.lower(), LayerNames()))
            for table in schema.tables
            if table.name.lower() not in hidden
        )
        dialect = schema.database.dialect if schema.database else "sqlite"
        for name, measure in self.measures.items():
            try:
                validate(measure.sql, schema.tables, dialect)
            except UnsafeSQLError as error:
                raise InputError(f"The measure {name!r} cannot run: {error.message}") from None
        return Schema(kept, schema.database)

    def measure(self, question: str, schema: Schema) -> tuple[str, Statement] | None:
        """Returns the only measure that a question is about, with its statement; else None.

        "What is our total revenue?" is only about revenue; "revenue from coffee" is not.
        """
        asked = _content(token.text for token in tokenize(question) if token.text.isalnum())
        dialect = schema.database.dialect if schema.database else "sqlite"
        for name, measure in self.measures.items():
            for called in (name, *measure.synonyms):
                if asked and asked == _content(words_of(called)):
                    return name, Statement(measure.sql, (), dialect)
        return None

    def _check_names(self, schema: Schema) -> None:
        for name in self.tables:
            schema.table(name)
        ends = [end.strip() for join in self.joins for end in join.split("=") if "." in end]
        for name in (*self.columns, *self.values, *ends):
            _column_of(schema, name)

    def _renamed(self, table: Table, named: LayerNames) -> Table:
        columns = {name.lower(): column for name, column in self.columns.items()}
        values = {name.lower(): called for name, called in self.values.items()}
        found: list[Column] = []
        kept: list[int] = []
        for number, column in enumerate(table.columns):
            full = f"{table.name}.{column.name}".lower()
            own = columns.get(full, LayerNames())
            if not own.hidden:
                kept.append(number)
                called = tuple((said.lower(), v) for said, v in values.get(full, {}).items())
                found.append(replace(column, synonyms=own.synonyms, called=called))
        if not found:
            raise InputError(f"All columns of {table.name!r} are hidden.", "Hide the table.")
        keys = (*table.foreign_keys, *self._joins_of(table))
        return replace(table.only(kept, keys), columns=tuple(found), synonyms=named.synonyms)

    def _joins_of(self, table: Table) -> Iterator[ForeignKey]:
        for text in self.joins:
            ends = [end.strip().rpartition(".") for end in text.split("=")]
            if len(ends) != 2 or not all(table for table, _, _ in ends):
                raise InputError(
                    f"The join {text!r} is invalid.", "Write: orders.customer_id = customers.id"
                )
            (child, _, column), (parent, _, target) = ends
            if child.lower() == table.name.lower():
                yield ForeignKey((table.index(column),), parent, (target,))


def describe(schema: Schema) -> str:
    """Returns a YAML template of a layer: the database's tables, columns and joins."""
    lines = ["# Users' names for things; see the documentation. Empty entries may be omitted."]
    lines.append("tables:")
    lines += [f"  {json.dumps(table.name)}: {{synonyms: []}}" for table in schema.tables]
    lines.append("columns:")
    for table in schema.tables:
        foreign = {n: key.table for key in table.foreign_keys for n in key.columns}
        for number, column in enumerate(table.columns):
            about = "number" if column.type == "real" else "text"
            about += ", key" if number in table.primary_key else ""
            about += f", of {json.dumps(foreign[number])}" if number in foreign else ""
            name = json.dumps(f"{table.name}.{column.name}")
            lines.append(f"  {name}: {{synonyms: []}}  # {about}")
    lines.append("# Guessed from names, where the database declares no key; delete wrong ones.")
    guessed = list(_guessed(schema.tables))
    lines.append("joins:" if guessed else "joins: []")
    lines += [f"  - {json.dumps(join)}" for join in guessed]
    return "\n".join([*lines, "values: {}", "measures: {}", ""])


def _guessed(tables: tuple[Table, ...]) -> Iterator[str]:
    for join in JoinGraph(tables).joins:
        child, parent = tables[join.child], tables[join.parent]
        if join.origin == "guessed" and len(join.child_columns) == 1:
            one = child.columns[join.child_columns[0]].name
            other = parent.columns[join.parent_columns[0]].name
            yield f"{child.name}.{one} = {parent.name}.{other}"


def _content(words: Iterable[str]) -> set[str]:
    return {stem(w.lower()) for w in words if w.lower() not in LIGHT_WORDS}


def _column_of(schema: Schema, name: str) -> None:
    table, dot, column = name.rpartition(".")
    if not dot:
        raise InputError(f"The layer's {name!r} is not TABLE.COLUMN.")
    schema.table(table).index(column)
