"""``--plan``: the time, memory and disk of a run, measured on a small part of it.

The part runs as the whole would, into a temporary directory. Time and disk are in proportion to the
number of items; memory is the most that this process used, and for each worker its largest child.
"""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from codegen.terminal import Progress, duration, echo


def needs(
    what: str, part: Path, out: str, measured: Progress, total: int, workers: int = 1
) -> dict[str, Any]:
    """What a whole run needs, as JSON values.

    Args:
        what: the items, in the plural.
        part: the directory that the part wrote.
        out: the directory that the whole run is to write.
        measured: the progress of the part.
        total: items of the whole run.
    """
    usage = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    written = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
    target = Path(out).absolute()
    home = next(folder for folder in (target, *target.parents) if folder.is_dir())
    torch = sys.modules.get("torch")  # only if the part used it
    return {
        "ok": True,
        "what": what,
        "total": total,
        "measured": measured.done,
        "seconds": total / measured.speed if measured.speed else None,
        "memory": 1024 * (usage[0] + workers * usage[1]),
        "gpu_memory": torch.cuda.max_memory_reserved()
        if torch and torch.cuda.is_available()
        else 0,
        "disk": written * total // max(measured.done, 1),
        "disk_free": shutil.disk_usage(home).free,
    }


def show(found: dict[str, Any]) -> None:
    """Prints the needs, a line each."""
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
