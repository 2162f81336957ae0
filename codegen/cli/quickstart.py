"""``codegen quickstart``: runs the whole pipeline once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, options, print_result
from codegen.core.errors import plural
from codegen.core.terminal import Progress, echo
from codegen.quickstart import STAGES, Listener, Plan, QuickstartOptions
from codegen.quickstart import quickstart as run_quickstart

if TYPE_CHECKING:
    from codegen.evals.scoring import Score


@command(example="codegen quickstart --minutes 30 --out runs/half-an-hour")
@options(QuickstartOptions, "settings")
def quickstart(settings: QuickstartOptions) -> dict[str, Any]:
    """Score a code model, make edit sequences, train a small model, and write one report.

    Measures this machine and prints a plan that fits within --minutes. Run the same command again
    to resume an interrupted run; it keeps its plan.
    """
    view = _View()
    try:
        summary = run_quickstart(settings, view.listener())
    finally:
        view.close()
    _print_scores(summary.scores)
    plan = summary.plan
    took, planned = sum(plan.spent.values()), sum(plan.expected.values())
    print_result(f"{took / 60:.1f} minutes, {planned / 60:.1f} planned.")
    print_result(f"Open {summary.report} in a browser.")
    return {
        "ok": all(score.complete for score in summary.scores.values()),
        "report": str(summary.report),
        "scores": {name: asdict(score) for name, score in summary.scores.items()},
        "steps": summary.plan.steps,
        "expected": summary.plan.expected,
        "seconds": summary.plan.spent,
    }


class _View:
    """Prints the stages, each with its own progress."""

    def __init__(self) -> None:
        self._bars = ExitStack()  # contains the open bar, if any
        self._bar: Progress | None = None
        self._what = ""

    def listener(self) -> Any:
        return Listener(self.stage, self.plan, self.progress, self.say)

    def stage(self, number: int, name: str) -> None:
        self.close()
        text = click.style(f"[{number}/{len(STAGES)}] {name}", bold=True)
        click.echo(text, err=True)

    def plan(self, plan: Plan) -> None:
        echo(f"Plan: {plural(plan.steps, 'step')} per training run.", err=True)
        for number, name in enumerate(STAGES, 1):
            note = "  done" if name in plan.spent else ""
            echo(f"  {number} {name:<32} {_minutes(plan.expected[name]):>6}{note}", err=True)
        total, budget = sum(plan.expected.values()), 60 * plan.request["minutes"]
        echo(f"    {'total, minutes':<32} {_minutes(total):>6}", err=True)
        if total > budget:
            echo(
                f"This machine needs more than {budget / 60:g} minutes even for this smallest "
                "run. Ctrl-C stops it; finished stages are kept.",
                err=True,
            )

    def progress(self, what: str, done: int, total: int, note: str) -> None:
        if self._bar is None or self._what != what:
            self.close()
            self._bar = self._bars.enter_context(Progress(f"  {what}", total or None))
            self._what = what
        self._bar.update(done, total or None, note)

    def say(self, text: str) -> None:
        if self._bar:
            self._bar.say(f"  {text}")
        else:
            echo(f"  {text}", err=True)

    def close(self) -> None:
        self._bars.close()
        self._bar = None


def _print_scores(scores: dict[str, Score]) -> None:
    for name, score in scores.items():
        passed = f"{score.statuses.get('passed', 0)} of {score.samples} passed"
        rates = [
            f"pass@{k} {e.value:.1%}"
            + ("" if e.tasks_low is None else f" ({e.tasks_low:.1%} to {e.tasks_high:.1%})")
            for k, e in score.estimates.items()
        ]
        print_result(f"{name:<12}{passed:<20} {', '.join(rates)}")
        for note in () if score.complete else score.notes:
            print_result(f"  {note}")


def _minutes(seconds: float) -> str:
    """Formats a duration as ``3:20``."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
