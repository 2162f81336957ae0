"""SQL text from queries, and the safety check that every statement must pass to run.

SQL is built and parsed with sqlglot. Identifiers come from the schema and are always quoted; values
are parameters. :func:`validate` parses the text and accepts a single SELECT that consists of
listed, harmless parts; new syntax is rejected until it is listed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialects
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.qualify import qualify

from codegen.core.errors import ConfigError, InputError
from codegen.sqlnet.query import (
    AGGREGATES,
    OPERATORS,
    Column,
    Condition,
    Query,
    Statement,
    Table,
    UnsafeSQLError,
    Value,
)
from codegen.sqlnet.words import number_of, one_line

# Silences sqlglot, which prints unparsable statements, including control characters.
logging.getLogger("sqlglot").addHandler(logging.NullHandler())


def to_sql(query: Query, table: Table, dialect: str = "sqlite") -> Statement:
    """Builds the statement of a query.

    Strings are compared without regard to case, as WikiSQL's metric does. A ``real`` column is
    compared with a number if the value is one. ``>``, ``<``, SUM and AVG cast a ``text`` column to
    a number.

    Raises:
        ConfigError: for a dialect that sqlglot does not know.
        InputError: if an index is out of the table's range.
    """
    check_dialect(dialect)
    _check_indices(query, table)
    tests, parameters = [], []
    for condition in query.conditions:
        test, value = _test(condition, table.columns[condition.column])
        tests.append(test)
        parameters.append(value)
    select = exp.select(_selected(query, table)).from_(table_node(table))
    if tests:
        select = select.where(*tests)
    return Statement(select.sql(dialect=dialect), tuple(parameters), dialect)


def distinct_values(table: Table, column: int, most: int, dialect: str = "sqlite") -> Statement:
    """Builds the statement for at most ``most`` distinct values of a column."""
    shown = exp.select(_column(table.columns[column])).distinct()
    select = shown.from_(table_node(table)).limit(most)
    return Statement(select.sql(dialect=dialect), (), dialect)


AGGREGATE_NODES: Mapping[str, type[exp.AggFunc]] = {
    "MAX": exp.Max,
    "MIN": exp.Min,
    "COUNT": exp.Count,
    "SUM": exp.Sum,
    "AVG": exp.Avg,
}
COMPARISON_NODES: Mapping[str, type[exp.Binary]] = {
    "=": exp.EQ,
    "!=": exp.NEQ,
    ">": exp.GT,
    "<": exp.LT,
    ">=": exp.GTE,
    "<=": exp.LTE,
}
_MARK = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\?""")


def with_values(statement: Statement) -> str:
    """Returns a statement's text with its values instead of the placeholders."""
    values = iter(statement.parameters)

    def literal(match: re.Match[str]) -> str:
        if match[0] != "?":
            return match[0]
        value = next(values)
        kind = exp.Literal.string(value) if isinstance(value, str) else exp.convert(value)
        return kind.sql(dialect=statement.dialect)

    return _MARK.sub(literal, statement.text)


def check_dialect(dialect: str) -> None:
    """Raises a :class:`ConfigError` for a dialect unknown to sqlglot."""
    names = sorted(d.value for d in Dialects if d.value)
    if dialect not in names:
        listed = ", ".join(names)
        raise ConfigError(f"Unknown SQL dialect {dialect!r}.", f"Choose one of: {listed}.")


def _check_indices(query: Query, table: Table) -> None:
    columns = [query.select, *(condition.column for condition in query.conditions)]
    operators = [condition.operator for condition in query.conditions]
    if not (
        all(0 <= column < len(table.columns) for column in columns)
        and all(0 <= operator < len(OPERATORS) for operator in operators)
        and 0 <= query.aggregate < len(AGGREGATES)
    ):
        raise InputError(f"{query} does not fit table {table.name!r}.")


def table_node(table: Table) -> exp.Table:
    """Returns a table as named in FROM."""
    namespace = exp.to_identifier(table.namespace, quoted=True) if table.namespace else None
    return exp.Table(this=exp.to_identifier(table.name, quoted=True), db=namespace)


def _column(column: Column) -> exp.Column:
    return exp.column(exp.to_identifier(column.name, quoted=True))


def _selected(query: Query, table: Table) -> exp.Expr:
    column = table.columns[query.select]
    name = AGGREGATES[query.aggregate]
    if not name:
        return _column(column)
    if name == "COUNT" and query.counts_rows:
        return exp.Count(this=exp.Star())
    as_number = name in ("SUM", "AVG") and column.type == "text"
    shown = _as_number(_column(column)) if as_number else _column(column)
    return AGGREGATE_NODES[name](this=shown)


def _as_number(expression: exp.Expr) -> exp.Expr:
    return exp.cast(expression, exp.DataType.Type.DOUBLE)


def _test(condition: Condition, column: Column) -> tuple[exp.Expr, Value]:
    kind = COMPARISON_NODES[OPERATORS[condition.operator]]
    number = number_of(condition.value)
    left: exp.Expr = _column(column)
    if number is not None and (column.type == "real" or kind is not exp.EQ):
        if column.type == "text":
            left = _as_number(left)
        return kind(this=left, expression=exp.Placeholder()), number
    right = exp.Lower(this=exp.Placeholder())
    return kind(this=exp.Lower(this=left), expression=right), condition.value


MOST_CHARACTERS = 10_000
"""Maximum characters of a statement, as checking takes time quadratic in its length."""


