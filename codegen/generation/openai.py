"""The ``openai`` backend: models on servers with an OpenAI-compatible API.

Examples: vLLM, SGLang, Ollama, llama.cpp, OpenAI. :class:`codegen.generation.endpoints.Endpoint`
sets the server and model; :class:`OpenAIBackend` completes requests concurrently. Chat requests go
to ``/chat/completions``, others to ``/completions``, if the server has it. With ``on_text`` the
text is streamed. :class:`RateLimiter` limits rate and cost.

A request that failed temporarily (HTTP 408, 409, 425, 429, 5xx, a broken connection, a timeout, a
response without a completion, a stream that breaks before its first text) is retried after
exponential backoff with jitter. A server's Retry-After applies to all threads.

A wrong key, an unknown model, spent quota, a web page or an unreachable server aborts the run
(:class:`ModelUnusable`). So do ``FAILURES_IN_A_ROW`` consecutive failures, if the server does not
answer a trivial request either. Any other failure only affects its own request.

The API key comes from an environment variable chosen by the user, is only sent in the request's
header, and never appears in errors, caches, manifests or logs (:mod:`codegen.core.http_client`).

A completion's ``meta`` contains ``usage``, the reported counts (including cached and reasoning
tokens, for example), and ``served_model`` if the server reports another model than requested.

Stop strings are sent to the server. If it rejects their number (OpenAI and vLLM accept four), only
the first four are sent, and completions are cut here at the others.

Limits: no token healing (the server tokenizes). Servers do not report whether ``eos`` or a stop
string ended a completion; with stop strings the reason is ``stop``. If a server ignores ``seed``,
its answers vary, and a run is reproducible only from its cache.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any, Literal

from codegen.core.errors import ConfigError, in_one_line
from codegen.core.generation import (
    Backend,
    Completion,
    Decoder,
    ModelUnusable,
    Request,
    RequestFailed,
    SamplingParams,
    cut_at_stop,
    request_seed,
)
from codegen.core.http_client import Client, LoopThread, RequestFailure, count_of, is_loopback
from codegen.generation.completion_cache import Prices
from codegen.generation.decoders import ResolvedDecoder, supported
from codegen.generation.endpoints import Endpoint

OnPiece = Callable[[str], None]

FAILURES_IN_A_ROW = 10
_MOST_STOPS = 4  # limit of OpenAI's API
MAX_RESPONSE_BYTES = 64 * 2**20  # per response
_LONGEST_BACKOFF_S = 60.0
_BUSY_PATIENCE = 10  # factor for retries after 429, which only means to slow down
_LISTED = 8  # names of models in a message
_FATAL = {
    401: "Pass the name of an environment variable with a valid key with --api-key-env.",
    402: "Add credit, or use another endpoint; finished answers are kept.",
    403: "Use a key with access to this model, set by --api-key-env.",
    404: "Check --endpoint (it ends in /v1 for most servers) and --model.",
    405: "Check --endpoint (it ends in /v1 for most servers).",
}
_LOOK_S = 0.25  # interval at which a waiting thread checks for a stop
_BUSY = "Lower --concurrency or wait, then run the same command again to resume."
_LOOP = LoopThread()  # sends all requests
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")


class OpenAIBackend(Backend):
    """Completes requests through an endpoint; thread-safe.

    Args:
        key: the API key; None reads the endpoint's environment variable.
    """

    kind = "openai"
    independent = True

    def __init__(self, endpoint: Endpoint, key: str | None = None) -> None:
        self.endpoint = endpoint
        self.model = endpoint.model
        self.style = endpoint.style
        self.about = {"endpoint": endpoint.url}
        self._client = Client(
            endpoint.base(),
            endpoint.api_key() if key is None else key,
            connections=None,
            timeout_s=endpoint.timeout_s,
            most_bytes=MAX_RESPONSE_BYTES,
        )
        self._pace = RateLimiter(endpoint)
        self._most_stops: int | None = None  # None if no stop strings were rejected
        self._lock = threading.Lock()  # guards the fields below
        self._failures_in_a_row = 0
        self._answered = False

    @classmethod
    def open(cls, model: str, **options: Any) -> OpenAIBackend:
        """Opens a server's model; takes :class:`Endpoint`'s options and ``batch_size``, an alias of
        ``concurrency``.
        """
        if "url" not in options:
            raise ConfigError(
                "The backend openai needs a server.",
                "Set --endpoint URL, or --model to a name from `codegen models list`.",
            )
        if "batch_size" in options:
            options["concurrency"] = options.pop("batch_size")
        return cls(Endpoint(model=model, **options))

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """Returns the extra body fields, without the URL, as a server may move during a run."""
        extra = self.endpoint.extra()
        return {"body": extra} if extra else {}

    def generate(self, requests, params, decoder, on_text=None):
        """Yields completions as :class:`Backend` describes. Raises a fatal failure once no request
        is in flight.

        After an interrupt, no request is sent or awaited. Each completion that the caller takes
        allows one more request, so a caller that saves each completion loses at most those in
        flight.
        """
        resolved = supported(decoder, self)
        numbered = enumerate(requests)
        first = list(islice(numbered, self.endpoint.concurrency))
        waiting = chain(first, numbered)
        reading, stop = threading.Lock(), threading.Event()
        events: SimpleQueue[Completion | BaseException | tuple[int, str] | None] = SimpleQueue()

        def put_text(number: int, text: str) -> None:
            events.put((number, text))

        def work() -> None:
            try:
                while slots.acquire() and not stop.is_set():
                    with reading:
                        number, request = next(waiting)
                    on_piece = partial(put_text, number) if on_text else None
                    events.put(self._complete(number, request, params, resolved, on_piece, stop))
            except (StopIteration, RequestCancelled):
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                stop.set()
                events.put(error)
            events.put(None)

        # Daemon threads, so that an interrupted process can exit.
        threads = [threading.Thread(target=work, daemon=True) for _ in first]
        slots = threading.Semaphore(len(threads))
        running, fatal = len(threads), None
        try:
            for thread in threads:
                thread.start()
            while running:
                event = events.get()
                if event is None:
                    running -= 1
                elif isinstance(event, Completion):
                    yield event
                    slots.release()
                elif isinstance(event, BaseException):
                    fatal = fatal or event
                elif on_text:
                    on_text(*event)
        finally:
            stop.set()
            slots.release(len(threads) or 1)
        if fatal:
            raise fatal

    def _complete(
        self,
        number: int,
        request: Request,
        params: SamplingParams,
        resolved: ResolvedDecoder,
        on_piece: OnPiece | None,
        stop: threading.Event,
    ) -> Completion:
        """Returns one request's completion, or its failure.

        Raises:
            ModelUnusable: if no request can be completed.
        """
        seed = request_seed(params.seed, request)
        stops = resolved.stops(request.stop)
        sent = stops[: self._most_stops]
        cuts = len(sent) < len(stops)
        body = self._body(request, params, sent, seed if request.seed is None else request.seed)
        wasted: list[tuple[int, int]] = []  # one item per response without a completion
        try:
            streams = None if cuts else on_piece
            found = self._ask(request.chat, body, streams, wasted, stop)
        except RequestFailure as failure:
            refused = failure.status in (400, 422) and "stop" in failure.words
            if refused and len(sent) > _MOST_STOPS:
                self._most_stops = _MOST_STOPS
                return self._complete(number, request, params, resolved, on_piece, stop)
            error = self._give_up(failure, request.chat)
            return Completion(
                number,
                request,
                seed=seed,
                error=error,
                wasted=_sums(wasted),
                retries=len(wasted) - 1,
            )
        whole = found.text.removeprefix(request.prefill)  # llama.cpp repeats the prefill
        text, reason = whole, _finish_reason(found.finish_reason, bool(stops))
        if cuts:
            text = cut_at_stop(text, stops)
            reason = "stop" if text != whole else reason
            if on_piece:
                on_piece(text)
        return resolved.completion(
            number,
            request,
            text,
            reason,
            meta=found.meta,
            seed=seed,
            prompt_tokens=found.tokens[0],
            completion_tokens=found.tokens[1],
            wasted=_sums(wasted),
            retries=len(wasted),
        )

    def _body(
        self, request: Request, params: SamplingParams, stops: tuple[str, ...], seed: int
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "seed": seed & 0x7FFF_FFFF,  # the range that all servers accept
        }
        if request.chat:
            body["messages"] = [{"role": "user", "content": request.prompt}]
            if request.prefill:  # continued by llama.cpp, vLLM and others
                body["messages"].append({"role": "assistant", "content": request.prefill})
        else:
            body["prompt"] = request.prompt
        if stops:
            body["stop"] = list(stops)
        body.update(self.endpoint.extra())
        return {name: value for name, value in body.items() if value is not None}

    def _ask(
        self,
        chat: bool,
        body: Mapping[str, Any],
        on_piece: OnPiece | None,
        wasted: list[tuple[int, int]],
        stop: threading.Event,
    ) -> ServerCompletion:
        """Returns the first completion from the server.

        Raises:
            RequestFailure: if the server returns none, and a retry would not help.
            RequestCancelled, CostLimitReached: see :class:`RateLimiter`.
        """
        tries = 0
        route = "/chat/completions" if chat else "/completions"
        while True:
            self._pace.enter(stop)
            found, failure, spent, again = None, None, (0, 0), False
            try:
                row = self.send(route, body, on_piece)
                spent = _tokens(row)
                found = read_completion(row, self.model)
            except RequestFailure as error:
                failure, again = error, self._may_retry(error, tries)
            finally:
                wait_s = failure.wait_s if failure and again else 0.0
                self._pace.leave(spent, answered=bool(found), wait_s=wait_s)
            if found:
                self._succeed()
                return found
            assert failure
            wasted.append(spent)
            if not again:
                raise failure
            wait_s = min(_LONGEST_BACKOFF_S, self.endpoint.backoff_s * 2 ** min(tries, 20))
            stop.wait(wait_s * random.uniform(0.5, 1.5))
            tries += 1

    def _may_retry(self, failure: RequestFailure, tries: int) -> bool:
        if (failure.unreachable or failure.page) and not self._answered:
            return False  # most likely a wrong URL: fail immediately
        if failure.code in _SPENT or failure.wait_s > self.endpoint.longest_wait_s:
            return False
        patience = _BUSY_PATIENCE if failure.status == 429 else 1
        return failure.transient and tries < self.endpoint.retries * patience

    def _succeed(self) -> None:
        with self._lock:
            self._answered = True
            self._failures_in_a_row = 0

    def _give_up(self, failure: RequestFailure, chat: bool) -> RequestFailed:
        """Returns the error of a request that failed permanently.

        Raises:
            ModelUnusable: if all requests would fail.
        """
        with self._lock:
            self._failures_in_a_row += 1
            in_a_row = self._failures_in_a_row
        url = self.endpoint.base() + ("/chat/completions" if chat else "/completions")
        message = f"The endpoint {url} did not answer for the model {self.model!r}: {failure.said}."
        too_long = failure.wait_s > self.endpoint.longest_wait_s
        if remedy := _fatal_remedy(failure, url) or (_BUSY if too_long else ""):
            raise ModelUnusable(message, remedy) from None
        if in_a_row < FAILURES_IN_A_ROW or self._is_alive(chat):
            return RequestFailed(message)
        raise ModelUnusable(
            f"{message} This is failure {in_a_row} in a row.",
            "Fix this error and run the same command again: finished answers are kept.",
        ) from None

    def _is_alive(self, chat: bool) -> bool:
        """Returns True if the server answers a trivial request, so only some requests fail."""
        body = self._body(Request("Say yes.", chat=chat), SamplingParams(16), (), 0)
        try:
            row = self.send("/chat/completions" if chat else "/completions", body)
            read_completion(row, self.model)
        except RequestFailure:
            return False
        self._succeed()
        return True

    def send(
        self, route: str, body: Mapping[str, Any] | None = None, on_piece: OnPiece | None = None
    ) -> Any:
        """Sends one request without retries.

        Args:
            route: path below the base URL, such as ``/models``.
            body: JSON to post; None for a GET.
            on_piece: called with each chunk of text on arrival, in another thread; None disables
                streaming.

        Returns:
            The decoded JSON; for a stream, a completion object assembled from its parts.

        Raises:
            RequestFailure: if the response is an error or not JSON.
        """
        url = self.endpoint.base() + route
        if body is None or on_piece is None:
            return _LOOP.submit(self._client.json(url, body)).result()
        return _LOOP.submit(self._streamed(url, body, on_piece)).result()

    async def _streamed(self, url: str, body: Mapping[str, Any], on_piece: OnPiece) -> Any:
        row: dict[str, Any] = {}
        shown = False
        body = {"stream_options": {"include_usage": True}, **body}
        try:
            async with aclosing(self._client.stream(url, body)) as parts:
                async for part in parts:
                    shown |= bool(_add_part(row, part, on_piece))
        except RequestFailure as failure:
            failure.transient = failure.transient and not shown
            raise
        return row


@dataclass(frozen=True, slots=True)
class ServerCompletion:
    """A server's response; ``tokens``: counts for prompt and completion.

    ``meta`` becomes ``Completion.meta``.
    """

    text: str
    finish_reason: str
    tokens: tuple[int, int]
    meta: Mapping[str, Any]


def _fatal_remedy(failure: RequestFailure, url: str) -> str:
    """Returns the remedy for a failure that all requests share; empty for other failures."""
    if failure.unreachable:
        hint = "Start the server there, or check" if is_loopback(url) else "Check"
        return f"{hint} --endpoint. Then run the same command again: finished answers are kept."
    if failure.untrusted:
        return "Set SSL_CERT_FILE to the authority's certificate."
    if failure.code in _SPENT:
        return f"The quota is spent. {_FATAL[402]}"
    if failure.status == 429:
        return _BUSY
    if 300 <= failure.status < 400:
        return "Set --endpoint to that URL, if you trust it."
    if failure.page:
        return _FATAL[405]
    unknown_model = failure.status == 400 and failure.code in ("model_not_found", "invalid_model")
    return _FATAL.get(404 if unknown_model else failure.status, "")


def _add_part(row: dict[str, Any], part: Mapping[str, Any], on_piece: OnPiece) -> str:
    """Adds a stream event to a completion object and returns the event's text."""
    if part.get("usage"):
        row["usage"] = part["usage"]
    choices = part.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        row.setdefault("choices", choices)
        return ""
    if "message" in choice:  # the server does not stream
        row.update(part)
        text = read_completion(part, "").text
        on_piece(text)
        return text
    whole = row.setdefault("choices", [{"text": ""}])[0]
    row.setdefault("model", part.get("model"))
    whole["finish_reason"] = choice.get("finish_reason") or whole.get("finish_reason")
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    if not isinstance(text, str) or not text:
        return ""
    whole["text"] += text
    on_piece(text)
    return text


