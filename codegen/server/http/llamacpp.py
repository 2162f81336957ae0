"""llama.cpp's API: ``/infill``, ``/props``, ``/tokenize``, ``/detokenize`` and ``/apply-template``.

``/infill`` has the fields that llama.vim and llama.vscode use. Its answer has no space after
colons: llama.vim drops answers without ``"content":"``. Numbers above a limit of the engine are
lowered, as in llama.cpp's server.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen import __version__
from codegen.generation import SamplingParams
from codegen.server.http.chat import Message, render, turns_of
from codegen.server.http.openai import UNNAMED
from codegen.server.http.wire import (
    MOST_TOKENS,
    Body,
    Count,
    Events,
    Refused,
    Strings,
    Temperature,
    TopP,
    Whole,
    event_stream,
    local_model,
    read_object,
    snippets,
)
from codegen.server.model import CompletionModel
from codegen.server.requests import Candidate, Completion, CompletionRequest
from codegen.server.service import CompletionService

_MOST_MS = 3_600_000
_MOST_SNIPPETS = 256
_STOP_TYPES = {"eos": "eos", "length": "limit", "stop": "word"}


class ExtraFile(Body):
    """A chunk of another file in llama.cpp's ``input_extra``."""

    filename: str = ""
    text: str = ""


class InfillBody(Body):
    """llama.cpp's ``/infill``; ``n_predict`` 0 warms up, -1 is the default."""

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[ExtraFile] = []
    prompt: str = ""
    language: str = ""
    n_predict: Annotated[Whole, Field(ge=-1, le=MOST_TOKENS)] = -1
    n_cmpl: Count | None = None
    n: Count = 1
    samplers: Any = None
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    seed: Annotated[Whole, Field(ge=-1, le=2**63)] = 0
    stop: Strings = []
    t_max_predict_ms: Annotated[float, Field(ge=-1, le=_MOST_MS)] = 0
    response_fields: Strings = []
    stream: bool = False


async def infill(service: CompletionService, request: Request) -> Response:
    """Answers one request."""
    given = await read_object(request)
    for key in ("input_prefix", "input_suffix"):
        if key not in given:
            raise Refused(f'"{key}" is required.')
    body = InfillBody.read(given)
    asked = _infill_request(body)
    if body.n_predict == 0:
        # A warm-up: the context is encoded while nothing else runs.
        service.warm_up(request, asked)
        return JSONResponse(_row(service, asked, Completion(()), Candidate("", 0, "length"), 0))
    if body.stream:
        return await event_stream(request, _events(service, request, asked))
    answer = await service.complete(request, asked)
    found = answer.candidates or (Candidate("", 0, "eos"),)
    rows = [_row(service, asked, answer, one, number) for number, one in enumerate(found)]
    if body.response_fields:
        rows = [_selected(row, body.response_fields) for row in rows]
    return JSONResponse(rows if asked.candidates > 1 else rows[0])


def _infill_request(body: InfillBody) -> CompletionRequest:
    sampled = not isinstance(body.samplers, list) or "temperature" in body.samplers
    extra = [(one.filename, one.text) for one in body.input_extra[-_MOST_SNIPPETS:]]
    limit_ms = body.t_max_predict_ms
    return CompletionRequest(
        UNNAMED,
        body.input_prefix + body.prompt,
        body.input_suffix,
        language=body.language,
        snippets=snippets(extra),
        candidates=body.n if body.n_cmpl is None else body.n_cmpl,
        params=SamplingParams(
            max_new_tokens=body.n_predict if body.n_predict > 0 else 128,
            temperature=body.temperature if sampled else 0.0,
            top_p=body.top_p,
            seed=max(0, body.seed),
        ),
        stop=tuple(body.stop),
        deadline_s=limit_ms / 1e3 if limit_ms > 0 else 20.0,
    )


async def _events(service: CompletionService, request: Request, asked: CompletionRequest) -> Events:
    async for piece in service.stream(request, asked):
        if isinstance(piece, str):
            yield {"index": 0, "content": piece, "stop": False}
            continue
        last = piece.candidates[0] if piece.candidates else Candidate("", 0, "eos")
        yield {**_row(service, asked, piece, last, 0), "content": ""}


