"""``codegen cogex search``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.cli.cogex.models import model_options, opened_model
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.cogex.search import Candidate, Found, SearchSettings
    from codegen.cogex.tasks import SearchTask

_BUDGET = 100
_SHOWN = 10  # programs in the table


@click.command(
    epilog=example(
        "codegen cogex search word_sorting --model embedded\n  "
        "codegen cogex search reviews.jsonl --instruction 'Is the review positive?' \\\n"
        "    --endpoint http://localhost:8000/v1 --model my-model --budget 0"
    ),
)
@click.argument("task")
@model_options
@click.option("--out", metavar="DIR", help="Where the search is kept; default: runs/cogex/TASK.")
@click.option(
    "--budget",
    type=click.IntRange(0),
    default=_BUDGET,
    show_default=True,
    help="About so many emulations: sets --candidates and --items in the paper's proportion; 0 for "
    "the paper's 300 and 1000.",
)
@click.option("--candidates", type=click.IntRange(1), help="Programs to choose from.")
@click.option("--items", type=click.IntRange(2), help="Problems to search on.")
@click.option(
    "--method",
    type=click.Choice(["halving", "full"]),
    default="halving",
    show_default=True,
    help="full: each program on each problem, as published; halving: bad ones are dropped early.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.2,
    show_default=True,
    help="Of the published method's emulations that halving may take.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Method full: write a program anew that gets less on the problems programs are written "
    "for.",
)
@click.option("--tries", type=click.IntRange(1), default=5, show_default=True, help="At most.")
@click.option(
    "-k", "best", type=click.IntRange(1), default=3, show_default=True, help="Programs that vote."
)
@click.option(
    "--test",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="Other problems to score the programs found on.",
)
@click.option("--instruction", default="", help="What the task is, for a file.")
@click.option("--input-column", default="input", show_default=True, help="Of a file's rows.")
@click.option("--answer-column", default="answer", show_default=True, help="Of a file's rows.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def search(
    task: str,
    model: str,
    endpoint: str | None,
    api_key_env: str,
    shots: int | None,
    chat: bool | None,
    batch_size: int,
    out: str | None,
    budget: int,
    candidates: int | None,
    items: int | None,
    method: Any,
    share: float,
    threshold: float,
    tries: int,
    best: int,
    test: int,
    instruction: str,
    input_column: str,
    answer_column: str,
    seed: int,
    as_json: bool,
) -> Mapping[str, Any]:
    """Find the program that a model emulates best on TASK (CoTACS).

    TASK is a family of problems (word_sorting, coin_flip, large_sum, arithmetic, ...) or a JSONL
    file with an input and an answer a line. The model writes programs and emulates them on other
    problems; nothing they say is run. Interrupted, the same command goes on.
    """
    from codegen.cli.data.options import stopped_cleanly
    from codegen.cli.progress import Progress
    from codegen.cogex.search import (
        ProgramSearch,
        SearchLog,
        SearchSettings,
        scores_on,
        split_items,
    )
    from codegen.cogex.tasks import load_task

    number, size = _numbers(budget, candidates, items, method, share)
    settings = SearchSettings(number, method, share, threshold, tries, best, seed=seed)
    problems = load_task(
        task,
        items=size,
        test=test,
        instruction=instruction,
        input_column=input_column,
        answer_column=answer_column,
        seed=seed,
    )
    folder = Path(out or Path("runs", "cogex", Path(task).stem))
    chosen = {"model": model, "endpoint": endpoint, "api_key_env": api_key_env, "shots": shots}
    with (
        stopped_cleanly(),
        opened_model(**chosen, chat=chat, batch_size=batch_size, seed=seed, avoid=(task,)) as asked,
        SearchLog(folder, _settings(problems, asked.identity, settings)) as log,
        _Bar(Progress(f"search {problems.name}")) as bar,
    ):
        if log.resumed:
            click.echo(f"Going on after {log.resumed} answers of an interrupted run.", err=True)
        train, dev = split_items(problems.items, number, seed)
        run = ProgramSearch(problems.instruction, train, dev, asked.model, settings, log, bar)
        found = run.run()
        tested = scores_on(run, found, problems.test) if found.best and problems.test else None
    summary = _summary(problems, folder, found, tested)
    _save(folder, summary, found)
    if not as_json:
        click.echo("\n".join(_lines(found, summary)))
    return summary


def _numbers(
    budget: int, candidates: int | None, items: int | None, method: Any, share: float
) -> tuple[int, int]:
    """Candidates and problems: those given, else what the budget allows."""
    from codegen.cogex.search import SearchSettings, within_budget
    from codegen.cogex.search.settings import ITEMS

    if budget:
        number, size = within_budget(budget, method, share)
    else:
        number, size = SearchSettings().candidates, ITEMS
    number, size = candidates or number, items or size
    if number >= size:
        raise ConfigError(
            f"{number} candidates need more than {size} problems: each is written for one, and "
            "others rank them.",
            "Raise --items or lower --candidates.",
        )
    return number, size


def _settings(
    task: SearchTask, identity: Mapping[str, Any], settings: SearchSettings
) -> dict[str, Any]:
    from dataclasses import asdict

    return {"task": task.name, "problems": task.digest(), **identity, **asdict(settings)}


class _Bar:
    """Shows each stage of the search on a progress bar."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def __enter__(self) -> _Bar:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.bar.update(done, total, note=stage)


