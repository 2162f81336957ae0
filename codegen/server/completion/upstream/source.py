"""A server as the engine's source of text; its worker streams completions and survives outages.

A request is cancelled by closing its connection, as soon as the result is no longer needed or the
suggestion is complete.

While the server is down, requests wait for it until their deadlines and are retried. One task polls
the server at growing intervals, and detects its features again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from codegen.core.errors import CodegenError, InputError
from codegen.core.http_client import Client, RequestFailure, count_of
from codegen.core.records import FinishReason
from codegen.core.terminal import one_line
from codegen.models.llamacpp import LlamaOptions, LlamaServer
from codegen.server.completion.postprocess import StopRule, safe_text
from codegen.server.completion.requests import (
    Candidate,
    CompletionResult,
    DocumentKey,
    ServerLimits,
    Status,
    Unavailable,
)
from codegen.server.completion.schedule import Cancelled, CompletionJob, JobQueue, OnText, Outcome
from codegen.server.completion.upstream.probe import ServerCapabilities, Unreachable, probe
from codegen.server.completion.upstream.prompts import Window, body, code_of, host_of, window
from codegen.server.metrics import Metrics

log = logging.getLogger(__name__)

_CHARS_A_TOKEN = 3.0  # below the mean of code
_DENSE = 1.2  # characters per token of text that exceeded the estimate
_FIRST_S, _LONGEST_S = 0.25, 15.0  # first and longest interval between polls of a server
_AWAY_S = 1.0
_BUSY_S = 1.0  # first pause after HTTP 429 without Retry-After
_VARIED = 0.8  # temperature of additional candidates
_MORE_S = 2.0  # maximum time that the first candidate waits for more
_MOST_CHARS = 100  # per token; the longest tokens are lines of blanks
_MARGIN = 16  # tokens
_LLAMA_MARGIN = 512  # tokens, since the length of a prompt is only estimated
_LLAMA_SLOTS = 4  # number of documents whose states are kept
_MOST_WORDS = 500  # maximum characters of a server's error
_PAUSE_S, _MOST_PAUSE_S = 0.05, 0.4  # delay per cancelled request, and maximum delay


class Upstream:
    """A server as the engine's source of text
    (:class:`codegen.server.completion.engine.CompletionSource`).

    Args:
        base: base URL of OpenAI's routes.
        model: the model's name on the server; empty for its only model.
        key: API key, or empty.
        fim: way to request completions (:func:`~codegen.server.completion.upstream.probe.probe`).
        limits: only ``context_tokens`` is used.
        remote: whether the server is on another machine.

    Attributes:
        away_s: seconds that requests without ``wait_for_upstream`` wait for a server that is down;
            None: until their deadlines.
    """

    away_s: float | None = _AWAY_S

    def __init__(
        self,
        base: str,
        *,
        model: str = "",
        key: str = "",
        fim: str = "auto",
        limits: ServerLimits | None = None,
        remote: bool = False,
    ) -> None:
        self.name = model or "upstream"
        self.device = host_of(base)
        self.limit = self.longest = self._most = (limits or ServerLimits()).context_tokens
        self.remote = remote
        self.offer: ServerCapabilities | None = None
        self.on_status: Callable[[Status], None] | None = None
        self.status = Status("Warning", f"Waiting for the server at {self.device}.", busy=True)
        self._base, self._key = base, key
        self._wish = model, fim

    def check(self) -> None:
        """Detects the server's features.

        Raises:
            Unreachable: if it does not respond.
            ModelError, ConfigError: if it cannot be used.
        """

        async def once() -> ServerCapabilities:
            async with self.client() as client:
                return await self.ask(client)

        self.accept(asyncio.run(once()))

    def client(self, connections: int = 1) -> Client:
        """Creates a client of the server."""
        return Client(self._base, self._key, connections=connections)

    async def ask(self, client: Client) -> ServerCapabilities:
        """Returns the server's features."""
        return await probe(client, *self._wish)

    def accept(self, offer: ServerCapabilities) -> None:
        """Uses these features for later requests."""
        self.offer = offer
        self.name = offer.model
        self.limit = self.longest = min(self._most, offer.context or self._most)
        self.report(
            "Normal", f"{one_line(self.name)} at {self.device} is ready ({offer.way.words})."
        )

    def report(self, kind: str, message: str) -> None:
        """Notifies editors of a new status."""
        if (status := Status(kind, message)) != self.status:
            self.status = status
            if self.on_status:
                self.on_status(status)

    async def stream(self, route: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Yields the JSON objects of a server route's stream.

        Raises:
            InputError, Unavailable: see :meth:`json`.
        """
        try:
            async with self.client() as client:
                async for row in client.stream(f"{client.base}/{route}", body):
                    yield row
        except RequestFailure as failure:
            raise self._said(failure) from None

    async def json(self, route: str, body: dict[str, Any], timeout_s: float) -> Any:
        """Returns the JSON response of a server route.

        Raises:
            InputError: if the server rejects the request.
            Unavailable: if the server does not respond.
        """
        try:
            async with self.client() as client:
                return await client.json(f"{client.base}/{route}", body, timeout_s)
        except RequestFailure as failure:
            raise self._said(failure) from None

    def _said(self, failure: RequestFailure) -> InputError | Unavailable:
        """Returns the error for the client that sent the request.

        The error quotes the server, without the key, unless the server rejects the key itself,
        because its text may contain part of the key.
        """
        if failure.status in (400, 404, 413, 415, 422):
            words = one_line(failure.words, _MOST_WORDS).rstrip(".")
            reason = f"{failure}: {words}" if words else f"{failure}"
            return InputError(f"The server at {self.device} rejected the request: {reason}.")
        return Unavailable(f"The server at {self.device} did not respond: {failure}.")

    def worker(self, queue: JobQueue, limits: ServerLimits, metrics: Metrics) -> threading.Thread:
        """See :class:`codegen.server.completion.engine.CompletionSource`."""
        return _Worker(self, queue, limits, metrics)


class LlamaUpstream(Upstream):
    """A GGUF file, run by llama.cpp in a child process, which is restarted if it stops.

    Args:
        fim, limits: see :class:`Upstream`.
    """

    away_s = None  # the child is restarted

    def __init__(self, server: LlamaServer, *, fim: str, limits: ServerLimits) -> None:
        url, key = f"{server.url}/v1", server.api_key
        super().__init__(url, model=server.model, key=key, fim=fim, limits=limits)
        self.server = server

    @classmethod
    def open(cls, gguf: Path, limits: ServerLimits, *, fim: str = "auto", threads: int = 0) -> Self:
        """Runs a GGUF file with settings for editors.

        Args:
            threads: llama.cpp's threads; 0 for one per idle physical core.

        Raises:
            ConfigError, InputError, ModelError: as :class:`LlamaServer`.
        """
        context = limits.context_tokens + _LLAMA_MARGIN
        options = LlamaOptions(context=context, threads=threads, slots=_LLAMA_SLOTS)
        source = cls(LlamaServer(gguf, options), fim=fim, limits=limits)
        source.check()
        return source

    async def ask(self, client: Client) -> ServerCapabilities:
        """See :meth:`Upstream.ask`."""
        await asyncio.to_thread(self._restart)
        return await super().ask(client)

    def _restart(self) -> None:
        if self.server.ended():
            log.warning("%s stopped: %s.", self.server.path.name, self.server.reason())
            self.server = self.server.again()


@dataclass
class _Path:
    """Candidate that is being streamed.

    Attributes:
        raw: text received from the server.
        text: the part that belongs to the candidate.
        pieces: number of chunks with text, about as many as tokens.
        finish: reason that the stream stopped.
        prompt, cached: prompt tokens, and the number that the server had cached, if reported.
        first: time of the first chunk.
    """

    raw: str = ""
    text: str = ""
    pieces: int = 0
    finish: FinishReason = "length"
    prompt: int = 0
    cached: int = 0
    first: float = 0.0


@dataclass
class _Slot:
    """Slot of llama.cpp, with the tokens of its latest prompt."""

    number: int
    tokens: int = 0


class _Worker(threading.Thread):
    """Thread with an event loop that has one task per running job."""

    def __init__(
        self, upstream: Upstream, queue: JobQueue, limits: ServerLimits, metrics: Metrics
    ) -> None:
        super().__init__(name="completions", daemon=True)
        self.upstream = upstream
        self.metrics = metrics
        self._queue = queue
        self._deadline_s = limits.deadline_s
        self._connections = 2 * limits.together * limits.candidates + 1
        self._slots: dict[DocumentKey, _Slot] = {}  # llama.cpp's, the most recently used last
        self._given_up: dict[DocumentKey, int] = {}  # consecutive cancellations
        self._chars = _CHARS_A_TOKEN
        self._losses = 0
        self._refused = ""
        self._resume_at = 0.0  # when the server accepts requests again, by the loop's clock

    def run(self) -> None:
        """Processes jobs until the queue is stopped."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        tasks: dict[asyncio.Task[None], CompletionJob] = {}
        self._up, self._reviving = asyncio.Event(), None

        def notice() -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(changed.set)

        self._queue.listen(notice)
        async with self.upstream.client(self._connections) as self._client:
            if self.upstream.offer:
                self._up.set()
            else:
                self._reviving = asyncio.create_task(self._revive())
            while not self._queue.stopping:
                for task, job in tasks.items():
                    in_the_way = job.warm_up and self._queue.wanted
                    if (job.cancel.is_set() or in_the_way) and not task.cancelling():
                        task.cancel()
                while job := self._queue.poll(self._forget):
                    task = asyncio.create_task(self._work(job))
                    tasks[task] = job
                    task.add_done_callback(lambda _: changed.set())
                await changed.wait()
                changed.clear()
                tasks = {task: job for task, job in tasks.items() if not task.done()}
            if self._reviving:
                self._reviving.cancel()
            await _end_all(tasks)

    def _forget(self, key: DocumentKey) -> None:
        self._slots.pop(key, None)
        self._given_up.pop(key, None)

    async def _work(self, job: CompletionJob) -> None:
        outcome: Outcome
        try:
            outcome = await self._answer(job)
        except asyncio.CancelledError:
            outcome = Cancelled()
        except Exception as error:  # noqa: BLE001 - classified by is_bug
            outcome = error
        self._queue.finish(job, outcome)

    async def _answer(self, job: CompletionJob) -> CompletionResult:
        started, tries = time.perf_counter(), 0
        paths: list[_Path] = []
        try:
            async with asyncio.timeout(self._deadline_s - (started - job.asked)):
                await self._debounce(job)
                while True:
                    await self._until_up(job)
                    if (wait_s := self._resume_at - time.monotonic()) > 0:
                        await asyncio.sleep(wait_s)
                    try:
                        paths = [_Path() for _ in range(job.request.candidates)]
                        return await self._complete(job, paths, started)
                    except RequestFailure as failure:
                        self._take(failure, job, tries)
                        self.metrics.count("upstream_retries")
                    tries += 1
        except TimeoutError:
            if paths and paths[0].text:
                return self._completion(job, paths[:1], started, len(job.request.prefix))
        self.metrics.count("upstream_timeouts")
        raise Unavailable(
            f"The server at {self.upstream.device} did not respond within {self._deadline_s:g} s."
        )

    async def _until_up(self, job: CompletionJob) -> None:
        """Waits for the server if it is down.

        Raises:
            Unavailable: if the server is still down after ``away_s``.
        """
        try:
            async with asyncio.timeout(
                None if job.request.wait_for_upstream else self.upstream.away_s
            ):
                await self._up.wait()
        except TimeoutError:
            raise Unavailable(self.upstream.status.message) from None

    async def _debounce(self, job: CompletionJob) -> None:
        """Delays a request if earlier ones were cancelled before the server responded.

        A server detects a closed connection late, llama.cpp after up to a second, and has few
        threads for connections, so one request per keystroke would block it.
        """
        count = self._given_up.get(job.request.key, 0)
        if count and job.request.candidates == 1:
            await asyncio.sleep(min(_MOST_PAUSE_S, _PAUSE_S * count))

    async def _complete(
        self, job: CompletionJob, paths: list[_Path], started: float
    ) -> CompletionResult:
        """Requests a completion from the server.

        Raises:
            RequestFailure: if the server returns none.
        """
        request, offer = job.request, self.upstream.offer
        assert offer
        if job.warm_up and not offer.way.native:
            return CompletionResult(())
        tokens = self.upstream.limit - request.params.max_new_tokens - _MARGIN
        text = window(request, max(64, int(tokens * self._chars)), remote=self.upstream.remote)
        on_text = None if offer.way.kind == "chat" else job.text_in_loop()
        rest = [
            asyncio.create_task(self._stream(job, offer, text, path, number))
            for number, path in enumerate(paths[1:], 1)
        ]
        try:
            try:
                await self._stream(job, offer, text, paths[0], 0, on_text)
            except asyncio.CancelledError:
                if not paths[0].first:
                    self._given_up[request.key] = self._given_up.get(request.key, 0) + 1
                raise
            self._given_up.pop(request.key, None)
            if rest:
                await asyncio.wait(rest, timeout=_MORE_S)
        finally:
            good = [path for path, task in zip(paths[1:], rest, strict=True) if _is_good(task)]
            await _end_all(rest)
        self._recover()
        if job.warm_up:
            return CompletionResult(())
        return self._completion(job, [paths[0], *good], started, text.seen)

    def _completion(
        self, job: CompletionJob, paths: list[_Path], started: float, seen: int
    ) -> CompletionResult:
        request, first = job.request, paths[0]
        candidates: dict[str, Candidate] = {}
        for path in paths:
            text = request.shown(path.text)
            if text.strip() or request.multiline is None:
                known = Candidate(text, path.pieces, path.finish)
                candidates.setdefault(text.strip(), known)
        done = time.perf_counter()
        encoded = first.first or done
        stages = {
            "queue": started - job.asked,
            "encode": encoded - started,
            "decode": done - encoded,
            "total": done - job.asked,
        }
        self.metrics.count("completions")
        self.metrics.count("tokens_encoded", first.prompt - first.cached)
        self.metrics.count("tokens_reused", first.cached)
        self.metrics.observe(stages)
        return CompletionResult(
            tuple(candidates.values()),
            prompt_tokens=first.prompt,
            reused=first.cached,
            encoded=first.prompt - first.cached,
            seen=seen,
            stages=stages,
        )

    async def _stream(
        self,
        job: CompletionJob,
        offer: ServerCapabilities,
        text: Window,
        path: _Path,
        number: int,
        on_text: OnText | None = None,
    ) -> None:
        """Streams one candidate into its path, until it is complete or the server stops.

        Raises:
            RequestFailure: if the stream is interrupted.
        """
        request, way = job.request, offer.way
        params, rule = request.params, request.stop_rule()
        ends = way.family.ends if way.family else ()
        stops = (*request.stop, *(("\n",) if rule and rule.extent == "line" else ()), *ends)
        temperature = params.temperature or (_VARIED if number else 0.0)
        tokens = 0 if job.warm_up else params.max_new_tokens
        asked = body(way, text, tokens=tokens, temperature=temperature, stops=stops)
        asked["model"] = offer.model
        if temperature:
            asked |= {"top_p": params.top_p} if params.top_p < 1 else {}
            if way.kind != "fim":  # Mistral's route uses another name
                asked["seed"] = (params.seed + number) & 0x7FFF_FFFF
        if way.native:
            asked |= {
                "cache_prompt": True,
                "id_slot": await self._slot(request.key),
                "t_max_predict_ms": int(request.deadline_s * 1000),
                "timings_per_token": True,
            }
        async with aclosing(self._client.stream(way.url, asked)) as rows:
            async for row in rows:
                piece, finish = read_row(row)
                if piece and not path.first:
                    path.first = time.perf_counter()
                path.raw += piece
                path.pieces += bool(piece)
                self._note(request.key, row, path)
                whole = code_of(path.raw, text.prefix) if way.kind == "chat" else path.raw
                end = _end(whole, stops, rule)
                shown = whole if end is None else whole[:end]
                if on_text and (new := safe_text(shown[len(path.text) :])):
                    on_text(new)
                path.text = shown
                if end is not None:
                    path.finish = "stop"
                    return
                late = path.first and time.perf_counter() - path.first > request.deadline_s
                # A server that sends too much might never stop, and each chunk is searched.
                more = path.pieces > 4 * tokens + 16 or len(path.raw) > _MOST_CHARS * (tokens + 16)
                if finish or late or (more and not job.warm_up):
                    path.finish = finish or "length"
                    return
        raise RequestFailure("the stream was interrupted")

    async def _slot(self, key: DocumentKey) -> int:
        """Returns llama.cpp's slot for a document: always the same one, so that the prefix is
        cached there even if a cancelled request still occupies the slot.
        """
        slot = self._slots.pop(key, None) or _Slot(await self._unused_slot())
        self._slots[key] = slot
        return slot.number

    async def _unused_slot(self) -> int:
        """Returns the least recently used slot without a document here; -1 (the server's choice) if
        the server does not list its slots.
        """
        try:
            rows = await self._client.json(f"{self._client.root}/slots")
        except RequestFailure as failure:
            if failure.lost:
                raise
            return -1
        found: list[tuple[bool, bool, int, float, int]] = []
        taken = {slot.number for slot in self._slots.values()}
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(number := row.get("id"), int):
                busy, last = row.get("is_processing") is True, count_of(row, "id_task")
                found.append((number in taken, busy, last, random.random(), number))
        return min(found)[-1] if found else -1

    def _note(self, key: DocumentKey, row: dict[str, Any], path: _Path) -> None:
        """Records the token counts of a stream event."""
        usage, timings = row.get("usage"), row.get("timings")
        if isinstance(usage, dict):
            details = usage.get("prompt_tokens_details")
            path.prompt = count_of(usage, "prompt_tokens")
            path.cached = count_of(details, "cached_tokens")
        if isinstance(timings, dict) and not path.prompt:
            path.cached = count_of(timings, "cache_n")
            path.prompt = path.cached + count_of(timings, "prompt_n")
            if slot := self._slots.get(key):
                if 2 * path.cached < slot.tokens:
                    del self._slots[key]  # another client has overwritten the slot's cache
                else:
                    slot.tokens = path.prompt

    def _take(self, failure: RequestFailure, job: CompletionJob, tries: int) -> None:
        """Prepares a retry, if that may help.

        Raises:
            Unavailable: if a retry cannot help.
        """
        if failure.lost:
            self._lose(f"does not respond: {failure}")
        elif failure.status == 429:
            wait_s = failure.wait_s or _BUSY_S * 2 ** min(tries, 4)
            self._resume_at = time.monotonic() + wait_s * random.uniform(1.0, 1.25)
            self._tell(f"The server at {self.upstream.device} is busy ({failure}).")
        elif failure.status in (401, 403, 404):  # the key or the model is no longer valid
            self._lose(f"rejects requests: {failure}")
        elif failure.too_long and self._chars > _DENSE:
            self._chars = _DENSE  # text with few characters per token
        else:
            message = f"The server at {self.upstream.device} rejected a request: {failure}."
            self._tell(message)
            raise Unavailable(message)

    def _tell(self, message: str) -> None:
        """Shows a warning, and logs it once."""
        if message != self._refused:
            self._refused = message
            log.warning("%s", message)
        self.upstream.report("Warning", message)

    def _recover(self) -> None:
        """Clears the warning after a response."""
        self._losses, self._refused = 0, ""
        if self.upstream.offer and self._up.is_set():
            self.upstream.accept(self.upstream.offer)

    def _lose(self, what: str) -> None:
        """Marks the server as down; requests wait from now on."""
        if not self._up.is_set():
            return
        self._up.clear()
        self.metrics.count("upstream_lost")
        message = f"The server at {self.upstream.device} {what}."
        log.warning("%s Requests are waiting for it.", message)
        self.upstream.report("Warning", message)
        self._reviving = asyncio.create_task(self._revive())

    async def _revive(self) -> None:
        """Polls the server until it is back."""
        known = ""
        while True:
            try:
                if self._losses or self.upstream.offer:
                    pause_s = min(_LONGEST_S, _FIRST_S * 2 ** min(self._losses, 16))
                    await asyncio.sleep(pause_s)
                self._losses += 1
                offer = await self.upstream.ask(self._client)
            except Unreachable:
                continue
            except CodegenError as error:
                if known != (known := str(error)):
                    log.error("%s", error)
                    self.upstream.report("Error", str(error))
                continue
            break
        self.upstream.accept(offer)
        self._slots.clear()
        log.info("%s", self.upstream.status.message)
        self._up.set()


# Reasons that a stream stops in the middle of a response.
_CUT = ("length", "limit", "max_tokens", "model_length", "content_filter", "error", "abort",
        "aborted", "cancelled")  # fmt: skip


def read_row(row: dict[str, Any]) -> tuple[str, FinishReason | None]:
    """Returns the text of a stream event in any dialect, and the stream's finish reason."""
    if "content" in row:  # llama.cpp
        text, over = row["content"], row.get("stop") is True
        reason = row.get("stop_type", "eos") if over else None
    else:
        choices = row.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if not isinstance(choice, dict):
            choice = {}
        inner = choice.get("delta") or choice.get("message")
        text = inner.get("content") if isinstance(inner, dict) else choice.get("text")
        reason = choice.get("finish_reason")
    if isinstance(text, list):  # Mistral's parts
        text = "".join(str(p.get("text", "")) for p in text if isinstance(p, dict))
    finish: FinishReason | None = None
    if reason:
        finish = "length" if reason in _CUT or row.get("stopped_limit") is True else "eos"
    return text if isinstance(text, str) else "", finish


def _end(text: str, stops: tuple[str, ...], rule: StopRule | None) -> int | None:
    """Returns the length at which a growing text ends; None if it may continue."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    if rule and (end := rule.end(text)) is not None:
        ends.append(end)
    return min(ends, default=None)


def _is_good(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _end_all(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
