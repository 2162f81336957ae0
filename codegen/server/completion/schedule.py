"""Waiting jobs (:class:`JobQueue`) and jobs that run together (:class:`Schedule`).

Continuous batching: each request is a generator that yields its forward passes one by one
(``Passes``). Each round combines one pass of every decoding request into a single pass of the
model, so its weights are read once. Contexts being encoded share a chunk of tokens per round,
almost finished ones first, then in turn, so a decoding request waits for at most one chunk. The
cost of passes is measured for the draft planner.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from codegen.core.errors import CodegenError
from codegen.decoding.drafts import PassCosts
from codegen.server.completion.requests import (
    CompletionRequest,
    CompletionResult,
    DocumentKey,
    Overloaded,
    Superseded,
)
from codegen.server.metrics import Metrics

if TYPE_CHECKING:
    import torch

    from codegen.decoding.editing import PassRequest
    from codegen.decoding.passes import Pass, Passes

log = logging.getLogger(__name__)

_FEW = 8  # maximum tokens of a decoding pass, including drafted ones
_LOW_PRIORITY_ROUNDS = 4  # while others run, low-priority requests run only in every fourth round

Outcome = CompletionResult | BaseException
OnText = Callable[[str], None]

QUIET_S = 0.1  # idle time before caches are refreshed; longer than between keystrokes


@dataclass(eq=False)
class CompletionJob:
    """One request, and the future of its result in an event loop.

    Attributes:
        asked: time of the request, by ``time.perf_counter``.
        cancel: set when the result is no longer needed.
        warm_up: whether to only encode the context, while no other request is waiting.
        sent: the text passed to ``on_text`` so far.
    """

    request: CompletionRequest
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[CompletionResult]
    on_text: OnText | None = None
    asked: float = field(default_factory=time.perf_counter)
    cancel: threading.Event = field(default_factory=threading.Event)
    warm_up: bool = False
    sent: str = ""

    def answer(self, answer: CompletionResult | CodegenError) -> None:
        """Sets the future's result in its event loop, which may be closed already."""

        def set_result() -> None:
            if self.future.done():
                return
            if isinstance(answer, CompletionResult):
                self.future.set_result(answer)
            else:
                self.future.set_exception(answer)

        try:
            self.loop.call_soon_threadsafe(set_result)
        except RuntimeError:
            log.debug("The event loop of a request is closed.")

    def text_in_loop(self) -> OnText | None:
        """Returns a callback for one decoding that calls ``on_text`` in the event loop.

        A second decoding starts over, but sends no text twice.
        """
        on_text, text = self.on_text, ""
        if on_text is None:
            return None

        def later(piece: str) -> None:
            nonlocal text
            text += piece
            if len(text) > len(self.sent) and text.startswith(self.sent):
                new, self.sent = text[len(self.sent) :], text
                self.loop.call_soon_threadsafe(on_text, new)

        return later


