"""Tables, and WikiSQL's sketch: one SELECT column, one aggregate, conditions joined by AND.

    SELECT $AGG $COLUMN WHERE $COLUMN $OP $VALUE (AND $COLUMN $OP $VALUE)*

Source: Zhong, Xiong and Socher, "Seq2SQL" (arXiv 1709.00103), for the record format, and
Xu, Liu and Song, "SQLNet" (arXiv 1711.04436), section 3. Limits: one table, no grouping, no
ordering, no OR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from codegen.core.errors import CodegenError, InputError
from codegen.sqlnet.words import number_of, words_of

ColumnType = Literal["text", "real"]

AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
OPERATORS = ("=", ">", "<")

Value = str | int | float


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        type: ``real`` if its values are numbers, else ``text``.
        alias: users' name for it; the model reads it instead of the name.
        synonyms: other names; a question that contains one uses it as the alias.
        called: pairs of (users' name for a value, in lower case; the value).
    """

    name: str
    type: ColumnType = "text"
    alias: str = ""
    synonyms: tuple[str, ...] = ()
    called: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Words that the model reads."""
        return words_of(self.alias or self.name)


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to another table's columns, pair by pair.

    Attributes:
        columns: indices of the referring columns.
        table: name of the referenced table.
        targets: names of the referenced columns; empty for its primary key.
    """

    columns: tuple[int, ...]
    table: str
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One table or view, with at least one column.

    Attributes:
        columns: columns in database order.
        namespace: the database's schema, or "".
        primary_key: indices of the key's columns; empty if the database declares none.
        foreign_keys: keys that the database declares.
        alias, synonyms: see :class:`Column`.
    """

    name: str
    columns: tuple[Column, ...]
    namespace: str = ""
    primary_key: tuple[int, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    alias: str = ""
    synonyms: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Words that the model reads."""
        return words_of(self.alias or self.name)

    def __post_init__(self) -> None:
        if not self.columns:
            raise InputError(f"Table {self.name!r} has no columns.")
        seen: set[str] = set()
        for column in self.columns:
            if column.name.lower() in seen:
                raise InputError(
                    f"Table {self.name!r} has two columns {column.name!r} (ignoring case).",
                    "Rename one of them.",
                )
            seen.add(column.name.lower())
        keys = [self.primary_key, *(key.columns for key in self.foreign_keys)]
        if any(not 0 <= number < len(self.columns) for key in keys for number in key):
            raise InputError(f"A key of table {self.name!r} refers to a missing column.")

    @classmethod
    def of(
        cls,
        name: str,
        columns: Sequence[Column],
        namespace: str = "",
        primary: Sequence[str] = (),
        foreign: Iterable[tuple[Sequence[str], str, Sequence[str]]] = (),
    ) -> Table:
        """Builds a table with keys given by column names; keys of unknown columns are omitted.

        Args:
            foreign: as in :class:`ForeignKey`, with column names.
        """
        place = {column.name.lower(): number for number, column in enumerate(columns)}

        def known(names: Sequence[str]) -> tuple[int, ...]:
            found = tuple(place[own.lower()] for own in names if own.lower() in place)
            return found if len(found) == len(names) else ()

        keys = (ForeignKey(known(own), to, tuple(targets)) for own, to, targets in foreign)
        return cls(
            name, tuple(columns), namespace, known(primary), tuple(k for k in keys if k.columns)
        )

    def only(self, kept: Sequence[int], keys: Sequence[ForeignKey] | None = None) -> Table:
        """Returns the table with a subset of its columns, and the keys within the subset.

        Args:
            kept: indices of columns, at least one.
            keys: foreign keys, by the old indices; by default the table's own.
        """
        place = {old: new for new, old in enumerate(kept)}
        whole = place.keys() >= {*self.primary_key}
        return replace(
            self,
            columns=tuple(self.columns[number] for number in kept),
            primary_key=tuple(place[n] for n in self.primary_key) if whole else (),
            foreign_keys=tuple(
                replace(key, columns=tuple(place[n] for n in key.columns))
                for key in (self.foreign_keys if keys is None else keys)
                if place.keys() >= {*key.columns}
            ),
        )

    def index(self, name: str) -> int:
        """Returns a column's index by its name, ignoring case.

        Raises:
            InputError: if there is no such column.
        """
        for number, column in enumerate(self.columns):
            if column.name.lower() == name.lower():
                return number
        listed = ", ".join(column.name for column in self.columns)
        raise InputError(f"Table {self.name!r} has no column {name!r}.", f"It has: {listed}.")