def _summary(
    task: SearchTask, folder: Path, found: Found, tested: Mapping[str, int] | None
) -> dict[str, Any]:
    return {
        "ok": bool(found.best),
        "task": task.name,
        "instruction": task.instruction,
        "out": str(folder),
        "programs": [_row(candidate) for candidate in found.ranking],
        "rejected": dict(found.rejected),
        "emulations": found.emulations,
        "emulations_full": found.emulations_full,
        "unanswered": dict(found.failures),
        "examples": found.examples,
        "test": dict(tested) if tested else None,
    }


def _row(candidate: Candidate) -> dict[str, Any]:
    from codegen.evals.statistics import wilson

    low, high = wilson(candidate.score, candidate.items) if candidate.items else (0.0, 1.0)
    return {
        "name": candidate.program.name,
        "digest": candidate.program.digest,
        "score": round(candidate.score, 4),
        "interval": [round(low, 4), round(high, 4)],
        "right": candidate.right,
        "items": candidate.items,
        "written": candidate.written,
        "unanswered": dict(candidate.failures),
        "program": candidate.program.text,
    }


def _save(folder: Path, summary: Mapping[str, Any], found: Found) -> None:
    import json

    from codegen.records import write_atomic

    write_atomic(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    for number, candidate in enumerate(found.best, 1):
        write_atomic(folder / f"program-{number}.py", candidate.program.text + "\n")


def _lines(found: Found, summary: Mapping[str, Any]) -> Iterator[str]:
    from codegen.terminal import visible

    rejected = sum(found.rejected.values())
    if rejected:
        yield f"{rejected} programs broke a rule: {_counts(found.rejected)}."
        yield from _examples(found, found.rejected)
    if not found.ranking:
        yield "No candidate is a program that keeps the rules, so there is nothing to choose from."
        yield "Raise --tries or --shots, or take a model trained with recipes/cogex.yaml."
        return
    yield f"{'rank':>4}  {'score':>6}  {'95 % interval':>14}  {'tried':>5}  {'written':>7}  program"
    for rank, row in enumerate(summary["programs"][:_SHOWN], 1):
        low, high = row["interval"]
        yield (
            f"{rank:>4}  {row['score']:>6.3f}  {f'{low:.2f} to {high:.2f}':>14}  {row['items']:>5}"
            f"  {row['written']:>7}  {visible(row['name'])}  {row['digest']}"
        )
    if (more := len(found.ranking) - _SHOWN) > 0:
        yield f"      and {more} more in {summary['out']}/result.json"
    yield (
        f"{found.emulations} emulations; the published method takes {found.emulations_full}, each "
        "program as often as it was written on each problem."
    )
    if found.failures:
        yield f"{sum(found.failures.values())} of them gave no answer: {_counts(found.failures)}."
        yield from _examples(found, found.failures)
    if not any(candidate.right for candidate in found.ranking):
        yield "No program got any problem right: the first ones are no better than the others."
    if tested := summary["test"]:
        items = tested["items"]
        yield (
            f"On {items} other problems: best program {_share(tested['best'], items)}, majority of "
            f"{len(found.best)} {_share(tested['vote'], items)}."
        )
    yield f"Use it with: codegen cogex run {summary['out']} INPUT"


def _examples(found: Found, reasons: Mapping[str, int]) -> Iterator[str]:
    """One case in words for each reason that has some."""
    from codegen.terminal import visible

    for reason in sorted(reasons):
        if detail := found.examples.get(reason):
            yield f"  {reason}: {visible(detail)[:200]}"


def _counts(counter: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counter.items()))


def _share(count: int, total: int) -> str:
    from codegen.evals.statistics import wilson

    low, high = wilson(count / total, total)
    return f"{count / total:.3f} [{low:.2f}, {high:.2f}]"
