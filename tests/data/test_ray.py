"""Ray: the bytes of a local run, whatever dies; on a cluster of two nodes of one CPU each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import HELPER, SMALL, contents, outcomes, programs, survives_kills
from tiny_generators import Counter, Each, Echo

from codegen.core.errors import CodegenError, ConfigError
from codegen.data import EngineOptions, RayExecutor, RunProgress, open_source, read_texts, run
from codegen.data.executors import FailedItem
from codegen.lintseq import LintSeq
from tests.processes import command_of, descendants, lives, wait_for

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 200 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason="pip install 'codegen-toolkit[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        made.add_node(**NODE)
        yield made
        made.shutdown()


@pytest.mark.slow
def test_same_bytes_as_local(tmp_path: Path, cluster: Any) -> None:
    generator, settings = Echo(), {"seed": 3, "options": SMALL}
    run(
        generator, Counter(300), tmp_path / "ray", executor=RayExecutor(cluster.address), **settings
    )
    for workers in (1, 2, 4):
        out = tmp_path / str(workers)
        run(generator, Counter(300), out, workers=workers, **settings)
        assert contents(out) == contents(tmp_path / "ray")


@pytest.mark.long
def test_a_real_generator_makes_the_same_bytes(tmp_path: Path, cluster: Any) -> None:
    """Edit sequences with pylint on every state: what a worker remembers changes nothing."""
    generator = LintSeq(sequences=2, verify="pylint")
    settings: dict[str, Any] = {"seed": 1, "limit": 24}
    source, options = open_source("humaneval"), EngineOptions(chunk_size=5)
    executor = RayExecutor(cluster.address)
    run(generator, source, tmp_path / "ray", executor=executor, options=options, **settings)
    run(generator, source, tmp_path / "local", workers=1, **settings)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
def test_work_is_spread_and_ordered(cluster: Any) -> None:
    drawn = 0

    def chunks() -> Iterator[list[float]]:
        nonlocal drawn
        for i in range(24):
            drawn += 1
            yield [0.2 if i % 9 == 0 else 0.05, float(i)]

    seen = []
    executor = RayExecutor(cluster.address, ahead=3)
    for given, results in enumerate(executor.map(Each(_sleep_and_tell), chunks())):
        assert drawn - given <= 6
        seen += results
    assert [value for value, _ in seen[1::2]] == list(range(24))
    assert len({pid for _, pid in seen}) == 2


def _sleep_and_tell(value: float) -> tuple[float, int]:
    time.sleep(min(value, 0.2))
    return value, os.getpid()


@pytest.mark.long
def test_a_node_dies_midway(tmp_path: Path, cluster: Any) -> None:
    doomed = cluster.add_node(**NODE)
    options = EngineOptions(chunk_size=5, commit_every_s=0.0, shard_bytes=4000)
    killed = threading.Event()

    def kill(progress: RunProgress) -> None:
        if progress.inputs >= 60 and not killed.is_set():
            killed.set()
            cluster.remove_node(doomed, allow_graceful=False)

    generator = Echo(delay_s=0.02)
    executor = RayExecutor(cluster.address, workers=3)
    out = tmp_path / "ray"
    run(generator, Counter(300), out, executor=executor, options=options, on_progress=kill)
    assert killed.is_set()
    run(generator, Counter(300), tmp_path / "local", workers=2, options=options)
    assert contents(out) == contents(tmp_path / "local")


@pytest.mark.long
def test_dying_and_frozen_workers(tmp_path: Path, cluster: Any) -> None:
    words = [str(i) for i in range(40)]
    words[5] = words[21] = "die"
    words[8] = "hang"
    words[30] = "freeze"
    options = EngineOptions(item_timeout_s=0.3, chunk_size=8)
    executor = RayExecutor(cluster.address, hang_s=1.5)
    manifest = run(Echo(), programs(*words), tmp_path / "a", executor=executor, options=options)
    assert outcomes(tmp_path / "a") == {
        "e5": ("failed", "worker_died"),
        "e8": ("failed", "timeout"),
        "e21": ("failed", "worker_died"),
        "e30": ("failed", "timeout"),
    }
    assert manifest.kept == 36
    harmless = programs(*(word if word.isdigit() else "skip" for word in words))
    run(Echo(), harmless, tmp_path / "b", workers=1, options=options)
    assert list(read_texts(tmp_path / "a")) == list(read_texts(tmp_path / "b"))


@pytest.mark.slow
def test_a_generator_that_cannot_work_ends_the_run(tmp_path: Path, cluster: Any) -> None:
    with pytest.raises(ConfigError, match="needs a thing"):
        run(Echo(), programs("a", "config"), tmp_path, executor=RayExecutor(cluster.address))


@pytest.mark.slow
def test_a_function_that_raises_what_it_should_not(cluster: Any) -> None:
    answers = list(RayExecutor(cluster.address).map(Each(_fail_at_two), [[1, 2, 3]]))
    assert answers == [[1, FailedItem("worker_died", "the Ray worker died"), 3]]


def _fail_at_two(value: float) -> float:
    if value == 2:
        raise ValueError("two")
    return value


@pytest.mark.long
def test_a_few_kills(tmp_path: Path, cluster: Any) -> None:
    command = [sys.executable, str(HELPER), "240", f"ray={cluster.address}", "none"]
    survives_kills(command, tmp_path, 2, seed=1)


@pytest.mark.long
def test_twenty_kills(tmp_path: Path, cluster: Any) -> None:
    command = [sys.executable, str(HELPER), "400", f"ray={cluster.address}", "none"]
    survives_kills(command, tmp_path, 20, seed=2)


@pytest.mark.long
def test_a_cluster_of_its_own_ends_with_the_run(tmp_path: Path, cluster: Any) -> None:
    """Also if the run is killed. (Ray's own two agents notice it after a minute.)"""
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, HELPER, "100000", "ray=local", "none", out]) as process:
        try:
            wait_for((out / ".partial" / "data-00000.jsonl").exists)
            wait_for(lambda: len(_ray_workers(process.pid)) > 1)
            below = [pid for pid in descendants(process.pid) if "Agent" not in command_of(pid)]
            assert set(_ray_workers(process.pid)) <= set(below)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not any(map(lives, below)))


def _ray_workers(pid: int) -> list[int]:
    return [one for one in descendants(pid) if "_RayWorker" in command_of(one)]


def test_ray_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CodegenError, match=r"pip install 'codegen-toolkit\[ray\]'"):
        run(Echo(), Counter(5), tmp_path, executor=RayExecutor())


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'codegen-toolkit[ray]'")
    with pytest.raises(CodegenError, match=r"Cannot connect to a Ray cluster at '127\.0\.0\.1:9'"):
        run(Echo(), Counter(5), tmp_path, executor=RayExecutor("127.0.0.1:9"))


def test_workers_out_of_range() -> None:
    with pytest.raises(ConfigError, match="workers is 0"):
        RayExecutor(workers=0)
