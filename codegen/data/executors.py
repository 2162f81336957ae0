"""Executors: processes on this machine, or workers on a Ray cluster.

An :class:`Executor` maps a function over chunks of items and returns the results in chunk order.

Unlike with ``concurrent.futures``, a process of :class:`LocalExecutor` that dies (out of memory, a
crash in C code) loses only the item that killed it, and an item that hangs in C code, where no
signal handler runs, is killed.

With :class:`RayExecutor` the work runs in actors, one per CPU, so a generator's linter or model is
loaded once. If a worker or a node dies, its items go to the other actors, and a new actor replaces
it once the cluster has free CPUs. A hanging item is killed by ``faulthandler``'s watchdog, a thread
in the actor's process that needs no lock. All results pass through the process that called ``map``.
Every node needs the same version of this package.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Any, Protocol, TypeVar

from codegen.core.cluster import connected, import_ray, last_line
from codegen.core.errors import CodegenError, ConfigError

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

Function = Callable[[Sequence[Any]], Iterable[Any]]

POLL_S = 0.5
DEATHS = 2
"""Number of workers that an item must kill while running alone before it is given up. One death may
have another cause, such as a node that was switched off or memory used by other processes."""


@dataclass(frozen=True, slots=True)
class FailedItem:
    """The result of an item whose worker died (``worker_died``) or hung (``timeout``)."""

    reason: str
    detail: str


class Executor(Protocol):
    """Runs work on chunks."""

    def map(
        self, function: Callable[[Sequence[I]], Iterable[R]], chunks: Iterable[Sequence[I]]
    ) -> Generator[list[R | FailedItem], None, None]:
        """Applies a picklable function to each chunk; yields the results in chunk order.

        The function yields one result per item, in order, and must not depend on the chunk
        boundaries: a chunk whose worker dies is retried item by item. A :class:`CodegenError`
        from the function aborts the map. The number of chunks read ahead of the results is bounded.
        """
        ...


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Items of one chunk: all of them or, after a worker's death, a single one."""

    chunk: int
    first: int
    items: Sequence[Any]
    deaths: int = 0


class TaskQueue:
    """Queue of chunks as tasks, with results in chunk order.

    Args:
        chunks: the chunks, read on demand.
        bound: maximum number of chunks read whose results have not been returned.
    """

    def __init__(self, chunks: Iterator[Sequence[Any]], bound: int) -> None:
        self._chunks = chunks
        self._bound = bound
        self._tasks: deque[WorkItem] = deque()
        self._results: dict[int, list[object]] = {}
        self._missing: dict[int, int] = {}  # chunk -> items without a result
        self._drawn = self._given = 0
        self._exhausted = False

    def take(self) -> WorkItem | None:
        """Returns the next task, or None if no task is ready."""
        if not self._tasks:
            self.draw()
        return self._tasks.popleft() if self._tasks else None

    def draw(self) -> bool:
        """Reads one more chunk; returns False at the bound or the end of the chunks."""
        if self._exhausted or self._drawn - self._given >= self._bound:
            return False
        chunk = next(self._chunks, None)
        if chunk is None:
            self._exhausted = True
            return False
        self._tasks.append(WorkItem(self._drawn, 0, chunk))
        self._results[self._drawn] = [None] * len(chunk)
        self._missing[self._drawn] = len(chunk)
        self._drawn += 1
        return True

    def store(self, task: WorkItem, results: Sequence[object]) -> None:
        """Stores the results of a task."""
        self._results[task.chunk][task.first : task.first + len(results)] = results
        self._missing[task.chunk] -= len(results)

    def died(self, task: WorkItem, lost: FailedItem) -> None:
        """Requeues a dead worker's task item by item; gives up a single item that keeps failing."""
        if len(task.items) > 1:
            singles = [
                WorkItem(task.chunk, task.first + i, [one]) for i, one in enumerate(task.items)
            ]
            self._tasks.extendleft(reversed(singles))
        elif lost.reason == "timeout" or task.deaths + 1 == DEATHS:
            self.store(task, [lost])
        else:
            self._tasks.appendleft(WorkItem(task.chunk, task.first, task.items, task.deaths + 1))

    def in_order(self) -> Iterator[list[object]]:
        """Yields the results of the complete chunks that are next in order."""
        while self._given < self._drawn and not self._missing[self._given]:
            del self._missing[self._given]
            results = self._results.pop(self._given)
            self._given += 1
            yield results

    @property
    def finished(self) -> bool:
        """True if all chunks were read and returned."""
        return self._exhausted and self._given == self._drawn


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Processes on this machine.

    Attributes:
        workers: number of processes. With 1, the work runs in the calling process, where it is
            easy to debug; an item that kills its process then aborts the run.
        ahead: chunks in flight per worker.
        hang_s: seconds without a result after which a process is killed; None waits forever.
    """

    workers: int = 1
    ahead: int = 4
    hang_s: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; it must be at least 1.")

    def map(
        self, function: Callable[[Sequence[I]], Iterable[R]], chunks: Iterable[Sequence[I]]
    ) -> Generator[list[R | FailedItem], None, None]:
        """See :class:`Executor`."""
        if self.workers == 1:
            for chunk in chunks:
                yield list(function(chunk))
            return
        queue = TaskQueue(iter(chunks), self.ahead * self.workers)
        with closing(_Pool(function, self.workers, self.hang_s, queue)) as pool:
            yield from pool.run()


class _Worker:
    """One process, its pipe, and its current task."""

    def __init__(self, function: Function) -> None:
        context = multiprocessing.get_context("spawn")  # forking copies threads' locks
        self.connection, theirs = context.Pipe()
        self.started = context.RawValue("d", 0.0)  # time of the last result, 0 if idle
        self.process: SpawnProcess = context.Process(
            target=_work, args=(theirs, function, self.started), daemon=True
        )
        # Only the parent handles Ctrl-C; a starting child does not ignore it yet.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so the pipe closes when the process exits
        self.ready = False
        self.task: WorkItem | None = None
        self.hung = False

    def kill(self) -> None:
        self.process.kill()

    def reap(self) -> str:
        """Waits for the process to exit; describes its exit."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the process exited with code {code}"
        with suppress(ValueError):
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process was killed by signal {-code}"


