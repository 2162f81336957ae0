"""The engine: one worker thread with the model, called from an event loop.

For each document only the latest request counts: an older one is given up, whether it waits or
runs. Clients take turns, and requests of several documents run together (:mod:`schedule`). The
worker checks before every forward pass whether the answer is still wanted, and when it is idle it
makes stale caches exact.

After an edit most of a document's states are moved, not encoded again, and are approximate. Where
they may have decided a token they are encoded again before the answer is given, unless the request
takes the fast answer (:attr:`CompletionRequest.settle`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from codegen.decoding.drafts import Account, Planner, SharedCosts
from codegen.errors import CodegenError
from codegen.server.candidates import CandidateSearch, InDoubt
from codegen.server.documents import DocumentCaches, DocumentState, Suggestions
from codegen.server.metrics import Metrics
from codegen.server.requests import (
    Candidate,
    Completion,
    CompletionRequest,
    DocumentKey,
    ServerLimits,
    Superseded,
)
from codegen.server.schedule import Cancelled, Job, JobQueue, Matches, OnText, Outcome, Schedule

if TYPE_CHECKING:
    from codegen.decoding.passes import Passes
    from codegen.server.model import CompletionModel
    from codegen.server.prompts import Prompt

log = logging.getLogger(__name__)

_WEIGHT = 0.2  # of the latest duration in the usual one


class CompletionEngine:
    """Completes for many documents of many clients.

    Args:
        model: loaded.
        limits: of requests and caches.
        metrics: where to count.
    """

    def __init__(
        self,
        model: CompletionModel,
        limits: ServerLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.model = model
        self.limits = limits or ServerLimits()
        self.metrics = metrics or Metrics()
        self.usual_s = 0.0  # what an answer of the model usually takes
        self._caches = DocumentCaches(model.cache, self.limits.documents, self.limits.cache_bytes)
        self._suggestions: OrderedDict[DocumentKey, Suggestions] = OrderedDict()
        self._queue = JobQueue(self.limits.queue, self.metrics, self.limits.together)
        self._schedule = Schedule(model.chunk)
        self._costs = SharedCosts(self._schedule.costs, lambda: max(1, len(self._schedule)))
        self._account = Account()  # of all requests' drafts
        self._thread = threading.Thread(target=self._work, name="completions", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ for the event loop

    async def complete(
        self, request: CompletionRequest, on_text: OnText | None = None
    ) -> Completion:
        """Answers a request; a task that is cancelled gives it up within one forward pass.

        Args:
            request: what is wanted.
            on_text: is called in the event loop with the first candidate's text as it comes.

        Raises:
            Superseded: if a newer request came for the document.
            Overloaded: if too many wait.
            ModelError: if the model can't do what was requested.
        """
        request = self._within_limits(request)
        began = time.perf_counter()
        if (texts := self.suggested(request)) is not None:
            self.cancel(request.key)
            self.metrics.count("typed_as_suggested")
            self.metrics.observe({"typed": time.perf_counter() - began})
            found = tuple(Candidate(text, 0, "stop") for text in texts[: request.candidates])
            return Completion(found, from_suggestion=True)
        loop = asyncio.get_running_loop()
        job = Job(request, loop, loop.create_future(), on_text)
        self._queue.put(job)
        try:
            answer = await job.future
        finally:
            job.cancel.set()
        if request.multiline is not None and request.params.temperature == 0 and answer.settled:
            texts = tuple(candidate.text for candidate in answer.candidates)
            self.suggestions(request.key).add(request, answer.seen, texts)
        self.usual_s += _WEIGHT * (answer.stages["total"] - self.usual_s)
        return answer

    def warm_up(self, request: CompletionRequest) -> None:
        """Encodes a document's context while no other request waits; gives no answer."""
        loop = asyncio.get_running_loop()
        job = Job(self._within_limits(request), loop, loop.create_future(), warm_up=True)
        job.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._queue.has_room(request.key):
            self._queue.put(job)

    def suggestions(self, key: DocumentKey) -> Suggestions:
        """What was suggested in a document."""
        found = self._suggestions.get(key)
        if found is None:
            found = self._suggestions[key] = Suggestions()
        self._suggestions.move_to_end(key)
        while len(self._suggestions) > self.limits.documents:
            self._suggestions.popitem(last=False)
        return found

    def suggested(self, request: CompletionRequest) -> tuple[str, ...] | None:
        """What earlier suggestions give for a request, None if the model must decode."""
        if request.multiline is None or request.params.temperature > 0:
            return None
        return self.suggestions(request.key).find(self._within_limits(request))

    def cancel(self, key: DocumentKey) -> None:
        """Gives up the requests of a document."""
        self._queue.give_up(lambda known: known == key)

    def close(self, key: DocumentKey) -> None:
        """Forgets a document."""
        self._forget(lambda known: known == key)

    def close_client(self, client: str) -> None:
        """Forgets all documents of a client."""
        self._forget(lambda known: known.client == client)

    def stop(self) -> None:
        """Ends the worker; requests that wait or run are given up."""
        self._queue.stop()
        self._thread.join(timeout=10)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return self._queue.idle

    # ------------------------------------------------------------------ inside

    def _within_limits(self, request: CompletionRequest) -> CompletionRequest:
        limits = self.limits
        if request.patient:
            most, longest_s = limits.conversation_tokens, limits.conversation_s
        else:
            most, longest_s = min(limits.max_tokens, self.model.limit // 2), limits.deadline_s
        params = request.params
        return replace(
            request,
            params=replace(params, max_new_tokens=min(params.max_new_tokens, most)),
            candidates=max(1, min(request.candidates, limits.candidates)),
            deadline_s=min(request.deadline_s, longest_s),
        )

    def _forget(self, matches: Matches) -> None:
        for key in [key for key in self._suggestions if matches(key)]:
            del self._suggestions[key]
        self._queue.forget(matches)

    # ------------------------------------------------------------------ the worker thread

    def _work(self) -> None:
        import torch

        schedule = self._schedule
        with torch.inference_mode():
            while True:
                while job := self._queue.take(self._caches.drop, self._refresh):
                    self._end(job, schedule.start(job, self._answer(job)))
                if not len(schedule):
                    return  # the queue waits for a job while nothing runs, until it is stopped
                for ended, outcome in schedule.round():
                    self._end(ended, outcome)

    def _end(self, job: Job, outcome: Outcome | None) -> None:
        """Answers a job that is over, if there is an outcome."""
        if outcome is None:
            return
        if isinstance(outcome, Completion):
            job.answer(outcome)
        elif isinstance(outcome, Cancelled):
            self.metrics.count("cancelled")
            job.answer(Superseded("The request was given up."))
        elif isinstance(outcome, CodegenError):
            self.metrics.count("failed")
            job.answer(outcome)
        else:  # a bug must not end the service
            self._failed("A completion", outcome)
            self._caches.drop(lambda key: key == job.request.key)
            job.answer(CodegenError(f"The completion failed: {type(outcome).__name__}."))
        self._queue.done(job)

    def _refresh(self) -> bool:
        """Makes stale states exact until a request comes; whether there were any."""
        document = self._caches.to_recompute()
        if document is None:
            return False
        try:
            if not document.cache.recompute(stop=lambda: self._queue.wanted):
                return True
            self.metrics.count("recomputed")
        except Exception as error:  # noqa: BLE001 - as above
            self._failed("A recompute", error)
        document.recompute = False
        return True

    def _failed(self, what: str, error: BaseException) -> None:
        """Logs where a bug is, without the error's words, which may quote a document."""
        self.metrics.count("failed")
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("%s failed: %s\n%s", what, type(error).__name__, frames)

    def _answer(self, job: Job) -> Passes[Completion]:
        request = job.request
        stop = self._preempted(job) if job.warm_up else job.cancel.is_set
        started = time.perf_counter()
        document = self._caches.get(request.key)
        prompt = self.model.prompter.build(request)
        prepared = time.perf_counter()
        report = yield from document.cache.updating(
            prompt.ids, tail=0, statement=prompt.statement, stop=stop
        )
        document.recompute = not report.exact and report.complete
        self._caches.shrink()
        self._gauges()
        self.metrics.count("tokens_encoded", report.encoded)
        self.metrics.count("tokens_moved", report.moved)
        self.metrics.count("tokens_reused", report.reused)
        if not report.complete:
            raise Cancelled
        encoded = time.perf_counter()
        if job.warm_up:
            return Completion(())
        inexact, settling_s = document.cache.inexact, 0.0
        doubtful = request.settle and prompt.ids == document.doubtful
        if inexact and (doubtful or request.exact or prompt.quote != document.quote):
            settling_s = yield from self._settle(job, document)
        document.quote = prompt.quote
        try:
            search = self._search(job, document, prompt)
            candidates = yield from search.run()
        except InDoubt:
            settling_s = yield from self._settle(job, document)
            search = self._search(job, document, prompt)
            candidates = yield from search.run()
        document.doubtful = [] if search.settled else prompt.ids
        done = time.perf_counter()
        stages = {
            "queue": started - job.asked,
            "prompt": prepared - started,
            "encode": encoded - prepared,
            "settle": settling_s,
            "decode": done - encoded - settling_s,
            "total": done - job.asked,
        }
        self.metrics.count("completions")
        self.metrics.observe(stages)
        return Completion(
            tuple(candidates),
            prompt_tokens=_count(prompt),
            reused=report.reused,
            moved=report.moved,
            encoded=report.encoded,
            recomputed=inexact if settling_s else 0,
            seen=prompt.seen,
            settled=search.settled,
            accepted=search.accepted,
            rejected=search.rejected,
            stages=stages,
        )

    def _settle(self, job: Job, document: DocumentState) -> Passes[float]:
        """Makes a document's states exact; returns the seconds that it took."""
        began = time.perf_counter()
        inexact = document.cache.inexact
        if not (yield from document.cache.recomputing(stop=job.cancel.is_set)):
            raise Cancelled
        document.recompute = False
        self.metrics.count("settled")
        self.metrics.count("tokens_recomputed", inexact)
        return time.perf_counter() - began

    def _search(self, job: Job, document: DocumentState, prompt: Prompt) -> CandidateSearch:
        return CandidateSearch(
            self.model,
            document.cache,
            prompt,
            job.request,
            document.past,
            Planner(self._costs, self._account),
            job.text_in_loop(),
        )

    def _preempted(self, job: Job) -> Callable[[], bool]:
        return lambda: job.cancel.is_set() or self._queue.wanted or len(self._schedule) > 1

    def _gauges(self) -> None:
        self.metrics.gauge("documents", len(self._caches))
        self.metrics.gauge("cache_bytes", self._caches.nbytes)
        self.metrics.gauge("documents_evicted", self._caches.evicted)


def _count(prompt: Prompt) -> int:
    return len(prompt.ids) + len(prompt.taken)