def column_type(values: Iterable[object]) -> ColumnType:
    """Returns ``real`` if values exist and all are numbers or numeric strings."""
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
    """Returns column names for a file: fills in empty ones, numbers repeated ones."""
    result: list[str] = []
    taken: set[str] = set()
    uses: dict[str, int] = {}  # where to continue counting, so that equal names stay linear
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


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: indices of a column and of an operator in ``OPERATORS``, and a value.

    The value is a span of the question, or the cell that it was linked to; the column's type
    decides whether SQL compares it as a number.
    """

    column: int
    operator: int
    value: str


ClauseKind = Literal["select", "where", "having", "group", "order", "limit", "never"]

_IDENTIFYING = "id ids uuid guid isbn issn ssn zip zipcode postcode phone telephone fax code key"
_IDENTIFIERS = frozenset(_IDENTIFYING.split())
_ENDS_AS_ID = re.compile(r"^(?!.*(?:paid|bid|grid|valid|aid|kid|raid|rapid)$)\w+id$")
_TIMES = "date day month year time timestamp datetime birthday born dob"
DATES = frozenset(_TIMES.split())


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a query with names instead of indices, for the checks and the sentence; both
    sketches and plans produce clauses.

    Attributes:
        kind: ``never`` requires that no row of the table matches: who has no orders.
        column: None for the table's rows.
        aggregate: one of ``AGGREGATES``.
        operator: comparison operator in lower case; ``asc`` or ``desc`` for an order.
        values: compared values, as in the database; a limit's number.
        said: the values as in the question.
        distinct: True if equal values count once.
        connective: operator that joins a condition to the previous one.
        is_key: True if the database declares the column as a key.
    """

    kind: ClauseKind
    table: str
    column: Column | None = None
    aggregate: str = ""
    operator: str = ""
    values: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    distinct: bool = False
    connective: Literal["and", "or"] = "and"
    is_key: bool = False

    @property
    def identifier(self) -> bool:
        """True if the column identifies rows: it is never summed, averaged or maximized."""
        if self.column is None:
            return False
        words = [word for word in self.column.words if word.isalnum()] or [""]
        return self.is_key or words[-1] in _IDENTIFIERS or bool(_ENDS_AS_ID.search(words[-1]))

    @property
    def dated(self) -> bool:
        """True if the column's name suggests dates or times."""
        words = self.column.words if self.column else ("",)
        return bool({*words} & DATES) or (len(words) > 1 and words[-1] in ("on", "at"))


def clause_of(kind: ClauseKind, table: Table, number: int | None, aggregate: str = "") -> Clause:
    """Builds a clause on a column by its number, or on the table's rows."""
    if number is None:
        return Clause(kind, table.name, aggregate=aggregate)
    keys = {*table.primary_key, *(n for key in table.foreign_keys for n in key.columns)}
    return Clause(kind, table.name, table.columns[number], aggregate, is_key=number in keys)


@dataclass(frozen=True, slots=True)
class Query:
    """A query on one table: indices of its SELECT column and of an aggregate in ``AGGREGATES``.

    With ``counts_rows``, COUNT also counts rows with NULL in the SELECT column. WikiSQL has no such
    flag, so :meth:`matches` and :meth:`to_row` ignore it.
    """

    select: int
    aggregate: int = 0
    conditions: tuple[Condition, ...] = ()
    counts_rows: bool = False

    def clauses(self, table: Table, said: Query | None = None) -> tuple[Clause, ...]:
        """Returns its clauses; ``said`` is the query with the values as in the question."""
        said = said or self
        shown = None if self.counts_rows else self.select
        clauses = [clause_of("select", table, shown, AGGREGATES[self.aggregate])]
        for condition, before in zip(self.conditions, said.conditions, strict=True):
            clause = clause_of("where", table, condition.column)
            clauses.append(
                replace(
                    clause,
                    operator=OPERATORS[condition.operator],
                    values=(condition.value,),
                    said=(before.value,),
                )
            )
        return tuple(clauses)

    def matches(self, other: Query) -> bool:
        """Compares queries by WikiSQL's official rule: ignores condition order and case.

        Numbers are compared as text: "3" does not match "3.0".
        """
        return self._key() == other._key()

    def _key(self) -> tuple[int, int, frozenset[tuple[int, int, str]]]:
        conditions = frozenset((c.column, c.operator, c.value.lower()) for c in self.conditions)
        return self.select, self.aggregate, conditions

    def to_row(self) -> dict[str, Any]:
        """Builds WikiSQL's record: ``sel``, ``agg``, ``conds`` ([column, operator, value] each)."""
        conditions = [[c.column, c.operator, c.value] for c in self.conditions]
        return {"sel": self.select, "agg": self.aggregate, "conds": conditions}


class UnsafeSQLError(CodegenError):
    """Error for a statement that is not one SELECT of known tables, columns and functions."""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text with placeholders, and their values in order."""

    text: str
    parameters: tuple[Value, ...] = ()
    dialect: str = "sqlite"


def query_from_row(row: Mapping[str, Any], columns: int, where: str = "record") -> Query:
    """Parses a query from WikiSQL's record.

    Args:
        where: the record's location, for messages.

    Raises:
        InputError: if a key is missing, of a wrong type or out of range.
    """
    try:
        query = Query(
            row["sel"],
            row["agg"],
            tuple(Condition(c, o, _value_text(v)) for c, o, v in row["conds"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where}: not a WikiSQL query ({type(error).__name__}: {error}).",
            'It needs {"sel": int, "agg": int, "conds": [[column, operator, value], ...]}.',
        ) from None
    ranges = [("sel", query.select, columns), ("agg", query.aggregate, len(AGGREGATES))]
    for condition in query.conditions:
        ranges.append(("a condition's column", condition.column, columns))
        ranges.append(("a condition's operator", condition.operator, len(OPERATORS)))
    for name, index, size in ranges:
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < size:
            raise InputError(f"{where}: {name} is {index!r}; it must be in 0..{size - 1}.")
    return query


def _value_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise TypeError(f"a value is a {type(value).__name__}")
    return str(value)
