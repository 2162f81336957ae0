"""Terminal output: escaping of untrusted text, and progress on standard error.

Progress is a bar on a terminal, and occasional lines in a log. Both show speed and remaining time.
The speed is measured from this process's first report, so it excludes work of an earlier,
interrupted run and the time to load a model. It is shown once two items are finished, because
the first sample of a batch arrives when the others are nearly complete.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import click

_FIRST_LINE_S = 1.0
_SECONDS_BETWEEN_LINES = 5.0
_MOST_SECONDS_BETWEEN_LINES = 60.0
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Escapes control and direction characters, except tab and newline, as ``\x1b``."""
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)


def echo(text: str, *, err: bool = False) -> None:
    """Prints a line as :func:`visible`, on standard output or standard error."""
    click.echo(visible(text), err=err)


def one_line(text: str, most: int = 60) -> str:
    r"""Applies :func:`visible`, escapes line breaks and truncates to ``most`` characters."""
    plain = visible(text).replace("\n", r"\n").replace("\t", r"\t")
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of a table with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  ".join(f"{cell:<{width}}" for cell, width in cells).rstrip()


class Progress:
    """One stage's progress; a context manager.

    Args:
        label: name of the stage, shown first.
        total: number of steps, None if unknown.

    Attributes:
        done: number of finished steps, including earlier runs.
    """

    def __init__(self, label: str, total: int | None = None) -> None:
        self.label, self.total = visible(label), total
        self.done = 0
        self._started = self._last = time.monotonic()  # time of the last report
        self._next_line = self._started + _FIRST_LINE_S
        self._between_lines = _SECONDS_BETWEEN_LINES
        self._shown = ""
        self._bar: Any = None
        self._task: Any = None
        self._first: tuple[int, float] | None = None  # steps done and time at the first report
        self._note = ""

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),  # self: the elapsed time changes between updates
                TextColumn("[dim]{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, note="", pace=self)
        return self

    def update(self, done: int, total: int | None = None, note: str = "") -> None:
        """Reports the number of finished steps, including earlier runs."""
        self.done, self._note = done, note
        if total is not None:
            self.total = total
        self._last = now = time.monotonic()
        self._first = self._first or (done, now)
        if self._bar:
            self._bar.update(self._task, completed=done, total=self.total, note=note)
        elif now >= self._next_line:
            self._line()
            self._next_line = now + self._between_lines
            # Keeps the log of a long run short.
            self._between_lines = min(1.2 * self._between_lines, _MOST_SECONDS_BETWEEN_LINES)

    def say(self, message: str) -> None:
        """Prints a line above the bar."""
        if self._bar:
            self._bar.console.print(visible(message), highlight=False, markup=False)
        else:
            echo(message, err=True)

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

    def __str__(self) -> str:
        """Returns the elapsed time, the speed and, if the total is known, the remaining time."""
        parts = [duration(time.monotonic() - self._started)]
        if speed := self.speed:
            parts.append(f"{speed:.3g}/s" if speed < 100 else f"{speed:.0f}/s")
            if self.total is not None and self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / speed)} left")
        return ", ".join(parts)

    @property
    def speed(self) -> float | None:
        """Steps per second of this process; None before two steps are done."""
        before, since = self._first or (0, self._last)
        if self.done <= max(before, 1) or self._last <= since:
            return None
        return (self.done - before) / (self._last - since)

    def _line(self) -> None:
        total = f"/{self.total}" if self.total is not None else ""
        counts = f"{self.label}: {self.done}{total}"
        if counts == self._shown:
            return  # unchanged since the last line
        self._shown = counts
        parts = [counts, str(self), *([self._note] if self._note else [])]
        echo(", ".join(parts), err=True)


def duration(seconds: float) -> str:
    """Formats seconds as ``7 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
