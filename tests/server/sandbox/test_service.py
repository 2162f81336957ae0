"""The queue, without a real sandbox: who is served when, what is refused, what is run twice."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import Future
from typing import Any

import pytest

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Outcome
from codegen.server.completion.requests import Overloaded, Unavailable
from codegen.server.sandbox import SandboxService
from codegen.server.sandbox.service import SANDBOX_TRIES, SandboxFault


class Scripted:
    """A sandbox whose jobs end when they are told to.

    Attributes:
        started: the programs, in the order in which they were given to it.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.started: list[str] = []
        self.futures: list[Future[Outcome]] = []

    def submit(self, job: Any, owner: str) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        self.started.append(job.program)
        self.futures.append(future)
        return future

    async def end(self, number: int, status: Any = "passed", **more: Any) -> None:
        future = self.futures[number]
        if future.set_running_or_notify_cancel():
            future.set_result(Outcome(status, "isolated", **more))
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def make(capacity: int = 3, **options: int) -> tuple[Scripted, SandboxService]:
    sandbox = Scripted(capacity)
    return sandbox, SandboxService(sandbox, **options)  # type: ignore[arg-type]


def ask(service: SandboxService, client: str, program: str, key: str = "") -> asyncio.Task[Any]:
    service.admit(client, 1)
    return asyncio.ensure_future(service.outcome(client, Job(program), key))


async def test_clients_take_turns() -> None:
    sandbox, service = make(capacity=1)  # two are given to it at a time
    tasks = [ask(service, "greedy", f"g{n}") for n in range(50)]
    await settle()
    tasks += [ask(service, "modest", "m0"), ask(service, "third", "t0")]
    tasks += [ask(service, "modest", "m1")]
    await settle()
    for number in range(len(tasks)):
        await sandbox.end(number)
    assert sandbox.started[:8] == ["g0", "g1", "g2", "m0", "t0", "g3", "m1", "g4"]
    assert len(sandbox.started) == len(tasks)
    assert all([(await task)[0].passed for task in tasks])
    assert service.waiting == service.running == 0


@pytest.mark.parametrize("seed", range(20))
async def test_no_client_waits_for_more_than_one_job_of_each_other(seed: int) -> None:
    """Whatever comes in whatever order: between two jobs of a client that waits all the time, no
    other gets more than one.
    """
    rng = random.Random(seed)
    sandbox, service = make(capacity=1)
    waiting = dict.fromkeys("abcd", 0)
    tasks, ended = [], 0
    for _ in range(60):
        name = rng.choice("aaaabcd")
        waiting[name] += 1
        tasks.append(ask(service, name, name))
        await settle()
        if rng.random() < 0.5 and ended < len(sandbox.futures):
            await sandbox.end(ended)
            ended += 1
    began = len(sandbox.started)
    left = {name: waiting[name] - sandbox.started.count(name) for name in waiting}
    while ended < len(tasks):
        await sandbox.end(ended)
        ended += 1
    order = sandbox.started[began:]
    for position, name in enumerate(order):
        behind = order[:position][::-1]
        since = behind[: behind.index(name)] if name in behind else behind
        assert len(set(since)) == len(since), (order, left)
    await asyncio.gather(*tasks)


async def test_what_does_not_fit_is_refused_as_a_whole() -> None:
    sandbox, service = make(capacity=3, queue=5, client_queue=3)  # four are given to it
    tasks = [ask(service, "a", f"a{n}") for n in range(4)]
    await settle()
    service.admit("a", 3)
    with pytest.raises(Overloaded, match="this client's queue"):
        service.admit("a", 4)
    tasks += [ask(service, "a", "x") for _ in range(3)]
    await settle()
    service.admit("b", 2)
    with pytest.raises(Overloaded, match="the queue") as full:
        service.admit("b", 3)
    assert 1 <= full.value.after_s <= 60
    for number in range(7):
        await sandbox.end(number)
    service.admit("b", 3)
    await asyncio.gather(*tasks)


async def test_equal_jobs_share_one_run_and_keep_its_outcome() -> None:
    sandbox, service = make()
    tasks = [ask(service, "a", "p", "key") for _ in range(3)]
    await settle()
    assert sandbox.started == ["p"]
    tasks[0].cancel()  # the others still want it
    await sandbox.end(0, message="one")
    assert [(await task)[0].message for task in tasks[1:]] == ["one", "one"]
    assert (await ask(service, "a", "p", "key"))[1]
    assert sandbox.started == ["p"]
    # Without a key it is run again, and for another client, whose tests may have done anything.
    others = [ask(service, "a", "p", ""), ask(service, "b", "p", "key")]
    await settle()
    assert sandbox.started == ["p"] * 3
    for number, other in enumerate(others, 1):
        await sandbox.end(number)
        assert not (await other)[1]


@pytest.mark.parametrize("status", ["timeout", "memory", "crashed"])
async def test_what_another_run_could_change_is_not_kept(status: str) -> None:
    sandbox, service = make()
    for number in range(2):
        task = ask(service, "a", "p", "key")
        await settle()
        await sandbox.end(number, status)
        assert (await task)[0].status == status
    assert sandbox.started == ["p", "p"]


async def test_what_nobody_wants_any_more_does_not_run() -> None:
    sandbox, service = make(capacity=1)
    tasks = [ask(service, "a", f"p{n}") for n in range(6)]
    await settle()
    assert sandbox.started == ["p0", "p1"]
    for number in (0, 3, 4):  # one that runs, two that wait
        tasks[number].cancel()
    await settle()
    assert sandbox.futures[0].cancelled()
    assert service.waiting == 1
    for number in range(1, 4):
        await sandbox.end(number)
    assert sandbox.started == ["p0", "p1", "p2", "p5"]
    assert service.waiting == service.running == 0


async def test_a_fault_of_the_sandbox_is_tried_again_and_never_a_verdict() -> None:
    sandbox, service = make()
    task = ask(service, "a", "p", "key")
    await settle()
    await sandbox.end(0, "infra_error", message="killed")
    assert sandbox.started == ["p", "p"]
    await sandbox.end(1)
    assert (await task)[0].passed
    task = ask(service, "a", "q", "other")
    await settle()
    for number in range(2, 2 + SANDBOX_TRIES):
        await sandbox.end(number, "infra_error", message="killed")
    with pytest.raises(SandboxFault, match="killed"):
        await task
    task = ask(service, "a", "q", "other")  # it has not been kept
    await settle()
    sandbox.futures[-1].set_exception(SandboxError("The sandbox was closed."))
    with pytest.raises(SandboxFault, match="closed"):
        await task
    assert service.running == 0


async def test_stopping_ends_what_waits_and_finishes_what_runs() -> None:
    sandbox, service = make(capacity=1)
    tasks = [ask(service, "a", f"p{n}") for n in range(4)]
    await settle()
    service.stop()
    for task in tasks[2:]:
        with pytest.raises(Unavailable, match="stopping"):
            await task
    with pytest.raises(Unavailable, match="stopping"):
        service.admit("b", 1)
    for number in range(2):
        await sandbox.end(number)
        assert (await tasks[number])[0].passed
    assert sandbox.started == ["p0", "p1"]
