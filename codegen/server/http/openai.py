"""OpenAI's ``/v1/completions``: with a suffix that counts, and foreign sentinels understood.

A prompt alone is continued as it is. With ``suffix``, or with the sentinels of any model family in
the prompt (editors that build the prompt themselves do that), the text between is asked for, in the
layout of the model that is really there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from codegen.errors import InputError
from codegen.server.fim import parse_foreign
from codegen.server.http import fields
from codegen.server.http.backend import Backend, snippets, unnamed
from codegen.server.http.stream import EventStream, unless_left
from codegen.server.requests import Candidate, Completion, CompletionRequest

_MOST = 100_000  # above any limit of the engine, which lowers it silently as servers do
_FILL_LINES = 40


async def completions(backend: Backend, request: Request, body: fields.Body) -> Any:
    """Answers one request; several prompts one after the other."""
    prompts = fields.strings(body, "prompt") or ("",)
    asked = [_asked(body, prompt) for prompt in prompts]
    if fields.flag(body, "stream"):
        if len(asked) > 1 or asked[0].candidates > 1:
            raise InputError("A stream takes one prompt and n = 1.")
        return EventStream(_events(backend, request, body, asked[0]))
    answers = [await unless_left(request, backend.complete(request, one)) for one in asked]
    echo = fields.flag(body, "echo")
    choices = []
    for one, answer in zip(asked, answers, strict=True):
        # A client counts on a choice even where there is nothing to say.
        for candidate in answer.candidates or (Candidate("", 0, "stop"),):
            text = one.prefix + candidate.text if echo else candidate.text
            choices.append(_choice(len(choices), text, candidate))
    return JSONResponse({**_head(backend), "choices": choices, "usage": _usage(answers)})


def _asked(body: fields.Body, prompt: str) -> CompletionRequest:
    suffix = fields.text(body, "suffix")
    foreign = None if suffix else parse_foreign(prompt)
    before = ""
    if foreign:
        prompt, suffix, before = foreign
    infill = bool(suffix) or foreign is not None
    return CompletionRequest(
        unnamed(),
        prompt,
        suffix,
        language=fields.text(body, "language"),
        snippets=snippets([("context", before)]),
        max_tokens=fields.integer(body, "max_tokens", 64 if infill else 16, 1, _MOST),
        candidates=fields.integer(body, "n", 1, 1, 128),
        temperature=fields.number(body, "temperature", 0.0 if infill else 1.0, 0, 100),
        top_p=max(1e-6, fields.number(body, "top_p", 1.0, 0, 1)),
        seed=fields.integer(body, "seed", 0, -(2**63), 2**63),
        stop=fields.strings(body, "stop"),
        multiline="auto" if infill else None,
        max_lines=_FILL_LINES,
    )


async def _events(
    backend: Backend, request: Request, body: fields.Body, asked: CompletionRequest
) -> AsyncIterator[Any]:
    head = _head(backend)
    async for piece in backend.stream(request, asked):
        if isinstance(piece, str):
            yield {**head, "choices": [_choice(0, piece, None)]}
            continue
        last = piece.candidates[0] if piece.candidates else Candidate("", 0, "stop")
        yield {**head, "choices": [_choice(0, "", last)]}
        if fields.flag(fields.mapping(body, "stream_options"), "include_usage"):
            yield {**head, "choices": [], "usage": _usage([piece])}


def _head(backend: Backend) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex[:24]}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": backend.engine.model.name,
    }


def _choice(index: int, text: str, candidate: Candidate | None) -> dict[str, Any]:
    reason = None
    if candidate is not None:
        reason = "length" if candidate.finish == "length" else "stop"
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _usage(answers: list[Completion]) -> dict[str, Any]:
    prompt = sum(answer.prompt_tokens for answer in answers)
    made = sum(candidate.tokens for answer in answers for candidate in answer.candidates)
    cached = sum(answer.reused for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