def validate(sql: str, tables: Sequence[Table], dialect: str = "sqlite") -> exp.Query:
    """Parses a statement and checks that it is a single SELECT on these tables.

    Raises:
        UnsafeSQLError: if a part is not allowed; names the part.
    """
    check_dialect(dialect)
    if len(sql) > MOST_CHARACTERS:
        raise UnsafeSQLError(f"The statement is longer than {MOST_CHARACTERS:,} characters.")
    try:
        statements = sqlglot.parse(sql, dialect=dialect)
    except (SqlglotError, RecursionError) as error:
        raise UnsafeSQLError(f"The SQL cannot be checked: {one_line(error)}.") from None
    statement = statements[0] if len(statements) == 1 else None
    if not isinstance(statement, (exp.Select, exp.SetOperation)):
        raise UnsafeSQLError("Only a single SELECT may run.")
    for node in statement.walk():
        if type(node) not in _ALLOWED:
            text = _short(node)
            raise UnsafeSQLError(
                f"{type(node).__name__} is not allowed in a query{': ' * bool(text)}{text}."
            )
        if isinstance(node, exp.Select) and not node.expressions:
            raise UnsafeSQLError("A SELECT without columns is not allowed.")
        if isinstance(node, exp.DataType) and node.this not in _TYPES:
            raise UnsafeSQLError(f"The type {_short(node)} is not allowed in a query.")
        if isinstance(node, exp.With) and node.recursive:
            raise UnsafeSQLError("A recursive query is not allowed.")
    _check_names(statement, tables, dialect)
    return statement


# The parts that a query may contain.
_PARTS = """
    Select From Join Where Group Having Order Ordered Limit Offset Distinct Subquery With CTE
    Union Intersect Except TableAlias Alias Table Column Identifier Star
    Literal Boolean Null Placeholder Paren Tuple
    And Or Not EQ NEQ GT GTE LT LTE Is In Between Like ILike Escape Exists
    Add Sub Mul Div IntDiv Mod Neg DPipe Case If Cast DataType DataTypeParam
    Count Sum Avg Min Max Abs Round Ceil Floor Coalesce Nullif
    Lower Upper Length Trim Substring StrPosition Concat Replace
    Date Year Month Day TsOrDsToDate
"""
_TYPE_NAMES = """
    CHAR NCHAR VARCHAR NVARCHAR TEXT BOOLEAN TINYINT SMALLINT MEDIUMINT INT BIGINT UTINYINT
    USMALLINT UINT UBIGINT FLOAT DOUBLE DECIMAL DATE TIME DATETIME TIMESTAMP TIMESTAMPTZ
"""
_TYPES = frozenset(getattr(exp.DataType.Type, name) for name in _TYPE_NAMES.split())
_ALLOWED = frozenset(getattr(exp, name) for name in _PARTS.split() if hasattr(exp, name))


def _check_names(statement: exp.Query, tables: Sequence[Table], dialect: str) -> None:
    """Checks that every table is known or a CTE in scope, and every column one of theirs."""
    known = {table.name.lower(): table.namespace.lower() for table in tables}
    ctes = list(statement.find_all(exp.CTE))
    if any(cte.parent.parent is not statement for cte in ctes if cte.parent):
        raise UnsafeSQLError("WITH is allowed only at the beginning of a query.")
    # A CTE can use the ones before it; engines differ on later ones.
    seen: set[str] = set()
    checked: set[int] = set()
    for part, name in [*((cte, cte.alias.lower()) for cte in ctes), (statement, "")]:
        for table in part.find_all(exp.Table):
            if id(table) not in checked:
                checked.add(id(table))
                _check_table(table, known, seen)
        seen.add(name)
    bare = statement.copy()
    for table in bare.find_all(exp.Table):
        table.set("db", None)  # checked above
    for identifier in bare.find_all(exp.Identifier):
        identifier.set("this", _encoded(identifier.name))
    kinds = {"text": "TEXT", "real": "DOUBLE"}
    encoded: dict[str, object] = {
        _encoded(table.name): {_encoded(c.name): kinds[c.type] for c in table.columns}
        for table in tables
    }
    try:
        qualify(bare, schema=encoded, dialect=dialect, expand_stars=False)
    except (SqlglotError, RecursionError) as error:
        message = one_line(re.sub(r"\bx_((?:[0-9a-f]{2})*)", _decoded, str(error)))
        raise UnsafeSQLError(f"The query does not fit this database: {message}.") from None


def _check_table(table: exp.Table, known: Mapping[str, str], ctes: Container[str]) -> None:
    if not isinstance(table.this, exp.Identifier):
        raise UnsafeSQLError(f"A table function is not allowed: {_short(table)}.")
    name, namespace = table.name.lower(), table.db.lower()
    if table.catalog or (namespace and namespace != known.get(name)):
        raise UnsafeSQLError(f"Unknown table {_short(table)} in this database.")
    if name not in known and name not in ctes:
        raise UnsafeSQLError(f"Unknown table {table.name!r} in this database.")


def _encoded(name: str) -> str:
    """Encodes a name in characters that sqlglot's schema does not interpret; drops case."""
    return "x_" + name.lower().encode("utf-8", "surrogatepass").hex()


def _decoded(match: re.Match[str]) -> str:
    return bytes.fromhex(match[1]).decode("utf-8", "surrogatepass")


def _short(node: exp.Expr) -> str:
    text = " ".join(node.sql(unsupported_level=ErrorLevel.IGNORE).split())
    return text if len(text) <= 80 else text[:77] + "..."
