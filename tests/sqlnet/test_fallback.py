"""What a language model writes passes the same gate, or does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.sqlnet.fallback import CANNOT, prompt_of, statement_from, write
from codegen.sqlnet.plan_features import LinkedSchema
from codegen.sqlnet.query import Column, Table, UnsafeSQLError
from codegen.sqlnet.schema import Schema
from tests.databases import sqlite_file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return sqlite_file(
        tmp_path / "x.db",
        'CREATE TABLE people (name TEXT, "City ""x""" TEXT, age INT);',
        people=[("Ann", "Rome", 30), ("Bob", "Rome", 40), ("Eve", "Oslo", 5)],
    )


GROUPED = 'SELECT "City ""x""", COUNT(*) FROM people GROUP BY 1 ORDER BY 2 DESC'


@pytest.mark.parametrize(
    "text",
    [
        GROUPED,
        f"{GROUPED};",
        f"Here it is:\n```sql\n{GROUPED};\n```\nIt groups.",
        f"```\n{GROUPED}",
        f"<think>SELECT or DROP?</think>\n{GROUPED}",
    ],
)
def test_a_select_is_found_in_an_answer_and_runs(path: Path, text: str) -> None:
    written = write("people by city", Schema.open(path), lambda _, n: [text] * n)
    assert written.rows and written.rows.rows == (("Rome", 2), ("Oslo", 1))
    assert (written.statement and written.statement.text, written.failure) == (GROUPED, "")


@pytest.mark.parametrize(
    "text",
    [
        "I can't do that.",
        "",
        "DROP TABLE people",
        "SELECT name FROM people; DROP TABLE people",
        "```sql\nDELETE FROM people\n```",
        "SELECT name FROM people WHERE load_extension('x')",
        "SELECT secret FROM people",
        "SELECT * FROM sqlite_master",
        "WITH x AS (DELETE FROM people RETURNING name) SELECT * FROM x",
        "SELECT 1; ATTACH 'y.db' AS y",
    ],
)
def test_nothing_else_runs(path: Path, text: str) -> None:
    before, beside = path.read_bytes(), sorted(path.parent.iterdir())
    asked: list[str] = []
    written = write("x", Schema.open(path), lambda prompt, n: asked.append(prompt) or [text] * n)
    assert (written.statement, written.rows) == (None, None)
    assert written.failure
    assert len(asked) == 2 and written.failure in asked[1]
    assert (path.read_bytes(), sorted(path.parent.iterdir())) == (before, beside)


def test_an_error_is_told_once_and_mended(path: Path) -> None:
    answers = iter(["SELECT nam FROM people", "SELECT MAX(age) FROM people"])
    written = write("oldest", Schema.open(path), lambda _, n: [next(answers)])
    assert written.rows and written.rows.rows == ((40,),)


def test_the_prompt_shows_names_and_types_and_no_row(path: Path) -> None:
    prompt = prompt_of("who?", Schema.open(path), "sqlite")
    assert 'CREATE TABLE "people" ("name" TEXT, "City ""x""" TEXT, "age" REAL);' in prompt
    assert "Question: who?" in prompt and "Rome" not in prompt


def test_the_prompt_holds_what_the_question_is_about_of_a_large_database() -> None:
    many = [Table(f"t{i}", tuple(Column(f"c{j}") for j in range(9))) for i in range(500)]
    wide = tuple(Column(f"w{j}") for j in range(1999))
    schema = Schema((*many, Table("zoo_animals", (*wide, Column("keeper_name")))))
    prompt = prompt_of("names of keepers of animals per zoo", schema, "sqlite")
    assert '"zoo_animals"' in prompt and '"keeper_name"' in prompt
    assert 2_000 < len(prompt) < 10_000


def test_without_a_database_the_statement_is_only_checked() -> None:
    schema = Schema.from_columns({"a": "real"}, "t")
    written = write("x", schema, lambda _, n: ["SELECT a FROM t"])
    assert (written.statement and written.statement.text, written.rows) == ("SELECT a FROM t", None)
    with pytest.raises(UnsafeSQLError):
        statement_from("SELECT b FROM t", schema, "sqlite")


OLDEST, SUM, BAD = "SELECT MAX(age) FROM people", "SELECT SUM(age) FROM people", "SELECT x FROM y"
SAME = "SELECT age FROM people ORDER BY age DESC LIMIT 1"


@pytest.mark.parametrize(
    "texts, rows, votes, failure",
    [
        ([SUM, OLDEST, SAME, BAD, OLDEST], ((40,),), 3, ""),  # other words, the same result
        ([OLDEST, SUM], ((40,),), 1, ""),  # of two, the most probable one
        ([SUM, OLDEST, BAD, BAD, BAD], None, 1, "Only 1 of 5 answers"),
        ([f"{CANNOT}: no ages"] * 3 + [OLDEST, OLDEST], None, 3, "cannot answer: no ages"),
        ([OLDEST] * 3 + [f"{CANNOT}"] * 2, ((40,),), 3, ""),
    ],
)
def test_results_vote(path: Path, texts: list[str], rows: object, votes: int, failure: str) -> None:
    asked: list[int] = []
    written = write(
        "x", Schema.open(path), lambda _, n: asked.append(n) or texts, samples=len(texts)
    )
    assert (written.rows and written.rows.rows) == rows
    assert (written.votes, written.samples, asked) == (votes, len(texts), [len(texts)])
    assert failure in written.failure and bool(failure) == bool(written.failure)


def test_if_no_statement_runs_one_is_mended(path: Path) -> None:
    answers = [[BAD, "nothing"], [OLDEST]]
    written = write("x", Schema.open(path), lambda _, n: answers.pop(0), samples=2)
    assert written.rows and written.rows.rows == ((40,),)
    assert (written.votes, written.samples) == (1, 2)


def test_words_that_are_cells_and_joins_are_told(tmp_path: Path) -> None:
    path = sqlite_file(
        tmp_path / "y.db",
        "CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE house (id INTEGER PRIMARY KEY, town_id INTEGER REFERENCES town);",
        town=[(1, "Rome"), (2, "Oslo")],
    )
    schema = Schema.open(path)
    linked = LinkedSchema(schema.tables, schema.database)
    prompt = prompt_of("houses in rome", schema, "sqlite", linked)
    assert """-- "town"."name" has 'Rome'""" in prompt and "Oslo" not in prompt
    assert '-- "house"."town_id" = "town"."id"' in prompt
