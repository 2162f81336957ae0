"""Runs programs, waits for conditions, and looks up processes in /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def run(
    *command: object, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a program with these variables in addition to ours; its output is kept as text."""
    return subprocess.run(
        list(map(str, command)),
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        **options,
    )


def python(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a Python script, given as text; see :func:`run`."""
    return run(sys.executable, "-c", script, *arguments, **options)


def wait_for(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What ``check`` gives once it gives anything."""
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, "what is waited for did not come"
        time.sleep(0.01)
    return found


def descendants(pid: int) -> list[int]:
    """All processes below a process, by the kernel's own lists."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def command_of(pid: int) -> str:
    """A process's command line, "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""
