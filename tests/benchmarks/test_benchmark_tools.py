"""CPU time, memory and machine facts, against what processes that do known things must show."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.machine import machine, usable_cores, versions
from codegen.benchmarks.tools.memory import MemoryProbe
from codegen.benchmarks.tools.timing import cpu_seconds, measured, tree_cpu_s, tree_rss_mib
from codegen.errors import CodegenError

BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_the_time_of_an_ended_child_counts_and_sleeping_does_not() -> None:
    with measured() as idle:
        time.sleep(0.2)
    with measured() as busy:
        subprocess.run([sys.executable, "-c", BURN], check=True)
    assert idle.wall_s >= 0.2
    assert idle.cpu_s < 0.1
    assert busy.cpu_s >= 0.3


def test_the_time_of_a_child_that_runs_on_counts_in_the_block_that_it_was_spent_in() -> None:
    script = f"{BURN}print('ready', flush=True)\nimport sys; sys.stdin.read()\n"
    with measured() as busy:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stdout.readline() == "ready\n"
    with measured() as ending:
        process.communicate()
    assert busy.cpu_s >= 0.28  # ticks are 10 ms
    assert ending.cpu_s < 0.2


def test_a_block_that_raises_is_measured_too() -> None:
    with pytest.raises(ValueError), measured() as spent:
        began = cpu_seconds()
        while cpu_seconds() - began < 0.02:
            pass
        raise ValueError
    assert spent.cpu_s >= 0.02


def test_the_tree_holds_children_that_still_run_and_grandchildren_that_ended() -> None:
    script = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {BURN!r}])\n"
        "data = bytearray(64 << 20)\n"
        "print('ready', flush=True)\nsys.stdin.read()\n"
    )
    cpu, rss = tree_cpu_s(), tree_rss_mib()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "ready\n"
    assert tree_cpu_s() - cpu >= 0.28  # ticks are 10 ms
    assert tree_rss_mib() - rss > 60
    assert tree_rss_mib(process.pid) < tree_rss_mib()
    process.communicate()
    assert tree_rss_mib(process.pid) == 0  # it is gone


def test_memory_is_read_at_shares_of_the_work() -> None:
    probe = MemoryProbe(interval_s=0.001, read=lambda: 100 * probe.share)
    with probe:
        time.sleep(0.02)
        assert probe.samples == []  # nothing has begun yet
        for share in (0.08, 0.1, 0.3, 1.0):
            probe.share = share
            seen = len(probe.samples)
            while len(probe.samples) < seen + 3:
                time.sleep(0.001)
    assert probe.at(0.1) in (8.0, 9.0, 10.0)
    assert probe.at(0.5) is None
    assert probe.at(1.0) == probe.peak() == 100.0


def test_versions_and_machine_facts() -> None:
    found = versions("click", "no-such-distribution")
    assert found["click"] and found["python"]
    assert found["no-such-distribution"] is None
    facts = machine()
    assert facts["cores"] == usable_cores() == len(os.sched_getaffinity(0))
    assert len(facts["load_average"]) == 3


@pytest.mark.slow
def test_a_fresh_process_each_time() -> None:
    assert len({fresh(os.getpid), fresh(os.getpid), os.getpid()}) == 3
    assert fresh(int, "11", base=2) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        fresh(int, "x")
    with pytest.raises(CodegenError, match="ended with code 7 and no result"):
        fresh(os._exit, 7)
