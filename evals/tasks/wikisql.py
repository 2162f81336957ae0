"""WikiSQL (Zhong, Xiong and Socher 2017, arXiv 1709.00103): a question about one table, as SQL.

Judged by WikiSQL's own rule for equal queries, :func:`same_query`: the same column, the same
aggregate, the same set of conditions, whatever their order and the case of their values. Nothing is
executed: the published development and test sets come without their tables' rows.

A model answers with SQL text or with a query as JSON (WikiSQL's ``sel``, ``agg``, ``conds``, by
number or by name). The data is WikiSQL's own files: questions (``X.jsonl``) beside their tables
(``X.tables.jsonl``, or ``X.schema.jsonl`` without rows), either with ``.gz``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import sqlglot
from sqlglot import errors, exp

from codegen.errors import InputError
from codegen.generation.protocol import cut_at_stop
from codegen.records import Verdict

from .base import CodeTask
from .extraction import Extraction, fenced_blocks
from .rows import AnyProblem, Home, Problem, make_problems, read_rows_of, text_field
from .styles import PromptStyle

AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
OPERATORS = ("=", ">", "<")

Value = str | int | float


@dataclass(frozen=True, slots=True)
class WikiQuery:
    """A query: number of the column, number of the aggregate, (column, operator, value) each."""

    column: int
    aggregate: int
    conditions: tuple[tuple[int, int, Value], ...]


def same_query(one: WikiQuery, other: WikiQuery) -> bool:
    """WikiSQL's rule: conditions in any order, values without regard to case.

    Unlike the published code, it takes a number as equal to its text, since SQL text does not say
    whether the data holds 3 or 3.0.
    """
    return (one.column, one.aggregate) == (other.column, other.aggregate) and all(
        any(_same_condition(condition, other_one) for other_one in there)
        for here, there in (
            (one.conditions, other.conditions),
            (other.conditions, one.conditions),
        )
        for condition in here
    )


def _same_condition(one: tuple[int, int, Value], other: tuple[int, int, Value]) -> bool:
    if one[:2] != other[:2]:
        return False
    if str(one[2]).lower() == str(other[2]).lower():
        return True
    if isinstance(one[2], str) and isinstance(other[2], str):
        return False
    try:
        return float(one[2]) == float(other[2])
    except (ValueError, OverflowError):
        return False


@dataclass(frozen=True, slots=True)
class WikiProblem(Problem):
    """One question; ``prompt`` is its text.

    Attributes:
        columns, types: of its table; a type is ``text`` or ``real``.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    query: WikiQuery


class SqlTask(CodeTask[AnyProblem]):
    """A task whose answer is one query; ``code`` prompts end with its first word, SELECT."""

    asks = ("instruction", "code")

    def joined(self, problem: AnyProblem, completion: str) -> str:
        """The query, whose first word the prompt has."""
        return f"SELECT{completion}"

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return (";", "\n\n", "\n--") if style.read == "append" else ()

    def read(self, problem: AnyProblem, style: PromptStyle, answer: str) -> Extraction:
        """The query in an answer, as text."""
        if style.read == "append" and style.name != "completion":
            return Extraction(self.joined(problem, cut_at_stop(answer, self._stops(style))))
        return find_query(answer)


