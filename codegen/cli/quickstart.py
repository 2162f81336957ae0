"""``codegen quickstart``: the main job, end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option

if TYPE_CHECKING:
    from codegen.cli.progress import Progress
    from codegen.evals.score import Score
    from codegen.quickstart import Plan


@click.command(epilog=example("codegen quickstart --minutes 30 --out runs/half-an-hour"))
@click.option("--out", default="runs/quickstart", show_default=True,
              type=click.Path(file_okay=False), help="Directory to make.")  # fmt: skip
@click.option("--minutes", type=float, default=10, show_default=True,
              help="Plan steps, samples and problems to end within this time.")  # fmt: skip
@click.option("--full", is_flag=True,
              help="32 steps, 5 samples of every problem, however long it takes.")  # fmt: skip
@click.option("--model", default="embedded", show_default=True, help="Name, directory or hub id.")
@click.option("--source", default="stdlib", show_default=True,
              help="The programs: stdlib, a file, a directory or hub:org/name.")  # fmt: skip
@click.option("--task", default="humaneval-short", show_default=True,
              help="What is scored; humaneval has all 164 problems.")  # fmt: skip
@click.option("-n", "--n", "n", type=click.IntRange(1),
              help="Samples a problem and model.  [default: planned]")  # fmt: skip
@click.option("--steps", type=click.IntRange(1),
              help="Optimizer steps of each fine-tuning.  [default: planned]")  # fmt: skip
@click.option("--limit", type=click.IntRange(1),
              help="Only the first so many problems.  [default: planned]")  # fmt: skip
@click.option("--max-length", type=click.IntRange(8), default=512, show_default=True,
              help="Longest training example in tokens.")  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--unsafe-local", is_flag=True,
              help="Run the programs without a sandbox if there is none. Dangerous.")  # fmt: skip
@json_option
def quickstart(as_json: bool, full: bool, minutes: float, **options: Any) -> dict[str, Any]:
    """Programs to edit sequences, two fine-tuned models, samples, scores, one report.

    Measures this machine for some seconds and prints a plan that ends within --minutes. Run the
    same command again to resume an interrupted run; it keeps its plan.
    """
    from dataclasses import asdict

    from codegen.quickstart import Settings
    from codegen.quickstart import quickstart as run

    settings = Settings(minutes=None if full else minutes, **options)
    view = _View()
    try:
        summary = run(settings, view.listener())
    finally:
        view.close()
    if not as_json:
        _print_table(summary.scores)
        took, planned = sum(summary.plan.spent.values()), summary.plan.seconds
        click.echo(f"{took / 60:.1f} minutes, {planned / 60:.1f} planned. Report: {summary.report}")
    return {
        "ok": all(score.complete for score in summary.scores.values()),
        "report": str(summary.report),
        "scores": {name: asdict(score) for name, score in summary.scores.items()},
        "sizes": asdict(summary.plan.sizes),
        "expected": summary.plan.expected,
        "seconds": summary.plan.spent,
    }


class _View:
    """Shows the stages, each with its own progress."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._what = ""

    def listener(self) -> Any:
        from codegen.quickstart import Listener

        return Listener(self.stage, self.plan, self.progress, self.say)

    def stage(self, number: int, name: str) -> None:
        from codegen.quickstart import STAGES

        self.close()
        text = click.style(f"[{number}/{len(STAGES)}] {name}", bold=True)
        click.echo(text, err=True)

    def plan(self, plan: Plan) -> None:
        from codegen.quickstart import STAGES

        sizes, done = plan.sizes, set(plan.spent)
        click.echo(
            f"The plan: {sizes.steps} steps of each fine-tuning; samples of {sizes.problems} "
            f"problems from three models, {sizes.n} a problem and model.",
            err=True,
        )
        for number, name in enumerate(STAGES, 1):
            note = "  done" if name in done else ""
            click.echo(f"  {number} {name:<32} {_minutes(plan.expected[name]):>6}{note}", err=True)
        click.echo(f"    {'in all, minutes':<32} {_minutes(plan.seconds):>6}", err=True)
        minutes = plan.request["minutes"]
        if minutes is not None and plan.seconds > 60 * minutes:
            click.echo(f"This is the least that can be done, and more than {minutes:g} minutes.",
                       err=True)  # fmt: skip

    def progress(self, what: str, done: int, total: int, note: str) -> None:
        from codegen.cli.progress import Progress

        if self._bar is None or self._what != what:
            self.close()
            self._bar = Progress(f"  {what}", total or None).__enter__()
            self._what = what
        self._bar.update(done, total or None, note)

    def say(self, text: str) -> None:
        if self._bar:
            self._bar.say(f"  {text}")
        else:
            click.echo(f"  {text}", err=True)

    def close(self) -> None:
        if self._bar:
            self._bar.__exit__(None, None, None)
            self._bar = None


def _print_table(scores: dict[str, Score]) -> None:
    from rich.console import Console
    from rich.table import Table

    from codegen.evals.report import ScoredRun, headline_ks, summary_rows

    runs = [ScoredRun(name, score) for name, score in scores.items()]
    ks = headline_ks(runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model")
    for k in ks:
        table.add_column(f"pass@{k} (95 %, tasks like these)", justify="right")
    table.add_column("passed", justify="right")
    for row, run in zip(summary_rows(runs), runs, strict=True):
        cells = []
        for k in ks:
            e = row.estimates.get(k)
            cell = "-" if e is None else f"{e.value:.1%}"
            if e is not None and e.tasks_low is not None and e.tasks_high is not None:
                cell += f" ({100 * e.tasks_low:.1f} to {100 * e.tasks_high:.1f})"
            cells.append(cell)
        passed = f"{run.score.statuses.get('passed', 0)}/{run.score.samples}"
        table.add_row(row.name, *cells, passed)
    Console().print(table)
    for run in runs:
        if not run.score.complete:
            for note in run.score.notes:
                click.echo(f"{run.name}: {note}")


def _minutes(seconds: float) -> str:
    """``3:20``."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
