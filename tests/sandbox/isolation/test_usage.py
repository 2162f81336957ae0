"""What a job holds of the kernel's memory, and CPU time that the kernel forgets, count too."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from suites import suite

from codegen.sandbox import Limits, Sandbox
from codegen.sandbox.isolation import usage

LIMITS = Limits(cpu_s=2.0, memory_mib=128)
# Fills what it can in each process it may have, which holds little memory of its own.
HOLDS = suite("kernel_memory")


@pytest.mark.parametrize("what", HOLDS)
def test_memory_of_the_kernel_counts(sandbox: Sandbox, what: str) -> None:
    outcome = sandbox.run(HOLDS[what], calls=["f()"], limits=LIMITS)
    assert outcome.status == "memory", outcome
    assert sandbox.run("def f(): return 1\n", calls=["f()"]).values == (1,)


def test_tcp_holds_little_at_any_time(sandbox: Sandbox) -> None:
    """By the kernel's own count of its pages for TCP, which is of the whole machine."""

    def tcp_mib() -> float:
        lines = Path("/proc/net/sockstat").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("TCP:"))
        return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    before, seen, done = tcp_mib(), [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(tcp_mib())
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    outcome = sandbox.run(HOLDS["TCP"], calls=["f()"], limits=LIMITS)
    done.set()
    thread.join()
    assert outcome.status == "memory"
    assert max(seen) - before < 512


REFUSED = suite("refused")


@pytest.mark.parametrize("what", REFUSED)
def test_what_nobody_needs_is_refused(sandbox: Sandbox, what: str) -> None:
    program = (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nx86 = os.uname().machine == 'x86_64'\n"
        f"place = (ctypes.c_char * 4096)()\ndef f():\n    return {REFUSED[what]}\n"
    )
    outcome = sandbox.run(program, calls=["f()"])
    assert outcome.passed, outcome
    assert set(outcome.values[0]) == {-1}


def test_flushing_reaches_no_disk_and_is_no_error(sandbox: Sandbox) -> None:
    program = (
        "import os\ndef f():\n    os.sync()\n    fd = os.open('/usr/lib', os.O_RDONLY)\n"
        "    os.fsync(fd)\n    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)\n    return 1\n"
    )
    assert sandbox.run(program, calls=["f()"]).values == (1,)


HIDES = {
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "by a flag": "libc.sigaction(17, (ctypes.c_uint64 * 20)(0, *[0] * 16, 2), None)",
}


@pytest.mark.parametrize("how", HIDES)
@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_cpu_time_of_children_that_nobody_waits_for_counts(
    sandbox: Sandbox, how: str, seconds: float
) -> None:
    program = (
        "import ctypes, os, signal, time\nlibc = ctypes.CDLL(None)\n"
        f"def f():\n    {HIDES[how]}\n    while True:\n        if os.fork() == 0:\n"
        f"            while time.process_time() < {seconds}: pass\n            os._exit(0)\n"
        "        try:\n            os.wait()\n        except ChildProcessError:\n            pass\n"
    )
    outcome = sandbox.run(program, calls=["f()"], limits=Limits(cpu_s=1.0, memory_mib=256))
    assert outcome.status == "timeout"
    assert "CPU time" in outcome.message and "clock" not in outcome.message, outcome.message


def test_a_program_that_ignores_its_children_and_rests_is_left_alone(sandbox: Sandbox) -> None:
    program = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "def f():\n    for _ in range(3):\n        if os.fork() == 0: os._exit(0)\n"
        "    time.sleep(0.3)\n    return 1\n"
    )
    assert sandbox.run(program, calls=["f()"]).values == (1,)


def test_usage_of_a_process_that_has_ended_is_nothing() -> None:
    watch = usage.UsageMonitor()
    assert watch.look(1 << 30, 128) == (0.0, 0.0)
    assert json.dumps(watch.look(os.getpid(), 128))


@pytest.mark.parametrize(("status", "charged"), [({"VmSize": "9 kB"}, True), ({}, False)])
def test_a_first_process_that_ends_is_not_one_that_hides_its_children(
    monkeypatch: pytest.MonkeyPatch, status: dict[str, str], charged: bool
) -> None:
    """While the first process of a PID namespace ends, the kernel has it ignore SIGCHLD."""
    trees = [{1: 5, 2: 9}, {1: 14}]
    ignoring = {"SigIgn": f"{1 << 16:016x}", **status}

    def tree(_: int) -> dict[int, usage.ProcessUsage]:
        return {pid: usage.ProcessUsage(0, False, t, 1.0, 1.0) for pid, t in trees[0].items()}

    monkeypatch.setattr(usage, "process_tree", tree)
    monkeypatch.setattr(usage, "process_status", lambda _: ignoring)
    clock = iter(range(0, 300, 100))  # seconds
    monkeypatch.setattr(usage, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    watch = usage.UsageMonitor()
    watch.look(1, 128)
    trees.pop(0)
    assert (watch.look(1, 128)[0] > 50) == charged
