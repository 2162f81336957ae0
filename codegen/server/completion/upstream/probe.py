"""Detects a server's features with a few tiny requests, without trusting its claims.

These ways to request the text between a prefix and a suffix are tried in order; the first that
works is used:

1. llama.cpp's ``/infill``, if ``/props`` shows llama.cpp and the model has infilling tokens;
2. ``suffix`` of ``/completions``, if it makes the prompt longer, because many servers ignore it;
3. the sentinels of the model's family in a raw prompt, if the server maps each to one token;
4. ``/fim/completions``, Mistral's route;
5. only the text before the cursor, if ``/completions`` accepts a raw prompt;
6. chat.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.core.errors import CodegenError, ConfigError, ModelError, nearest
from codegen.core.http_client import Client, RequestFailure, count_of
from codegen.core.terminal import one_line
from codegen.server.completion.prompts import FAMILIES, FimFamily, preferred
from codegen.server.completion.upstream.prompts import Kind, RequestStyle, host_of

_NAMES = (
    ("santacoder", r"santacoder"),
    ("starcoder", r"starcoder|granite|stable-?code"),
    ("deepseek", r"deepseek"),
    ("codellama", r"code-?llama"),
    ("codestral", r"codestral|mistral"),
    ("qwen", r"qwen|codegemma"),
)
_RAW_TOKENS = 6  # maximum tokens of "a = 1"; with more, the server adds a template
_EXTRA_TOKENS = 5  # maximum tokens in addition to the sentinels
_PROMPT = "def add(a, b):\n    return"
_SUFFIX = "\n\n\nprint(add(1, 2))\n"
_LOADING_S = 60.0
_COMPARED = 1000
_LISTED = 5  # maximum model names in a message


@dataclass(frozen=True)
class ServerCapabilities:
    """Features of a server.

    Attributes:
        way: the style in which to request completions.
        context: maximum tokens of a prompt with its completion; 0 if unknown.
    """

    model: str
    way: RequestStyle
    context: int = 0


class Unreachable(ModelError):
    """The server does not respond, or is still starting; retrying may help."""


async def probe(client: Client, model: str, fim: str) -> ServerCapabilities:
    """Detects a server's features.

    Args:
        model: the model's name on the server; empty for its only model.
        fim: way to request completions: ``auto``, ``infill``, ``suffix``, ``route``, ``none``,
            ``chat``, or a sentinel family.

    Raises:
        Unreachable: if the server does not respond.
        ModelError, ConfigError: if it cannot be used.
    """
    try:
        rows = await _models(client)
        props = await _props(client)
        name, row = _chosen(client, rows, model)
        context = count_of(props.get("default_generation_settings"), "n_ctx")
        context = context or count_of(row, "max_model_len")
        async for way in _Ways(client, name, fim, bool(props)).found():
            return ServerCapabilities(name, way, context)
    except RequestFailure as failure:
        raise _error(client, failure) from None
    wish = "no route for completions" if fim == "auto" else f"no completions with -o fim={fim}"
    raise ModelError(
        f"The server at {host_of(client.base)} offers {wish} for the model {name!r}.",
        "Check --upstream (it ends in /v1 for most servers), --model and -o fim.",
    )


async def _models(client: Client) -> list[dict[str, Any]]:
    """Returns the rows of ``/models``; empty without this route."""
    try:
        found = await client.json(f"{client.base}/models")
    except RequestFailure as failure:
        if failure.status in (404, 405, 501):
            return []
        raise
    rows = found.get("data") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise RequestFailure("unexpected response", status=415)
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


async def _props(client: Client) -> dict[str, Any]:
    """Returns llama.cpp's properties; empty for another server."""
    try:
        found = await client.json(f"{client.root}/props")
    except RequestFailure as failure:
        if failure.lost:
            raise
        return {}
    known = isinstance(found, dict) and "default_generation_settings" in found
    return found if known else {}


def _chosen(client: Client, rows: Sequence[dict[str, Any]], model: str) -> tuple[str, Any]:
    """Returns the model's name on the server, and its row of ``/models``."""
    known = {row["id"]: row for row in rows}
    names = list(known)
    shown = ", ".join(one_line(name) for name in names[:_LISTED])
    shown += f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    if not model:
        if len(names) == 1:
            return names[0], known[names[0]]
        if not names:
            raise ModelError(
                f"The server at {host_of(client.base)} lists no models at {client.base}/models.",
                "Check --upstream (it ends in /v1 for most servers), or set --model.",
            )
        raise ConfigError(
            f"The server at {host_of(client.base)} has several models: {shown}.",
            "Choose one with --model.",
        )
    for name in (model, f"{model}:latest"):  # Ollama lists names with a tag
        if name in known or not known:
            return name, known.get(name)
    hint = nearest(model, names[:_COMPARED]) or "Choose another with --model."
    raise ModelError(
        f"The server at {host_of(client.base)} has no model {model!r}; it has {shown}.", hint
    )


