"""Measures the total resources of a job's processes, for its zygote.

The kernel's limits apply to each process and do not count some memory. So a zygote checks all
processes of a long-running job many times per second, and adds up their resident memory, page
tables and mappings; shared memory that no process has touched recently; socket buffers; file locks.
Without cgroups, which ordinary users often lack, this bounds a job to its limit plus its
allocations between two checks.

CPU time is counted for living processes and for ones that were waited for. If a process ignores
SIGCHLD, the kernel forgets its children's time; the job is then charged wall-clock time.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_MIB = 1 << 20
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / _MIB
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Minimum memory of a process, for the pages that it and its parent no longer share; and maximum
# memory per slot of its descriptor table, such as for a pipe or an event list.
_PROCESS_MIB, _DESCRIPTOR_MIB = 1.0, 1 / 64
# Maximum kernel memory for a process's mappings: 256 bytes per page of address space, up to
# the maximum number of mappings. Counting them is slow, so this is charged only to children;
# without children it is small.
_MAPPINGS_SHARE, _MOST_MAPPINGS_MIB = 1 / 16, 16.0
# Buffers of a non-TCP socket in both directions, by net.core.wmem_default.
_SOCKET_MIB = 0.22
_TCP_SOCKET_MIB = 10.0  # the kernel's usual limits, if ours are not set
_LOCK_MIB = 256 / _MIB
_MOST_LOCKS_BYTES = 1 << 18  # maximum size of /proc/locks: some four thousand locks
_SIGCHLD_BIT = 1 << 16
_FORGOTTEN_S = 0.03  # larger than the rounding error of ticks


class ProcessUsage(NamedTuple):
    """One process: parent id, state, CPU ticks including reaped children, sizes in MiB."""

    parent: int
    running: bool
    ticks: int
    size_mib: float
    resident_mib: float


class UsageMonitor:
    """Repeated measurements of one job's processes."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._most_cpu_s = 0.0
        self._most_running = 1
        self._pids: frozenset[int] = frozenset()
        self._forgets = False

    def look(self, root: int, memory_mib: int) -> tuple[float, float]:
        """Returns CPU seconds so far, and the MiB that the processes added since their forks.

        Args:
            root: the job's first process, the ancestor of the others.
            memory_mib: the job's limit; while the sizes of its processes stay below it, shared
                memory is not measured.
        """
        tree = process_tree(root)
        cpu_s = _cpu_s(tree)
        statuses = {pid: process_status(pid) for pid in tree}
        if not self._forgets:
            # The kernel makes the first process of a PID namespace ignore SIGCHLD during its exit,
            # when its memory is freed.
            ignored = any(
                int(s.get("SigIgn", "0"), 16) & _SIGCHLD_BIT and "VmSize" in s
                for s in statuses.values()
            )
            come_and_gone = self._pids and self._pids != tree.keys()
            # A process that exits between two measurements is missed only once.
            fell = all(
                _cpu_s(again) < self._most_cpu_s - _FORGOTTEN_S
                for again in (tree, process_tree(root), process_tree(root))
            )
            self._forgets = bool(fell or (ignored and come_and_gone))
        self._pids = frozenset(tree)
        self._most_cpu_s = max(self._most_cpu_s, cpu_s)
        running = sum(process.running for process in tree.values())
        self._most_running = max(self._most_running, min(running, os.cpu_count() or 1))
        if self._forgets:
            cpu_s = max(cpu_s, (time.monotonic() - self._began) * self._most_running)
        return cpu_s, _memory_mib(root, tree, statuses, memory_mib)


def _memory_mib(
    root: int, tree: dict[int, ProcessUsage], statuses: dict[int, dict[str, str]], limit_mib: int
) -> float:
    own_size_mib, own_resident_mib = (own_pages(field) * _PAGE_MIB for field in (0, 1))
    total, sizes = 0.0, 0.0
    for pid, process in tree.items():
        tables_mib = _count(statuses[pid], "VmPTE") / 1024
        total += max(0.0, process.resident_mib - own_resident_mib) + tables_mib
        total += _PROCESS_MIB + _count(statuses[pid], "FDSize") * _DESCRIPTOR_MIB
        grown_mib = max(0.0, process.size_mib - own_size_mib)
        sizes += grown_mib
        if pid != root:
            total += min(grown_mib * _MAPPINGS_SHARE, _MOST_MAPPINGS_MIB)
    if len(tree) > 1 and sizes > limit_mib:
        # Shared memory exists as long as a process maps it, even if unused.
        touched = sum(_count(status, "RssShmem") for status in statuses.values()) / 1024
        total += max(0.0, _shared_mib(tree) - touched)
    return total + _sockets_mib(root) + _locks_mib(tree)


