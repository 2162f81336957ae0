"""The engine, called from an event loop: earlier suggestions, limits, and the job queue.

Only the latest request of a document counts: an older one is cancelled, whether waiting or running.
Clients take turns, and requests of several documents run together (:mod:`schedule`). A
:class:`CompletionSource` generates the text: a model in this process
(:mod:`codegen.server.completion.model`) or a server (:mod:`codegen.server.completion.upstream`).
Its worker thread takes jobs from the queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from threading import Thread
from typing import Protocol

from codegen.server.completion.requests import (
    Candidate,
    CompletionRequest,
    CompletionResult,
    DocumentKey,
    ServerLimits,
    Status,
)
from codegen.server.completion.schedule import CompletionJob, JobQueue, OnText
from codegen.server.metrics import Metrics

_WEIGHT = 0.2  # weight of the latest duration in the moving average


class CompletionSource(Protocol):
    """Generator of completions.

    Attributes:
        limit: maximum tokens of a prompt with its completion.
        longest: maximum tokens of a conversation.
        remote: whether it runs on another machine.
        status: the latest status, for editors.
        on_status: called in any thread when the status changes.
    """

    name: str
    limit: int
    longest: int
    device: str
    remote: bool
    status: Status
    on_status: Callable[[Status], None] | None

    def worker(self, queue: JobQueue, limits: ServerLimits, metrics: Metrics) -> Thread:
        """Creates a thread, not yet started, that processes jobs until the queue is stopped."""
        ...


class CompletionEngine:
    """Completes code in many documents of many clients.

    Attributes:
        source: the model or server that generates the text.
        worker: the thread that runs the requests.
    """

    def __init__(
        self,
        source: CompletionSource,
        limits: ServerLimits | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.source = source
        self.limits = limits or ServerLimits()
        self.metrics = metrics or Metrics()
        self.usual_s = 0.0  # average duration of a model's completion
        self._suggestions: OrderedDict[DocumentKey, DocumentSuggestions] = OrderedDict()
        self._queue = JobQueue(self.limits.queue, self.metrics, self.limits.together)
        self.worker = source.worker(self._queue, self.limits, self.metrics)
        self.worker.start()

    async def complete(
        self, request: CompletionRequest, on_text: OnText | None = None
    ) -> CompletionResult:
        """Completes a request. Cancelling the task stops it within one forward pass.

        Args:
            on_text: called in the event loop with chunks of the first candidate's text.

        Raises:
            Superseded: if a newer request for the document arrived.
            Overloaded: if too many requests are waiting.
            ModelError: if the model does not support the request.
            Unavailable: if the upstream server returned no text before the deadline.
        """
        request = self.within_limits(request)
        began = time.perf_counter()
        if (texts := self.suggested(request)) is not None:
            self.cancel(request.key)
            self.metrics.count("typed_as_suggested")
            self.metrics.observe({"typed": time.perf_counter() - began})
            found = tuple(Candidate(text, 0, "stop") for text in texts[: request.candidates])
            return CompletionResult(found, from_suggestion=True)
        loop = asyncio.get_running_loop()
        job = CompletionJob(request, loop, loop.create_future(), on_text)
        self._queue.put(job)
        try:
            answer = await job.future
        finally:
            self._queue.cancel(job)
        if request.multiline is not None and request.params.temperature == 0 and answer.is_certain:
            texts = tuple(candidate.text for candidate in answer.candidates)
            self.suggestions(request.key).add(request, answer.seen, texts)
        self.usual_s += _WEIGHT * (answer.stages["total"] - self.usual_s)
        return answer

    def warm_up(self, request: CompletionRequest) -> None:
        """Encodes a document's context while no other request is waiting; returns no result."""
        loop = asyncio.get_running_loop()
        job = CompletionJob(self.within_limits(request), loop, loop.create_future(), warm_up=True)
        job.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._queue.has_room(request.key):
            self._queue.put(job)

    def suggestions(self, key: DocumentKey) -> DocumentSuggestions:
        """Returns the earlier suggestions in a document."""
        found = self._suggestions.get(key)
        if found is None:
            found = self._suggestions[key] = DocumentSuggestions()
        self._suggestions.move_to_end(key)
        while len(self._suggestions) > self.limits.documents:
            self._suggestions.popitem(last=False)
        return found

    def suggested(self, request: CompletionRequest) -> tuple[str, ...] | None:
        """Returns earlier suggestions that match a request; None if the model must decode."""
        if request.multiline is None or request.params.temperature > 0:
            return None
        return self.suggestions(request.key).find(self.within_limits(request))

    def cancel(self, key: DocumentKey) -> None:
        """Cancels the requests of a document."""
        self._queue.give_up(key)

    def close(self, key: DocumentKey) -> None:
        """Forgets a document."""
        self._suggestions.pop(key, None)
        self._queue.forget(key)

    def stop(self) -> None:
        """Stops the worker and cancels all waiting and running requests."""
        self._queue.stop()
        self.worker.join(timeout=10)

    @property
    def idle(self) -> bool:
        """True if no request is waiting or running."""
        return self._queue.idle

    def within_limits(self, request: CompletionRequest) -> CompletionRequest:
        """Returns the request with lengths, candidates and deadline cut to the limits."""
        limits = self.limits
        if request.low_priority:
            most, longest_s = limits.conversation_tokens, limits.conversation_s
        else:
            most, longest_s = min(limits.max_tokens, self.source.limit // 2), limits.deadline_s
        params = request.params
        return replace(
            request,
            params=replace(params, max_new_tokens=min(params.max_new_tokens, most)),
            candidates=max(1, min(request.candidates, limits.candidates)),
            deadline_s=min(request.deadline_s, longest_s),
        )


_KEPT = 16  # sets of suggestions per document


@dataclass(frozen=True, slots=True)
class RequestSuggestions:
    """Suggestions for one request.

    Attributes:
        window: end of the request's prefix that the prompt contained.
        whole: whether the window is the whole prefix.
        others: digest of all other fields of the request.
        texts: suggestions, best first; empty if there were none.
    """

    window: str
    whole: bool
    others: bytes
    texts: tuple[str, ...]

    def typed(self, prefix: str) -> str | None:
        """Returns the text that a longer prefix adds; None if the text before it differs."""
        at = 0 if self.whole else prefix.rfind(self.window)
        same = at >= 0 and prefix.startswith(self.window, at)
        return prefix[at + len(self.window) :] if same else None


class DocumentSuggestions:
    """Latest suggestions in one document."""

    def __init__(self) -> None:
        self._sets: deque[RequestSuggestions] = deque(maxlen=_KEPT)

    def add(self, request: CompletionRequest, seen: int, texts: tuple[str, ...]) -> None:
        """Stores suggestions.

        Args:
            seen: number of characters before the cursor in the prompt.
            texts: suggestions, best first; empty if there are none.
        """
        prefix = request.prefix
        window = prefix[len(prefix) - seen :]
        whole = seen == len(prefix)
        self._sets.append(RequestSuggestions(window, whole, _others(request), texts))

    def find(self, request: CompletionRequest) -> tuple[str, ...] | None:
        """Returns earlier suggestions that match a request; None if fewer than requested."""
        others = _others(request) if self._sets else b""
        for old in reversed(self._sets):
            typed = old.typed(request.prefix) if old.others == others else None
            if typed is None:
                continue
            if not old.texts and not typed:
                return ()
            rests = [text[len(typed) :] for text in old.texts if text.startswith(typed)]
            rests = list(dict.fromkeys(rest for rest in rests if rest.strip()))
            if len(rests) >= request.candidates:
                return tuple(rests)
        return None


def _others(request: CompletionRequest) -> bytes:
    """Returns a digest of a request, except its prefix and number of candidates."""
    same = replace(request, prefix="", candidates=1, certain=True)
    return blake2b(repr(same).encode("utf-8", "surrogatepass"), digest_size=16).digest()
