"""Query match on WikiSQL, and answers on whole databases: correct, none, or wrong; speed.

What: ``dev_query_match_default`` and ``_paper`` are the fractions of the official development set's
8,421 questions whose query equals the gold query by WikiSQL's rule, with the package's weights and
with a model in the paper's layout (``-o paper=DIR``, made by ``codegen sqlnet train --layout
paper``): the most likely query of each; with ``_greedy``, slots are filled one by one, as in the
paper. ``dev_aggregate``, ``_select`` and ``_where`` break down the default's.
``execution_unguided``, ``_guided`` and ``_linked`` are the fractions of the questions of the
rebuilt test tables (official training questions that the default weights were not trained on) with
the correct answer: by the most likely query, by the one chosen by execution, and with values linked
to the table's content. ``test_query_match`` is the query match of the first. ``ms_per_question`` is
CPU time of one thread for one question at a time, from its text to its query.

Then whole databases, queried as ``sqlnet ask`` does, for each set of
:mod:`codegen.benchmarks.tools.sql_sets`: the fractions of questions that end ``_right``,
``_abstained`` (where an answer was possible) and ``_wrong_confident`` (a wrong answer with exit
code 0). ``spider_dev_exact`` is the fraction of Spider's development questions whose best query
returns the expected rows, shown or not; ``spider_ms`` is CPU time per question of this process. Of
TriageSQL, EHRSQL and WikiSQL every fourth or fifth question is used. ``wikisql_answered`` and
``wikisql_wrong`` are fractions of the rebuilt test questions on the half of the tables that the
confidence was not fitted to.

Last, the plan network by itself, scored as in Spider's test-suite evaluation: DISTINCT removed from
both statements, columns in any order, rows in any order unless gold orders them.
``spider_execution`` counts the first plan that runs; ``spider_best_half`` only the half with the
highest confidence; ``spider_suite`` only answers that are also correct on five random fills of the
database. ``spider_realistic``, ``spider_syn`` and ``spider_dk`` are rephrased questions on the same
databases.
Intervals on whole databases are clustered by database.

Against: published results are in docs/measurements.md; those systems cannot be installed here.

Limits: the official development set has no rows, so queries cannot run on it. The rebuilt tables
are lower-cased. The data is read from the folder that ``-o data=DIR`` or the variable
CODEGEN_TEST_DATA names; without it the results are null.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, options
from codegen.benchmarks.tools.sql_sets import (
    SETS,
    ask,
    is_fitted_to,
    prepare,
    read_questions,
    wikisql_questions,
)
from codegen.benchmarks.tools.statistics import Estimate, rate
from codegen.core.errors import ConfigError

if TYPE_CHECKING:
    from codegen.sqlnet.examples import LabeledQuestion, WikiTable
    from codegen.sqlnet.network import SketchNetwork
    from codegen.sqlnet.parser import SQLNet
    from codegen.sqlnet.plan_data import GoldQuestion
    from codegen.sqlnet.plan_decode import PlanParser
    from codegen.sqlnet.query import Statement

VERDICTS = ("right", "abstained", "wrong_confident")
_KEYS = (
    *("dev_query_match_default", "dev_query_match_greedy"),
    *("dev_query_match_paper", "dev_query_match_paper_greedy"),
    *("dev_aggregate", "dev_select", "dev_where"),
    *("execution_unguided", "execution_guided", "execution_linked", "test_query_match"),
    *("ms_per_question", "spider_dev_exact", "spider_ms", "wikisql_answered", "wikisql_wrong"),
    *(f"{name}_{verdict}" for name in SETS for verdict in VERDICTS),
    *("spider_execution", "spider_best_half", "spider_suite"),
    *("spider_realistic", "spider_syn", "spider_dk"),
)
_QUICK, _QUICK_SPIDER = 250, 40


def _folder(data: str) -> Path | None:
    """Returns the folder of WikiSQL; None without ``data`` or CODEGEN_TEST_DATA."""
    folder = Path(data or os.environ.get("CODEGEN_TEST_DATA", ""), "wikisql")
    if data and not folder.is_dir():
        raise ConfigError(f"{folder} does not exist.", "Pass -o data=DIR that contains it.")
    return folder if folder.parent != Path() and folder.is_dir() else None


@options(needs={"model paper": ("without -o data=DIR", lambda o: _folder(o["data"]))})
def run(
    quick: bool = False, *, data: str = "", model: str = "", paper: str = ""
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: a subsample of at most 250 questions per set.
        data: folder of datasets, by default CODEGEN_TEST_DATA.
        model: model directory, by default the package's model.
        paper: a directory with a model of the paper's layout.
    """
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "sqlglot")
    report.figures |= dict.fromkeys(_KEYS)
    folder = _folder(data)
    if folder is None:
        report.install["data"] = "-o data=DIR, the folder with wikisql/ (see docs/sqlnet.md)"
        return report.mapping()
    import torch

    from codegen.sqlnet.network import SketchNetwork
    from codegen.sqlnet.parser import DEFAULT_MODEL

    torch.set_num_threads(1)
    network = SketchNetwork.load(model or DEFAULT_MODEL)
    dev, _ = _official(folder, quick)
    say(f"official dev: {len(dev)} questions")
    _measure_dev(report, network, dev)
    if paper:
        _measure_paper(report, SketchNetwork.load(paper), dev)
    else:
        report.install["paper"] = "codegen sqlnet train ... --layout paper; then -o paper=DIR"
    test, tables = _rebuilt(folder, quick)
    say(f"rebuilt test: {len(test)} questions")
    _measure_execution(report, network, test, tables)
    _measure_speed(report, network, test[:200])
    _measure_asking(report, network, folder.parent / "sql", test, tables, quick)
    if (folder.parent / "sql" / "spider").is_dir():
        _measure_plans(report, folder.parent / "sql" / "spider", quick)
    return report.mapping()


