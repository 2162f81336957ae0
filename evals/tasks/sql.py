"""SQL for questions about multi-table databases, scored by execution accuracy.

``spider`` (Yu et al. 2018, arXiv 1809.08887), ``bird`` (Li et al. 2023, arXiv 2305.03111; with its
hints) and ``everyday`` (40 questions on three small databases, some unanswerable). A row has
``question``, ``db_id`` and ``query`` (BIRD: ``SQL``), or the expected ``answer``.

The databases are next to the questions: ``DB.sqlite`` or ``DB/DB.sqlite``, there or in
``database``, ``databases``, ``dev_databases`` or ``test_database``; ``everyday_DB.sql``; or an
archive ``databases*.tar.xz``. A model's statement runs in a separate read-only process with limits
on time and rows. A model may decline, which is correct for unanswerable questions.

BIRD's own script compares sets; here duplicate rows count.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from codegen.core.errors import InputError, plural
from codegen.core.generation import cut_at_stop
from codegen.core.paths import cache_folder, new_folder, plain_name
from codegen.core.records import Sample, Verdict
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import (
    DataLocation,
    Problem,
    make_problems,
    read_rows_of,
    text_field,
)
from codegen.evals.tasks.extraction import Extraction, fenced_blocks
from codegen.evals.tasks.styles import PromptStyle
from codegen.sqlnet.answers import GoldRows, ran, same_rows
from codegen.sqlnet.databases import DatabaseError, StatementLimits, TooSlowError
from codegen.sqlnet.fallback import CANNOT, prompt_of, schema_text
from codegen.sqlnet.query import Statement, UnsafeSQLError
from codegen.sqlnet.schema import Schema

_LIMITS = StatementLimits(seconds=20.0, rows=20_000)
_FOLDERS = ("", "database", "databases", "dev_databases", "test_database")
_MOST_BYTES = 4 << 30  # maximum total size of an archive's databases
_PRAGMA, _ATTACH = 19, 24  # SQLite's action codes
SCRIPT_S, SCRIPT_PAGES = 30, 1 << 16  # limits of a script's database, in seconds and 4 KiB pages
_SCRIPT_VALUE = 1 << 24  # maximum bytes of one value


@dataclass(frozen=True, slots=True)
class SqlProblem(Problem):
    """One question; ``prompt`` is its text.

    Attributes:
        database: the database file.
        query: gold SQL; "" if the question is unanswerable.
        hint: facts that the question assumes (BIRD's evidence).
        level: difficulty, if the data has one.
        answers: correct rows; by default the gold SQL's.
        may_decline: whether declining is correct.
    """

    database: Path
    query: str
    hint: str = ""
    level: str = ""
    answers: tuple[GoldRows, ...] = ()
    may_decline: bool = False


class Spider(CodeTask[SqlProblem]):
    """Spider's development questions; pass other data in its format with ``--source``."""

    home = DataLocation("sql/spider/dev.jsonl.gz")
    asks = ("instruction", "code")
    passing = "its statement returns the gold SQL's rows (execution accuracy)"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads a file's questions whose databases are next to the file."""
        folder = Path(source or cls.home.source()).resolve().parent
        rows = read_rows_of(source, cls.home)
        problems = make_problems(rows, lambda place, row: _problem(place, row, folder))
        if not (there := [problem for problem in problems if problem.database.is_file()]):
            raise InputError(
                f"No database next to {rows.source}.",
                f"Expected {folder / problems[0].database.name}; docs/tasks.md lists other paths.",
            )
        return cls(name, description, there, rows.source)

    def instruction(self, problem: SqlProblem) -> str:
        """Returns the tables, the question, and the answer format."""
        return prompt_of(_asked(problem), schema_of(problem.database), "sqlite")

    def code(self, problem: SqlProblem) -> str:
        """Returns the tables and the question as comments, and the first word of a statement."""
        text = f"{schema_text(_asked(problem), schema_of(problem.database))}\n{_asked(problem)}"
        return "".join(f"-- {line}\n" for line in text.splitlines()) + "SELECT"

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return (";", "\n\n", "\n--") if style.read == "append" else ()

    def read(self, problem: SqlProblem, style: PromptStyle, answer: str) -> Extraction:
        """Extracts the statement from an answer; CANNOT if it declines."""
        if style.read == "append" and style.name != "completion":
            return Extraction(f"SELECT{cut_at_stop(answer, self._stops(style))}")
        answer = answer.rpartition("</think>")[2]
        if re.match(rf"\W*{CANNOT}", answer, re.IGNORECASE):
            return Extraction(CANNOT)
        return find_query(answer)

    def job(self, problem: SqlProblem, program: str) -> Verdict:
        """Runs the statement, and compares its rows with the expected ones."""
        return _judged(problem, program)

    def reference(self, problem: SqlProblem) -> str:
        """Returns the gold SQL."""
        return problem.query or CANNOT

    def buggy(self, problem: SqlProblem) -> Sequence[str]:
        """Returns a statement that yields wrong rows."""
        return ("SELECT 'nothing is called this'",)

    def measure(self, problem: SqlProblem, sample: Sample) -> Mapping[str, float]:
        """Returns ``declined``: 1 if the answer declines, else 0."""
        return {"declined": float(self.program(problem, sample) == CANNOT)}

    def labels(self, problem: SqlProblem) -> Sequence[str]:
        """Returns the difficulty."""
        return (problem.level,) if problem.level else ()


class Bird(Spider):
    """BIRD's development questions with its hints; pass ``--source dev.json``."""

    home = DataLocation("sql/bird/dev.jsonl.gz")


class Everyday(Spider):
    """Everyday questions on three small databases."""

    home = DataLocation("sql/everyday.jsonl")


def find_query(answer: str) -> Extraction:
    """Extracts the query from an answer: its last fenced block, else from its first SELECT."""
    if blocks := fenced_blocks(answer):
        answer = blocks[-1]
    begun = re.search(r"\bSELECT\b", answer, re.IGNORECASE)
    if begun is None:
        return Extraction("", "no SELECT in the answer")
    return Extraction(re.split(r";|\n\s*\n", answer[begun.start() :], maxsplit=1)[0].strip())


def _asked(problem: SqlProblem) -> str:
    return f"{problem.prompt}\nHint: {problem.hint}" if problem.hint else problem.prompt


@lru_cache(maxsize=4)
def schema_of(path: Path) -> Schema:
    """Returns the schema of a problem's database, which stays open for the next problem."""
    return Schema.open(path)


@lru_cache(maxsize=4096)
def _judged(problem: SqlProblem, program: str) -> Verdict:
    database = schema_of(problem.database).database
    assert database
    if program.strip() == CANNOT:
        declines = problem.may_decline or not (problem.query or problem.answers)
        message = "" if declines else "it declines an answerable question"
        return Verdict(problem.id, 0, "passed" if declines else "wrong", message=message)
    expected = problem.answers
    if not expected and problem.query:
        gold = ran(database, problem.query, _LIMITS)
        if gold is None:
            return Verdict(problem.id, 0, "bad_test", message="the gold SQL cannot be run")
        expected = (gold,)
    try:
        rows = database.engine.query(Statement(program, (), database.dialect), _LIMITS)
    except TooSlowError as error:
        return Verdict(problem.id, 0, "timeout", message=error.message)
    except (DatabaseError, UnsafeSQLError) as error:
        return Verdict(problem.id, 0, "error", message=error.message)
    if any(same_rows(rows.rows, one) for one in expected):
        return Verdict(problem.id, 0, "passed")
    wanted = plural(len(expected[0].rows), "row") if expected else "no answer"
    return Verdict(
        problem.id, 0, "wrong", message=f"{plural(len(rows.rows), 'row')}, expected {wanted}"
    )


def _problem(place: str, row: Mapping[str, object], folder: Path) -> SqlProblem:
    name = plain_name(row.get("db_id"), place)
    query = row.get("query") or row.get("SQL") or ""
    accepted = row.get("accepted")
    accepted_rows: list[Any] = [row, *(accepted if isinstance(accepted, list) else [])]
    answers = tuple(
        GoldRows(tuple(map(tuple, one["answer"])), bool(row.get("ordered")), exact=False)
        for one in accepted_rows
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
    """Returns a database's file, or its expected path if the file is missing."""
    for below in _FOLDERS:
        for path in (folder / below / f"{name}.sqlite", folder / below / name / f"{name}.sqlite"):
            if path.is_file():
                return path
    script = folder / f"everyday_{name}.sql"
    if script.is_file():
        return cached_folder(script, _run_script) / "made.sqlite"
    for archive in sorted(folder.glob("databases*.tar.xz")):
        if (path := cached_folder(archive, _unpack) / f"{name}.sqlite").is_file():
            return path
    return folder / "databases" / f"{name}.sqlite"


def cached_folder(source: Path, fill: Callable[[Path, Path], None]) -> Path:
    """Returns a cache folder filled by ``fill(source, folder)``, keyed by path, size and mtime."""
    about = source.stat()
    key = f"{source}\0{about.st_size}\0{about.st_mtime_ns}"
    cached = cache_folder() / "sql" / sha256(key.encode()).hexdigest()[:24]
    if not cached.is_dir():
        folder = new_folder(cached)
        try:
            fill(source, folder)
            folder.rename(cached)
        except OSError:
            if not cached.is_dir():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return cached


def _run_script(script: Path, folder: Path) -> None:
    """Creates ``made.sqlite`` by an SQL script that cannot open other files, in limited time."""
    connection = sqlite3.connect(folder / "made.sqlite")
    connection.execute(f"PRAGMA max_page_count = {SCRIPT_PAGES}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SCRIPT_VALUE)
    connection.set_authorizer(lambda action, *_: 1 if action in (_PRAGMA, _ATTACH) else 0)
    end = time.monotonic() + SCRIPT_S
    connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
    try:
        connection.executescript(script.read_text("utf-8"))
    except sqlite3.Error as error:
        raise InputError(f"{script} does not create a database: {error}.") from None
    finally:
        connection.close()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the SQLite files of an archive."""
    left = _MOST_BYTES
    try:
        with tarfile.open(archive) as opened:
            for member in opened:
                name = Path(member.name).name
                left -= member.size
                if left < 0:
                    raise InputError(f"{archive} contains more than {_MOST_BYTES >> 30} GiB.")
                if member.isfile() and name.endswith(".sqlite") and "suite" not in member.name:
                    content = opened.extractfile(member)
                    assert content
                    (folder / plain_name(name, str(archive))).write_bytes(content.read())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{archive} cannot be unpacked: {error}.") from None
