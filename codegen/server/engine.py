"""The engine: one worker thread with the model, asked from an event loop.

For each document only the newest request counts: an older one is given up, whether it waits or
runs. Clients take turns. The worker asks before every forward pass whether the answer is still
wanted, and when nobody asks for anything it makes stale caches exact, until somebody does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from codegen.errors import CodegenError
from codegen.server.decoder import Cancelled, Decoder
from codegen.server.documents import Document, DocumentCaches
from codegen.server.metrics import Metrics
from codegen.server.requests import (
    Candidate,
    Completion,
    CompletionRequest,
    DocumentKey,
    Overloaded,
    Superseded,
)
from codegen.server.settings import Limits
from codegen.server.suggestions import Suggestions

if TYPE_CHECKING:
    from codegen.server.model import CompletionModel
    from codegen.server.prompts import Prompt

log = logging.getLogger(__name__)

OnText = Callable[[str], None]
_WEIGHT = 0.2  # of the newest duration in the usual one


@dataclass(eq=False)
class _Job:
    request: CompletionRequest
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Completion]
    on_text: OnText | None
    asked: float = field(default_factory=time.perf_counter)
    cancel: threading.Event = field(default_factory=threading.Event)
    warm_up: bool = False


class CompletionEngine:
    """Completes for many documents of many clients.

    Args:
        model: loaded.
        limits: of what is asked for and held.
        metrics: where to count.
    """

    def __init__(
        self,
        model: CompletionModel,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.model = model
        self.limits = limits or Limits()
        self.metrics = metrics or Metrics()
        self.usual_s = 0.0  # what an answer of the model usually takes
        self._caches = DocumentCaches(model.cache, self.limits.documents, self.limits.cache_bytes)
        self._suggestions: OrderedDict[DocumentKey, Suggestions] = OrderedDict()
        self._waiting: OrderedDict[DocumentKey, _Job] = OrderedDict()
        self._running: _Job | None = None
        self._turns: list[str] = []  # clients, the one that was served last at the end
        self._gone: list[Callable[[DocumentKey], bool]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="completions", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ for the event loop

    async def complete(
        self, request: CompletionRequest, on_text: OnText | None = None
    ) -> Completion:
        """Answers a request; a task that is cancelled gives it up within one forward pass.

        Args:
            request: what is asked for.
            on_text: is called in the event loop with the first candidate's text as it comes.

        Raises:
            Superseded: if a newer request came for the document.
            Overloaded: if too many wait.
            ModelError: if the model can't do what was asked.
        """
        request = self._within_limits(request)
        began = time.perf_counter()
        if (known := self._from_suggestions(request)) is not None:
            self.metrics.count("typed_as_suggested")
            self.metrics.observe({"typed": time.perf_counter() - began})
            return known
        loop = asyncio.get_running_loop()
        job = _Job(request, loop, loop.create_future(), on_text)
        self._put(job)
        try:
            answer = await job.future
        finally:
            job.cancel.set()
        if request.multiline is not None and request.temperature == 0:
            texts = tuple(candidate.text for candidate in answer.candidates)
            self.suggestions(request.key).add(request.prefix, request.suffix, texts)
        self.usual_s += _WEIGHT * (answer.stages["total"] - self.usual_s)
        return answer

    def warm_up(self, request: CompletionRequest) -> None:
        """Encodes a document's context while nobody else asks for anything; gives no answer."""
        loop = asyncio.get_running_loop()
        job = _Job(self._within_limits(request), loop, loop.create_future(), None, warm_up=True)
        job.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        with self._changed:
            busy = request.key in self._waiting or len(self._waiting) >= self.limits.queue
        if not busy:
            self._put(job)

    def suggestions(self, key: DocumentKey) -> Suggestions:
        """What was suggested in a document."""
        found = self._suggestions.get(key)
        if found is None:
            found = self._suggestions[key] = Suggestions()
        self._suggestions.move_to_end(key)
        while len(self._suggestions) > self.limits.documents:
            self._suggestions.popitem(last=False)
        return found

    def cancel(self, key: DocumentKey) -> None:
        """Gives up what is asked for a document."""
        self._give_up(lambda known: known == key)

    def close(self, key: DocumentKey) -> None:
        """Forgets a document."""
        self._forget(lambda known: known == key)

    def close_client(self, client: str) -> None:
        """Forgets all documents of a client."""
        self._forget(lambda known: known.client == client)

    def stop(self) -> None:
        """Ends the worker; requests that wait or run are given up."""
        self._give_up(lambda _: True)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout=10)

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        with self._changed:
            return not self._waiting and self._running is None

    # ------------------------------------------------------------------ inside, any thread

    def _within_limits(self, request: CompletionRequest) -> CompletionRequest:
        limits = self.limits
        most_tokens = min(limits.max_tokens, self.model.limit // 2)
        return replace(
            request,
            max_tokens=max(1, min(request.max_tokens, most_tokens)),
            candidates=max(1, min(request.candidates, limits.candidates)),
            deadline_s=min(request.deadline_s, limits.deadline_s),
        )

    def _from_suggestions(self, request: CompletionRequest) -> Completion | None:
        if request.multiline is None or request.temperature > 0:
            return None
        kept = self.suggestions(request.key)
        texts = kept.find(request.prefix, request.suffix, request.candidates)
        if texts is None:
            return None
        self.cancel(request.key)
        found = tuple(Candidate(text, 0, "stop") for text in texts[: request.candidates])
        return Completion(found, from_suggestion=True)

    def _put(self, job: _Job) -> None:
        key = job.request.key
        with self._changed:
            if self._stopping:
                raise Superseded("The server is stopping.")
            if key not in self._waiting and len(self._waiting) >= self.limits.queue:
                self.metrics.count("rejected")
                raise Overloaded("Too many requests wait.", "Ask again later.")
            self._end(self._waiting.pop(key, None))
            if self._running is not None and self._running.request.key == key:
                self._running.cancel.set()
            self._waiting[key] = job
            if key.client not in self._turns:
                self._turns.insert(0, key.client)
            self._changed.notify_all()

    def _end(self, job: _Job | None) -> None:
        """Tells whoever waits for a job that it will not be done."""
        if job is not None:
            job.cancel.set()
            self.metrics.count("superseded")
            _answer(job, Superseded("A newer request came for this document."))

    def _give_up(self, matches: Callable[[DocumentKey], bool]) -> None:
        with self._changed:
            for key in [key for key in self._waiting if matches(key)]:
                self._end(self._waiting.pop(key))
            if self._running is not None and matches(self._running.request.key):
                self._running.cancel.set()

    def _forget(self, matches: Callable[[DocumentKey], bool]) -> None:
        self._give_up(matches)
        for key in [key for key in self._suggestions if matches(key)]:
            del self._suggestions[key]
        with self._changed:
            self._gone.append(matches)
            self._changed.notify_all()

    # ------------------------------------------------------------------ the worker thread

    def _work(self) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            try:
                answer = self._answer(job)
            except Cancelled:
                self.metrics.count("cancelled")
                _answer(job, Superseded("The request was given up."))
            except CodegenError as error:
                self.metrics.count("failed")
                _answer(job, error)
            except Exception as error:  # a bug must not end the service
                self.metrics.count("failed")
                log.exception("A completion failed.")
                self._caches.drop(lambda key, job=job: key == job.request.key)
                _answer(job, CodegenError(f"The completion failed: {type(error).__name__}."))
            else:
                _answer(job, answer)
            with self._changed:
                self._running = None

    def _next(self) -> _Job | None:
        """The next job, once there is one; meanwhile stale caches are made exact."""
        while True:
            with self._changed:
                for matches in self._gone:
                    self._caches.drop(matches)
                self._gone.clear()
                if self._stopping:
                    return None
                if self._waiting:
                    self._running = self._pop()
                    return self._running
                stale = self._caches.to_recompute()
                if stale is None:
                    self._changed.wait()
                    continue
            self._refresh(stale)

    def _pop(self) -> _Job:
        """The job of the client that has waited longest for its turn; real requests first."""
        waiting = {key.client for key in self._waiting}
        self._turns = [client for client in self._turns if client in waiting]

        def rank(key: DocumentKey) -> tuple[bool, int]:
            return self._waiting[key].warm_up, self._turns.index(key.client)

        key = min(self._waiting, key=rank)
        self._turns.remove(key.client)
        self._turns.append(key.client)
        return self._waiting.pop(key)

    def _refresh(self, document: Document) -> None:
        began = time.perf_counter()
        try:
            if document.cache.recompute(stop=self._wanted):
                document.recompute = False
                self.metrics.count("recomputed")
        except CodegenError:
            document.recompute = False
            raise
        log.debug("recompute: %.0f ms", 1e3 * (time.perf_counter() - began))

    def _wanted(self) -> bool:
        """Whether somebody asks for something."""
        return bool(self._waiting or self._gone or self._stopping)

    def _answer(self, job: _Job) -> Completion:
        request = job.request
        stop = self._preempted(job) if job.warm_up else job.cancel.is_set
        started = time.perf_counter()
        document = self._caches.get(request.key)
        prompt = self.model.prompter.build(request)
        prepared = time.perf_counter()
        report = document.cache.update(
            prompt.ids,
            tail=prompt.tail,
            lexical_change=prompt.quote != document.quote,
            stop=stop,
        )
        document.quote = prompt.quote
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
        decoder = Decoder(
            self.model,
            document.cache,
            prompt,
            request,
            document.past,
            job.cancel.is_set,
            _in_loop(job),
        )
        candidates = decoder.run()
        done = time.perf_counter()
        stages = {
            "queue": started - job.asked,
            "prompt": prepared - started,
            "encode": encoded - prepared,
            "decode": done - encoded,
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
            stages=stages,
        )

    def _preempted(self, job: _Job) -> Callable[[], bool]:
        return lambda: job.cancel.is_set() or bool(self._waiting)

    def _gauges(self) -> None:
        self.metrics.gauge("documents", len(self._caches))
        self.metrics.gauge("cache_bytes", self._caches.nbytes)
        self.metrics.gauge("documents_evicted", self._caches.evicted)


def _count(prompt: Prompt) -> int:
    return len(prompt.ids) + len(prompt.taken)


def _in_loop(job: _Job) -> OnText | None:
    """``on_text``, called in the job's event loop."""
    if job.on_text is None:
        return None
    on_text = job.on_text

    def later(piece: str) -> None:
        job.loop.call_soon_threadsafe(on_text, piece)

    return later


def _answer(job: _Job, answer: Completion | CodegenError) -> None:
    """Settles a job's future in its event loop, which may be closed by now."""

    def settle() -> None:
        if job.future.done():
            return
        if isinstance(answer, Completion):
            job.future.set_result(answer)
        else:
            job.future.set_exception(answer)

    try:
        job.loop.call_soon_threadsafe(settle)
    except RuntimeError:
        log.debug("The event loop of a request is closed.")