def _measure_asking(
    report: Report,
    network: SketchNetwork,
    folder: Path,
    test: Sequence[LabeledQuestion],
    tables: Mapping[str, WikiTable],
    quick: bool,
) -> None:
    from codegen.sqlnet import SQLNet
    from codegen.sqlnet.examples import Question

    parser = SQLNet(network)
    step = 10 if quick else 1
    for name in SETS if folder.is_dir() else ():
        ask_set(report, parser, name, folder, step)
    rows = [
        Question("", i.question.text, i.question.table, i.query)
        for i in test[:: _STEPS["wikisql"]]
        if not is_fitted_to(i.question.table.name)
    ]
    outcomes = [ask(parser, question) for question in wikisql_questions(rows, tables)]
    n = len(outcomes)
    report.set("wikisql_answered", rate(sum(not o.code for o in outcomes), n), n=n)
    report.set("wikisql_wrong", rate(sum(o.verdict == "wrong" for o in outcomes), n), n=n)


# Subsamples the large sets evenly.
_STEPS = {"triagesql": 4, "ehrsql": 4, "wikisql": 5}


def ask_set(report: Report, parser: SQLNet, name: str, folder: Path, step: int = 1) -> None:
    """Runs every ``step``-th question of a set; all questions of ``everyday``."""
    step = 1 if name == "everyday" else step * _STEPS.get(name, 1)
    with tempfile.TemporaryDirectory(prefix="codegen-bench-sqlnet-") as out:
        questions = read_questions(*prepare(name, folder, Path(out)))
        began = time.process_time()
        outcomes = [ask(parser, question) for question in islice(questions, 0, None, step)]
        used = time.process_time() - began
    n, names = len(outcomes), [outcome.database for outcome in outcomes]
    for verdict in VERDICTS:
        ends = [float(o.verdict == verdict.removesuffix("_confident")) for o in outcomes]
        report.set(f"{name}_{verdict}", _clustered(ends, names), n=n)
    wrong = [outcome.id for outcome in outcomes if outcome.verdict == "wrong"]
    say(f"{name}: {n} questions, {len(wrong)} wrong: {' '.join(wrong[:40])}")
    if name == "spider_dev":
        right = [float(outcome.answered_right) for outcome in outcomes]
        report.set("spider_dev_exact", _clustered(right, names), n=n)
        report.set("spider_ms", 1000 * used / n, n=n)