class WikiSql(SqlTask[WikiProblem]):
    """The task over given questions."""

    home = Home("wikisql/official_dev.jsonl.gz")
    passing = "its query is the right one by WikiSQL's rule (logical form); nothing is executed"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """All questions of a file, whose tables are beside it."""
        tables = _tables(Path(source or cls.home.source()))
        rows = read_rows_of(source, cls.home)
        problems = make_problems(rows, lambda place, row: _problem(place, row, tables))
        return cls(name, description, problems, rows.source)

    def instruction(self, problem: WikiProblem) -> str:
        """The columns, the question, and the form of the answer."""
        return (
            f"{self._question(problem)}\n"
            'Answer with one SQL query of the form SELECT "column" FROM t, or SELECT '
            'AGGREGATE("column") FROM t, with conditions WHERE "column" = \'value\' AND ..., if '
            "any. AGGREGATE is MAX, MIN, COUNT, SUM or AVG; a comparison is =, > or <."
        )

    def _question(self, problem: WikiProblem) -> str:
        pairs = zip(problem.columns, problem.types, strict=True)
        columns = ", ".join(f'"{name}" {kind}' for name, kind in pairs)
        return f"Table t ({columns})\nQuestion: {problem.prompt}"

    def code(self, problem: WikiProblem) -> str:
        """The columns and the question as comments, and the first word of a query."""
        return f"-- {self._question(problem)}\nSELECT".replace("\nQ", "\n-- Q")

    def job(self, problem: WikiProblem, program: str) -> Verdict:
        """Reads the query and compares it with the right one."""
        try:
            query = read_query(program, problem.columns)
        except QuerySyntaxError as error:
            return Verdict(problem.id, 0, "syntax_error", message=str(error))
        except ValueError as error:
            return Verdict(problem.id, 0, "wrong", message=str(error))
        if same_query(query, problem.query):
            return Verdict(problem.id, 0, "passed")
        expected = write_query(problem.query, problem.columns)
        return Verdict(problem.id, 0, "wrong", message=f"another query than {expected}")

    def reference(self, problem: WikiProblem) -> str:
        """The right query as SQL."""
        return write_query(problem.query, problem.columns)

    def buggy(self, problem: WikiProblem) -> Sequence[str]:
        """The right query with another aggregate, and with one more condition."""
        query = problem.query
        more = (*query.conditions, (0, 0, "nothing is called this"))
        return (
            write_query(replace(query, aggregate=(query.aggregate + 1) % 6), problem.columns),
            write_query(replace(query, conditions=more), problem.columns),
        )


# --- queries as text ---------------------------------------------------------------------------


class QuerySyntaxError(ValueError):
    """A text is not SQL, or not JSON."""


def find_query(answer: str) -> Extraction:
    """The query in an answer: in its last fenced block, else from its first SELECT or brace on."""
    if blocks := fenced_blocks(answer):
        answer = blocks[-1]
    begun = re.search(r"\bSELECT\b|\{", answer, re.IGNORECASE)
    if begun is None:
        return Extraction("", "neither SELECT nor a JSON object in the answer")
    text = answer[begun.start() :]
    if text.startswith("{"):
        return Extraction(text[: text.rfind("}") + 1] or text)
    return Extraction(re.split(r";|\n\s*\n", text, maxsplit=1)[0].strip())


def read_query(text: str, columns: Sequence[str]) -> WikiQuery:
    """The query that a text holds as SQL or JSON.

    Raises:
        QuerySyntaxError: if it is neither. ValueError: if it is not a query of WikiSQL's form over
            these columns, with the reason.
    """
    return _of_json(text, columns) if text.lstrip().startswith("{") else _of_sql(text, columns)


def write_query(query: WikiQuery, columns: Sequence[str]) -> str:
    """The query as SQL text."""
    column = _quoted(columns[query.column])
    aggregate = AGGREGATES[query.aggregate]
    selected = f"{aggregate}({column})" if aggregate else column
    tests = " AND ".join(
        f"{_quoted(columns[number])} {OPERATORS[operator]} {_literal(value)}"
        for number, operator, value in query.conditions
    )
    return f"SELECT {selected} FROM t" + (f" WHERE {tests}" if tests else "")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: Value) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def _column_number(name: object, columns: Sequence[str]) -> int:
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(columns):
        return name
    wanted = " ".join(str(name).lower().split())
    for number, column in enumerate(columns):
        if " ".join(column.lower().split()) == wanted:
            return number
    raise ValueError(f"the table has no column {str(name)[:80]!r}")


