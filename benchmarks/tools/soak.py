"""Leftovers of the sandbox after many jobs: processes, descriptors, files, memory.

A :class:`codegen.sandbox.Sandbox` with one worker per core runs programs without a pause:
reference solutions of HumanEval, and among them programs that write files, fork orphans, hold
memory, exit, crash and continue after the verdict. Processes, descriptors, temporary files, mounts,
System V objects and memory are counted when idle, after a warm-up and at the end: ``leaked_*`` is
the difference. ``memory_growth_mib`` may be a few MiB in either direction, since test processes are
sometimes replaced. ``wrong_verdicts`` counts jobs with an incorrect verdict.

Limit: only the sandbox sees its own mounts; while it runs, leaked mounts are visible only as
memory.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.timing import process_tree, tree_rss_mib
from codegen.evals.tasks import load
from codegen.sandbox import Job, Limits, Sandbox

LIMITS = Limits(cpu_s=1.0, memory_mib=256)
_TEST = "assert f(1) == 2\n"
_RIGHT = "def f(x):\n    return x + 1\n"
# Key: action of the program before it ends, which may leave files or processes.
NUISANCES: Mapping[str, tuple[str, str]] = {
    "writes files": (
        "for n in range(9):\n    open(f'f{n}', 'w').write('x' * 9999)\n" + _RIGHT,
        "passed",
    ),
    "leaves an orphan": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n" + _RIGHT,
        "passed",
    ),
    "leaves a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
        + _RIGHT,
        "passed",
    ),
    "holds memory": ("held = b'x' * (64 << 20)\n" + _RIGHT, "passed"),
    "opens sockets": (
        "import socket\nheld = [socket.create_server(('127.0.0.1', 0)) for _ in range(20)]\n"
        + _RIGHT,
        "passed",
    ),
    "leaves shared memory": ("open('/dev/shm/left', 'w').write('x' * 99999)\n" + _RIGHT, "passed"),
    "exits": ("import os\nos._exit(0)\n", "exited"),
    "crashes": ("import os\nos.abort()\n", "crashed"),
    "takes all memory": ("held = [bytearray(1 << 20) for _ in range(9999)]\n", "memory"),
    "is wrong": ("def f(x):\n    return x\n", "wrong"),
    "raises": ("def f(x):\n    raise ValueError(x)\n", "error"),
    "returns too much": ("def f(x):\n    return 'x' * (9 << 20)\n", "output_limit"),
}


def soak(report: Report, seconds: float, hostile_share: float = 0.1) -> None:
    """Runs jobs for some seconds and reports their leftovers.

    Args:
        report: receives the results.
        seconds: duration of the soak.
        hostile_share: fraction of the jobs that misbehave.
    """
    wrong: Counter[str] = Counter()
    others = _state()["processes"]  # started by other code
    with Sandbox() as sandbox:
        for _ in sandbox.map(_jobs(hostile_share, time.monotonic() + min(10.0, seconds / 4))):
            pass
        before = _settled(sandbox)
        began = time.monotonic()
        done, said = 0, began
        for (name, expected), outcome in sandbox.map(_jobs(hostile_share, began + seconds)):
            done += 1
            if outcome.status != expected:
                wrong[f"{name}: {outcome.status} ({outcome.message[:80]})"] += 1
            if time.monotonic() - said > 60:
                said = time.monotonic()
                say(f"{done} jobs in {said - began:.0f} s; {tree_rss_mib():.0f} MiB")
        elapsed = time.monotonic() - began
        after = _settled(sandbox)
    for key, value in after.items():
        growth = "memory_growth_mib" if key == "memory_mib" else f"leaked_{key}"
        report.set(growth, value - before[key])
    report.set("processes_after_closing", _state()["processes"] - others)
    report.set("jobs", done)
    report.set("jobs_per_minute", 60 * done / elapsed)
    report.set("wrong_verdicts", sum(wrong.values()), n=done)
    report.notes += [f"{count} times {what}" for what, count in wrong.most_common(10)]


def _jobs(hostile_share: float, until: float) -> Iterator[tuple[tuple[str, str], Job]]:
    """Yields jobs with their names and expected statuses until a time (monotonic clock)."""
    task = load("humaneval")
    made = ((p.id, task.job(p, task.reference(p))) for p in task.problems())
    right = [(id_, job) for id_, job in made if isinstance(job, Job)]
    nuisances = list(NUISANCES.items())
    hostile_so_far, number = 0.0, 0
    while time.monotonic() < until:
        hostile_so_far += hostile_share
        if hostile_so_far >= 1:
            hostile_so_far -= 1
            name, (program, status) = nuisances[number % len(nuisances)]
            yield (name, status), Job(program, test=_TEST, limits=LIMITS)
        else:
            id_, job = right[number % len(right)]
            yield (id_, "passed"), job
        number += 1


def _settled(sandbox: Sandbox) -> dict[str, float]:
    """Returns counts of possible leaks once all test processes have been replaced."""
    right = Job(_RIGHT, test=_TEST, limits=LIMITS)
    for _ in sandbox.map((number, right) for number in range(40)):
        pass
    return _state()


def _state() -> dict[str, float]:
    """Returns counts of possible leaks when idle."""
    gc.collect()
    below: set[int] = set()
    for _ in range(10):  # the kernel removes namespaces with a delay
        time.sleep(1.0)
        seen, below = below, process_tree(os.getpid()) - {os.getpid()}
        if seen == below:
            break
    return {
        "processes": len(below),
        "descriptors": _descriptors(os.getpid()) + sum(map(_descriptors, below)),
        "files": len(list(Path(tempfile.gettempdir()).glob("codegen-*"))),
        "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        "ipc_objects": sum(
            max(0, len(Path(f"/proc/sysvipc/{kind}").read_text().splitlines()) - 1)
            for kind in ("shm", "sem", "msg")
        ),
        "memory_mib": tree_rss_mib(),
    }


def _descriptors(pid: int) -> int:
    with contextlib.suppress(OSError):  # it ended, or belongs to another user
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return 0
