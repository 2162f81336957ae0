"""Questions on databases of several tables, as SQL, judged by the rows: execution accuracy.

``spider`` (Yu et al. 2018, arXiv 1809.08887), ``bird`` (Li et al. 2023, arXiv 2305.03111; with its
hints) and ``everyday`` (40 questions on three small databases, some of which can't be answered).
A row has ``question``, ``db_id`` and ``query`` (BIRD: ``SQL``), or the expected ``answer``.

The databases are looked for beside the questions: ``DB.sqlite``, ``DB/DB.sqlite``, either in
``database``, ``databases``, ``dev_databases`` or ``test_database``; ``everyday_DB.sql``; or in an
archive ``databases*.tar.xz``. A model's statement runs in a process of its own that can only read,
with limits of time and rows. It may decline, which is right where nothing can be answered.

Unlike BIRD's own script, which compares sets, rows that are there twice count twice.
"""

from __future__ import annotations

import re
import sqlite3
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Self

from codegen.errors import InputError
from codegen.paths import cache_folder, new_folder, plain_name
from codegen.records import Sample, Verdict
from codegen.sqlnet.answers import Expected, ran, same_rows
from codegen.sqlnet.databases import DatabaseError, StatementLimits, TooSlowError
from codegen.sqlnet.fallback import prompt_of, schema_text
from codegen.sqlnet.grammar import CANNOT
from codegen.sqlnet.query import Statement, UnsafeSQLError
from codegen.sqlnet.schema import Schema

from .base import CodeTask
from .extraction import Extraction, cut_at_stop
from .rows import Home, Problem, make_problems, read_rows_of, text_field
from .styles import PromptStyle, style_of
from .wikisql import find_query

_LIMITS = StatementLimits(seconds=20.0, rows=20_000)
_FOLDERS = ("", "database", "databases", "dev_databases", "test_database")
_MOST_BYTES = 4 << 30  # of the databases of an archive
_ATTACH = 24  # SQLite's code of the action


@dataclass(frozen=True, slots=True)
class SqlProblem(Problem):
    """One question; ``prompt`` is its text.

    Attributes:
        database: the file.
        query: gold SQL; "" if the question can't be answered.
        hint: what the question takes for granted (BIRD's evidence).
        level: its difficulty, if the data says so.
        answers: rows that are right; by default those of the gold SQL.
        may_decline: whether to decline is right.
    """

    database: Path
    query: str
    hint: str = ""
    level: str = ""
    answers: tuple[Expected, ...] = ()
    may_decline: bool = False


class Spider(CodeTask[SqlProblem]):
    """Spider's development questions; other data in its form by ``--source``."""

    home = Home("sql/spider/dev.jsonl.gz")
    asks = ("instruction", "code")
    passing = "its statement gives the rows of the gold SQL (execution accuracy)"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """All questions of a file, whose databases are beside it."""
        folder = Path(source or cls.home.source()).resolve().parent
        rows = read_rows_of(source, cls.home)
        problems = make_problems(rows, lambda place, row: _problem(place, row, folder))
        if not (there := [problem for problem in problems if problem.database.is_file()]):
            raise InputError(
                f"None of the databases of {rows.source} is beside it.",
                f"Expected {folder / problems[0].database.name}, or as docs/tasks.md says.",
            )
        return cls(name, description, there, rows.source)

    def instruction(self, problem: SqlProblem) -> str:
        """The tables, the question, and the form of the answer."""
        return prompt_of(_asked(problem), _schema(problem.database), "sqlite")

    def code(self, problem: SqlProblem) -> str:
        """The tables and the question as comments, and the first word of a statement."""
        text = f"{schema_text(_asked(problem), _schema(problem.database))}\n{_asked(problem)}"
        return "".join(f"-- {line}\n" for line in text.splitlines()) + "SELECT"

    def joined(self, problem: SqlProblem, completion: str) -> str:
        """The statement with its first word."""
        return f"SELECT{completion}"

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return (";", "\n\n", "\n--") if style.read == "append" else ()

    def extract(self, problem: SqlProblem, sample: Sample) -> Extraction:
        """The statement of an answer, or that it declines."""
        style, answer = style_of(sample), sample.completion
        if not answer.strip():
            return Extraction("", "the answer is empty", "empty")
        if style.read == "append" and style.name != "completion":
            return Extraction(self.joined(problem, cut_at_stop(answer, self._stops(style))))
        answer = answer.rpartition("</think>")[2]
        if re.match(rf"\W*{CANNOT}", answer, re.IGNORECASE):
            return Extraction(CANNOT)
        return find_query(answer)

    def job(self, problem: SqlProblem, program: str) -> Verdict:
        """Runs the statement, and compares its rows with the expected ones."""
        return _judged(problem, program)

    def reference(self, problem: SqlProblem) -> str:
        """The gold SQL."""
        return problem.query or CANNOT

    def buggy(self, problem: SqlProblem) -> Sequence[str]:
        """A statement that gives other rows."""
        return ("SELECT 'nothing is called this'",)

    def measure(self, problem: SqlProblem, sample: Sample) -> Mapping[str, float]:
        """Whether it declines: without that, a wrong statement looks like an answer."""
        return {"declined": float(self.program(problem, sample) == CANNOT)}

    def labels(self, problem: SqlProblem) -> Sequence[str]:
        """Its difficulty."""
        return (problem.level,) if problem.level else ()


