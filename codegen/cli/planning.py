"""``--plan``: the time, memory and disk of a run, measured on a small part of it.

The part runs as the whole would, into a temporary directory. Time and disk are in proportion to the
number of items; memory is the most that this process used, and for each worker its largest child.
"""

from __future__ import annotations

import resource
import shutil
import sys
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click

from codegen.terminal import Progress, duration, echo

PLAN = "Run a small part, print the time, memory and disk of the whole run, and stop."


def with_plan(measure: Callable[..., dict[str, Any]]) -> Callable[[Callable[..., Any]], Any]:
    """Adds ``--plan`` to a command, which then prints what ``measure`` finds.

    Args:
        measure: called with the arguments of the command but ``as_json``; what it returns is also
            the JSON summary.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, plan: bool, as_json: bool, **given: Any) -> Any:
            if not plan:
                return function(*args, as_json=as_json, **given)
            found = measure(*args, **given)
            if not as_json:
                show(found)
            return found

        return click.option("--plan", is_flag=True, help=PLAN)(update_wrapper(wrapper, function))

    return decorate


def needs(
    what: str,
    part: Path,
    out: str,
    measured: Progress,
    total: int,
    *,
    workers: int = 1,
    seconds: float | None = None,
    disk: int | None = None,
) -> dict[str, Any]:
    """What a whole run needs, as JSON values.

    Args:
        what: the items, in the plural.
        part: the directory that the part wrote.
        out: the directory that the whole run is to write.
        measured: the progress of the part.
        total: items of the whole run.
        seconds, disk: of the whole run, if they are not in proportion to the items.
    """
    if seconds is None and measured.speed:
        seconds = total / measured.speed
    usage = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    target = Path(out).absolute()
    home = next(folder for folder in (target, *target.parents) if folder.is_dir())
    torch = sys.modules.get("torch")  # only if the part used it
    return {
        "ok": True,
        "what": what,
        "total": total,
        "measured": measured.done,
        "seconds": seconds,
        "memory": 1024 * (usage[0] + workers * usage[1]),
        "gpu_memory": torch.cuda.max_memory_reserved()
        if torch and torch.cuda.is_available()
        else 0,
        "disk": size_of(part) * total // max(measured.done, 1) if disk is None else disk,
        "disk_free": shutil.disk_usage(home).free,
    }


def size_of(folder: Path) -> int:
    """Bytes of the files in a directory."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def show(found: dict[str, Any]) -> None:
    """Prints the needs, a line each, after those of each part."""
    for part in found.get("cells", ()):
        show(part)
    if "name" in found:
        echo(found["name"])
    seconds = found["seconds"]
    rows = {
        found["what"]: f"{found['total']} (measured on {found['measured']})",
        "time": "unknown" if seconds is None else f"about {duration(seconds)}",
        "memory": f"{found['memory'] / 1e9:.2f} GB",
        "GPU memory": f"{found['gpu_memory'] / 1e9:.2f} GB" if found["gpu_memory"] else "",
        "disk": f"{found['disk'] / 1e6:.1f} MB of {found['disk_free'] / 1e9:.0f} GB free",
    }
    for name, value in rows.items():
        if value:
            echo(f"{name:<12}{value}")
