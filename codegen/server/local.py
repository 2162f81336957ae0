"""The worker thread of a model in this process, and the caches of documents.

The thread checks before every forward pass whether the answer is still wanted. When it is idle, it
makes stale caches exact.

After an edit most of a document's states are moved instead of encoded again, so they are
approximate. States that may have decided a token are encoded again before the answer is given,
unless the request takes the fast answer (:attr:`CompletionRequest.settle`).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from codegen.decoding.drafts import Account, Planner, SharedCosts
from codegen.decoding.suffix import SuffixStore
from codegen.server.candidates import CandidateSearch, InDoubt
from codegen.server.metrics import Metrics
from codegen.server.requests import Completion, DocumentKey, ServerLimits
from codegen.server.schedule import Cancelled, Job, JobQueue, Outcome, Schedule, is_bug

if TYPE_CHECKING:
    from codegen.decoding.editing import EditableCache
    from codegen.decoding.passes import Passes
    from codegen.server.model import CompletionModel
    from codegen.server.prompts import Prompt

_PAST = 4096  # tokens kept of what was decoded in a document


@dataclass
class DocumentState:
    """What is kept of one document between requests.

    Attributes:
        past: tokens decoded in it earlier.
        quote: the quote of the string that the cursor's line began in; a change needs a recompute.
        recompute: whether to make the states exact when there is time.
        doubtful: the latest prompt if its answer was in doubt, else empty.
    """

    cache: EditableCache
    past: SuffixStore = field(default_factory=lambda: SuffixStore(_PAST))
    quote: str = ""
    recompute: bool = False
    doubtful: list[int] = field(default_factory=list)


class DocumentCaches:
    """Caches by document, for the worker thread alone; the least recently used are dropped first.

    Args:
        most: number of documents kept.
        budget: bytes of all caches together. The document in use is kept whatever its size.
    """

    def __init__(self, make: Callable[[], EditableCache], most: int, budget: int) -> None:
        self._make = make
        self._most = most
        self._budget = budget
        self._documents: OrderedDict[DocumentKey, DocumentState] = OrderedDict()
        self.evicted = 0

    def get(self, key: DocumentKey) -> DocumentState:
        """A document's state, a new one if there was none; it becomes the most recent."""
        found = self._documents.get(key)
        if found is None:
            found = self._documents[key] = DocumentState(self._make())
        self._documents.move_to_end(key)
        return found

    def shrink(self) -> None:
        """Drops documents that the budget has no room for."""
        while len(self._documents) > 1 and (
            len(self._documents) > self._most or self.nbytes > self._budget
        ):
            self._documents.popitem(last=False)
            self.evicted += 1

    def drop(self, key: DocumentKey) -> None:
        """Drops a document, if it is kept."""
        self._documents.pop(key, None)

    def to_recompute(self) -> DocumentState | None:
        """The most recently used document whose states should be made exact."""
        return next((d for d in reversed(self._documents.values()) if d.recompute), None)

    @property
    def nbytes(self) -> int:
        """Bytes of all caches."""
        return sum(document.cache.nbytes for document in self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)


class LocalWorker(threading.Thread):
    """Answers several jobs together with one model; ends when the queue is stopped."""

    def __init__(
        self, model: CompletionModel, queue: JobQueue, limits: ServerLimits, metrics: Metrics
    ) -> None:
        super().__init__(name="completions", daemon=True)
        self.model = model
        self.metrics = metrics
        self.caches = DocumentCaches(model.cache, limits.documents, limits.cache_bytes)
        self._queue = queue
        self._schedule = Schedule(model.chunk)
        self._costs = SharedCosts(self._schedule.costs, lambda: max(1, len(self._schedule)))
        self._account = Account()  # counts the drafts of all requests

    def run(self) -> None:
        """Answers jobs until the queue is stopped."""
        schedule = self._schedule
        with torch.inference_mode():
            while True:
                while job := self._queue.take(self.caches.drop, self._refresh):
                    self._end(job, schedule.start(job, self._answer(job)))
                if not len(schedule):
                    return  # the queue waits for a job while nothing runs, until it is stopped
                for ended, outcome in schedule.round():
                    self._end(ended, outcome)

    def _end(self, job: Job, outcome: Outcome | None) -> None:
        """Answers a job that is over, if there is an outcome."""
        if outcome is None:
            return
        if is_bug(outcome):
            self.caches.drop(job.request.key)
        self._queue.finish(job, outcome)

    def _refresh(self) -> bool:
        """Makes stale states exact until a request comes; returns whether there were any."""
        document = self.caches.to_recompute()
        if document is None:
            return False
        try:
            if not document.cache.recompute(stop=lambda: self._queue.wanted):
                return True
            self.metrics.count("recomputed")
        except Exception as error:  # noqa: BLE001 - a bug must not end the thread
            self._queue.report_bug("A recompute", error)
        document.recompute = False
        return True

    def _answer(self, job: Job) -> Passes[Completion]:
        request = job.request
        stop = self._preempted(job) if job.warm_up else job.cancel.is_set
        started = time.perf_counter()
        document = self.caches.get(request.key)
        prompt = self.model.prompter.build(request)
        prepared = time.perf_counter()
        report = yield from document.cache.updating(
            prompt.ids, tail=0, statement=prompt.statement, stop=stop
        )
        document.recompute = not report.exact and report.complete
        self.caches.shrink()
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
            prompt_tokens=len(prompt.ids) + len(prompt.taken),
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
        """Makes a document's states exact; returns the seconds it took."""
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
        self.metrics.gauge("documents", len(self.caches))
        self.metrics.gauge("cache_bytes", self.caches.nbytes)
        self.metrics.gauge("documents_evicted", self.caches.evicted)