def _row(
    service: CompletionService,
    asked: CompletionRequest,
    answer: Completion,
    one: Candidate,
    number: int,
) -> dict[str, Any]:
    encode_ms = answer.stages.get("encode", 0.0) * 1e3
    decode_ms = answer.stages.get("decode", 0.0) * 1e3
    return {
        "index": number,
        "content": one.text,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": service.engine.model.name,
        "tokens_predicted": one.completion_tokens,
        "tokens_evaluated": answer.reused + answer.encoded,
        "tokens_cached": answer.reused,
        "has_new_line": "\n" in one.text,
        "truncated": False,
        "stop_type": _STOP_TYPES[one.finish_reason],
        "stopping_word": "",
        "prompt": "",
        "generation_settings": {
            "n_predict": asked.params.max_new_tokens,
            "temperature": asked.params.temperature,
        },
        "timings": {
            "cache_n": answer.reused,
            "prompt_n": answer.encoded,
            "prompt_ms": encode_ms,
            **_rates("prompt", answer.encoded, encode_ms),
            "predicted_n": one.completion_tokens,
            "predicted_ms": decode_ms,
            **_rates("predicted", one.completion_tokens, decode_ms),
        },
    }


def _rates(name: str, count: int, ms: float) -> dict[str, float]:
    return {
        f"{name}_per_token_ms": ms / max(1, count),
        f"{name}_per_second": count / ms * 1e3 if ms else 0.0,
    }


def _selected(row: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """The wanted fields under the names of the request: ``timings/prompt_n``."""
    found: dict[str, Any] = {}
    for name in wanted:
        value: Any = row
        for key in name.split("/"):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


async def props(service: CompletionService, _: Request) -> Response:
    """``/props``: what clients of llama.cpp's server request at their start."""
    model, limits = service.engine.model, service.engine.limits
    tokenizer = model.tokenizer if isinstance(model, CompletionModel) else None
    return JSONResponse(
        {
            "default_generation_settings": {"n_ctx": service.engine.model.longest},
            "total_slots": limits.together,
            "model_alias": model.name,
            "model_path": model.name,
            "chat_template": getattr(tokenizer, "chat_template", "") or "",
            "bos_token": getattr(tokenizer, "bos_token", "") or "",
            "eos_token": getattr(tokenizer, "eos_token", "") or "",
            "build_info": f"codegen {__version__}",
            "is_sleeping": False,
        }
    )


class TokenizeBody(Body):
    """``/tokenize`` of llama.cpp (``content``) and of vLLM (``prompt``)."""

    content: str = ""
    prompt: str = ""
    add_special: bool = False
    add_special_tokens: bool = False
    with_pieces: bool = False


async def tokenize(service: CompletionService, request: Request) -> Response:
    """``/tokenize``: ids of a text, whose control tokens are read as such."""
    body, model = TokenizeBody.read(await read_object(request)), local_model(service, "/tokenize")
    core, special = model.tokenizer.backend_tokenizer, body.add_special or body.add_special_tokens

    def tokens() -> list[Any]:
        # Unlike encode, encode_batch lets other threads run meanwhile: there may be megabytes.
        (found,) = core.encode_batch([body.content + body.prompt], add_special_tokens=special)
        if not body.with_pieces:
            return found.ids
        return [{"id": token, "piece": model.tokenizer.decode([token])} for token in found.ids]

    found = await asyncio.to_thread(tokens)
    return JSONResponse({"tokens": found, "count": len(found), "max_model_len": model.longest})


class DetokenizeBody(Body):
    """``/detokenize``."""

    tokens: Annotated[list[Annotated[Whole, Field(ge=0)]], Field(max_length=MOST_TOKENS)]


async def detokenize(service: CompletionService, request: Request) -> Response:
    """``/detokenize``: the text of ids."""
    model = local_model(service, "/detokenize")
    body = DetokenizeBody.read(await read_object(request))
    if unknown := [token for token in body.tokens if token >= len(model.vocabulary.tokens)]:
        raise Refused(f"The model has no token {unknown[0]}.", param="tokens")
    text = model.tokenizer.backend_tokenizer.decode(body.tokens, skip_special_tokens=False)
    return JSONResponse({"content": text, "prompt": text})


class TemplateBody(Body):
    """``/apply-template``."""

    messages: Annotated[list[Message], Field(min_length=1)]


async def apply_template(service: CompletionService, request: Request) -> Response:
    """``/apply-template``: a conversation rendered for the model."""
    body = TemplateBody.read(await read_object(request))
    text, _ = await render(service, turns_of(body.messages))
    return JSONResponse({"prompt": text})
