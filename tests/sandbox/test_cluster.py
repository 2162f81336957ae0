"""The sandbox over Ray gives what one sandbox gives, also when its processes are killed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import CodegenError, InputError, MachineError, SandboxError
from codegen.core.records import Sample
from codegen.evals.run import SCORE, VERDICTS
from codegen.evals.scoring import executions_log, score
from codegen.evals.tasks import load
from codegen.sandbox import ClusterSandbox, Job, Limits, Sandbox
from tests.evals.conftest import ROWS
from tests.processes import command_of, descendants

ADD = "def add(a, b):\n    return a + {}\n"
CHECK = "def check(f):\n    assert f(1, 2) == 3\n"
SHORT = Limits(cpu_s=0.5, memory_mib=256)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSandbox]:
    pytest.importorskip("ray", reason="pip install 'codegen-toolkit[ray]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            with ClusterSandbox("local", workers=2) as opened:
                yield opened
        except CodegenError as error:
            pytest.skip(str(error))


def jobs(count: int) -> Iterator[tuple[int, Job]]:
    for n in range(count):
        program = ["", ADD.format("b"), ADD.format("1"), "while True: pass", "("][n % 5]
        if n % 5 == 3 and n > 20:
            program = "import os\nos.abort()\n"
        yield n, Job(program, test=CHECK, entry_point="add", limits=SHORT)


def statuses(sandbox: Any, count: int) -> dict[int, str]:
    return {key: outcome.status for key, outcome in sandbox.map(jobs(count))}


@pytest.mark.long
def test_as_one_sandbox(cluster: ClusterSandbox) -> None:
    with Sandbox(workers=1) as sandbox:
        assert cluster.describe() == sandbox.describe()
        assert statuses(cluster, 120) == statuses(sandbox, 120)
    read = []

    def counted() -> Iterator[tuple[int, Job]]:
        for item in jobs(5000):
            read.append(item)
            yield item

    outcomes = cluster.map(counted())
    next(outcomes)
    outcomes.close()
    assert len(read) < 300
    with pytest.raises(InputError, match="call"):
        list(cluster.map([(1, Job("x = 1", mode="calls", calls=[("f", [object()])]))]))


@pytest.mark.long
def test_a_killed_worker_loses_nothing(cluster: ClusterSandbox) -> None:
    killed = 0
    seen: dict[int, str] = {}
    for key, outcome in cluster.map(jobs(200)):
        assert key not in seen
        seen[key] = outcome.status
        if len(seen) == 60:
            for pid in _workers():
                os.kill(pid, signal.SIGKILL)
                killed += 1
    assert killed >= 1
    with Sandbox(workers=1) as sandbox:
        assert seen == statuses(sandbox, 200)


def _workers() -> list[int]:
    """The processes of our actors, by the name Ray gives them; below this process."""
    return [p for p in descendants(os.getpid()) if command_of(p).startswith("ray::_Worker")]


@pytest.mark.slow
def test_scoring_over_ray_writes_the_same_files(
    cluster: ClusterSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen.evals.scoring.cache_folder", lambda: tmp_path / "executions")
    (tmp_path / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    toy = load("humaneval", str(tmp_path / "toy.jsonl"))
    samples = [
        Sample(
            "t", f"Toy/{n % 7}", n // 7, "", f"    return x + {n % 7 if n % 3 else 9}\n", "stop",
            {"model": "m"}, 0, 1, 1, meta={"style": "continue"},
        )
        for n in range(70)
    ]  # fmt: skip
    with Sandbox(workers=1) as sandbox:
        score(samples, toy, out=tmp_path / "one", sandbox=sandbox)
    score(samples, toy, out=tmp_path / "ray", sandbox=cluster)

    def untimed(path: Path) -> list[str]:
        return re.sub(r'"(cpu_s|wall_s|memory_mib)": [^,}]+', "", path.read_text()).splitlines()

    for name in (VERDICTS, SCORE):
        assert untimed(tmp_path / "one" / name) == untimed(tmp_path / "ray" / name), name
    one, ray = (untimed(executions_log(tmp_path / name)) for name in ("one", "ray"))
    assert sorted(one) == sorted(ray)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="workers"):
        ClusterSandbox(workers=0)
    with pytest.raises(SandboxError, match="not open"):
        next(ClusterSandbox().map([]))


def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    ray = pytest.importorskip("ray", reason="pip install 'codegen-toolkit[ray]'")
    if ray.is_initialized():
        pytest.skip("this process is connected to a cluster")
    with (
        pytest.raises(MachineError, match="Cannot connect to a Ray cluster"),
        ClusterSandbox("127.0.0.1:1"),
    ):
        pass
