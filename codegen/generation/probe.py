"""Tests a server's capabilities: ``codegen models test``.

Servers that speak OpenAI's protocol honor a field, reject it, or silently ignore it, and their
documentation does not say which. Each capability is therefore tested by a small request: a used
``suffix`` adds prompt tokens; an honored ``seed`` produces equal completions for equal seeds and
different ones for different seeds.

Limit: a capability is tried once, so a busy server may fail a probe that it would pass later.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from codegen.core.http_client import RequestFailure
from codegen.generation.endpoints import Endpoint
from codegen.generation.openai import (
    OnPiece,
    OpenAIBackend,
    ServerCompletion,
    model_names,
    read_completion,
)

State = Literal["yes", "no", "ignored", "unknown"]

_SHOWN = 8  # names of models
_PROMPT = "def add(a, b):\n"
_SUFFIX = "\n\n\ndef subtract(a, b):\n    return a - b\n"
_QUESTION = "Write ten random words."


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of one probe.

    Attributes:
        name: the probed capability, a key of the summary.
        state: ``yes``; ``no`` if the server rejects or lacks it; ``ignored`` if it accepts the
            field without effect; ``unknown`` if the response does not show it.
        detail: the server's message, or the observation.
    """

    name: str
    state: State
    detail: str = ""


def probe(endpoint: Endpoint) -> Iterator[ProbeResult]:
    """Tests each capability of a server with about ten small requests.

    The first result is ``reachable``; if that is ``no``, no other result follows.

    Raises:
        ConfigError: if the API key is not set.
    """
    backend = OpenAIBackend(endpoint)
    try:
        listed = model_names(backend.send("/models"))
    except RequestFailure as failure:
        if failure.unreachable or failure.page or failure.status in (401, 403):
            yield ProbeResult("reachable", "no", failure.said)
            return
        yield ProbeResult("reachable", "yes")
        yield ProbeResult("models", "unknown", failure.said)
    else:
        yield ProbeResult("reachable", "yes")
        state: State = "yes" if endpoint.model in listed else "no"
        more = f" and {len(listed) - _SHOWN} others" if len(listed) > _SHOWN else ""
        names = ", ".join(listed[:_SHOWN]) + more
        detail = names or "the server lists none"
        if names and state == "no":
            detail = (
                f"the server does not list {endpoint.model!r}, only {names}; re-add it with --model"
            )
        yield ProbeResult("models", state, detail)
    ask = _Asking(backend)
    text = yield from _tried("text", lambda: _answered(ask.text()))
    chat = yield from _tried("chat", lambda: _answered(ask.chat()))
    if not (text or chat):
        return
    route = ask.chat if chat else ask.text
    yield from _tried("streaming", lambda: _streamed(route))
    yield from _tried("seed", lambda: _seeded(route))
    if text:
        yield from _tried("suffix", lambda: _suffix(ask.text(), ask.text(suffix=_SUFFIX)))


def _tried(
    name: str, attempt: Callable[[], tuple[State, str]]
) -> Generator[ProbeResult, None, bool]:
    """Yields the result of a probe, and returns True if the state is ``yes``."""
    try:
        state, detail = attempt()
    except RequestFailure as failure:  # rejected by the server
        state, detail = "no", failure.said
    yield ProbeResult(name, state, detail)
    return state == "yes"


@dataclass(frozen=True, slots=True)
class _Asking:
    """Sends the probes' small requests."""

    backend: OpenAIBackend

    def text(self, on_piece: OnPiece | None = None, **fields: Any) -> ServerCompletion:
        return self._send("/completions", {"prompt": _PROMPT, **fields}, on_piece)

    def chat(self, on_piece: OnPiece | None = None, **fields: Any) -> ServerCompletion:
        messages = [{"role": "user", "content": _QUESTION}]
        return self._send("/chat/completions", {"messages": messages, **fields}, on_piece)

    def _send(
        self, route: str, fields: dict[str, Any], on_piece: OnPiece | None
    ) -> ServerCompletion:
        body = {"model": self.backend.model, "max_tokens": 16, "temperature": 0.0, **fields}
        body |= self.backend.endpoint.extra()
        body = {name: value for name, value in body.items() if value is not None}
        return read_completion(self.backend.send(route, body, on_piece), self.backend.model)


def _answered(found: ServerCompletion) -> tuple[State, str]:
    served = found.meta.get("served_model", "")
    return "yes", f"the server calls the model {served}" if served else ""


def _streamed(route: Callable[..., ServerCompletion]) -> tuple[State, str]:
    pieces: list[str] = []
    route(pieces.append)
    return ("yes", f"{len(pieces)} pieces") if pieces else ("no", "no chunk of text arrived")


def _seeded(route: Callable[..., ServerCompletion]) -> tuple[State, str]:
    one, same, other = (route(seed=seed, temperature=1.0).text for seed in (1, 1, 2))
    if one != same:
        return "ignored", "equal seeds produce different texts"
    return ("yes", "") if one != other else ("unknown", "different seeds produce the same text")


def _suffix(without: ServerCompletion, with_it: ServerCompletion) -> tuple[State, str]:
    before, after = without.tokens[0], with_it.tokens[0]
    if not (before and after):
        return "unknown", "the server reports no prompt tokens"
    return ("yes", "") if after > before else ("ignored", "it adds no prompt tokens")