def _clustered(values: Sequence[float], names: Sequence[str]) -> Estimate:
    from codegen.evals.statistics import clustered_interval

    share = sum(values) / len(values)
    return Estimate(share, *clustered_interval(values, share, names))


def _measure_dev(report: Report, network: SketchNetwork, dev: Sequence[LabeledQuestion]) -> None:
    from codegen.sqlnet.examples import predict, score

    scores = score(predict(network, dev), dev)
    greedy = score(predict(network, dev, greedy=True), dev)
    for key, value in (
        ("dev_query_match_default", scores.query_match),
        ("dev_query_match_greedy", greedy.query_match),
        ("dev_aggregate", scores.aggregate),
        ("dev_select", scores.select),
        ("dev_where", scores.where),
    ):
        report.set(key, rate(round(value * len(dev)), len(dev)), n=len(dev))


def _measure_paper(report: Report, network: SketchNetwork, dev: Sequence[LabeledQuestion]) -> None:
    from codegen.sqlnet.examples import predict, score

    for key, greedy in (("dev_query_match_paper", False), ("dev_query_match_paper_greedy", True)):
        share = score(predict(network, dev, greedy=greedy), dev).query_match
        report.set(key, rate(round(share * len(dev)), len(dev)), n=len(dev))


def _measure_execution(
    report: Report,
    network: SketchNetwork,
    test: Sequence[LabeledQuestion],
    tables: Mapping[str, WikiTable],
) -> None:
    from codegen.sqlnet.examples import databases_of, predict, predict_guided, score

    databases = databases_of(test, tables)
    if databases is None:
        raise ConfigError("The rebuilt tables have no rows.")
    unguided = score(predict(network, test), test, databases)
    report.set(
        "test_query_match", rate(round(unguided.query_match * len(test)), len(test)), len(test)
    )
    shares = {"execution_unguided": unguided.execution}
    for key, link in (("execution_guided", False), ("execution_linked", True)):
        choices = predict_guided(network, test, databases, link=link)
        queries = [choice.candidate.query for choice in choices]
        shares[key] = score(queries, test, databases).execution
        say(f"{key}: {shares[key]}")
    for key, share in shares.items():
        report.set(key, rate(round((share or 0) * len(test)), len(test)), n=len(test))


