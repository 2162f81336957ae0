"""llama.cpp's ``/infill``, with the fields that llama.vim and llama.vscode use.

The answer has no space behind its colons: llama.vim drops one that does not hold ``"content":"``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from codegen.errors import InputError
from codegen.server.http import fields
from codegen.server.http.backend import Backend, snippets, unnamed
from codegen.server.http.stream import EventStream, unless_left
from codegen.server.requests import Candidate, Completion, CompletionRequest

_MOST_MS = 3_600_000
_STOP_TYPES = {"eos": "eos", "length": "limit", "stop": "word"}


async def infill(backend: Backend, request: Request, body: fields.Body) -> Any:
    """Answers one request."""
    for key in ("input_prefix", "input_suffix"):
        if key not in body:
            raise InputError(f'"{key}" is required.')
    asked = _asked(body)
    if body.get("n_predict") == 0:
        # A warm-up: the context is encoded while nothing else is to do, and nobody waits for it.
        backend.warm_up(request, asked)
        return JSONResponse(_row(backend, asked, Completion(()), Candidate("", 0, "length"), 0))
    wanted = tuple(fields.strings(body, "response_fields"))
    if fields.flag(body, "stream"):
        return EventStream(_events(backend, request, asked), last=None)
    answer = await unless_left(request, backend.complete(request, asked))
    found = answer.candidates or (Candidate("", 0, "eos"),)
    rows = [_row(backend, asked, answer, one, number) for number, one in enumerate(found)]
    if wanted:
        rows = [_selected(row, wanted) for row in rows]
    return JSONResponse(rows if asked.candidates > 1 else rows[0])


def _asked(body: fields.Body) -> CompletionRequest:
    extra = [
        (fields.text(item, "filename"), fields.text(item, "text"))
        for item in fields.objects(body, "input_extra")
    ]
    samplers = body.get("samplers")
    drawn = not isinstance(samplers, list) or "temperature" in samplers
    limit_ms = fields.number(body, "t_max_predict_ms", 0, -1, _MOST_MS)
    count = "n_cmpl" if "n_cmpl" in body else "n"
    most = fields.integer(body, "n_predict", -1, -1, 100_000)
    return CompletionRequest(
        unnamed(),
        fields.text(body, "input_prefix") + fields.text(body, "prompt"),
        fields.text(body, "input_suffix"),
        language=fields.text(body, "language"),
        snippets=snippets(extra),
        max_tokens=most if most > 0 else 128,
        candidates=fields.integer(body, count, 1, 1, 128),
        temperature=fields.number(body, "temperature", 0.0, 0, 100) if drawn else 0.0,
        top_p=max(1e-6, fields.number(body, "top_p", 1.0, 0, 1)),
        seed=max(0, fields.integer(body, "seed", 0, -1, 2**63)),
        stop=fields.strings(body, "stop"),
        deadline_s=limit_ms / 1e3 if limit_ms > 0 else 20.0,
    )


async def _events(
    backend: Backend, request: Request, asked: CompletionRequest
) -> AsyncIterator[Any]:
    async for piece in backend.stream(request, asked):
        if isinstance(piece, str):
            yield {"index": 0, "content": piece, "stop": False}
            continue
        last = piece.candidates[0] if piece.candidates else Candidate("", 0, "eos")
        yield {**_row(backend, asked, piece, last, 0), "content": ""}


def _row(
    backend: Backend, asked: CompletionRequest, answer: Completion, one: Candidate, number: int
) -> dict[str, Any]:
    encode_ms = answer.stages.get("encode", 0.0) * 1e3
    decode_ms = answer.stages.get("decode", 0.0) * 1e3
    return {
        "index": number,
        "content": one.text,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": backend.engine.model.name,
        "tokens_predicted": one.tokens,
        "tokens_evaluated": answer.reused + answer.encoded,
        "tokens_cached": answer.reused,
        "has_new_line": "\n" in one.text,
        "truncated": False,
        "stop_type": _STOP_TYPES[one.finish],
        "stopping_word": "",
        "prompt": "",
        "generation_settings": {"n_predict": asked.max_tokens, "temperature": asked.temperature},
        "timings": {
            "cache_n": answer.reused,
            "prompt_n": answer.encoded,
            "prompt_ms": encode_ms,
            **_rates("prompt", answer.encoded, encode_ms),
            "predicted_n": one.tokens,
            "predicted_ms": decode_ms,
            **_rates("predicted", one.tokens, decode_ms),
        },
    }


def _rates(name: str, count: int, ms: float) -> dict[str, float]:
    return {
        f"{name}_per_token_ms": ms / max(1, count),
        f"{name}_per_second": count / ms * 1e3 if ms else 0.0,
    }


def _selected(row: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
    """The wanted fields under the names they were asked by: ``timings/prompt_n``."""
    found: dict[str, Any] = {}
    for name in wanted:
        value: Any = row
        for key in name.split("/"):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found
