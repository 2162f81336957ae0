"""Ollama's API: ``/api/generate`` (also with ``suffix``), ``/api/chat``, and model information.

Streams, Ollama's default, have one JSON object per line. Options that would change the text are
honored or rejected; options about memory and threads are accepted and ignored.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.core.http_client import count_of
from codegen.server.completion.model import CompletionModel
from codegen.server.completion.requests import Candidate, CompletionResult
from codegen.server.completion.upstream import LlamaUpstream, Upstream
from codegen.server.completion.upstream.source import read_row
from codegen.server.http import bodies
from codegen.server.http.chat import Message, conversation_request, turns_of
from codegen.server.http.completion_service import CompletionService, unless_left
from codegen.server.http.openai import TextBody, decoded_by, reason_of, text_request

_TEMPERATURE = 0.8  # Ollama's default
_TOP_P = 0.9
_LOADED = {"done": True, "done_reason": "load"}  # the response to a request without a prompt
_VERSION = "0.12.11"  # version of Ollama with these fields; clients check it


class Options(bodies.StrictBody):
    """Ollama's ``options``."""

    ignored = frozenset({
        "repeat_last_n", "mirostat_eta", "mirostat_tau", "penalize_newline", "draft_num_predict",
        "num_keep", "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "numa", "low_vram",
        "use_mmap", "use_mlock", "vocab_only", "f16_kv",
    })  # fmt: skip
    neutral = {name: [1] for name in ("typical_p", "tfs_z", "repeat_penalty")}

    num_predict: Annotated[bodies.Whole, Field(ge=-2, le=bodies.MOST_TOKENS)] = -1
    temperature: bodies.Temperature | None = None
    top_p: bodies.TopP | None = None
    top_k: Annotated[bodies.Whole, Field(ge=-1)] = 0
    seed: bodies.Seed | None = None
    stop: bodies.Strings = []


class _Body(bodies.StrictBody):
    ignored = frozenset({"keep_alive", "truncate", "shift"})

    model: str
    stream: bool = True
    options: Options = Options()


class GenerateBody(_Body):
    """Body of ``/api/generate``."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    raw: bool = False


class OllamaMessage(Message):
    """Turn of ``/api/chat``."""

    ignored = Message.ignored | {"tool_name"}


class OllamaChatBody(_Body):
    """Body of ``/api/chat``."""

    messages: Annotated[list[OllamaMessage], Field(max_length=10_000)] = []


async def generate(service: CompletionService, request: Request) -> Response:
    """Handles ``/api/generate``: the text between ``prompt`` and ``suffix``; with ``raw`` the
    continuation of ``prompt``, else the response to it.
    """
    body = GenerateBody.read(await bodies.read_object(request))
    source, options = service.engine.source, body.options
    bodies.check_model(body.model, source)
    if not (body.prompt or body.suffix):
        return JSONResponse({**_head(service), **_response(""), **_LOADED})
    if body.suffix or body.raw or not _chats(service):
        text = TextBody(
            suffix=body.suffix,
            max_tokens=options.num_predict if options.num_predict > 0 else 128,
            temperature=_temperature(options, 0.0 if body.suffix else _TEMPERATURE),
            top_p=options.top_p or _TOP_P,
            top_k=options.top_k,
            seed=options.seed or 0,
            stop=options.stop,
        )
        asked = text_request(service, text, body.prompt)
        pieces = service.stream(request, asked)
        return await _answer(service, request, pieces, body.stream, _response)
    turns = [{"role": "system", "content": body.system}] if body.system else []
    turns.append({"role": "user", "content": body.prompt})
    return await _converse(service, request, turns, body, _response)


async def chat(service: CompletionService, request: Request) -> Response:
    """Handles ``/api/chat``."""
    body = OllamaChatBody.read(await bodies.read_object(request))
    bodies.check_model(body.model, service.engine.source)
    if not body.messages:
        return JSONResponse({**_head(service), **_message(""), **_LOADED})
    return await _converse(service, request, turns_of(body.messages), body, _message)


def _response(text: str) -> dict[str, Any]:
    return {"response": text}


def _message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


async def _converse(
    service: CompletionService,
    request: Request,
    turns: list[dict[str, str]],
    body: _Body,
    said: Callable[[str], dict[str, Any]],
) -> Response:
    """Generates a conversation's next turn, in this process or with the upstream's chat route."""
    options = body.options
    max_tokens = options.num_predict if options.num_predict > 0 else None
    params: dict[str, Any] = {
        "temperature": _temperature(options, _TEMPERATURE),
        "top_p": options.top_p or _TOP_P,
    }
    # Some servers lack these fields, so an upstream gets only fields that the client has set.
    more = {
        "seed": options.seed,
        "stop": options.stop,
        "top_k": max(0, options.top_k),
    }
    source = service.engine.source
    if not isinstance(source, Upstream):
        asked = await conversation_request(
            service, turns, max_tokens=max_tokens, **params, **{**more, "stop": tuple(options.stop)}
        )
        pieces = service.stream(request, asked)
        return await _answer(service, request, pieces, body.stream, said)
    params |= {"model": source.name, "messages": turns}
    params |= {name: value for name, value in more.items() if value}
    params |= {} if options.seed is None else {"seed": options.seed}
    params |= {"max_tokens": max_tokens} if max_tokens else {}
    if body.stream and isinstance(source, LlamaUpstream):
        params["stream_options"] = {"include_usage": True}
    route, limit_s = "chat/completions", service.engine.limits.conversation_s
    rows = (
        source.stream(route, params) if body.stream else _row(source.json(route, params, limit_s))
    )
    pieces = _pieces(rows)
    return await _answer(service, request, pieces, body.stream, said)


async def _row(work: Awaitable[Any]) -> AsyncGenerator[dict[str, Any]]:
    yield await work


async def _pieces(rows: AsyncGenerator[dict[str, Any]]) -> AsyncIterator[str | CompletionResult]:
    """Converts an upstream's stream; without a token count, chunks count as tokens."""
    began = first = time.perf_counter()
    texts: list[str] = []
    usage, finish = None, "eos"
    async with aclosing(rows):
        async for row in rows:
            text, reason = read_row(row)
            usage, finish = row.get("usage") or usage, reason or finish
            if text:
                first = first if texts else time.perf_counter()
                texts.append(text)
                yield text
    tokens = count_of(usage, "completion_tokens") or len(texts)
    reason = "length" if finish == "length" else "eos"
    yield CompletionResult(
        (Candidate("".join(texts), tokens, reason),),
        prompt_tokens=count_of(usage, "prompt_tokens"),
        stages={"encode": first - began, "decode": time.perf_counter() - first},
    )


