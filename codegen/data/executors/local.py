"""Processes on this machine.

What the pool does that ``concurrent.futures`` does not: a process that dies (out of memory, a crash
in C code) costs only the item that kills it, and an item that hangs in C code, where no signal
handler runs, is killed too.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from codegen.data.executors.protocol import Function, I, Lost, R, Task, TaskQueue
from codegen.errors import CodegenError, ConfigError

POLL_S = 0.5


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
        queue = TaskQueue(iter(chunks), self.ahead * self.workers)
        pool = _Pool(function, self.workers, self.hang_s, queue)
        try:
            yield from pool.run()
        finally:
            pool.close()


class _Worker:
    """One process, its pipe, and the task it has."""

    def __init__(self, function: Function) -> None:
        context = multiprocessing.get_context("spawn")  # forking copies threads' locks
        self.connection, theirs = context.Pipe()
        self.started = context.RawValue("d", 0.0)  # when the last result came, 0 if idle
        self.process: SpawnProcess = context.Process(
            target=_work, args=(theirs, function, self.started), daemon=True
        )
        # Ctrl-C on a terminal is for the parent: a child that is starting knows nothing of it yet.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()  # so that the pipe ends when the process does
        self.ready = False
        self.task: Task | None = None
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


def _work(connection: Connection, function: Function, started: Any) -> None:
    """The loop of a worker process. It ends when the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
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
        self, function: Function, workers: int, hang_s: float | None, queue: TaskQueue
    ) -> None:
        self.function = function
        self.hang_s = hang_s
        self.queue = queue
        self.workers = [_Worker(function) for _ in range(workers)]

    def run(self) -> Iterator[list[Any]]:
        while not self.queue.finished:
            self._hand_out()
            # Chunks are read while the workers are busy, so that none waits for the source.
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
        """Takes what the workers have to say, waiting for it if need be."""
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
        """Replaces a dead worker; its task is tried again item by item, to find which one kills."""
        worker = self.workers[number]
        how = worker.reap()
        if not worker.ready:
            raise CodegenError(
                f"A worker process could not start ({how}).",
                "In a script, call this under `if __name__ == '__main__':`; or use one worker.",
            )
        self.workers[number] = _Worker(self.function)
        if worker.task is not None:
            hung = Lost("timeout", f"over {self.hang_s:g} s") if worker.hung else None
            self.queue.died(worker.task, hung or Lost("worker_died", how))

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        for worker in self.workers:
            worker.reap()
