"""The driver: submitted jobs, jobs that wait, dead sandboxes, and files of scripts."""

from __future__ import annotations

import errno
import json
import time
from concurrent.futures import Future
from typing import Any

import pytest

from codegen.core.errors import InputError, SandboxError
from codegen.sandbox import Job, Limits, Outcome, Sandbox, ScriptJob, launch, pool
from codegen.sandbox import sandbox as sandbox_module
from codegen.sandbox.pool import read_results
from codegen.sandbox.protocol.orders import JobEnded, JobRequest
from tests.sandbox.test_sandbox import HONEST


@pytest.mark.usefixtures("needs_a_sandbox")
def test_a_driver_without_descriptors_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(HONEST).passed

        def none(*_: object, **__: object) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(pool, "memory_file", none)
            outcome = sandbox.run(HONEST)
        assert outcome.status == "infra_error" and "Too many open files" in outcome.message
        assert sandbox.run(HONEST).passed


@pytest.mark.usefixtures("needs_a_sandbox")
def test_programs_that_only_wait_are_tried_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    order, ended, beside = pool.JobRequest, pool.read_ended, []
    running: set[int] = set()

    def watched(number: int, *rest: Any, **more: Any) -> JobRequest:
        request = order(number, *rest, **more)
        if request.wall_s == pool.ALONE_WALL_FACTOR * wait.wall_s:  # it is run again
            beside.append((request.memory_mib, len(running)))
        if request.memory_mib in (wait.memory_mib, work.memory_mib):
            running.add(number)
        return request

    def heard(packet: bytes) -> JobEnded:
        running.discard(ended(packet).id)
        return ended(packet)

    monkeypatch.setattr(pool, "JobRequest", watched)
    monkeypatch.setattr(pool, "read_ended", heard)
    waits = "import time\ntime.sleep(99)\n"
    works = "import time\nend = time.process_time() + 0.15\n" + (
        f"while time.process_time() < end: pass\n{waits}"
    )
    wait, work = Limits(cpu_s=0.3, memory_mib=256), Limits(cpu_s=0.3, memory_mib=257)
    jobs = [(n, Job(works, limits=work) if n in (1, 3) else Job(waits, limits=wait))
            for n in range(6)]  # fmt: skip
    with Sandbox(workers=1) as sandbox:
        assert {outcome.status for _, outcome in sandbox.map(jobs)} == {"timeout"}
    assert len(beside) == 6
    assert max(number for mib, number in beside if mib == wait.memory_mib) == 2  # three in flight
    assert [number for mib, number in beside if mib == work.memory_mib] == [0, 0]


class _Broken:
    """A socket that sends nothing but what has descriptors: orders to start, not to stop."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def send(self, _: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.usefixtures("needs_a_sandbox")
def test_a_sandbox_found_dead_at_two_deadlines_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, programs = launch.start, []

    def started(way: Any, role: Any, *more: Any) -> launch.ZygoteProcess:
        zygote = start(way, role, *more)
        if role == "program":
            programs.append(zygote)
            if len(programs) == 1:
                zygote.control = _Broken(zygote.control)  # type: ignore[assignment]
        return zygote

    monkeypatch.setattr(launch, "start", started)
    monkeypatch.setattr(pool, "END_GRACE_S", 0.3)
    leaves = Job("import os, time\nos.closerange(3, 99)\ntime.sleep(9)\n", test=HONEST.test)
    with Sandbox(workers=1) as sandbox:
        outcomes = dict(sandbox.map([("a", leaves), ("b", leaves)]))
    assert len(programs) == 2
    assert {outcome.status for outcome in outcomes.values()} == {"exited"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[0, [], []",
        b"[" * 100_000,
        b'["0", [], []]\n',
        b'[0, [["x", "1"]], []]\n.',
        b"[99999999999999999999, [], []]\n",
        b'{"a": 1}\n',
        b'[0, [["x", 1]], 5]\n.',
        b"[0, 1, 2]\n",
        b"\xff\xfe\n",
    ],
)
def test_what_a_hostile_script_writes_as_its_results_is_a_failure(data: bytes) -> None:
    status, files, left = read_results(data, ["x"])
    assert (status, files, left) == (125 << 8, {}, [])


def test_only_files_that_were_asked_for_are_taken() -> None:
    data = json.dumps([0, [["y", 1], ["x", 2], ["x", 99], ["x", -1]], ["z", "x"]]).encode()
    assert read_results(data + b"\n12", ["x"]) == (0, {"x": b"12"}, ["x"])


def test_submit_gives_the_outcome_of_run(sandbox: Sandbox) -> None:
    jobs = [Job(f"x = {n}\n", test="assert x % 2\n") for n in range(6)] + [Job("# no code\n")]
    futures = [sandbox.submit(job) for job in jobs]
    statuses = [future.result(30).status for future in futures]
    assert statuses == ["wrong", "passed"] * 3 + ["empty"]
    with pytest.raises(InputError, match="cannot be sent"):
        sandbox.submit(Job("x = 1\n", mode="calls", calls=[("f", [object()])]))
    with pytest.raises(SandboxError, match="not open"):
        Sandbox().submit(jobs[0])


def test_a_future_that_is_canceled_does_not_run(sandbox: Sandbox) -> None:
    slow = ScriptJob("import time\ntime.sleep(0.3)\n")
    first = [sandbox.submit(slow) for _ in range(sandbox.capacity)]
    waiting = [sandbox.submit(ScriptJob("print(1)\n")) for _ in range(4)]
    assert waiting[0].cancel() and waiting[2].cancel()
    assert [future.result(30).stdout for future in waiting[1::2]] == ["1\n", "1\n"]
    assert all(future.result(30).passed for future in first)


def test_a_job_that_is_to_run_alone_does_not_wait_for_ever(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many others come."""
    monkeypatch.setattr(sandbox_module, "PATIENCE_S", 0.2)
    sleeper = Job("import time\ntime.sleep(99)\n", test="x\n", limits=Limits(cpu_s=0.1))
    rests = Job("import time\ntime.sleep(0.1)\nx = 1\n", test="assert x\n")
    late = sandbox.submit(sleeper)
    others: list[Future[Outcome]] = []
    give_up = time.monotonic() + 20
    while not late.done() and time.monotonic() < give_up:
        others = [other for other in others if not other.done()]
        others += [sandbox.submit(rests) for _ in range(2 * sandbox.capacity - len(others))]
        time.sleep(0.01)
    assert late.done() and late.result().status == "timeout"
    assert all(other.result(30).passed for other in others)