class Bird(Spider):
    """BIRD's development questions with its hints, by ``--source dev.json``."""

    home = Home("sql/bird/dev.jsonl.gz")


class Everyday(Spider):
    """Everyday questions on three small databases."""

    home = Home("sql/everyday.jsonl")


def _asked(problem: SqlProblem) -> str:
    return f"{problem.prompt}\nHint: {problem.hint}" if problem.hint else problem.prompt


@lru_cache(maxsize=4)
def _schema(path: Path) -> Schema:
    return Schema.open(path)


schema_of = _schema
"""The schema of a problem's database, which stays open for the next problem."""


@lru_cache(maxsize=4096)
def _judged(problem: SqlProblem, program: str) -> Verdict:
    database = _schema(problem.database).database
    assert database
    if program.strip() == CANNOT:
        declines = problem.may_decline or not (problem.query or problem.answers)
        message = "" if declines else "it declines a question that can be answered"
        return Verdict(problem.id, 0, "passed" if declines else "wrong", message=message)
    expected = problem.answers
    if not expected and problem.query:
        gold = ran(database, problem.query, _LIMITS)
        if gold is None:
            return Verdict(problem.id, 0, "bad_test", message="the gold SQL can't be run")
        expected = (gold,)
    try:
        rows = database.engine.query(Statement(program, (), database.dialect), _LIMITS)
    except TooSlowError as error:
        return Verdict(problem.id, 0, "timeout", message=error.message)
    except (DatabaseError, UnsafeSQLError) as error:
        return Verdict(problem.id, 0, "error", message=error.message)
    if any(same_rows(rows.rows, one) for one in expected):
        return Verdict(problem.id, 0, "passed")
    wanted = f"{len(expected[0].rows)} rows" if expected else "no answer"
    return Verdict(problem.id, 0, "wrong", message=f"{len(rows.rows)} rows, expected {wanted}")


# --- the data -------------------------------------------------------------------------------------


def _problem(place: str, row: Mapping[str, object], folder: Path) -> SqlProblem:
    name = plain_name(row.get("db_id"), place)
    query = row.get("query") or row.get("SQL") or ""
    accepted = row.get("accepted")
    given = [row, *(accepted if isinstance(accepted, list) else [])]
    answers = tuple(
        Expected(tuple(map(tuple, one["answer"])), bool(row.get("ordered")), exact=False)
        for one in given
        if isinstance(one, Mapping) and isinstance(one.get("answer"), list)
    )
    answerable = row.get("answerable", True)
    if answerable and not (isinstance(query, str) and (query or answers)):
        raise InputError(f"{place}: a question needs the field query, SQL or answer.")
    id_ = row.get("id", row.get("question_id", place.rpartition(":")[2]))
    return SqlProblem(
        str(id_),
        text_field(place, row, "question"),
        _database(folder, name),
        str(query) if answerable else "",
        str(row.get("evidence") or ""),
        str(row.get("hardness") or row.get("difficulty") or row.get("category") or ""),
        answers if answerable else (),
        bool(row.get("abstain_ok")) or not answerable,
    )


@lru_cache(maxsize=1024)
def _database(folder: Path, name: str) -> Path:
    """The file of a database; where it would be, if there is none."""
    for below in _FOLDERS:
        for path in (folder / below / f"{name}.sqlite", folder / below / name / f"{name}.sqlite"):
            if path.is_file():
                return path
    script = folder / f"everyday_{name}.sql"
    if script.is_file():
        return _made_of(script)
    for archive in sorted(folder.glob("databases*.tar.xz")):
        if (path := _unpacked(archive) / f"{name}.sqlite").is_file():
            return path
    return folder / "databases" / f"{name}.sqlite"


def _place(source: Path) -> Path:
    """Where what is made of a file is kept; another place if it has changed."""
    about = source.stat()
    key = f"{source}\0{about.st_size}\0{about.st_mtime_ns}"
    return cache_folder() / "sql" / sha256(key.encode()).hexdigest()[:24]


def _made_of(script: Path) -> Path:
    """The database that a script of SQL makes; it can open no other file."""
    place = _place(script)
    if not (path := place / "made.sqlite").is_file():
        folder = new_folder(place)
        connection = sqlite3.connect(folder / "made.sqlite")
        connection.set_authorizer(lambda action, *_: 1 if action == _ATTACH else 0)
        try:
            connection.executescript(script.read_text("utf-8"))
        except sqlite3.Error as error:
            raise InputError(f"{script} makes no database: {error}.") from None
        finally:
            connection.close()
        folder.rename(place)
    return path


@lru_cache(maxsize=16)
def _unpacked(archive: Path) -> Path:
    """A folder with the SQLite files of an archive."""
    place = _place(archive)
    if not place.is_dir():
        folder, left = new_folder(place), _MOST_BYTES
        try:
            with tarfile.open(archive) as opened:
                for member in opened:
                    name = Path(member.name).name
                    left -= member.size
                    if left < 0:
                        raise InputError(f"{archive} holds more than {_MOST_BYTES >> 30} GiB.")
                    if member.isfile() and name.endswith(".sqlite") and "suite" not in member.name:
                        content = opened.extractfile(member)
                        assert content
                        (folder / plain_name(name, str(archive))).write_bytes(content.read())
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{archive} can't be unpacked: {error}.") from None
        folder.rename(place)
    return place