def read_completion(row: Any, model: str) -> ServerCompletion:
    """Reads a completion object.

    Raises:
        RequestFailure: if the object is invalid; transient.
    """
    if not isinstance(row, dict):
        raise RequestFailure("its response is not a JSON object", transient=True)
    choices = row.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise RequestFailure("its response has no choices", transient=True)
    reason, message = choice.get("finish_reason"), choice.get("message")
    if not isinstance(message, dict):
        text = choice.get("text")
    elif (text := message.get("content")) is None:
        # A refusal, or a model that spent all its tokens on reasoning. Only such an answer may
        # omit the field.
        whole = reason in ("length", "content_filter")
        text = "" if "content" in message or message.get("refusal") or whole else None
    if not isinstance(text, str):
        raise RequestFailure("its response has no text", transient=True)
    meta: dict[str, Any] = {}
    if usage := _counts(row.get("usage")):
        meta["usage"] = usage
    served = row.get("model")
    if isinstance(served, str) and served and served != model:
        meta["served_model"] = served[:200]
    reason = reason if isinstance(reason, str) else ""
    return ServerCompletion(text, reason, _tokens(row), meta)


def only_model(endpoint: Endpoint) -> str:
    """Returns the name of the only model that a server lists; ignores the endpoint's model.

    Raises:
        ConfigError: if the server lists none or several, or does not answer.
    """
    remedy = "Choose one with --model (or --llm)."
    try:
        names = model_names(OpenAIBackend(endpoint).send("/models"))
    except RequestFailure as failure:
        message = (
            f"No model is set, and the server at {endpoint.base()} lists none: {failure.said}."
        )
        known = "" if failure.status == 404 else _fatal_remedy(failure, endpoint.url)
        raise ModelUnusable(message, known or f"{remedy} {_FATAL[405]}") from None
    if len(names) == 1:
        return names[0]
    shown = ", ".join(in_one_line(name, 100) for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} others" if len(names) > _LISTED else ""
    listed = f"has several: {shown}{more}" if names else "lists none"
    raise ConfigError(f"No model is set, and the server at {endpoint.base()} {listed}.", remedy)


