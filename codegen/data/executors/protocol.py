"""What an executor is, and the bookkeeping that all of them share.

An :class:`Executor` maps a function over chunks of items and gives the results back in the chunks'
order. The engine needs nothing else, so a cluster can be put in the place of this machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")

Function = Callable[[Sequence[Any]], Iterable[Any]]

DEATHS = 2
"""An item that has killed so many workers while it was alone in them is lost. One death can be
bad luck: a node was switched off, or the memory was full because of others."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The result of an item whose worker died (``worker_died``) or hung (``timeout``)."""

    reason: str
    detail: str


class Executor(Protocol):
    """Where chunks are worked on."""

    def map(
        self, function: Callable[[Sequence[I]], Iterable[R]], chunks: Iterable[Sequence[I]]
    ) -> Generator[list[R | Lost], None, None]:
        """Applies a picklable function to each chunk; yields the results in the chunks' order.

        The function yields one result for each item, in order, and must not depend on how items are
        cut into chunks: a chunk whose worker dies is tried again item by item. If it raises a
        :class:`CodegenError`, that ends the whole map. No more than a bounded number of chunks is
        drawn ahead of the results.
        """
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """Items of one chunk: all of them or, after a death, a single one."""

    chunk: int
    first: int
    items: Sequence[Any]
    deaths: int = 0


class TaskQueue:
    """Chunks as tasks, and their results in order.

    Args:
        chunks: drawn one by one, and only when there is a use for them.
        bound: the most chunks drawn whose results have not been given out.
    """

    def __init__(self, chunks: Iterator[Sequence[Any]], bound: int) -> None:
        self._chunks = chunks
        self._bound = bound
        self._tasks: deque[Task] = deque()
        self._results: dict[int, list[Any]] = {}
        self._missing: dict[int, int] = {}  # chunk -> items without a result
        self._drawn = self._given = 0
        self._exhausted = False

    def take(self) -> Task | None:
        """A task to be worked on, or None if there is none for now."""
        if not self._tasks:
            self.draw()
        return self._tasks.popleft() if self._tasks else None

    def draw(self) -> bool:
        """Draws one more chunk; False if the bound or the end of the chunks is reached."""
        if self._exhausted or self._drawn - self._given >= self._bound:
            return False
        chunk = next(self._chunks, None)
        if chunk is None:
            self._exhausted = True
            return False
        self._tasks.append(Task(self._drawn, 0, chunk))
        self._results[self._drawn] = [None] * len(chunk)
        self._missing[self._drawn] = len(chunk)
        self._drawn += 1
        return True

    def put_back(self, task: Task) -> None:
        """Returns a task that no worker has begun."""
        self._tasks.appendleft(task)

    def store(self, task: Task, results: Sequence[Any]) -> None:
        """Keeps the results of a task."""
        self._results[task.chunk][task.first : task.first + len(results)] = results
        self._missing[task.chunk] -= len(results)

    def died(self, task: Task, lost: Lost) -> None:
        """Tries a task again, item by item, whose worker died; gives a lone item up in the end."""
        if len(task.items) > 1:
            singles = [Task(task.chunk, task.first + i, [one]) for i, one in enumerate(task.items)]
            self._tasks.extendleft(reversed(singles))
        elif lost.reason == "timeout" or task.deaths + 1 == DEATHS:
            self.store(task, [lost])
        else:
            self._tasks.appendleft(Task(task.chunk, task.first, task.items, task.deaths + 1))

    def in_order(self) -> Iterator[list[Any]]:
        """The results of the chunks that are complete and whose turn it is."""
        while self._given < self._drawn and not self._missing[self._given]:
            del self._missing[self._given]
            results = self._results.pop(self._given)
            self._given += 1
            yield results

    @property
    def finished(self) -> bool:
        """Whether all chunks were drawn and given out."""
        return self._exhausted and self._given == self._drawn