def own_pages(field: int) -> int:
    """Returns the size (0) or resident size (1) of this process in pages."""
    return int(_read("/proc/self/statm").split()[field])


def process_tree(root: int) -> dict[int, ProcessUsage]:
    """Returns the process ``root`` and its descendants."""
    found: dict[int, ProcessUsage] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        text = _read(f"/proc/{name}/stat")
        if not text:
            continue
        # The command's name, in parentheses, may contain anything.
        fields = text.rpartition(")")[2].split()
        # proc(5), from the state on: parent, ..., utime, stime, cutime, cstime, ..., vsize, rss
        process = ProcessUsage(
            int(fields[1]),
            fields[0] == "R",
            sum(map(int, fields[11:15])),
            int(fields[20]) / _MIB,
            int(fields[21]) * _PAGE_MIB,
        )
        found[int(name)] = process
        children.setdefault(process.parent, []).append(int(name))
    tree: dict[int, ProcessUsage] = {}
    stack = [root]
    while stack:
        pid = stack.pop()
        if pid in found:
            tree[pid] = found[pid]
        stack += children.get(pid, [])
    return tree


def _cpu_s(tree: dict[int, ProcessUsage]) -> float:
    return sum(process.ticks for process in tree.values()) / _TICKS_PER_S


def process_status(pid: int) -> dict[str, str]:
    """Returns the fields of ``/proc/PID/status``; empty if the process has exited."""
    lines = (line.partition(":") for line in _read(f"/proc/{pid}/status").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _count(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0").split()[0])


def _shared_mib(tree: dict[int, ProcessUsage]) -> float:
    """Returns the anonymous shared memory that the processes map, each segment once."""
    sizes: dict[str, int] = {}
    for pid in tree:
        for line in _read(f"/proc/{pid}/maps").splitlines():
            if "/dev/zero" in line or "/SYSV" in line:
                span, _, offset, _, inode, *_ = line.split()
                first, last = (int(part, 16) for part in span.split("-"))
                sizes[inode] = max(sizes.get(inode, 0), int(offset, 16) + last - first)
    return sum(sizes.values()) / _MIB


def _sockets_mib(root: int) -> float:
    """Returns an upper bound of the memory of sockets in the job's network namespace.

    The kernel counts sockets per namespace, but TCP memory for the whole machine.
    """
    # TCP: inuse 5 orphan 0 tw 0 alloc 9 mem 3
    numbers: dict[str, dict[str, int]] = {}
    for line in _read(f"/proc/{root}/net/sockstat").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        numbers[name] = dict(zip(words[::2], map(int, words[1::2]), strict=False))
    tcp = numbers.get("TCP", {})
    tcp_count = tcp.get("inuse", 0)
    for line in _read(f"/proc/{root}/net/sockstat6").splitlines():
        if line.startswith("TCP6: inuse "):
            tcp_count += int(line.split()[2])
    others = max(0, numbers.get("sockets", {}).get("used", 0) - tcp_count)
    tcp_mib = min(tcp.get("mem", 0) * _PAGE_MIB, tcp_count * _TCP_SOCKET_MIB)
    return others * _SOCKET_MIB + tcp_mib


def _locks_mib(tree: dict[int, ProcessUsage]) -> float:
    """Returns the memory of the processes' file locks; infinity if there are too many to read."""
    with open("/proc/locks", "rb") as file:
        text = file.read(_MOST_LOCKS_BYTES)
    # 1: POSIX  ADVISORY  WRITE 1234 00:2e:567 0 0; an arrow marks waiting processes
    count = sum(
        fields[-4].isdigit() and int(fields[-4]) in tree
        for fields in (line.split() for line in text.decode("ascii", "replace").splitlines())
        if len(fields) >= 8
    )
    if len(text) >= _MOST_LOCKS_BYTES - 128 and count > 1000:
        return float("inf")
    return count * _LOCK_MIB


def _read(path: str) -> str:
    """Returns the text of a file of ``/proc``; empty if the process has exited."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
