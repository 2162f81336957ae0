"""The ``openai`` back-end: models behind a server that speaks OpenAI's protocol.

vLLM, SGLang, Ollama, llama.cpp, OpenAI and others. :class:`codegen.generation.backends.Endpoint`
says which server and model; :class:`OpenAIBackend` completes requests by OpenAI's SDK, several at
once. Chat requests go to ``/chat/completions``, plain ones to ``/completions``, where the server
has it. With ``on_text`` the text is streamed. :class:`codegen.generation.pace.Pace` says when a
request may be sent.

A request that failed temporarily (HTTP 408, 409, 425, 429, 5xx, a broken connection, a timeout, a
response that holds no completion) is sent again, after exponential backoff with jitter. The SDK's
own retries are off. They do not know the wait that a server asks for by Retry-After as one for all
threads, the limits of requests, tokens and money, responses without a completion, or a stream that
breaks before its first text.

What a lasting failure means: a wrong key, an unknown model, spent quota, a web page or a server
that is not there ends the run (:class:`ModelUnusable`), as do ``FAILURES_IN_A_ROW`` failed requests
without a completion between them, if the server does not answer the simplest request either.
Anything else fails its own request alone.

The API key comes from an environment variable that the user names, goes into the request's header
and nowhere else: not into errors, caches, manifests or logs. Redirects are refused, so that it
stays with its host. Proxies come from the environment, never for loopback; certificates from the
system or ``SSL_CERT_FILE``.

What else a server says of a completion is in its ``meta``: ``usage``, the counts as they were
reported (cached, reasoning, accepted and rejected predicted tokens); ``logprobs`` if they were
requested, in the layout of OpenAI's chat route; ``served_model`` if the server names another model
than the one requested.

Stop strings are sent to the server. One that refuses so many (OpenAI and vLLM take four) gets the
first four, and its completions are cut here at the others.

Limits: no token healing (the server tokenizes). A server does not say which of ``eos`` and a stop
string ended a completion; with stop strings it counts as ``stop``. A server that ignores ``seed``
answers differently each time; a run is then repeatable by its cache alone.
"""

from __future__ import annotations

import email.utils
import json
import math
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from queue import SimpleQueue
from typing import Any, Literal

import httpx2
import openai
from openai import DefaultHttpxClient, Omit, OpenAI

from codegen.errors import ConfigError, in_one_line
from codegen.generation.backends import Endpoint, is_loopback
from codegen.generation.decoders import Resolved, supported
from codegen.generation.pace import CalledOff, Pace
from codegen.generation.protocol import (
    Backend,
    Completion,
    Decoder,
    ModelUnusable,
    OnText,
    Request,
    RequestFailed,
    SamplingParams,
    cut_at_stop,
    request_seed,
)

OnPiece = Callable[[str], None]

FAILURES_IN_A_ROW = 10
_MOST_STOPS = 4  # that OpenAI's API takes
_MOST_BYTES = 64 * 2**20  # per response
_LONGEST_BACKOFF_S = 60.0
_BUSY_PATIENCE = 10  # times as many retries: 429 only asks to slow down
_RETRIED = frozenset({408, 409, 425, 429})
_TOO_BUSY = (429, 503)
_LISTED = 8  # names of models in a message
_CHARACTERS_A_TOKEN = 3  # in a prompt; code has a little more
_FATAL = {
    401: "Name the environment variable that holds a valid key with --api-key-env.",
    402: "Pay, or use another endpoint; finished answers are kept.",
    403: "Use a key that may use this model, named with --api-key-env.",
    404: "Check --endpoint (it ends in /v1 for most servers) and --model.",
    405: "Check --endpoint (it ends in /v1 for most servers).",
}
_NOT_SUPPORTED = (501, 505)  # by the server at all
_BUSY = "Lower --concurrency or wait, then run the same command again to resume."
# The headers of a request; the SDK adds some that describe the machine, or come from variables.
_SENT = {"host", "connection", "content-type", "content-length", "accept", "accept-encoding"}
_SENT |= {"user-agent", "authorization"}
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")


