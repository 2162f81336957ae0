"""Questions on databases: judged by rows, whatever the statement looks like; nothing is written."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Sample, Verdict
from codegen.evals import tasks
from codegen.evals.tasks import sql
from codegen.evals.tasks.exchange import read_samples
from codegen.evals.tasks.sql import Spider
from codegen.evaluate import SQLNET, SqlnetBackend, TaskSampling, sample_task
from codegen.sqlnet.query import Statement
from codegen.sqlnet.sql import with_values
from tests.databases import sqlite_file

ROWS = [
    {"question": "How many?", "db_id": "zoo", "query": "SELECT count(*) FROM animal"},
    {"question": "Oldest?", "db_id": "zoo", "SQL": "SELECT name FROM animal ORDER BY age DESC",
     "evidence": "old means a high age", "difficulty": "simple"},
    {"question": "Who will win?", "db_id": "zoo", "answerable": False},
]  # fmt: skip


def make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [("Cy", 9), ("Bo", 4), ("Al", 1)]
    sqlite_file(path, "CREATE TABLE animal (name TEXT, age INT)", animal=rows)


@pytest.fixture
def task(tmp_path: Path) -> Spider:
    make(tmp_path / "database/zoo/zoo.sqlite")
    (tmp_path / "dev.json").write_text(json.dumps(ROWS))
    found = tasks.load("spider", str(tmp_path / "dev.json"))
    assert isinstance(found, Spider)
    return found


@pytest.mark.parametrize(
    "number, program, status",
    [
        (0, "SELECT 3", "passed"),
        (0, "select count(name) from animal", "passed"),
        (0, "SELECT count(*) FROM animal WHERE age > 1", "wrong"),
        (0, "SELECT count(*), 1 FROM animal", "wrong"),
        (0, "CANNOT ANSWER", "wrong"),
        (1, "SELECT name FROM animal ORDER BY -age", "passed"),
        (1, "SELECT name FROM animal ORDER BY age", "wrong"),
        (2, "CANNOT ANSWER", "passed"),
        (2, "SELECT name FROM animal", "wrong"),
        (0, "SELECT nothing FROM animal", "error"),
        (0, "DELETE FROM animal", "error"),
        (0, "ATTACH '/tmp/x.db' AS x", "error"),
        (0, "SELECT load_extension('x')", "error"),
        (0, "PRAGMA table_info(animal)", "error"),
    ],
)
def test_rows_decide(task: Spider, number: int, program: str, status: str) -> None:
    problem = task.problems()[number]
    before = problem.database.read_bytes()
    assert task.job(problem, program).status == status
    assert problem.database.read_bytes() == before


@pytest.mark.parametrize(
    "answer, program",
    [
        ("```sql\nSELECT 3;\n```", "SELECT 3"),
        ("<think>SELECT 1?</think> It is SELECT 3; really", "SELECT 3"),
        ("CANNOT ANSWER: no such data", "CANNOT ANSWER"),
        ("no idea", ""),
    ],
)
def test_statements_are_found_in_answers(task: Spider, answer: str, program: str) -> None:
    sample = Sample("spider", "x", 0, "p", answer, "eos", {}, 0, 1, 1, meta={"style": "chat"})
    assert task.program(task.problems()[0], sample) == program


def test_prompts_show_tables_and_hints_and_no_rows(task: Spider) -> None:
    for text in (task.instruction(task.problems()[1]), task.code(task.problems()[1])):
        assert 'CREATE TABLE "animal" ("name" TEXT, "age" REAL);' in text
        assert "Hint: old means a high age" in text and "Cy" not in text
    assert task.code(task.problems()[1]).endswith("\nSELECT")


def test_databases_are_found_in_an_archive_and_made_of_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    make(tmp_path / "made/zoo.sqlite")
    folder = tmp_path / "data"
    folder.mkdir()
    with tarfile.open(folder / "databases_dev.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "made/zoo.sqlite", "../../databases/zoo.sqlite")
    outside = tmp_path / "outside.db"
    (folder / "everyday_farm.sql").write_text("CREATE TABLE cow (name TEXT);")
    (folder / "everyday_bad.sql").write_text(f"ATTACH '{outside}' AS x; CREATE TABLE x.y (z);")
    rows = [*ROWS[:1], {**ROWS[0], "id": "f", "db_id": "farm", "query": "SELECT * FROM cow"}]
    source = folder / "dev.jsonl"
    source.write_text(
        "".join(json.dumps({"id": str(i), **row}) + "\n" for i, row in enumerate(rows))
    )
    task = tasks.load("spider", str(source))
    judged = [task.job(problem, task.reference(problem)) for problem in task.problems()]
    assert [verdict.status for verdict in judged if isinstance(verdict, Verdict)] == ["passed"] * 2
    assert not (tmp_path / "databases").exists()
    source.write_text(json.dumps({**ROWS[0], "db_id": "bad"}))
    with pytest.raises(InputError, match="does not create a database"):
        tasks.load("spider", str(source))
    assert not outside.exists()
    source.write_text(json.dumps({**ROWS[0], "db_id": "../zoo"}))
    with pytest.raises(InputError, match="not a plain"):
        tasks.load("spider", str(source))
    source.write_text(json.dumps({**ROWS[0], "db_id": "lost"}))
    with pytest.raises(InputError, match="No database next to"):
        tasks.load("spider", str(source))


@pytest.mark.parametrize(
    "script",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n;",
        "CREATE TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        " SELECT randomblob(100000) FROM n;",
        "CREATE TABLE t AS SELECT zeroblob(900000000);",
        "PRAGMA max_page_count = 4294967294;",
        "VACUUM INTO 'copy';",
    ],
)
def test_a_script_that_makes_a_database_has_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("codegen.evals.tasks.sql.SCRIPT_S", 0.2)
    monkeypatch.setattr("codegen.evals.tasks.sql.SCRIPT_PAGES", 100)
    (tmp_path / "everyday_bad.sql").write_text(script)
    (tmp_path / "dev.jsonl").write_text(json.dumps({**ROWS[0], "db_id": "bad"}))
    with pytest.raises(InputError, match="does not create a database"):
        tasks.load("spider", str(tmp_path / "dev.jsonl"))


def test_values_are_written_into_a_statement() -> None:
    statement = Statement("SELECT '?' FROM \"a?\" WHERE b = ? AND c > ?", ("O'Hara?", 2.5))
    assert with_values(statement) == "SELECT '?' FROM \"a?\" WHERE b = 'O''Hara?' AND c > 2.5"


@pytest.mark.long
def test_the_sketch_answers_a_task_as_a_model(
    task: Spider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("torch.set_num_threads")  # of the whole process, not a back-end's to set
    backend = SqlnetBackend(task)
    made = sample_task(task, SQLNET, TaskSampling(), out=tmp_path / "run", backend=backend)
    found = {sample.problem_id: sample.completion for sample in read_samples(made.path)}
    assert len(found) == 3 and found["3"].startswith("CANNOT ANSWER: ")
    for problem in task.problems():
        assert found[problem.id].startswith(("SELECT ", "CANNOT ANSWER: "))
    with pytest.raises(ConfigError, match="cannot answer the task"):
        SqlnetBackend(tasks.load("kolmogorov"))


def test_a_database_that_two_processes_make_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source.sql"
    source.write_text("")

    def fill(_: Path, folder: Path) -> None:
        (folder / "made").write_text(folder.name)
        if not other:
            other.append(folder.name)
            sql.cached_folder(source, fill)  # another process that begins later and is faster

    other: list[str] = []
    made = sql.cached_folder(source, fill)
    assert (made / "made").read_text() != other[0]
    assert list(made.parent.iterdir()) == [made]
