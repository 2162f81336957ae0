"""Query match on WikiSQL's official development set; execution with and without guidance; speed.

What: ``dev_query_match_default`` and ``_paper`` are the shares of the 8,421 questions of official
dev whose query equals the gold one by WikiSQL's rule, with the weights of the package and with a
model of the paper's layout (``-o paper=DIR``, made by ``codegen sqlnet train --layout paper``):
the most probable query of each; with ``_greedy``, slot after slot is filled as the paper does.
``dev_aggregate``, ``_select`` and ``_where`` break the first down. ``execution_unguided``,
``_guided`` and ``_linked`` are the shares of the questions of the rebuilt test tables (official
training questions that the default weights were not trained on) whose answer is right: the most
probable query; the one chosen by running; and with values linked to the table's content besides.
``test_query_match`` belongs to the first. ``calibration_error`` is that of the confidence on
official dev, ``calibration_error_raw`` before calibration. ``ms_per_question`` is CPU time of one
thread for one question at a time, from its text to its query; ``ms_per_question_batched`` in
batches of 128, ``ms_per_parse`` that of the whole parser with guidance and linking.
``table_first_of_20`` is how often the table that a question is about is ranked first among 20.

Then whole databases, asked as ``sqlnet ask`` asks (:mod:`codegen.sqlnet.trials`), for each set of
:mod:`codegen.benchmarks.tools.sql_sets`: the shares that end ``_right``, ``_abstained`` (where an
answer was possible) and ``_wrong_confident`` (a wrong answer with exit code 0), with intervals by
database. ``spider_dev_exact`` is the share of Spider's development questions whose best query gives
the expected rows, shown or not; ``spider_ms`` is CPU time a question, this process's alone. Of
TriageSQL, EHRSQL and WikiSQL every fourth or fifth question is asked.
``chat`` are the follow-ups of threads
written for this benchmark (``tools/chat_threads.jsonl``), ``sparc`` those of SParC and CoSQL, asked
as ``sqlnet chat`` asks, in threads whose first question is answered rightly (``_begun``).
``wikisql_answered`` and ``wikisql_wrong`` are shares of the rebuilt test questions on the half of
the tables that the confidence was not fitted to.

Against: published figures are in docs/measurements.md; none of those systems can be installed here.

Limits: official dev has no rows, so nothing is run there. The rebuilt tables are lower-cased. The
data is read from the folder that ``-o data=DIR`` or the variable CODEGEN_TEST_DATA names; without
it the figures are null.
"""

from __future__ import annotations

import json
import os
import random
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.sql_sets import SETS, prepare, read
from codegen.benchmarks.tools.statistics import Estimate, rate
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.sqlnet.examples import Labelled, WikiTable
    from codegen.sqlnet.network import Network
    from codegen.sqlnet.parser import SQLNet

VERDICTS = ("right", "abstained", "wrong_confident")
THREADS = ("chat", "sparc")
_KEYS = (
    *("dev_query_match_default", "dev_query_match_greedy"),
    *("dev_query_match_paper", "dev_query_match_paper_greedy"),
    *("dev_aggregate", "dev_select", "dev_where"),
    *("execution_unguided", "execution_guided", "execution_linked", "test_query_match"),
    *("calibration_error", "calibration_error_raw", "table_first_of_20"),
    *("ms_per_question", "ms_per_question_batched", "ms_per_parse"),
    *("spider_dev_exact", "spider_ms", "wikisql_answered", "wikisql_wrong"),
    *(f"{name}_{verdict}" for name in (*SETS, *THREADS) for verdict in VERDICTS),
    *(f"{name}_begun" for name in THREADS),
)
_QUICK = 500
_GROUPS, _GROUP = 200, 20


