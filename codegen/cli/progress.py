"""Progress on standard error: a bar on a terminal, else a line now and then for logs."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click

_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """One stage's progress; a context manager.

    Args:
        label: what the stage does, shown in front.
        total: number of steps, None if unknown.
    """

    def __init__(self, label: str, total: int | None = None) -> None:
        self.label, self.total = label, total
        self._started = self._last_line = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._done = 0
        self._note = ""

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, note="")
        return self

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Says how many steps are done."""
        self._done, self._note = done, note
        if total is not None:
            self.total = total
        if self._bar:
            self._bar.update(self._task, completed=done, total=self.total, note=note)
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._line()

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        if self._bar:
            self._bar.console.print(message, highlight=False, markup=False)
        else:
            click.echo(message, err=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._line()

    def _line(self) -> None:
        total = f"/{self.total}" if self.total is not None else ""
        elapsed = time.monotonic() - self._started
        note = f", {self._note}" if self._note else ""
        click.echo(f"{self.label}: {self._done}{total}, {elapsed:.0f} s{note}", err=True)
