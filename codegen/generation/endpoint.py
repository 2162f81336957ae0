"""A client for servers that speak OpenAI's protocol: vLLM, Ollama, llama.cpp, OpenAI, and others.

:class:`Endpoint` says which server and model; :class:`EndpointClient` asks it, from one thread or
many: bounded concurrency, answers kept in a :class:`~codegen.generation.response_cache`, retries
with exponential backoff and jitter that honour Retry-After, tokens counted.

What a failure means: a wrong key, an unknown model, spent quota, or a server that isn't there ends
the run (:class:`ModelUnusable`), as do ``FAILURES_IN_A_ROW`` failed questions without an answer
between them, if the server does not answer the simplest question either. Anything else fails its
own question alone (:class:`RequestFailed`).

The API key comes from an environment variable that the user names, goes into the request's header
and nowhere else: not into errors, caches, manifests or logs.

Limits: no streaming, no batch API. A server that ignores ``seed`` answers differently each time; a
run is then repeatable by its cache alone.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codegen.generation.asking import (
    Answer,
    Ask,
    ModelUnusable,
    RequestFailed,
    Totals,
    ask_key,
)
from codegen.generation.endpoint_settings import Endpoint
from codegen.generation.ledger import Ledger
from codegen.generation.response_cache import ResponseCache
from codegen.generation.transport import Failure, is_loopback, post_json

__all__ = ["Endpoint", "EndpointClient", "FAILURES_IN_A_ROW", "Usage"]

FAILURES_IN_A_ROW = 10
_LONGEST_BACKOFF_S = 60.0
_BUSY_PATIENCE = 10  # 429 only says that all is well, but too fast
_FATAL = {
    401: "Name the environment variable that holds a valid key with --api-key-env.",
    402: "Pay, or use another endpoint; finished answers are kept.",
    403: "Use a key that may use this model, named with --api-key-env.",
    404: "Check --endpoint (it ends in /v1 for most servers) and --model.",
    405: "Check --endpoint (it ends in /v1 for most servers).",
}
_BUSY = "Lower --concurrency or wait, then run the same command again: it goes on."
_SPENT = ("insufficient_quota", "billing_hard_limit_reached")


@dataclass(slots=True)
class Usage:
    """What a client did so far; the tokens are those of what the server sent now."""

    requests: int = 0
    retries: int = 0
    failed: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointClient:
    """Asks an endpoint; safe to use from several threads. Implements ``asking.Asker``.

    Args:
        endpoint: which server and model.
        cache: where answers are kept; without one, every question is sent.
        ledger: where the tokens are counted, beside ``usage``.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        cache: ResponseCache | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.cache = cache
        self.ledger = ledger
        self.usage = Usage()
        self._identity = endpoint.identity()
        self._key = endpoint.api_key()
        self._slots = threading.BoundedSemaphore(endpoint.concurrency)
        self._lock = threading.Lock()  # of all below
        self._flights: dict[bytes, threading.Lock] = {}
        self._failures_in_a_row = 0
        self._answered = False
        self._resume_at = 0.0

    def ask(self, ask: Ask) -> Answer:
        """The answer to one question.

        Raises:
            RequestFailed: if this question has none.
            ModelUnusable: if no question can have one.
        """
        return self._ask(ask, threading.Event())

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer | RequestFailed]:
        """See :class:`codegen.generation.asking.Asker`.

        Interrupted, it sends nothing more. An answer to what was sent still reaches the cache if
        the process lives on: the threads are daemons, so that they don't hold up its end.
        """
        results: list[Any] = [None] * len(asks)
        waiting = deque(range(len(asks)))
        stop = threading.Event()
        fatal: list[BaseException] = []

        def work() -> None:
            while not stop.is_set():
                try:
                    number = waiting.popleft()
                except IndexError:
                    return
                try:
                    results[number] = self._ask(asks[number], stop)
                except RequestFailed as error:
                    results[number] = error
                except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                    fatal.append(error)
                    stop.set()

        number_of_threads = min(self.endpoint.concurrency, len(asks))
        threads = [threading.Thread(target=work, daemon=True) for _ in range(number_of_threads)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            stop.set()
        if fatal:
            raise fatal[0]
        return results

    def _ask(self, ask: Ask, stop: threading.Event) -> Answer:
        if self.cache is None:
            return self._request(ask, stop)
        key = ask_key(self._identity, ask)
        with self._lock:
            flight = self._flights.setdefault(key, threading.Lock())
        try:
            with flight:  # the same question twice at once is sent once
                if answer := self.cache.get(key):
                    self._count(cached=1)
                    return answer
                answer = self._request(ask, stop)
                self.cache.put(key, self.endpoint.model, answer)
                return answer
        finally:
            with self._lock:
                self._flights.pop(key, None)

    def _request(self, ask: Ask, stop: threading.Event) -> Answer:
        tries = 0
        with self._slots:
            while True:
                self._wait_for_turn(stop)
                try:
                    answer = self._post(ask)
                except Failure as failure:
                    if not self._may_retry(failure, tries):
                        raise self._give_up(failure, ask) from None
                    self._back_off(failure, tries, stop)
                    tries += 1
                else:
                    self._succeed()
                    return answer

    def _post(self, ask: Ask) -> Answer:
        """One try.

        Raises:
            Failure: if it gives no answer.
        """
        url = self.endpoint.url_of("chat" if ask.chat else "text")
        row = post_json(url, self._body(ask), self._key, self.endpoint.timeout_s)
        try:
            answer = _read_answer(row, ask)
        except Failure:
            self._spend(Totals(0, *_tokens(row)))  # it is billed, whatever it is worth
            raise
        self._spend(Totals(1, *_tokens(row)))
        return answer

    def _body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "seed": ask.seed & 0x7FFF_FFFF,
        }
        if ask.chat:
            body["messages"] = [{"role": "user", "content": ask.prompt}]
        else:
            body["prompt"] = ask.prompt
        if ask.stop:
            body["stop"] = list(ask.stop)
        body.update(self.endpoint.extra())
        return {name: value for name, value in body.items() if value is not None}

    def _may_retry(self, failure: Failure, tries: int) -> bool:
        if failure.unreachable and not self._answered:
            return False  # most likely a wrong URL: say so at once
        if failure.code in _SPENT or failure.wait_s > self.endpoint.longest_wait_s:
            return False
        patience = _BUSY_PATIENCE if failure.status == 429 else 1
        return failure.transient and tries < self.endpoint.retries * patience

    def _back_off(self, failure: Failure, tries: int, stop: threading.Event) -> None:
        self._count(retries=1)
        wait_s = min(_LONGEST_BACKOFF_S, self.endpoint.backoff_s * 2 ** min(tries, 20))
        wait_s *= random.uniform(0.5, 1.5)
        if failure.wait_s:
            # The server's limit holds for all threads; the jitter keeps them from one rush.
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + failure.wait_s)
        stop.wait(wait_s)

    def _wait_for_turn(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._lock:
                wait_s = self._resume_at - time.monotonic()
            if wait_s <= 0:
                return
            stop.wait(wait_s)
        raise _Stopped

    def _succeed(self) -> None:
        with self._lock:
            self._answered = True
            self._failures_in_a_row = 0

    def _spend(self, spent: Totals) -> None:
        self._count(
            requests=spent.answers,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
        )
        if self.ledger and spent != Totals():
            self.ledger.add(spent)

    def _give_up(self, failure: Failure, ask: Ask) -> RequestFailed | ModelUnusable:
        """The error for a failure that no retry mends."""
        with self._lock:
            self.usage.failed += 1
            self._failures_in_a_row += 1
            in_a_row = self._failures_in_a_row
        url, model = self.endpoint.url_of("chat" if ask.chat else "text"), self.endpoint.model
        message = f"The endpoint {url} did not answer for the model {model!r}: {failure}."
        too_long = failure.wait_s > self.endpoint.longest_wait_s
        if remedy := _fatal_remedy(failure, url) or (_BUSY if too_long else ""):
            return ModelUnusable(message, remedy)
        if in_a_row < FAILURES_IN_A_ROW or self._is_alive(ask.chat):
            return RequestFailed(message)
        return ModelUnusable(
            f"{message} It is failure {in_a_row} in a row.",
            "Mend what the message says and run the same command again: finished answers are kept.",
        )

    def _is_alive(self, chat: bool) -> bool:
        """Whether the simplest question is answered: then the failures are the questions' own."""
        try:
            self._post(Ask("Say yes.", chat=chat, max_tokens=16))
        except Failure:
            return False
        self._succeed()
        return True

    def _count(self, **numbers: int) -> None:
        with self._lock:
            for name, number in numbers.items():
                setattr(self.usage, name, getattr(self.usage, name) + number)


class _Stopped(Exception):
    """A thread's question was not sent, since all of them were called off."""


def _fatal_remedy(failure: Failure, url: str) -> str:
    """What to do about a failure that all requests will share; empty if it is this one's own."""
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
    unknown_model = failure.status == 400 and failure.code in ("model_not_found", "invalid_model")
    return _FATAL.get(404 if unknown_model else failure.status, "")


def _read_answer(row: Any, ask: Ask) -> Answer:
    """Reads a completion object.

    Raises:
        Failure: (transient) if it is none.
    """
    if not isinstance(row, dict):
        raise Failure("its response is no JSON object", transient=True)
    choices = row.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise Failure("its response holds no choices", transient=True)
    reason, stopped_at = choice.get("finish_reason"), choice.get("stop_reason")
    prompt_tokens, completion_tokens = _tokens(row)
    return Answer(
        text=_text(choice),
        finish_reason=reason if isinstance(reason, str) else "",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        stopped_at=stopped_at if isinstance(stopped_at, str) and stopped_at in ask.stop else "",
    )


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message")
    if not isinstance(message, dict):
        text = choice.get("text")
    elif (text := message.get("content")) is None:
        # A refusal, or a model that spent all its tokens on reasoning. Only such an answer may
        # leave the field out.
        whole = choice.get("finish_reason") in ("length", "content_filter")
        text = "" if "content" in message or message.get("refusal") or whole else None
    if not isinstance(text, str):
        raise Failure("its response holds no text", transient=True)
    return text


def _tokens(row: Any) -> tuple[int, int]:
    """The tokens of question and answer that a response tells, 0 where it does not."""
    usage = row.get("usage") if isinstance(row, dict) else None
    return _number(usage, "prompt_tokens"), _number(usage, "completion_tokens")


def _number(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