class JobQueue:
    """Queue of waiting jobs; thread-safe.

    Args:
        most: maximum number of waiting jobs.
        together: maximum number of running jobs. Clients without a running job may start as many
            more, so that they never wait for a client with many requests.
    """

    def __init__(self, most: int, metrics: Metrics, together: int = 1) -> None:
        self._most = most
        self._together = together
        self._metrics = metrics
        self._waiting: OrderedDict[DocumentKey, CompletionJob] = OrderedDict()
        self._running: list[CompletionJob] = []
        self._turns: list[str] = []  # clients, the last one served at the end
        self._gone: list[DocumentKey] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._listener: Callable[[], None] = lambda: None

    @property
    def idle(self) -> bool:
        """True if no job is waiting or running."""
        with self._changed:
            return not self._waiting and not self._running

    @property
    def wanted(self) -> bool:
        """True if the worker has work to do."""
        return bool(self._waiting or self._gone or self._stopping)

    @property
    def stopping(self) -> bool:
        """True if the queue has been stopped."""
        return self._stopping

    def has_room(self, key: DocumentKey) -> bool:
        """Returns True if a new job would fit without removing another."""
        with self._changed:
            return key not in self._waiting and len(self._waiting) < self._most

    def put(self, job: CompletionJob) -> None:
        """Adds a job and cancels an older one of its document.

        Raises:
            Overloaded: if too many jobs are waiting.
            Superseded: if the queue is stopping.
        """
        key = job.request.key
        with self._changed:
            if self._stopping:
                raise Superseded("The server is stopping.")
            low = sum(other.request.low_priority for other in self._waiting.values())
            full = len(self._waiting) >= self._most or (
                job.request.low_priority and low >= max(1, self._most // 2)
            )
            if key not in self._waiting and full:
                self._metrics.count("rejected")
                raise Overloaded("Too many requests are waiting.", "Try again later.")
            self._give_up(key)
            self._waiting[key] = job
            if key.client not in self._turns:
                self._turns.insert(0, key.client)
            self._notify()

    def give_up(self, key: DocumentKey) -> None:
        """Cancels the jobs of a document, waiting or running."""
        with self._changed:
            self._give_up(key)
            self._notify()

    def _give_up(self, key: DocumentKey) -> None:
        if job := self._waiting.pop(key, None):
            job.cancel.set()
            self._metrics.count("superseded")
            job.answer(Superseded("A newer request for this document arrived."))
        for running in self._running:
            if running.request.key == key:
                running.cancel.set()

    def forget(self, key: DocumentKey) -> None:
        """Cancels the jobs of a document, and tells the worker to drop its cache."""
        with self._changed:
            self._give_up(key)
            self._gone.append(key)
            self._notify()

    def stop(self) -> None:
        """Cancels all jobs and makes :meth:`take` return."""
        with self._changed:
            self._stopping = True
            for key in [*self._waiting, *(job.request.key for job in self._running)]:
                self._give_up(key)
            self._notify()

    def cancel(self, job: CompletionJob) -> None:
        """Cancels a job that has not finished."""
        job.cancel.set()
        if not job.future.done() or job.future.cancelled():
            with self._changed:
                self._notify()

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls ``listener`` in any thread after each change, for workers that do not block."""
        self._listener = listener

    def poll(self, forget: Callable[[DocumentKey], None]) -> CompletionJob | None:
        """Returns the next job that can run now, without waiting; ``forget`` as in :meth:`take`."""
        with self._changed:
            while self._gone:
                forget(self._gone.pop(0))
            return None if self._stopping else self._pop()

    def take(
        self, forget: Callable[[DocumentKey], None], refresh: Callable[[], bool]
    ) -> CompletionJob | None:
        """Returns the next job; None if the queue is stopped or no job can join the running ones.
        If no job is running, waits for one.

        A document's next job waits until its running one has finished; warm-ups run alone.

        Args:
            forget: called for closed documents.
            refresh: called repeatedly while the queue is idle; returns False if there was nothing
                to do.
        """
        while True:
            with self._changed:
                while self._gone:
                    forget(self._gone.pop(0))
                if self._stopping:
                    return None
                if self._running or self._waiting:
                    return self._pop()
                if self._changed.wait_for(lambda: self.wanted, QUIET_S):
                    continue
            if not refresh():
                with self._changed:
                    if not self.wanted:
                        self._changed.wait()

    def done(self, job: CompletionJob) -> None:
        """Marks a taken job as finished."""
        with self._changed:
            self._running.remove(job)

    def finish(self, job: CompletionJob, outcome: Outcome) -> None:
        """Sends the outcome of a taken job."""
        if isinstance(outcome, CompletionResult):
            job.answer(outcome)
        elif isinstance(outcome, Cancelled):
            self._metrics.count("cancelled")
            job.answer(Superseded("The request was cancelled."))
        elif isinstance(outcome, CodegenError):
            self._metrics.count("failed")
            job.answer(outcome)
        else:
            self.report_bug("A completion", outcome)
            job.answer(CodegenError(f"The completion failed: {type(outcome).__name__}."))
        self.done(job)

    def report_bug(self, what: str, error: BaseException) -> None:
        """Logs a bug's traceback without the error's message, which may quote a document."""
        self._metrics.count("failed")
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s failed: %s\n%s", what, type(error).__name__, frames)

    def _notify(self) -> None:
        self._changed.notify_all()
        self._listener()

    def _pop(self) -> CompletionJob | None:
        """Removes and returns the next job: high priority first, clients in turn, warm-ups last."""
        running = {job.request.key for job in self._running}
        clients = {key.client for key in running}
        free, spare = self._together - len(running), 2 * self._together - len(running)
        low = sum(job.request.low_priority for job in self._running)
        crowded = low >= max(1, self._together // 2)
        ready = [
            key
            for key, job in self._waiting.items()
            if key not in running
            and not (running and job.warm_up)
            and not (crowded and job.request.low_priority)
            and (free > 0 or (spare > 0 and key.client not in clients))
        ]
        if not ready:
            return None
        waiting = {key.client for key in self._waiting}
        self._turns = [client for client in self._turns if client in waiting]

        def rank(key: DocumentKey) -> tuple[bool, bool, int]:
            job = self._waiting[key]
            return job.warm_up, job.request.low_priority, self._turns.index(key.client)

        key = min(ready, key=rank)
        self._turns.remove(key.client)
        self._turns.append(key.client)
        job = self._waiting.pop(key)
        self._running.append(job)
        return job


@dataclass(eq=False)
class _Running:
    """Running job: its generator, its pending forward pass, and the round of its last pass."""

    job: CompletionJob
    work: Passes[CompletionResult]
    request: Pass
    served: int = 0


class Schedule:
    """Scheduler of running jobs.

    Args:
        chunk: maximum context tokens to encode per round.

    Attributes:
        costs: cost of a round, by the total tokens of its passes.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self.costs = PassCosts()
        self._running: list[_Running] = []
        self._round = 0

    def __len__(self) -> int:
        return len(self._running)

    def start(self, job: CompletionJob, work: Passes[CompletionResult]) -> Outcome | None:
        """Starts a job; returns its outcome if it needs no forward pass."""
        try:
            self._running.append(_Running(job, work, next(work), self._round))
        except StopIteration as end:
            return end.value
        except Exception as error:  # noqa: BLE001 - classified by is_bug
            return error
        return None

    def round(self) -> list[tuple[CompletionJob, Outcome]]:
        """Runs a round, and resumes each job's work with the logits; returns finished jobs.

        Cancelled jobs finish before the round.
        """
        unwanted = [one for one in self._running if one.job.cancel.is_set()]
        over = [self._resume(one, None) for one in unwanted]
        self._round += 1
        these = self._next()
        if these:
            began = time.thread_time()
            results = _run([one.request for one in these])
            self._measure([one.request for one in these], time.thread_time() - began)
            over += [self._resume(*both) for both in zip(these, results, strict=True)]
        return [one for one in over if one is not None]

    def _measure(self, requests: Sequence[Pass], seconds: float) -> None:
        """Updates the cost of decoding passes or of context tokens from a round."""
        sizes = [one.size for one in requests]
        # A decoding pass needs logits for each of its tokens.
        decoding = [one.size <= _FEW or one.keep == one.size for one in requests]
        if all(decoding):
            self.costs.add(1, sum(sizes), seconds)
        elif not any(decoding):
            self.costs.add_prompt(sum(sizes), seconds)

    def _next(self) -> list[_Running]:
        """Returns the jobs with a pass in this round."""
        running = self._running
        typed = [one for one in running if not one.job.request.low_priority]
        if typed and self._round % _LOW_PRIORITY_ROUNDS:
            running = typed
        few = [one for one in running if one.request.size <= _FEW]
        many = [one for one in running if one.request.size > _FEW]
        rows = 0
        for one in sorted(many, key=lambda one: (one.request.size, one.served)):
            rows += one.request.size
            if rows > self._chunk and rows > one.request.size:
                break
            few.append(one)
        return few

    def _resume(
        self, one: _Running, result: torch.Tensor | Exception | None
    ) -> tuple[CompletionJob, Outcome] | None:
        """Continues a job's work, or stops it if ``result`` is None; returns a final outcome."""
        outcome: Outcome
        try:
            if result is None:
                one.work.close()
                outcome = Cancelled()
            elif isinstance(result, Exception):
                one.request = one.work.throw(result)
                return None
            else:
                one.served = self._round
                one.request = one.work.send(result)
                return None
        except StopIteration as end:
            outcome = end.value
        except Exception as error:  # noqa: BLE001 - classified by is_bug
            outcome = error
        self._running.remove(one)
        return one.job, outcome


class Cancelled(Exception):
    """The result is no longer needed."""


def is_bug(outcome: Outcome) -> bool:
    """Returns True if a job failed because of a bug."""
    return not isinstance(outcome, (CompletionResult, Cancelled, CodegenError))


def _run(requests: Sequence[Pass]) -> list[Any]:
    """Returns the logits of each pass, or its error, which does not affect the others."""
    from codegen.decoding.editing import EditableCache

    try:
        # A document's work yields only passes over its own cache.
        return list(EditableCache.run_passes(cast("Sequence[PassRequest]", requests)))
    except Exception as error:  # noqa: BLE001 - the work handles it
        if len(requests) == 1:
            return [error]
    return [result for one in requests for result in _run([one])]
