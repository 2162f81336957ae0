"""How work is spread over processes.

An :class:`Executor` maps a function over chunks of items and gives the results back in the chunks'
order. The engine needs nothing else, so a cluster can be put in its place.

:class:`LocalExecutor` runs processes on this machine. What its own pool does that
``concurrent.futures`` does not: a process that dies (out of memory, a crash in C code) costs only
the item that kills it, and an item that hangs in C code, where no signal handler runs, is killed
too.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Protocol, TypeVar

from codegen.errors import CodegenError, ConfigError

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Lost:
    """The result of an item whose process died (``worker_died``) or hung (``timeout``)."""

    reason: str
    detail: str


class Executor(Protocol):
    """Where chunks are worked on."""

    def map(
        self, function: Callable[[Sequence[I]], Iterable[R]], chunks: Iterable[Sequence[I]]
    ) -> Generator[list[R | Lost], None, None]:
        """Applies a picklable function to each chunk; yields the results in the chunks' order.

        The function yields one result for each item, in order, and must not depend on how items are
        cut into chunks: a chunk whose process dies is tried again item by item. If it raises a
        :class:`CodegenError`, that ends the whole map. No more than a bounded number of chunks is
        drawn ahead of the results.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Processes on this machine.

    Attributes:
        workers: their number. With 1, the work runs in the calling process, where it is easy to
            debug; an item that kills its process then ends the run.
        ahead: chunks in flight for each worker.
        hang_s: a process that gives no result for so long is killed; None waits for ever.
    """

    workers: int = 1
    ahead: int = 4
    hang_s: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; it must be at least 1.")

    def map(
        self, function: Callable[[Sequence[I]], Iterable[R]], chunks: Iterable[Sequence[I]]
    ) -> Generator[list[R | Lost], None, None]:
        """See :class:`Executor`."""
        if self.workers == 1:
            for chunk in chunks:
                yield list(function(chunk))
            return
        pool = _Pool(function, self.workers, self.hang_s)
        try:
            yield from pool.run(iter(chunks), self.ahead * self.workers)
        finally:
            pool.close()


@dataclass(frozen=True, slots=True)
class _Task:
    """Items of one chunk: all of them or, after a death, a single one."""

    chunk: int
    first: int
    items: Sequence[Any]


class _Worker:
    """One process, its pipe, and the task it has."""

    def __init__(self, function: Callable[[Sequence[Any]], Iterable[Any]]) -> None:
        context = multiprocessing.get_context("spawn")  # forking copies threads' locks
        self.connection, theirs = context.Pipe()
        self.started = context.RawValue("d", 0.0)  # when the last result came, 0 if idle
        self.process: SpawnProcess = context.Process(
            target=_work, args=(theirs, function, self.started), daemon=True
        )
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does
        self.ready = False
        self.task: _Task | None = None
        self.hung = False

    def kill(self) -> None:
        self.process.kill()

    def reap(self) -> str:
        """Waits for the process to end, and says how it did."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the process exited with code {code}"
        with suppress(ValueError):
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process was killed by signal {-code}"


def _work(
    connection: Connection, function: Callable[[Sequence[Any]], Iterable[Any]], started: Any
) -> None:
    """The loop of a worker process. It ends when the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(None)  # ready
        while True:
            answer: list[Any] | CodegenError = []
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
        self, function: Callable[[Sequence[Any]], Iterable[Any]], workers: int, hang_s: float | None
    ) -> None:
        self.function = function
        self.hang_s = hang_s
        self.workers = [_Worker(function) for _ in range(workers)]
        self.tasks: deque[_Task] = deque()
        self.results: dict[int, list[Any]] = {}
        self.missing: dict[int, int] = {}  # chunk -> items without a result

    def run(self, chunks: Iterator[Sequence[Any]], bound: int) -> Iterator[list[Any]]:
        drawn = given = 0
        exhausted = False
        while True:
            while not exhausted and drawn - given < bound:
                chunk = next(chunks, None)
                if chunk is None:
                    exhausted = True
                    break
                self.tasks.append(_Task(drawn, 0, chunk))
                self.results[drawn] = [None] * len(chunk)
                self.missing[drawn] = len(chunk)
                drawn += 1
                self._hand_out()
            if exhausted and given == drawn:
                return
            self._hand_out()
            if self.missing[given]:
                self._collect()
            while given < drawn and not self.missing[given]:
                del self.missing[given]
                yield self.results.pop(given)
                given += 1

    def _hand_out(self) -> None:
        for number, worker in enumerate(self.workers):
            if not self.tasks:
                return
            if worker.ready and worker.task is None:
                worker.task = self.tasks.popleft()
                try:
                    worker.connection.send(worker.task.items)
                except (BrokenPipeError, ConnectionResetError):
                    self._bury(number)

    def _collect(self) -> None:
        """Takes what the workers have to say, waiting for it if need be."""
        self._kill_hung()
        ready = wait([worker.connection for worker in self.workers], POLL_S)
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
                self._store(task, message)

    def _kill_hung(self) -> None:
        if self.hang_s is None:
            return
        for worker in self.workers:
            began = worker.started.value
            if began and time.monotonic() - began > self.hang_s:
                worker.hung = True
                worker.kill()

    def _store(self, task: _Task, results: Sequence[Any]) -> None:
        self.results[task.chunk][task.first : task.first + len(results)] = results
        self.missing[task.chunk] -= len(results)

    def _bury(self, number: int) -> None:
        """Replaces a dead worker; its task is tried again item by item, to find which one kills."""
        worker = self.workers[number]
        how = worker.reap()
        if not worker.ready:
            raise CodegenError(
                f"A worker process could not start ({how}).",
                "In a script, call this under `if __name__ == '__main__':`; or use one worker.",
            )
        task = worker.task
        self.workers[number] = _Worker(self.function)
        if task is None:
            return
        if len(task.items) == 1:
            lost = Lost("timeout", f"over {self.hang_s:g} s") if worker.hung else None
            self._store(task, [lost or Lost("worker_died", how)])
            return
        singles = [_Task(task.chunk, task.first + i, [item]) for i, item in enumerate(task.items)]
        self.tasks.extendleft(reversed(singles))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.reap()