def _measure_plans(report: Report, folder: Path, quick: bool) -> None:
    """Measures the plan network by itself; see the module docstring."""
    from codegen.sqlnet.plan_data import read_gold
    from codegen.sqlnet.plan_decode import PlanParser

    parser = PlanParser.from_pretrained()
    dev = read_gold(folder / "dev.jsonl.gz")
    sets = {"execution": dev} | {
        name: read_gold(folder / f"{name}.jsonl.gz") for name in ("realistic", "dk")
    }
    sets["syn"] = [replace(one, question=one.paraphrases[0]) for one in dev if one.paraphrases]
    with tempfile.TemporaryDirectory(prefix="codegen-bench-sqlnet-") as made:
        for archive in ("databases_dev", "databases_made_up"):
            with tarfile.open(folder / f"{archive}.tar.xz") as opened:
                opened.extractall(made, filter="data")
        for name, golds in sets.items():
            some = random.Random(0).sample(golds, _QUICK_SPIDER) if quick else golds
            say(f"{name}: {len(some)} questions")
            suite = Path(made, "suite") if name == "execution" and not quick else None
            found = list(_planned(parser, some, Path(made), suite))
            names = [one.database for one in found]
            right = _clustered([float(one.right) for one in found], names)
            report.set(f"spider_{name}", right, n=len(found))
            if suite:
                on_suite = _clustered([float(one.suite) for one in found], names)
                report.set("spider_suite", on_suite, n=len(found))
            if name == "execution":
                half = sorted(found, key=lambda one: -one.log_probability)[: len(found) // 2]
                right = _clustered([float(o.right) for o in half], [o.database for o in half])
                report.set("spider_best_half", right, n=len(half))


class _Planned(NamedTuple):
    database: str
    right: bool
    suite: bool
    log_probability: float


def _planned(
    parser: PlanParser, golds: Sequence[GoldQuestion], made: Path, suite: Path | None
) -> Iterator[_Planned]:
    from codegen.sqlnet.answers import equal_rows
    from codegen.sqlnet.plan_data import find_database, run_rows
    from codegen.sqlnet.schema import Schema

    held, schema = "", None
    for gold in sorted(golds, key=lambda one: one.db_id):
        if gold.db_id != held:
            database = find_database([made / "databases", made / "made_up"], gold.db_id)
            held, schema = gold.db_id, Schema.of(database) if database else None
        if schema is None or schema.database is None:
            continue
        answer = parser.parse(gold.question, schema)
        statement, ordered = answer.statement, "order by" in gold.query.lower()
        wanted = run_rows(schema.database, gold.query)
        right = everywhere = False
        if statement and wanted is not None:
            found = run_rows(schema.database, statement.text, statement.parameters)
            right = found is not None and equal_rows(found, wanted, ordered=ordered)
            others = sorted((suite / gold.db_id).glob("*.sqlite")) if suite and right else ()
            everywhere = right and suite is not None
            everywhere = everywhere and all(
                _agrees(path, gold.query, statement, ordered) for path in others
            )
        yield _Planned(gold.db_id, right, everywhere, answer.choice.log_probability)


def _agrees(path: Path, query: str, statement: Statement, ordered: bool) -> bool:
    """Returns True if a statement and gold agree on a random fill of the database."""
    from codegen.sqlnet.answers import equal_rows
    from codegen.sqlnet.plan_data import without_distinct

    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        try:
            wanted = connection.execute(without_distinct(query)).fetchall()
            text = without_distinct(statement.text)
            found = connection.execute(text, statement.parameters).fetchall()
        except sqlite3.Error:
            return False
    return equal_rows(found, wanted, ordered=ordered)


def _measure_speed(
    report: Report, network: SketchNetwork, items: Sequence[LabeledQuestion]
) -> None:
    from codegen.sqlnet.examples import Question, label, predict

    def work() -> None:
        for one in items:
            text = Question("", one.question.text, one.question.table, one.query)
            predict(network, label([text]))

    report.set("ms_per_question", 1000 * _cpu_s(work) / len(items), n=len(items))


def _cpu_s(work: Callable[[], Any]) -> float:
    """Returns the CPU seconds of a call: the faster of two runs after a warm-up."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times[1:])


def _official(folder: Path, quick: bool) -> tuple[list[LabeledQuestion], dict[str, WikiTable]]:
    return _labelled(
        folder / "official_dev.jsonl.gz", folder / "official_dev.schema.jsonl.gz", quick
    )


def _rebuilt(folder: Path, quick: bool) -> tuple[list[LabeledQuestion], dict[str, WikiTable]]:
    with tempfile.TemporaryDirectory(prefix="codegen-bench-sqlnet-") as out:
        with tarfile.open(folder / "wikisql_rebuilt.tar.xz") as archive:
            for name in ("test.jsonl", "test.tables.jsonl"):
                archive.extract(f"wikisql_rebuilt/{name}", out, filter="data")
        inside = Path(out, "wikisql_rebuilt")
        return _labelled(inside / "test.jsonl", inside / "test.tables.jsonl", quick)


def _labelled(
    questions: Path, tables: Path, quick: bool
) -> tuple[list[LabeledQuestion], dict[str, WikiTable]]:
    from codegen.sqlnet.examples import label, read_questions, read_tables

    held = read_tables(tables)
    read = list(read_questions(questions, held))
    step = max(1, len(read) // _QUICK) if quick else 1
    return label(read[::step][: _QUICK if quick else None]), held