def _error(client: Client, failure: RequestFailure) -> CodegenError:
    """Returns the error for a failure at startup, with a remedy."""
    where = f"The server at {host_of(client.base)}"
    said = f": {one_line(failure.words, 200)}" if failure.words else ""
    if failure.lost:
        remedy = "Start it, or check --upstream." if not failure.status else "Try again later."
        return Unreachable(f"{where} does not respond: {failure}{said}.", remedy)
    if failure.status in (401, 403):
        remedy = "Set --api-key-env to an environment variable with a valid key."
        return ModelError(f"{where} rejects the API key: {failure}.", remedy)
    if 300 <= failure.status < 400:
        return ModelError(f"{where} responds with {failure}{said}.", "Check --upstream.")
    if failure.status in (200, 415):
        remedy = "Check --upstream: it ends in /v1 for most servers."
        return ModelError(f"{where} is not OpenAI-compatible: {failure}.", remedy)
    return ModelError(f"{where} rejects the simplest request: {failure}{said}.", "Check --model.")


class _Ways:
    """Working request styles, best first; at most one if ``fim`` is not ``auto``."""

    def __init__(self, client: Client, model: str, fim: str, is_llama: bool) -> None:
        self.client, self.model, self.fim, self.is_llama = client, model, fim, is_llama
        self.text_url = f"{client.base}/completions"

    async def found(self) -> AsyncGenerator[RequestStyle]:
        """Tries the request styles in order and yields those that work."""
        wish = self.fim
        if wish in ("auto", "infill") and self.is_llama and await self._infill():
            yield RequestStyle("infill", f"{self.client.root}/infill", native=True)
        raw = 0
        if wish not in ("infill", "chat", "route"):
            raw = await self._tokens("a = 1")
        if wish in ("auto", "suffix") and raw and await self._takes_suffix():
            yield RequestStyle("suffix", self.text_url)
        families = self._families()
        if raw and families and await self._reads_sentinels(families):
            yield self._text_way("sentinels", preferred(families))
        if wish in ("auto", "route") and await self._takes(self._fim_url(), suffix=_SUFFIX):
            yield RequestStyle("fim", self._fim_url())
        if wish in ("auto", "none") and raw and raw <= _RAW_TOKENS:
            yield self._text_way("prefix")
        if wish in ("auto", "chat"):
            for tokens, temperature in (("max_tokens", True), ("max_completion_tokens", False)):
                url = f"{self.client.base}/chat/completions"
                asked = {"messages": [{"role": "user", "content": "Say yes."}], tokens: 16}
                asked |= {"temperature": 0} if temperature else {}
                if await self._answers(url, asked):
                    yield RequestStyle("chat", url, tokens=tokens, temperature=temperature)

    def _fim_url(self) -> str:
        return f"{self.client.base}/fim/completions"

    def _text_way(self, kind: Kind, family: FimFamily | None = None) -> RequestStyle:
        """Returns llama.cpp's own route if possible, because it accepts a slot."""
        if self.is_llama:
            return RequestStyle(kind, f"{self.client.root}/completion", native=True, family=family)
        return RequestStyle(kind, self.text_url, family=family)

    def _families(self) -> list[FimFamily]:
        """Returns the families to try: the requested ones, else those for the model's name."""
        name = self.fim
        if name == "auto":
            name = next((n for n, known in _NAMES if re.search(known, self.model, re.I)), "")
        return [family for family in FAMILIES if name and name in family.name]

    async def _infill(self) -> bool:
        asked = {"input_prefix": _PROMPT, "input_suffix": _SUFFIX, "n_predict": 1}
        return await self._answers(f"{self.client.root}/infill", asked)

    async def _takes_suffix(self) -> bool:
        """Returns True if the model receives a suffix."""
        without = await self._tokens(_PROMPT)
        return 0 < without < await self._tokens(_PROMPT, suffix=_SUFFIX) - 2

    async def _reads_sentinels(self, families: Sequence[FimFamily]) -> bool:
        """Returns True if each sentinel of a family is one token."""
        family = preferred(families)
        assert family
        parts = {"prefix": "a", "suffix": "b"}
        prompt = "".join(parts.get(part, part) for part in family.parts)
        marks = sum(part not in parts for part in family.parts if part)
        tokens = await self._tokens(prompt)
        return bool(tokens) and tokens <= marks + _EXTRA_TOKENS

    async def _tokens(self, prompt: str, **more: str) -> int:
        """Returns the server's token count of a prompt; 0 if rejected, -1 if not reported."""
        row = await self._post(self.text_url, {"prompt": prompt, "max_tokens": 1, **more})
        return (count_of(row.get("usage"), "prompt_tokens") or -1) if row else 0

    async def _takes(self, url: str, **more: str) -> bool:
        return await self._answers(url, {"prompt": _PROMPT, "max_tokens": 1, **more})

    async def _answers(self, url: str, asked: dict[str, Any]) -> bool:
        return bool(await self._post(url, asked))

    async def _post(self, url: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """Returns the response; None if the server rejects only this request."""
        try:
            # The first request may have to wait until the model is loaded.
            found = await self.client.json(url, {"model": self.model, **asked}, _LOADING_S)
        except RequestFailure as failure:
            if failure.lost or failure.status == 429 or failure.status in (401, 403):
                raise
            return None
        known = isinstance(found, dict) and not found.get("error")
        return found if known else None