def run(
    quick: bool = False, *, data: str = "", model: str = "", paper: str = "", seed: int = 0
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: every so many questions, about 500 of each set.
        data: the folder of data sets; by default what CODEGEN_TEST_DATA names.
        model: a directory with a model; by default that of the package.
        paper: a directory with a model of the paper's layout.
        seed: of the choice of tables to rank.
    """
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "sqlglot")
    report.figures |= dict.fromkeys(_KEYS)
    folder = Path(data or os.environ.get("CODEGEN_TEST_DATA", ""), "wikisql")
    if not (data or os.environ.get("CODEGEN_TEST_DATA")) or not folder.is_dir():
        if data:
            raise ConfigError(f"There is no folder {folder}.", "Give -o data=DIR that holds it.")
        report.install["data"] = "-o data=DIR, the folder that holds wikisql/ (see docs/sqlnet.md)"
        return report.mapping()
    import torch

    from codegen.sqlnet.network import Network
    from codegen.sqlnet.parser import DEFAULT_MODEL

    torch.set_num_threads(1)
    network = Network.load(model or DEFAULT_MODEL)
    dev, _ = _official(folder, quick)
    say(f"official dev: {len(dev)} questions")
    _measure_dev(report, network, dev)
    if paper:
        _measure_paper(report, Network.load(paper), dev)
    else:
        report.install["paper"] = "codegen sqlnet train ... --layout paper; then -o paper=DIR"
    test, tables = _rebuilt(folder, quick)
    say(f"rebuilt test: {len(test)} questions")
    _measure_execution(report, network, test, tables)
    _measure_ranking(report, network, test, seed)
    _measure_speed(report, network, test[:200], tables)
    _measure_asking(report, network, folder.parent / "sql", test, tables, quick)
    return report.mapping()


def _measure_asking(
    report: Report,
    network: Network,
    folder: Path,
    test: Sequence[Labelled],
    tables: Mapping[str, WikiTable],
    quick: bool,
) -> None:
    from codegen.sqlnet import SQLNet

    # As the package loads it: with its network for several tables, if it has one.
    parser = SQLNet.from_pretrained()
    parser.network = network
    for name in SETS if folder.is_dir() else ():
        ask_set(report, parser, name, folder, 10 if quick else 1)
    for name in THREADS if folder.is_dir() else ():
        ask_threads(report, parser, name, folder, 10 if quick else 1)
    ask_wikisql(report, parser, test, tables, 10 if quick else 1)


# Every so many questions of the large sets.
_STEPS = {"triagesql": 4, "ehrsql": 4, "wikisql": 5}


def ask_set(report: Report, parser: SQLNet, name: str, folder: Path, step: int = 1) -> None:
    """Asks every ``step``-th question of a set, everyday's all."""
    from codegen.sqlnet import trials

    step = 1 if name == "everyday" else step * _STEPS.get(name, 1)
    with tempfile.TemporaryDirectory(prefix="codegen-bench-sqlnet-") as out:
        asked = trials.read_trials(*prepare(name, folder, Path(out)))
        began = time.process_time()
        outcomes = [trials.run(parser, trial) for trial in islice(asked, 0, None, step)]
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


def ask_threads(report: Report, parser: SQLNet, name: str, folder: Path, step: int = 1) -> None:
    """Asks the follow-ups of every ``step``-th thread, one after the other as a user would.

    A thread whose first question is not answered rightly has not begun; of its follow-ups nothing
    is counted. A follow-up that has no gold query should be refused.
    """
    from codegen.sqlnet.answers import ran, same_rows
    from codegen.sqlnet.chat import Chat
    from codegen.sqlnet.databases import StatementLimits
    from codegen.sqlnet.schema import Schema

    limits = StatementLimits(20.0, 20_000)
    ends: list[tuple[str, str]] = []  # database, verdict
    wrong, begun = [], 0
    with tempfile.TemporaryDirectory(prefix="codegen-bench-sqlnet-") as out:
        folders = [prepare(each, folder, Path(out))[1] for each in ("everyday", "spider_dev")]
        rows = threads(name, folder)[::step]
        for number, row in enumerate(rows):
            name_of = row["db_id"]
            files = [each / f"{name_of}.sqlite" for each in folders]
            schema = Schema.open(next(file for file in files if file.is_file()))
            assert schema.database
            chat = Chat(parser, schema, limits)
            for place, (line, query) in enumerate(row["turns"]):
                turn = chat.ask(line)
                gold = ran(schema.database, query, limits) if query else None
                gold = gold and replace(gold, exact=False)  # a name beside it does no harm
                right = bool(gold and turn.rows and same_rows(turn.rows.rows, gold))
                if place == 0:
                    begun += right
                    if not right:
                        break
                    continue
                if query and gold is None:
                    continue
                verdict = "right" if right else "wrong_confident"
                if turn.doubt:
                    verdict = "abstained" if query else "right"
                ends.append((name_of, verdict))
                if verdict == "wrong_confident":
                    wrong.append(f"{number}.{place} {line!r}")
            schema.database.close()
    for verdict in VERDICTS:
        values = [float(end == verdict) for _, end in ends]
        report.set(f"{name}_{verdict}", _clustered(values, [db for db, _ in ends]), n=len(ends))
    report.set(f"{name}_begun", rate(begun, len(rows)), n=len(rows))
    say(f"{name}: {len(ends)} follow-ups, {len(wrong)} wrong: {'; '.join(wrong[:60])}")


def threads(name: str, folder: Path) -> list[dict[str, Any]]:
    """Threads on databases: ``db_id``, and ``turns`` as (line, gold query or None)."""
    if name == "chat":
        text = Path(__file__).with_name("tools").joinpath("chat_threads.jsonl").read_text("utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = [
            row for row in read(folder / "sparc_cosql" / "dev.jsonl.gz")
            if row["db_id"] != "wta_1" and not any("|" in t["question"] for t in row["turns"])
        ]  # fmt: skip
    return [
        {**row, "turns": [(turn["question"], turn["query"]) for turn in row["turns"]]}
        for row in rows
    ]


def ask_wikisql(
    report: Report,
    parser: SQLNet,
    test: Sequence[Labelled],
    tables: Mapping[str, WikiTable],
    step: int = 1,
) -> None:
    """Asks the questions on the tables that the confidence was not fitted to."""
    from codegen.sqlnet import trials
    from codegen.sqlnet.examples import Question

    rows = [
        Question("", i.question.text, i.question.table, i.query)
        for i in test[:: step * _STEPS["wikisql"]]
        if not trials.is_fitted_to(i.question.table.name)
    ]
    outcomes = [trials.run(parser, trial) for trial in trials.wikisql_trials(rows, tables)]
    n = len(outcomes)
    report.set("wikisql_answered", rate(sum(not o.code for o in outcomes), n), n=n)
    report.set("wikisql_wrong", rate(sum(o.verdict == "wrong" for o in outcomes), n), n=n)


def _clustered(values: Sequence[float], names: Sequence[str]) -> Estimate:
    from codegen.evals.statistics import clustered_interval

    share = sum(values) / len(values)
    return Estimate(share, *clustered_interval(values, share, names))


def _measure_dev(report: Report, network: Network, dev: Sequence[Labelled]) -> None:
    from codegen.sqlnet.metrics import outcomes, predict, score
    from codegen.sqlnet.trust import Calibration, calibration_error, join

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
    pairs = join(outcomes(network, dev))["query"]
    for key, by in (
        ("calibration_error", network.calibration),
        ("calibration_error_raw", Calibration()),
    ):
        error = calibration_error((by.confidence("query", p), right) for p, right in pairs)
        report.set(key, error, n=len(dev))


def _measure_paper(report: Report, network: Network, dev: Sequence[Labelled]) -> None:
    from codegen.sqlnet.metrics import predict, score

    for key, greedy in (("dev_query_match_paper", False), ("dev_query_match_paper_greedy", True)):
        share = score(predict(network, dev, greedy=greedy), dev).query_match
        report.set(key, rate(round(share * len(dev)), len(dev)), n=len(dev))


def _measure_execution(
    report: Report, network: Network, test: Sequence[Labelled], tables: Mapping[str, WikiTable]
) -> None:
    from codegen.sqlnet.metrics import databases_of, predict, predict_guided, score

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


def _measure_ranking(report: Report, network: Network, test: Sequence[Labelled], seed: int) -> None:
    from codegen.sqlnet.parser import SQLNet
    from codegen.sqlnet.query import Table
    from codegen.sqlnet.schema import Schema

    rng = random.Random(seed)
    tables = list({item.question.table.name: item.question.table for item in test}.values())
    parser, first = SQLNet(network), 0
    asked = rng.sample(list(test), min(_GROUPS, len(test)))
    for item in asked:
        others = [t for t in rng.sample(tables, _GROUP) if t is not item.question.table]
        # Ids are no names: their digits would be taken for words of the question.
        right = Table("qx", item.question.table.columns)
        group = [right, *(Table("qx", table.columns) for table in others[: _GROUP - 1])]
        rng.shuffle(group)
        parse = parser.parse(item.question.text, Schema(tuple(group)), execute="never", top_k=1)
        first += parse.best.table is right
    report.set("table_first_of_20", rate(first, len(asked)), n=len(asked))


def _measure_speed(
    report: Report, network: Network, items: Sequence[Labelled], tables: Mapping[str, WikiTable]
) -> None:
    from codegen.sqlnet.databases.files import SqliteDatabase
    from codegen.sqlnet.examples import Question, label
    from codegen.sqlnet.metrics import predict
    from codegen.sqlnet.parser import SQLNet
    from codegen.sqlnet.schema import Schema

    def from_text(some: Sequence[Labelled]) -> None:
        texts = [Question("", i.question.text, i.question.table, i.query) for i in some]
        predict(network, label(texts))

    parser = SQLNet(network)
    schemas = [
        Schema.of(SqliteDatabase.from_table(i.question.table, tables[i.question.table.name].rows))
        for i in items
    ]

    def alone() -> None:
        for item in items:
            from_text([item])

    def parsed() -> None:
        for item, schema in zip(items, schemas, strict=True):
            parser.parse(item.question.text, schema)

    for key, work in (
        ("ms_per_question", alone),
        ("ms_per_question_batched", lambda: from_text(items)),
        ("ms_per_parse", parsed),
    ):
        report.set(key, 1000 * _cpu_s(work) / len(items), n=len(items))


def _cpu_s(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, the better of two runs after one that warms up."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times[1:])


def _official(folder: Path, quick: bool) -> tuple[list[Labelled], dict[str, WikiTable]]:
    return _labelled(
        folder / "official_dev.jsonl.gz", folder / "official_dev.schema.jsonl.gz", quick
    )


def _rebuilt(folder: Path, quick: bool) -> tuple[list[Labelled], dict[str, WikiTable]]:
    with tempfile.TemporaryDirectory(prefix="codegen-bench-sqlnet-") as out:
        with tarfile.open(folder / "wikisql_rebuilt.tar.xz") as archive:
            for name in ("test.jsonl", "test.tables.jsonl"):
                archive.extract(f"wikisql_rebuilt/{name}", out, filter="data")
        inside = Path(out, "wikisql_rebuilt")
        return _labelled(inside / "test.jsonl", inside / "test.tables.jsonl", quick)


def _labelled(
    questions: Path, tables: Path, quick: bool
) -> tuple[list[Labelled], dict[str, WikiTable]]:
    from codegen.sqlnet.examples import label, read_questions, read_tables

    held = read_tables(tables)
    read = list(read_questions(questions, held))
    step = max(1, len(read) // _QUICK) if quick else 1
    return label(read[::step][: _QUICK if quick else None]), held