class OpenAIBackend(Backend):
    """Completes requests by an endpoint; safe to use from several threads."""

    kind = "openai"
    independent = True

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.model = endpoint.model
        self.style = endpoint.style
        self.about = {"endpoint": endpoint.url}
        self._key = endpoint.api_key()
        self._sdk = _client(endpoint)
        self._pace = Pace(endpoint)
        self._most_stops: int | None = None  # that the server takes; None if it has refused none
        self._lock = threading.Lock()  # guards all below
        self._failures_in_a_row = 0
        self._answered = False

    @classmethod
    def open(cls, model: str, **options: Any) -> OpenAIBackend:
        """The back-end for a server's model; options as of :class:`Endpoint`, ``batch_size`` for
        ``concurrency``.
        """
        if "url" not in options:
            raise ConfigError(
                "The back-end openai needs a server.",
                "Name it with --endpoint URL, or give --model a name of `codegen models list`.",
            )
        if "batch_size" in options:
            options["concurrency"] = options.pop("batch_size")
        return cls(Endpoint(model=model, **options))

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """What is added to the body. Not the URL: a server may move during a run."""
        extra = self.endpoint.extra()
        return {"body": extra} if extra else {}

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: OnText | None = None,
    ) -> Iterator[Completion]:
        """See :class:`Backend`. A fatal failure is raised once no request is in flight.

        Interrupted, it sends nothing more and does not wait. A request is sent once the caller has
        come back for more after an earlier completion, so a caller that keeps each one loses at
        most as many as are in flight at once.
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
            except (StopIteration, CalledOff):
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                stop.set()
                events.put(error)
            events.put(None)

        # Daemons, so that an interrupted process can end.
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
        resolved: Resolved,
        on_piece: OnPiece | None,
        stop: threading.Event,
    ) -> Completion:
        """One request's completion, or its failure.

        Raises:
            ModelUnusable: if no request can be completed.
        """
        seed = request_seed(params.seed, request)
        stops = resolved.stops(request.stop)
        sent = stops[: self._most_stops]
        cuts = len(sent) < len(stops)
        body = self._body(request, params, sent, seed if request.seed is None else request.seed)
        wasted: list[tuple[int, int]] = []  # by each response without a completion
        try:
            estimated = len(request.prompt) // _CHARACTERS_A_TOKEN + params.max_new_tokens
            streams = None if cuts else on_piece
            found = self._ask(request.chat, body, estimated, streams, wasted, stop)
        except ServerFailure as failure:
            refused = failure.status in (400, 422) and "stop" in str(failure)
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
        text, reason = found.text, _finish_reason(found.finish_reason, bool(stops))
        if cuts:
            text = cut_at_stop(text, stops)
            reason = "stop" if text != found.text else reason
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
        else:
            body["prompt"] = request.prompt
        if stops:
            body["stop"] = list(stops)
        if request.logprobs and request.chat:
            body |= {"logprobs": True, "top_logprobs": request.logprobs}
        elif request.logprobs:
            body["logprobs"] = request.logprobs
        if request.original and self.endpoint.predicts:
            body["prediction"] = {"type": "content", "content": request.original}
        body.update(self.endpoint.extra())
        return {name: value for name, value in body.items() if value is not None}

    def _ask(
        self,
        chat: bool,
        body: Mapping[str, Any],
        estimated: int,
        on_piece: OnPiece | None,
        wasted: list[tuple[int, int]],
        stop: threading.Event,
    ) -> ServerCompletion:
        """The first completion that the server gives.

        Raises:
            ServerFailure: if there is none, and trying again would not help.
            CalledOff, CostLimitReached: see :class:`Pace`.
        """
        tries = 0
        route = "/chat/completions" if chat else "/completions"
        while True:
            sent_at = self._pace.enter(estimated, stop)
            found, failure, spent, again = None, None, (0, 0), False
            try:
                row = self.send(route, body, on_piece)
                spent = _tokens(row)
                found = read_completion(row, self.model)
            except ServerFailure as error:
                failure, again = error, self._may_retry(error, tries)
            finally:
                busy = failure is not None and failure.status in _TOO_BUSY
                wait_s = failure.wait_s if failure and again else 0.0
                self._pace.leave(
                    sent_at, estimated, spent, answered=bool(found), busy=busy, wait_s=wait_s
                )
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

    def _may_retry(self, failure: ServerFailure, tries: int) -> bool:
        if (failure.unreachable or failure.page) and not self._answered:
            return False  # most likely a wrong URL: say so at once
        if failure.code in _SPENT or failure.wait_s > self.endpoint.longest_wait_s:
            return False
        patience = _BUSY_PATIENCE if failure.status == 429 else 1
        return failure.transient and tries < self.endpoint.retries * patience

    def _succeed(self) -> None:
        with self._lock:
            self._answered = True
            self._failures_in_a_row = 0

    def _give_up(self, failure: ServerFailure, chat: bool) -> RequestFailed:
        """The error of a request that failed for good.

        Raises:
            ModelUnusable: if all requests will share it.
        """
        with self._lock:
            self._failures_in_a_row += 1
            in_a_row = self._failures_in_a_row
        url = self.endpoint.url_of("chat" if chat else "text")
        message = f"The endpoint {url} did not answer for the model {self.model!r}: {failure}."
        too_long = failure.wait_s > self.endpoint.longest_wait_s
        if remedy := _fatal_remedy(failure, url) or (_BUSY if too_long else ""):
            raise ModelUnusable(message, remedy) from None
        if in_a_row < FAILURES_IN_A_ROW or self._is_alive(chat):
            return RequestFailed(message)
        raise ModelUnusable(
            f"{message} It is failure {in_a_row} in a row.",
            "Fix what the message says and run the same command again: finished answers are kept.",
        ) from None

    def _is_alive(self, chat: bool) -> bool:
        """Whether the server answers a simple request, so that failures are the requests' own."""
        body = self._body(Request("Say yes.", chat=chat), SamplingParams(16), (), 0)
        try:
            row = self.send("/chat/completions" if chat else "/completions", body)
            read_completion(row, self.model)
        except ServerFailure:
            return False
        self._succeed()
        return True

    def send(
        self, route: str, body: Mapping[str, Any] | None = None, on_piece: OnPiece | None = None
    ) -> Any:
        """One request as it is, without retries.

        Args:
            route: below the base URL, such as ``/models``.
            body: what is posted; None for a GET.
            on_piece: called with each piece of text as it comes; None does not stream.

        Returns:
            The decoded JSON; of a stream, a completion object made of its parts.

        Raises:
            ServerFailure: if the response is an error or not JSON.
        """
        headers: Any = {"Authorization": f"Bearer {self._key}" if self._key else Omit()}
        sent: Any = {"path": route, "options": {"headers": headers}}
        row: Any = {}
        shown, is_whole = "", False  # some servers do not stream
        try:
            if body is None:
                row = _decoded(self._sdk.get(cast_to=httpx2.Response, **sent))
            elif on_piece is None:
                # Lone surrogates survive as escapes.
                sent["content"] = json.dumps(body).encode("ascii")
                row = _decoded(self._sdk.post(cast_to=httpx2.Response, **sent))
            else:
                body = {"stream": True, "stream_options": {"include_usage": True}, **body}
                sent["content"] = json.dumps(body).encode("ascii")
                streamed = openai.Stream[object]
                parts = self._sdk.post(cast_to=object, stream=True, stream_cls=streamed, **sent)
                kind = parts.response.headers.get("Content-Type", "")
                if is_whole := not kind.startswith("text/event-stream"):
                    parts.response.read()
                    row = _decoded(parts.response)
                else:
                    for part in parts:
                        shown += _add_part(row, part, on_piece)
        except (openai.APIError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            failure = _failure_of(error, self._key, self.endpoint.timeout_s)
            failure.transient = failure.transient and not shown
            raise failure from None
        if isinstance(row, dict) and row.get("error"):
            words, code = _error_words(json.dumps(row))
            raise ServerFailure(f"it reports {_safe(words, self._key)}", transient=True, code=code)
        if on_piece and is_whole:
            on_piece(read_completion(row, self.model).text)
        return row


@dataclass(frozen=True, slots=True)
class ServerCompletion:
    """A server's response: the text, the tokens of prompt and completion, and further facts.

    ``meta`` becomes ``Completion.meta``.
    """

    text: str
    finish_reason: str
    tokens: tuple[int, int]
    meta: Mapping[str, Any]


class ServerFailure(Exception):
    """A request without a usable response.

    Attributes:
        status: of HTTP, 0 if there was none.
        transient: whether trying again may help.
        unreachable: whether no server was there at all.
        untrusted: whether its certificate was refused.
        page: whether it is a web page.
        wait_s: how long the server asks to wait.
        code: the error code in an OpenAI-style error object.
    """

    status = 0
    transient = unreachable = untrusted = page = False
    wait_s = 0.0
    code = ""

    def __init__(self, message: str, **known: Any) -> None:
        super().__init__(message)
        vars(self).update(known)


class _Bounded(httpx2.SyncByteStream):
    """A response body with a limit of size and, unless it is streamed, of time."""

    def __init__(self, response: httpx2.Response, timeout_s: float) -> None:
        kind = response.headers.get("Content-Type", "")
        self._inner: Any = response.stream
        self._streamed = kind.startswith("text/event-stream")
        self._deadline = time.monotonic() + timeout_s

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._inner:
            size += len(part)
            if size > _MOST_BYTES:
                raise ServerFailure(f"its response is larger than {_MOST_BYTES >> 20} MiB")
            if not self._streamed and time.monotonic() > self._deadline:
                raise httpx2.ReadTimeout("the whole response took too long")
            yield part

    def close(self) -> None:
        self._inner.close()


def _client(endpoint: Endpoint) -> OpenAI:
    """The SDK's client: no retries, no redirects, no headers that come from the environment."""

    def bound(response: httpx2.Response) -> None:
        response.headers.pop("Content-Encoding", None)  # a few bytes could become many
        response.stream = _Bounded(response, endpoint.timeout_s)

    def plain(request: httpx2.Request) -> None:
        for name in set(request.headers) - _SENT:
            del request.headers[name]

    return OpenAI(
        base_url=endpoint.base(),
        api_key="none",  # each request has its own header
        max_retries=0,
        timeout=endpoint.timeout_s,
        default_headers={"User-Agent": "codegen-toolkit", "Accept-Encoding": "identity"},
        http_client=DefaultHttpxClient(
            follow_redirects=False,
            # None: not by a proxy.
            mounts={"http://": None, "https://": None} if is_loopback(endpoint.url) else None,
            timeout=endpoint.timeout_s,
            event_hooks={"request": [plain], "response": [bound]},
        ),
    )


def retry_after(value: str, now: float) -> float:
    """Seconds to wait by a Retry-After header (seconds or an HTTP date); 0 if there is none."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def _decoded(response: httpx2.Response) -> Any:
    try:
        return json.loads(response.content)
    except (ValueError, RecursionError) as error:
        page = response.content.lstrip()[:1] == b"<"
        words = "a web page" if page else f"not JSON ({in_one_line(error)})"
        raise ServerFailure(f"its response is {words}", transient=True, page=page) from None


def _failure_of(error: Exception, key: str, timeout_s: float) -> ServerFailure:
    """The failure that an error of the SDK stands for."""
    if isinstance(error, openai.APIStatusError):
        return _refused(error.response, key)
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)

    def caused_by(*kinds: type[BaseException]) -> Any:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if timeout := caused_by(httpx2.TimeoutException):
        gone = isinstance(timeout, httpx2.ConnectTimeout)
        words = f"no response within {timeout_s:g} s"
        return ServerFailure(words, transient=True, unreachable=gone)
    if refusal := caused_by(ssl.SSLCertVerificationError):
        words = f"its certificate is not trusted ({refusal.verify_message})"
        return ServerFailure(words, untrusted=True)
    if caused_by(httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
        return ServerFailure("its host name is not valid", unreachable=True)
    if isinstance(error, ValueError):
        return ServerFailure("its stream is not JSON", transient=True)
    if not caused_by(openai.APIConnectionError, httpx2.HTTPError):
        return ServerFailure(f"it reports {_safe(str(error), key)}", transient=True)
    named = (getattr(cause, "strerror", None) for cause in reversed(causes))
    words = next(filter(None, named), None) or in_one_line(causes[-1]) or type(causes[-1]).__name__
    gone = caused_by(httpx2.ConnectError) and not caused_by(ssl.SSLError)
    return ServerFailure(f"no connection ({words})", transient=True, unreachable=bool(gone))


def _refused(response: httpx2.Response, key: str) -> ServerFailure:
    """The failure that an HTTP status stands for."""
    status, headers = response.status_code, response.headers
    words, code = _error_words(response.text[:65536])
    is_html = words.lstrip()[:1] == "<"
    if is_html:
        words = "its response is a web page"
    if 300 <= status < 400:
        words = f"a redirect to {headers.get('Location', 'nowhere')}"
    return ServerFailure(
        f"HTTP {status}" + (f": {_safe(words, key)}" if words else ""),
        status=status,
        transient=status in _RETRIED or (status >= 500 and status not in _NOT_SUPPORTED),
        # Proxies send pages for what lasts a while (502), or concerns one request (413), too.
        page=is_html and status in (400, *_NOT_SUPPORTED),
        wait_s=retry_after(headers.get("retry-after-ms", ""), 0.0) / 1000
        or retry_after(headers.get("Retry-After", ""), time.time()),
        code=code,
    )


def _error_words(text: str) -> tuple[str, str]:
    """The message and code of an error body: OpenAI's object, or the text as it is."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return text, ""
    inner = row.get("error", row) if isinstance(row, dict) else row
    if not isinstance(inner, dict):
        return str(inner), ""
    message = inner.get("message") or inner.get("detail") or text
    return str(message), str(inner.get("code") or inner.get("type") or "")


def _fatal_remedy(failure: ServerFailure, url: str) -> str:
    """The remedy of a failure that all requests share; empty for one of a single request."""
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
        return "Give that URL as --endpoint, if you trust it."
    if failure.page:
        return _FATAL[405]
    unknown_model = failure.status == 400 and failure.code in ("model_not_found", "invalid_model")
    return _FATAL.get(404 if unknown_model else failure.status, "")


def _add_part(row: dict[str, Any], part: Any, on_piece: OnPiece) -> str:
    """Adds a part of a stream to what becomes a completion object, and returns its text."""
    if not isinstance(part, dict):
        raise ServerFailure("a part of its stream is not a JSON object")
    if part.get("usage"):
        row["usage"] = part["usage"]
    choices = part.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return ""
    whole = row.setdefault("choices", [{"text": ""}])[0]
    row.setdefault("model", part.get("model"))
    whole["finish_reason"] = choice.get("finish_reason") or whole.get("finish_reason")
    if tokens := token_logprobs(choice.get("logprobs")):
        whole.setdefault("logprobs", {"content": []})["content"] += tokens
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
        ServerFailure: (transient) if it is none.
    """
    if not isinstance(row, dict):
        raise ServerFailure("its response is not a JSON object", transient=True)
    choices = row.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise ServerFailure("its response holds no choices", transient=True)
    reason, message = choice.get("finish_reason"), choice.get("message")
    if not isinstance(message, dict):
        text = choice.get("text")
    elif (text := message.get("content")) is None:
        # A refusal, or a model that spent all its tokens on reasoning. Only such an answer may
        # leave the field out.
        whole = reason in ("length", "content_filter")
        text = "" if "content" in message or message.get("refusal") or whole else None
    if not isinstance(text, str):
        raise ServerFailure("its response holds no text", transient=True)
    meta: dict[str, Any] = {}
    if usage := _counts(row.get("usage")):
        meta["usage"] = usage
    if logprobs := token_logprobs(choice.get("logprobs")):
        meta["logprobs"] = logprobs
    served = row.get("model")
    if isinstance(served, str) and served and served != model:
        meta["served_model"] = served[:200]
    reason = reason if isinstance(reason, str) else ""
    return ServerCompletion(text, reason, _tokens(row), meta)


def only_model(endpoint: Endpoint) -> str:
    """The name of the one model that a server lists; the endpoint's own model does not matter.

    Raises:
        ConfigError: if it lists none or several, or does not answer.
    """
    remedy = "Name one with --model (or --llm)."
    try:
        names = model_names(OpenAIBackend(endpoint).send("/models"))
    except ServerFailure as failure:
        message = f"No model is named, and the server at {endpoint.base()} lists none: {failure}."
        known = "" if failure.status == 404 else _fatal_remedy(failure, endpoint.url)
        raise ModelUnusable(message, known or f"{remedy} {_FATAL[405]}") from None
    if len(names) == 1:
        return names[0]
    shown = ", ".join(in_one_line(name, 100) for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} others" if len(names) > _LISTED else ""
    listed = f"has several: {shown}{more}" if names else "lists none"
    raise ConfigError(f"No model is named, and the server at {endpoint.base()} {listed}.", remedy)


def model_names(row: Any) -> list[str]:
    """The names in the response of ``/models``."""
    rows = row.get("data") if isinstance(row, dict) else None
    rows = rows if isinstance(rows, list) else []
    return [str(one["id"]) for one in rows if isinstance(one, dict) and one.get("id")]


def token_logprobs(found: Any) -> list[dict[str, Any]]:
    """The tokens with their log-probabilities, in the layout of OpenAI's chat route.

    Args:
        found: that layout, or the one of the text route. llama.cpp sends the former on both.
    """
    rows: list[dict[str, Any]] = []
    try:
        if content := found.get("content"):
            for one in content:
                top = [_logprob(other["token"], other) for other in one.get("top_logprobs") or ()]
                rows.append({**_logprob(one["token"], one), "top_logprobs": top})
            return rows
        tokens, values = found["tokens"], found["token_logprobs"]
        tops = found.get("top_logprobs") or [{}] * len(tokens)
        for token, value, top in zip(tokens, values, tops, strict=True):
            others = [_logprob(name, {"logprob": other}) for name, other in (top or {}).items()]
            rows.append({**_logprob(token, {"logprob": value}), "top_logprobs": others})
        return rows
    except (AttributeError, KeyError, TypeError, ValueError):
        return []  # none, or of a layout of its own


def _logprob(token: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A token with its log-probability; None where the server gives none or it is not finite."""
    value = row["logprob"]
    finite = value is not None and math.isfinite(value)
    return {"token": str(token), "logprob": value if finite else None}


def predicted_tokens(meta: Mapping[str, Any]) -> tuple[int, int]:
    """How many predicted tokens a server accepted and rejected, by a completion's ``meta``."""
    details = meta.get("usage", {}).get("completion_tokens_details")
    return (
        _number(details, "accepted_prediction_tokens"),
        _number(details, "rejected_prediction_tokens"),
    )


def _counts(usage: Any) -> dict[str, Any]:
    """The numbers of a server's usage object, and those of the objects in it."""
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
    """The tokens of prompt and completion that a response reports, 0 where it does not."""
    usage = row.get("usage") if isinstance(row, dict) else None
    return _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")


def _number(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _sums(spent: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(one for one, _ in spent), sum(other for _, other in spent)


def _safe(words: str, key: str) -> str:
    """A server's words in one line, without the API key."""
    return in_one_line(words.replace(key, "***") if key else words)
