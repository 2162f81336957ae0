"""CPU time including ended child processes, and the memory of a process tree.

Where the machine may be shared, CPU time is compared: other load lengthens the wall time of a run
by any factor, but its CPU time only by a few percent (caches, hyper-threads).

Limits: :func:`measured` counts a descendant's CPU time while it runs and after its parent has
waited for it. For processes without a waiting parent (a sandbox killed as a whole), use the
difference of two :func:`tree_cpu_s` values before the kill. CPU times of running processes have a
resolution of 10 ms. Memory and trees are read from Linux's /proc.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MIB = 2**20


@dataclass(slots=True)
class Spent:
    """Seconds that a block of code used; set when the block ends."""

    cpu_s: float = 0.0
    wall_s: float = 0.0


def cpu_seconds() -> float:
    """Returns user and system time of this process and its ended children."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


@contextlib.contextmanager
def measured() -> Iterator[Spent]:
    """Measures a block; sets the yielded object at the block's end."""
    spent = Spent()
    running = _running_s()  # before the measurement, since it reads all of /proc
    cpu, wall = cpu_seconds(), time.perf_counter()
    try:
        yield spent
    finally:
        spent.cpu_s, spent.wall_s = cpu_seconds() - cpu, time.perf_counter() - wall
        spent.cpu_s += _running_s() - running


def _running_s() -> float:
    """Returns the CPU seconds of the running descendants."""
    ticks = sum(_ticks(pid) for pid in process_tree(os.getpid()) - {os.getpid()})
    return ticks / os.sysconf("SC_CLK_TCK")


def tree_cpu_s(root: int | None = None) -> float:
    """Returns the CPU seconds of a process (default: this one) and all its descendants."""
    pids = process_tree(os.getpid() if root is None else root)
    return sum(_ticks(pid) for pid in pids) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime


def tree_rss_mib(root: int | None = None) -> float:
    """Returns the resident memory (MiB) of a process (default: this one) and its descendants.

    Shared pages count once per process, so the sum is an upper bound. Linux only:
    elsewhere it is 0.
    """
    pids = process_tree(os.getpid() if root is None else root)
    return sum(_rss_bytes(pid) for pid in pids) / _MIB


def process_tree(root: int) -> set[int]:
    """Returns the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it exited
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += [child for child in children.get(pid, ()) if child not in found]
    return found


def _rss_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