def _work(connection: Connection, function: Function, started: Any) -> None:
    """Runs a worker process until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(None)  # ready
        while True:
            answer: Any = []
            items = connection.recv()
            started.value = time.monotonic()
            try:
                for result in function(items):
                    answer.append(result)
                    started.value = time.monotonic()
            except CodegenError as error:
                answer = error
            started.value = 0.0
            connection.send(answer)


class _Pool:
    """The processes of one :meth:`LocalExecutor.map`."""

    def __init__(
        self, function: Function, workers: int, hang_s: float | None, queue: TaskQueue
    ) -> None:
        self.function = function
        self.hang_s = hang_s
        self.queue = queue
        self.workers = [_Worker(function) for _ in range(workers)]

    def run(self) -> Iterator[list[Any]]:
        while not self.queue.finished:
            self._hand_out()
            # Read chunks while the workers are busy, so that none waits for the source.
            while not self._answers(0) and self.queue.draw():
                pass
            self._collect()
            yield from self.queue.in_order()

    def _hand_out(self) -> None:
        for number, worker in enumerate(self.workers):
            if not worker.ready or worker.task is not None:
                continue
            worker.task = self.queue.take()
            if worker.task is None:
                return
            try:
                worker.connection.send(worker.task.items)
            except (BrokenPipeError, ConnectionResetError):
                self._bury(number)

    def _answers(self, timeout_s: float) -> list[Any]:
        return wait([worker.connection for worker in self.workers], timeout_s)

    def _collect(self) -> None:
        """Collects the workers' results; waits for one if necessary."""
        self._kill_hung()
        busy = any(worker.task or not worker.ready for worker in self.workers)
        ready = self._answers(POLL_S if busy else 0)
        for number, worker in enumerate(self.workers):
            if worker.connection not in ready:
                continue
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError):
                self._bury(number)
                continue
            if isinstance(message, CodegenError):
                raise message
            if not worker.ready:
                worker.ready = True
            elif (task := worker.task) is not None:
                worker.task = None
                self.queue.store(task, message)

    def _kill_hung(self) -> None:
        if self.hang_s is None:
            return
        for worker in self.workers:
            began = worker.started.value
            if began and time.monotonic() - began > self.hang_s:
                worker.hung = True
                worker.kill()

    def _bury(self, number: int) -> None:
        """Replaces a dead worker; its task is retried item by item."""
        worker = self.workers[number]
        cause = worker.reap()
        if not worker.ready:
            raise CodegenError(
                f"A worker process could not start ({cause}).",
                "In a script, call this under `if __name__ == '__main__':`; or set workers to 1.",
            )
        self.workers[number] = _Worker(self.function)
        if worker.task is not None:
            hung = FailedItem("timeout", f"over {self.hang_s:g} s") if worker.hung else None
            self.queue.died(worker.task, hung or FailedItem("worker_died", cause))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.reap()