def _number_in(names: Sequence[str], value: object, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return value
    name = "" if value is None else str(value).upper()
    if name in names:
        return names.index(name)
    raise ValueError(f"no {what} {str(value)[:20]!r}")


def _of_json(text: str, columns: Sequence[str]) -> WikiQuery:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuerySyntaxError(f"not JSON: {error}") from None
    if not isinstance(row, dict) or "sel" not in row:
        raise ValueError("a JSON query needs sel, agg and conds")
    conditions = row.get("conds") or []
    if not isinstance(conditions, list):
        raise ValueError("conds is not a list")
    return WikiQuery(
        _column_number(row["sel"], columns),
        _number_in(AGGREGATES, row.get("agg"), "aggregate"),
        tuple(_json_condition(condition, columns) for condition in conditions),
    )


def _json_condition(condition: object, columns: Sequence[str]) -> tuple[int, int, Value]:
    if not isinstance(condition, list) or len(condition) != 3:
        raise ValueError("a condition is not [column, operator, value]")
    column, operator, value = condition
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("the value of a condition is neither a text nor a number")
    number = _column_number(column, columns)
    return number, _number_in(OPERATORS, operator, "comparison"), value


def _of_sql(text: str, columns: Sequence[str]) -> WikiQuery:
    try:
        tree = sqlglot.parse_one(text, dialect="sqlite")
    except (errors.SqlglotError, RecursionError) as error:
        raise QuerySyntaxError(f"not SQL: {str(error).splitlines()[0][:200]}") from None
    if not isinstance(tree, exp.Select):
        raise ValueError("not a SELECT")
    parts = {name for name, part in tree.args.items() if part}
    if extra := sorted(parts - {"kind", "expressions", "from_", "from", "where"}):
        raise ValueError(f"WikiSQL's queries have no part {extra[0]!r}")
    if len(tree.expressions) != 1:
        raise ValueError("the query selects more than one column")
    column, aggregate = _selected(tree.expressions[0], columns)
    where = tree.args.get("where")
    tests = list(_conjuncts(where.this)) if where else []
    return WikiQuery(column, aggregate, tuple(_sql_condition(test, columns) for test in tests))


def _selected(node: exp.Expr, columns: Sequence[str]) -> tuple[int, int]:
    node = node.unalias()
    if isinstance(node, exp.AggFunc):
        name = node.key.upper()
        return _named(node.this, columns), _number_in(AGGREGATES, name, "aggregate")
    return _named(node, columns), 0


def _named(node: object, columns: Sequence[str]) -> int:
    while isinstance(node, (exp.Paren, exp.Lower)):
        node = node.this
    if isinstance(node, exp.Column):
        return _column_number(node.name, columns)
    shown = node.sql() if isinstance(node, exp.Expr) else node
    raise ValueError(f"{str(shown)[:80]} is not a column")


def _conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from _conjuncts(node.left)
        yield from _conjuncts(node.right)
    else:
        yield node


def _sql_condition(node: exp.Expr, columns: Sequence[str]) -> tuple[int, int, Value]:
    kinds: dict[type[exp.Binary], int] = {exp.EQ: 0, exp.GT: 1, exp.LT: 2}
    operator = next((number for kind, number in kinds.items() if type(node) is kind), None)
    if operator is None or not isinstance(node, exp.Binary):
        raise ValueError(f"{node.sql()[:80]} is not a comparison with =, > or <")
    return _named(node.left, columns), operator, _value(node.right)


def _value(node: exp.Expr) -> Value:
    while isinstance(node, (exp.Paren, exp.Lower)):
        node = node.this
    sign = 1
    if isinstance(node, exp.Neg):
        sign, node = -1, node.this
    if isinstance(node, exp.Literal) and not node.is_string:
        number = float(node.this)
        return sign * (int(number) if number.is_integer() and "." not in node.this else number)
    # Models also write values in double quotes, which SQL reads as the name of a column.
    if isinstance(node, (exp.Literal, exp.Column)) and sign == 1:
        return node.name
    raise ValueError(f"{node.sql()[:80]} is not a value")


# --- the data ----------------------------------------------------------------------------------


def _tables(questions: Path) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    packed = ".gz" if questions.name.endswith(".gz") else ""
    stem = questions.name.removesuffix(".gz").removesuffix(".jsonl")
    paths = [
        questions.with_name(f"{stem}.{kind}.jsonl{end}")
        for kind in ("tables", "schema")
        for end in (packed, "", ".gz")
    ]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InputError(
            f"The tables of {questions} are not beside it.", f"Expected {paths[0].name} there."
        )
    tables = {}
    for place, row in read_rows_of(str(path), WikiSql.home).items:
        header, types = row.get("header"), row.get("types")
        if not isinstance(header, list) or not isinstance(types, list):
            raise InputError(f"{place}: a table needs the fields id, header and types.")
        if len(header) != len(types):
            raise InputError(f"{place}: header and types differ in length.")
        tables[text_field(place, row, "id")] = tuple(map(str, header)), tuple(map(str, types))
    return tables


def _problem(
    place: str,
    row: Mapping[str, object],
    tables: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
) -> WikiProblem:
    question, table = text_field(place, row, "question"), text_field(place, row, "table_id")
    if table not in tables:
        raise InputError(f"{place}: there is no table {table!r}.")
    columns, types = tables[table]
    try:
        query = _of_json(json.dumps(row.get("sql")), columns)
    except ValueError as error:
        raise InputError(f"{place}: the field 'sql' is not a query: {error}.") from None
    number = place.rpartition(":")[2]
    return WikiProblem(f"{table}/{number}", question, columns, types, query)