def model_names(row: Any) -> list[str]:
    """Returns the model names in a response of ``/models``."""
    rows = row.get("data") if isinstance(row, dict) else None
    rows = rows if isinstance(rows, list) else []
    return [str(one["id"]) for one in rows if isinstance(one, dict) and one.get("id")]


def _counts(usage: Any) -> dict[str, Any]:
    """Returns the numbers in a server's usage object and its nested objects."""
    if not isinstance(usage, dict):
        return {}
    found: dict[str, Any] = {}
    for name, value in list(usage.items())[:30]:
        inner = value.items() if isinstance(value, dict) else ()
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
        elif numbers := {k: v for k, v in list(inner)[:30] if isinstance(v, (int, float))}:
            found[name] = numbers
    return found


def _finish_reason(
    reported: str, stops: bool
) -> Literal["eos", "stop", "length", "content_filter"]:
    if reported == "length" or reported == "content_filter":
        return reported
    return "stop" if stops else "eos"


def _tokens(row: Any) -> tuple[int, int]:
    """Returns a response's reported prompt and completion tokens, 0 if missing."""
    usage = row.get("usage") if isinstance(row, dict) else None
    return count_of(usage, "prompt_tokens"), count_of(usage, "completion_tokens")


def _sums(spent: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(one for one, _ in spent), sum(other for _, other in spent)


class RequestCancelled(Exception):
    """A request was not sent because the run was stopped."""


class CostLimitReached(ModelUnusable):
    """The cost limit is reached; run again with a higher limit to resume."""

    exit_code = 1


class RateLimiter:
    """Limits requests in flight and costs, and applies the waits that a server requests."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._most = endpoint.max_cost
        self._prices = Prices(endpoint.price_in, endpoint.price_out)
        self._lock = threading.Lock()
        self._room = threading.Semaphore(endpoint.concurrency)
        self._resume_at = 0.0
        self._cost_micros = 0
        self._uncounted = False

    def enter(self, stop: threading.Event) -> None:
        """Waits until a request may be sent.

        Raises:
            RequestCancelled: if ``stop`` is set.
            CostLimitReached: if the budget is spent.
        """
        while not self._room.acquire(timeout=_LOOK_S):
            if stop.is_set():
                raise RequestCancelled
        try:
            self._check(stop)
        except BaseException:
            self._room.release()
            raise

    def _check(self, stop: threading.Event) -> None:
        while (wait_s := self._resume_at - time.monotonic()) > 0 and not stop.is_set():
            stop.wait(wait_s)
        if stop.is_set():
            raise RequestCancelled
        if self._most and self._uncounted:
            raise CostLimitReached(
                "The server does not report token usage, so the cost limit cannot be enforced.",
                "Remove --max-cost.",
            )
        if self._most and self._cost_micros >= self._most * 1e6:
            raise CostLimitReached(
                f"The cost limit of {self._most:g} is reached: new responses cost "
                f"{self._cost_micros / 1e6:.6g}.",
                "Run the same command again, or with a higher --max-cost, to resume: finished "
                "responses are kept.",
            )

    def leave(self, spent: tuple[int, int], *, answered: bool, wait_s: float = 0.0) -> None:
        """Records the outcome of a request.

        Args:
            spent: prompt and completion tokens counted by the server.
            answered: True if there was a completion.
            wait_s: wait requested by the server in seconds; applies to all threads.
        """
        self._room.release()
        with self._lock:
            self._cost_micros += self._prices.micros(*spent)
            self._uncounted = self._uncounted or (answered and not sum(spent))
            self._resume_at = max(self._resume_at, time.monotonic() + wait_s)
