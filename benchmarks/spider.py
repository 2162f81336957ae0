"""Execution accuracy of the plan network on Spider's development databases, and its speed.

What: ``execution`` is the share of the 824 questions of Spider's development set (20 % of it, five
databases, are kept elsewhere) whose answer equals that of the gold query: the plan network's first
plan that runs, DISTINCT taken out of both statements, columns in any order, rows in any order
unless gold orders them, as Spider's test-suite evaluation compares. ``execution_strict`` leaves
DISTINCT in. ``execution_unguided`` takes the most probable plan, run or not; ``any_of_eight`` says
how often one of the eight candidates is right. ``best_half`` and ``best_quarter`` are the shares
that are right among the questions of the highest confidence; ``execution_easy`` to ``_extra`` are
by Spider's four levels. ``suite`` counts a question only if it is also right on five random fills
of the database. ``realistic``, ``syn`` and ``dk`` are questions in other words, with the same
databases. ``ms_per_question`` is CPU time of one thread from the question to the answer, with the
statements that were run; ``large_schema_ms`` the same without a database on a made-up schema of 200
tables. All intervals are clustered by database.

Against: published figures are in docs/measurements.md; most are exact match without values, another
measure.

Limits: one seed of training. The data is read from the folder that ``-o data=DIR`` or the variable
CODEGEN_TEST_DATA names; without it the figures are null.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.statistics import Estimate
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.sqlnet.plan_data import GoldQuestion
    from codegen.sqlnet.plan_parser import PlanAnswer, PlanParser
    from codegen.sqlnet.schema import Schema

_KEYS = (
    *("execution", "execution_strict", "execution_unguided", "any_of_eight", "suite"),
    *("execution_easy", "execution_medium", "execution_hard", "execution_extra"),
    *("best_half", "best_quarter", "realistic", "syn", "dk"),
    *("ms_per_question", "large_schema_ms", "parameters"),
)
_QUICK = 60


def run(quick: bool = False, *, data: str = "", model: str = "") -> Mapping[str, object]:
    """Measures.

    Args:
        quick: some questions of each set, without the random fills.
        data: the folder of data sets; by default what CODEGEN_TEST_DATA names.
        model: a directory with a plan network; by default that of the package.
    """
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "sqlglot")
    report.figures |= dict.fromkeys(_KEYS)
    named = data or os.environ.get("CODEGEN_TEST_DATA", "")
    folder = Path(named, "sql", "spider")
    if not named or not folder.is_dir():
        if data:
            raise ConfigError(f"There is no folder {folder}.", "Give -o data=DIR that holds it.")
        report.install["data"] = "-o data=DIR, the folder that holds sql/spider/"
        return report.mapping()
    import torch

    from codegen.sqlnet.plan_data import read_gold
    from codegen.sqlnet.plan_parser import PlanParser

    torch.set_num_threads(1)
    parser = PlanParser.from_pretrained(model or None)
    report.set("parameters", parser.network.parameters)
    dev = read_gold(folder / "dev.jsonl.gz")
    syn = [replace(one, question=one.paraphrases[0]) for one in dev if one.paraphrases]
    sets = {"dev": dev, "syn": syn}
    sets |= {name: read_gold(folder / f"{name}.jsonl.gz") for name in ("realistic", "dk")}
    with tempfile.TemporaryDirectory() as made:
        for archive in ("databases_dev", "databases_made_up"):
            with tarfile.open(folder / f"{archive}.tar.xz") as opened:
                opened.extractall(made, filter="data")
        for name, golds in sets.items():
            some = random.Random(0).sample(golds, _QUICK) if quick else golds
            say(f"{name}: {len(some)} questions")
            found = list(_outcomes(parser, some, Path(made), suite=name == "dev" and not quick))
            _set(report, name, found)
    report.set("large_schema_ms", _large_schema_ms(parser))
    return report.mapping()


@dataclass(frozen=True, slots=True)
class _Outcome:
    database: str
    hardness: str
    right: bool
    strict: bool
    unguided: bool
    any_right: bool
    suite: bool
    confidence: float
    ms: float


def _outcomes(
    parser: PlanParser, golds: Sequence[GoldQuestion], made: Path, *, suite: bool
) -> Iterator[_Outcome]:
    from codegen.sqlnet.plan_data import find_database
    from codegen.sqlnet.schema import Schema

    folders = [made / "databases", made / "made_up"]
    held, schema = "", None
    for gold in sorted(golds, key=lambda one: one.db_id):
        if gold.db_id != held:
            database = find_database(folders, gold.db_id)
            held, schema = gold.db_id, Schema.of(database) if database else None
            if schema:
                parser.linked(schema)  # the index of cells is read once a database
        if schema is None:
            continue
        began = time.process_time()
        answer = parser.parse(gold.question, schema)
        ms = 1000 * (time.process_time() - began)
        yield _judged(gold, answer, schema, made if suite else None, ms)


def _judged(
    gold: GoldQuestion, answer: PlanAnswer, schema: Schema, made: Path | None, ms: float
) -> _Outcome:
    from codegen.errors import CodegenError
    from codegen.sqlnet.answers import equal_rows
    from codegen.sqlnet.plan import to_statement
    from codegen.sqlnet.plan_data import run_rows
    from codegen.sqlnet.query import Statement

    database = schema.database
    assert database
    ordered = "order by" in gold.query.lower()
    wanted = run_rows(database, gold.query)

    def is_right(statement: Statement | None) -> bool:
        if statement is None or wanted is None:
            return False
        found = run_rows(database, statement.text, statement.parameters)
        return found is not None and equal_rows(found, wanted, ordered=ordered)

    statements = []
    for candidate in answer.candidates:
        try:
            statements.append(to_statement(candidate.plan, answer.question.schema.graph))
        except CodegenError:
            statements.append(None)
    right = is_right(answer.statement)
    strict = False
    if answer.statement and answer.rows:
        plain = run_rows(database, gold.query, keep_distinct=True)
        strict = plain is not None and equal_rows(answer.rows.rows, plain, ordered=ordered)
    return _Outcome(
        gold.db_id,
        gold.hardness,
        right,
        strict,
        is_right(statements[0]),
        right or any(map(is_right, statements)),
        right and made is not None and _on_suite(gold, answer.statement, made),
        answer.confidence,
        ms,
    )


def _on_suite(gold: GoldQuestion, statement: object, made: Path) -> bool:
    """Whether a statement also gives gold's answer on the random fills of its database."""
    from codegen.sqlnet.answers import equal_rows
    from codegen.sqlnet.plan_data import without_distinct
    from codegen.sqlnet.query import Statement

    assert isinstance(statement, Statement)
    for path in sorted((made / "suite" / gold.db_id).glob("*.sqlite")):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            wanted = connection.execute(without_distinct(gold.query)).fetchall()
            text = without_distinct(statement.text)
            found = connection.execute(text, statement.parameters).fetchall()
        except sqlite3.Error:
            return False
        finally:
            connection.close()
        if not equal_rows(found, wanted, ordered="order by" in gold.query.lower()):
            return False
    return True


