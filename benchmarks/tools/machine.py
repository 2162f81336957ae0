"""Facts about the machine and the software, needed to interpret a result.

Limit: the CPU's name and the memory are read from Linux's /proc; elsewhere they are None.
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Returns CPU model, usable cores, memory (MiB), system, and load average (1, 5, 15 min)."""
    return {
        "cpu": _first_match("/proc/cpuinfo", r"^model name\s*:\s*(.+)$"),
        "cores": usable_cores(),
        "memory_mib": _memory_mib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": list(load_average()),
    }


def usable_cores() -> int:
    """Returns the number of CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> tuple[float, float, float]:
    """Returns the mean number of running or waiting processes over the last 1, 5 and 15 minutes."""
    one, five, fifteen = os.getloadavg()
    return round(one, 2), round(five, 2), round(fifteen, 2)


def versions(*packages: str) -> dict[str, str | None]:
    """Returns the versions of Python and of distributions, None if not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _memory_mib() -> int | None:
    kib = _first_match("/proc/meminfo", r"^MemTotal:\s*(\d+) kB$")
    return int(kib) // 1024 if kib else None


def _first_match(path: str, pattern: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else None