def _chats(service: CompletionService) -> bool:
    """Returns True if prompts are treated as user turns."""
    source = service.engine.source
    return not isinstance(source, CompletionModel) or bool(source.tokenizer.chat_template)


def _temperature(options: Options, default: float) -> float:
    return default if options.temperature is None else options.temperature


async def _answer(
    service: CompletionService,
    request: Request,
    pieces: AsyncIterator[str | CompletionResult],
    stream: bool,
    said: Callable[[str], dict[str, Any]],
) -> Response:
    if stream:
        return await bodies.line_stream(request, _lines(service, pieces, said))
    began = time.perf_counter()
    answer = await unless_left(request, _last(pieces))
    text = bodies.first_of(answer).text
    return JSONResponse({**_head(service), **said(text), **_end(answer, began)})


async def _last(pieces: AsyncIterator[str | CompletionResult]) -> CompletionResult:
    found = [piece async for piece in pieces if isinstance(piece, CompletionResult)]
    return found[-1]


async def _lines(
    service: CompletionService,
    pieces: AsyncIterator[str | CompletionResult],
    said: Callable[[str], dict[str, Any]],
) -> bodies.Events:
    began = time.perf_counter()
    async for piece in pieces:
        if isinstance(piece, str):
            yield {**_head(service), **said(piece), "done": False}
        else:
            yield {**_head(service), **said(""), **_end(piece, began)}


def _head(service: CompletionService) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return {"model": service.engine.source.name, "created_at": now}


def _end(answer: CompletionResult, began: float) -> dict[str, Any]:
    def nanoseconds(seconds: float) -> int:
        return int(seconds * 1e9)

    stages = answer.stages
    return {
        "done": True,
        "done_reason": reason_of(bodies.first_of(answer)),
        "total_duration": nanoseconds(time.perf_counter() - began),
        "load_duration": 0,
        "prompt_eval_count": answer.prompt_tokens,
        "prompt_eval_duration": nanoseconds(stages.get("encode", 0) + stages.get("recompute", 0)),
        "eval_count": decoded_by([answer]),
        "eval_duration": nanoseconds(stages.get("decode", 0)),
    }


# Most details of the weights are unknown; for an upstream server, all are.
_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


async def tags(service: CompletionService, _: Request) -> Response:
    """Handles ``/api/tags``: lists the loaded model."""
    source = service.engine.source
    entry = {
        "name": source.name,
        "model": source.name,
        "modified_at": "1970-01-01T00:00:00Z",
        "size": 0,
        "digest": source.fingerprint if isinstance(source, CompletionModel) else "",
        "details": _DETAILS,
    }
    return JSONResponse({"models": [entry]})


class ShowBody(bodies.StrictBody):
    """Body of ``/api/show``."""

    ignored = frozenset({"verbose", "system", "template", "options"})

    model: str = ""


async def show(service: CompletionService, request: Request) -> Response:
    """Handles ``/api/show``."""
    body, source = ShowBody.read(await bodies.read_object(request)), service.engine.source
    bodies.check_model(body.model, source)
    fills = False
    if isinstance(source, CompletionModel):
        fills = source.family is not None
    elif isinstance(source, Upstream):
        fills = bool(source.offer) and source.offer.way.kind not in ("prefix", "chat")
    return JSONResponse(
        {
            "modelfile": "",
            "parameters": f"num_ctx {source.longest}",
            "template": "",
            "details": _DETAILS,
            "model_info": {
                "general.architecture": "unknown",
                "unknown.context_length": source.longest,
            },
            "capabilities": ["completion", *(["insert"] if fills else [])],
            "modified_at": "1970-01-01T00:00:00Z",
        }
    )


async def version(_: CompletionService, __: Request) -> Response:
    """Handles ``/api/version``: the version of Ollama's API."""
    return JSONResponse({"version": _VERSION})
