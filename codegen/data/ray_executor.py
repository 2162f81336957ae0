"""Workers on a Ray cluster.

The work runs in actors, one for each CPU, so that a generator's linter or model is loaded once. If
a worker or a node dies, its items go to the other actors, and a new actor replaces it as soon as
the cluster has room, perhaps on a node that joins later.

An item that hangs, even in C code that holds the interpreter's lock, is ended by ``faulthandler``'s
watchdog, a thread of the actor's process that needs no lock.

Limits: all results pass through the process that called :meth:`RayExecutor.map` and writes them;
raise the engine's ``chunk_size`` if hundreds of workers make it the bottleneck. Every node needs
this package in the same version.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from codegen.cluster import connected, import_ray, last_line
from codegen.data.executors import POLL_S, Function, I, Lost, R, Task, TaskQueue
from codegen.errors import CodegenError, ConfigError

FAILED_STARTS = 3


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Actors on a Ray cluster.

    Attributes:
        address: of the cluster, see :func:`codegen.cluster.connected`.
        workers: the number of actors, of one CPU each; None takes all CPUs of the cluster.
        ahead: chunks in flight for each worker.
        hang_s: a process without a result for this many seconds is killed; None waits forever.
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
    ) -> Generator[list[R | Lost], None, None]:
        """See :class:`Executor`."""
        with connected(self.address, self.workers) as (ray, workers):
            queue = TaskQueue(iter(chunks), self.ahead * workers)
            pool = _Actors(ray, function, workers, self, queue)
            try:
                yield from pool.run()
            finally:
                pool.close()


class _Worker:
    """The state of an actor.

    Args:
        function: a reference to the function, in a list, which Ray does not resolve: the function
            can be imported only once the driver's import path is known.
        path: the driver's import path.
        hang_s: see :class:`RayExecutor`.
    """

    def __init__(self, function: list[Any], path: list[str], hang_s: float | None) -> None:
        sys.path.extend(folder for folder in path if folder not in sys.path)
        self.function: Function = import_ray().get(function[0])
        self.hang_s = hang_s

    def work(self, items: Sequence[object]) -> list[object] | CodegenError:
        """Results of some items; a :class:`CodegenError` is returned, not raised."""
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
    """An unanswered call of an actor; one without a task tests whether it is alive."""

    actor: object
    task: Task | None
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
        self.make = ray.remote(_Worker).options(num_cpus=1, max_restarts=0)
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

    def _call(self, actor: Any, task: Task | None) -> None:
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
        """Replaces an actor that died or raised what the function should not."""
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
            lost = (
                Lost("timeout", f"over {self.hang_s:g} s")
                if hung
                else Lost("worker_died", "the Ray worker died")
            )
            self.queue.died(call.task, lost)
        self._start()

    def _check_alive(self) -> None:
        if self.idle or any(call.task for call in self.calls.values()):
            self.last_alive = time.monotonic()
        elif time.monotonic() - self.last_alive > self.start_s:
            raise CodegenError(
                f"The Ray cluster gave no worker within {self.start_s:g} s.",
                "See what holds its CPUs with: ray status",
            )

    def close(self) -> None:
        for actor in [*self.idle, *(call.actor for call in self.calls.values())]:
            self.ray.kill(actor)
