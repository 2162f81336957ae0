"""``codegen quickstart``: the main job, end to end."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, options
from codegen.errors import plural
from codegen.quickstart import STAGES, Listener, Plan, Settings
from codegen.quickstart import quickstart as run_quickstart
from codegen.terminal import Progress, echo

if TYPE_CHECKING:
    from codegen.evals.score import Score


@command(example="codegen quickstart --minutes 30 --out runs/half-an-hour")
@options(Settings, "settings")
def quickstart(settings: Settings, as_json: bool) -> dict[str, Any]:
    """Make edit sequences, fine-tune two models, sample, score, and write one report.

    Measures this machine for a few seconds and prints a plan that ends within --minutes. Run the
    same command again to resume an interrupted run; it keeps its plan.
    """
    view = _View()
    try:
        summary = run_quickstart(settings, view.listener())
    finally:
        view.close()
    if not as_json:
        _print_table(summary.scores)
        took, planned = sum(summary.plan.spent.values()), summary.plan.seconds
        echo(f"{took / 60:.1f} minutes, {planned / 60:.1f} planned.")
        echo(f"Open {summary.report} in a browser.")
    return {
        "ok": all(score.complete for score in summary.scores.values()),
        "report": str(summary.report),
        "scores": {name: asdict(score) for name, score in summary.scores.items()},
        "sizes": asdict(summary.plan.sizes),
        "expected": summary.plan.expected,
        "seconds": summary.plan.spent,
    }


class _View:
    """Prints the stages, each with its own progress."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._what = ""

    def listener(self) -> Any:
        return Listener(self.stage, self.plan, self.progress, self.say)

    def stage(self, number: int, name: str) -> None:
        self.close()
        text = click.style(f"[{number}/{len(STAGES)}] {name}", bold=True)
        click.echo(text, err=True)

    def plan(self, plan: Plan) -> None:
        sizes, done = plan.sizes, set(plan.spent)
        echo(
            f"Plan: {plural(sizes.steps, 'step')} per fine-tuning; {plural(sizes.n, 'sample')} per "
            f"problem and model, for {plural(sizes.problems, 'problem')} and three models.",
            err=True,
        )
        for number, name in enumerate(STAGES, 1):
            note = "  done" if name in done else ""
            echo(f"  {number} {name:<32} {_minutes(plan.expected[name]):>6}{note}", err=True)
        echo(f"    {'total, minutes':<32} {_minutes(plan.seconds):>6}", err=True)
        minutes = plan.request["minutes"]
        if minutes is not None and plan.seconds > 60 * minutes:
            echo(
                f"This machine, slow or busy, needs more than {minutes:g} minutes even for this "
                "smallest run. Ctrl-C ends it; what is done is kept.",
                err=True,
            )

    def progress(self, what: str, done: int, total: int, note: str) -> None:
        if self._bar is None or self._what != what:
            self.close()
            self._bar = Progress(f"  {what}", total or None).__enter__()
            self._what = what
        self._bar.update(done, total or None, note)

    def say(self, text: str) -> None:
        if self._bar:
            self._bar.say(f"  {text}")
        else:
            echo(f"  {text}", err=True)

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
                echo(f"{run.name}: {note}")


def _minutes(seconds: float) -> str:
    """``3:20``."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
