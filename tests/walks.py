"""Traces the calls of a command: the files that it enters, and its returns to earlier files.

Functions are in order of their first call, as someone reads the code for the first time.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

ROOT = Path(__file__).parents[1].resolve()
_OUTSIDE = (ROOT / ".venv", ROOT / "tests")


class Walk(NamedTuple):
    """Files in the order of a walk, each as often as the walk enters it."""

    visits: tuple[str, ...]

    @property
    def files(self) -> int:
        return len(set(self.visits))

    @property
    def returns(self) -> int:
        return len(self.visits) - self.files


def trace(command: Callable[[], object], prepare: Callable[[], object] | None = None) -> Walk:
    """Runs a command twice, so that nothing is imported in the second run, and traces that.

    ``prepare`` runs before each; the threads that it starts are traced with the command.
    """
    prepare = prepare or bool
    prepare()
    command()
    seen: dict[CodeType, str] = {}
    is_prepared = threading.Event()

    def called(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        is_new = event == "call" and code not in seen and code.co_flags & inspect.CO_NEWLOCALS
        if is_new and is_prepared.is_set():
            seen[code] = _file(code)

    threading.setprofile(called)
    try:
        prepare()
        is_prepared.set()
        sys.setprofile(called)
        command()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return Walk(tuple(file for file, _ in groupby(filter(None, seen.values()))))


def _file(code: CodeType) -> str:
    """Returns a file's path in the repository; "" for lambdas and files outside of it."""
    file = Path(code.co_filename)
    path = file.resolve()
    inside = file.is_absolute() and path.is_relative_to(ROOT)
    inside = inside and not any(map(path.is_relative_to, _OUTSIDE))
    return str(path.relative_to(ROOT)) if inside and code.co_name != "<lambda>" else ""