def _set(report: Report, name: str, found: Sequence[_Outcome]) -> None:
    if name != "dev":
        report.set(name, _share(found, "right"), n=len(found))
        return
    names = {"right": "execution", "strict": "execution_strict", "unguided": "execution_unguided"}
    for field, key in (names | {"any_right": "any_of_eight", "suite": "suite"}).items():
        report.set(key, _share(found, field), n=len(found))
    ranked = sorted(found, key=lambda one: -one.confidence)
    for key, parts in (("best_half", 2), ("best_quarter", 4)):
        report.set(key, _share(ranked[: len(ranked) // parts], "right"), n=len(ranked) // parts)
    for level in ("easy", "medium", "hard", "extra"):
        if some := [one for one in found if one.hardness == level]:
            report.set(f"execution_{level}", _share(some, "right"), n=len(some))
    report.set("ms_per_question", sum(one.ms for one in found) / len(found), n=len(found))


def _share(found: Sequence[_Outcome], field: str) -> Estimate:
    """A share with its interval, clustered by database."""
    from codegen.evals.statistics import clustered_interval

    scores = [float(getattr(one, field)) for one in found]
    value = sum(scores) / len(scores)
    low, high = clustered_interval(scores, value, [one.database for one in found])
    return Estimate(value, low, high)


def _large_schema_ms(parser: PlanParser) -> float:
    """CPU time of a question on 200 tables of ten columns, from its text to its SQL."""
    from codegen.sqlnet.query import Column, ForeignKey, Table
    from codegen.sqlnet.schema import Schema

    rng = random.Random(0)
    words = list(parser.network.words[200:3000])
    tables = [
        Table(
            f"{rng.choice(words)} {number}",
            (Column("id", "real"), *(Column(f"{rng.choice(words)} {c}") for c in range(9))),
            primary_key=(0,),
            foreign_keys=(ForeignKey((1,), "singers", ("id",)),) if number % 3 else (),
        )
        for number in range(199)
    ]
    singers = (Column("id", "real"), Column("name"), Column("age", "real"), Column("country"))
    schema = Schema((*tables, Table("singers", singers, primary_key=(0,))))
    question = "what is the average age of singers from France?"
    parser.linked(schema)
    times = []
    for _ in range(7):
        began = time.process_time()
        parser.parse(question, schema)
        times.append(1000 * (time.process_time() - began))
    return sorted(times)[3]