FAILED_STARTS = 3


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Actors on a Ray cluster.

    Attributes:
        address: the cluster's address, see :func:`codegen.core.cluster.connected`.
        workers: number of actors with one CPU each; None uses all CPUs of the cluster.
        ahead: chunks in flight per worker.
        hang_s: seconds without a result after which a process is killed; None waits forever.
        start_s: seconds to wait while no actor is alive.
    """

    address: str = ""
    workers: int | None = None
    ahead: int = 4
    hang_s: float | None = None
    start_s: float = 300.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; it must be at least 1.")

    def map(
        self, function: Callable[[Sequence[I]], Iterable[R]], chunks: Iterable[Sequence[I]]
    ) -> Generator[list[R | FailedItem], None, None]:
        """See :class:`Executor`."""
        with connected(self.address, self.workers) as (ray, workers):
            queue = TaskQueue(iter(chunks), self.ahead * workers)
            with closing(_Actors(ray, function, workers, self, queue)) as pool:
                yield from pool.run()


class _RayWorker:
    """The state of an actor.

    Args:
        function: a reference to the function, in a list so that Ray does not resolve it: the
            function can be imported only once the driver's import path is set.
        path: the driver's import path.
        hang_s: see :class:`RayExecutor`.
    """

    def __init__(self, function: list[Any], path: list[str], hang_s: float | None) -> None:
        sys.path.extend(folder for folder in path if folder not in sys.path)
        self.function: Function = import_ray().get(function[0])
        self.hang_s = hang_s

    def work(self, items: Sequence[object]) -> list[object] | CodegenError:
        """Returns the items' results; a :class:`CodegenError` is returned, not raised."""
        answer: list[Any] = []
        try:
            self._restart_watchdog()
            for result in self.function(items):
                answer.append(result)
                self._restart_watchdog()
        except CodegenError as error:
            return error
        finally:
            faulthandler.cancel_dump_traceback_later()
        return answer

    def _restart_watchdog(self) -> None:
        if self.hang_s is not None:
            faulthandler.dump_traceback_later(self.hang_s, exit=True, file=2)


@dataclass(frozen=True, slots=True)
class _Call:
    """A pending call of an actor; a call without a task tests whether the actor is alive."""

    actor: object
    task: WorkItem | None
    began: float


class _Actors:
    """The actors of one :meth:`RayExecutor.map`."""

    def __init__(
        self,
        ray: ModuleType,
        function: Function,
        workers: int,
        settings: RayExecutor,
        queue: TaskQueue,
    ) -> None:
        self.ray = ray
        self.hang_s = settings.hang_s
        self.start_s = settings.start_s
        self.queue = queue
        self.make = ray.remote(_RayWorker).options(num_cpus=1, max_restarts=0)
        self.function = ray.put(function)
        self.calls: dict[object, _Call] = {}
        self.idle: list[object] = []
        self.failed_starts = 0
        self.last_alive = time.monotonic()
        for _ in range(workers):
            self._start()

    def _start(self) -> None:
        actor = self.make.remote([self.function], sys.path, self.hang_s)
        self._call(actor, None)

    def _call(self, actor: Any, task: WorkItem | None) -> None:
        reference = actor.work.remote(task.items if task else [])
        self.calls[reference] = _Call(actor, task, time.monotonic())

    def run(self) -> Iterator[list[Any]]:
        while not self.queue.finished:
            while self.idle and (task := self.queue.take()):
                self._call(self.idle.pop(), task)
            # Read chunks while the actors are busy, so that none waits for the source.
            while not self._answers(0) and self.queue.draw():
                pass
            for reference in self._answers(POLL_S):
                self._collect(reference, self.calls.pop(reference))
            self._check_alive()
            yield from self.queue.in_order()

    def _answers(self, timeout_s: float) -> list[object]:
        if not self.calls:
            return []
        references = list(self.calls)
        return self.ray.wait(references, num_returns=1, timeout=timeout_s)[0]

    def _collect(self, reference: object, call: _Call) -> None:
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self._bury(call, error)
            return
        if isinstance(answer, CodegenError):
            raise answer
        self.failed_starts = 0
        self.idle.append(call.actor)
        if call.task is not None:
            self.queue.store(call.task, answer)

    def _bury(self, call: _Call, error: BaseException) -> None:
        """Replaces an actor that died or raised an unexpected error."""
        self.ray.kill(call.actor)
        if call.task is None:
            self.failed_starts += 1
            if self.failed_starts >= FAILED_STARTS:
                raise CodegenError(
                    f"A Ray worker could not start: {last_line(error)}",
                    "Install codegen-toolkit and the generator's module on every node.",
                )
        else:
            hung = self.hang_s is not None and time.monotonic() - call.began > self.hang_s
            lost = FailedItem("timeout", f"over {self.hang_s:g} s") if hung else None
            self.queue.died(call.task, lost or FailedItem("worker_died", "the Ray worker died"))
        self._start()

    def _check_alive(self) -> None:
        if self.idle or any(call.task for call in self.calls.values()):
            self.last_alive = time.monotonic()
        elif time.monotonic() - self.last_alive > self.start_s:
            raise CodegenError(
                f"The Ray cluster started no worker within {self.start_s:g} s.",
                "Check which CPUs are in use with: ray status",
            )

    def close(self) -> None:
        for actor in [*self.idle, *(call.actor for call in self.calls.values())]:
            self.ray.kill(actor)
