"""OpenAI's ``/v1/responses``: a conversation as items, without state.

Nothing is stored: clients send the whole conversation as ``input``, and ``previous_response_id``,
``conversation`` and ``store: true`` are refused. Other fields are treated as in :mod:`.chat`.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.server.http.chat import (
    Message,
    Turn,
    WithoutEffect,
    conversation_request,
    relay,
    turns_of,
)
from codegen.server.http.openai import reason_of, usage_of
from codegen.server.http.wire import (
    Events,
    MostTokens,
    Refused,
    Temperature,
    TopP,
    Unsupported,
    check_model,
    event_stream,
    first_of,
    only,
    read_object,
)
from codegen.server.requests import Candidate, Completion, CompletionRequest
from codegen.server.service import CompletionService
from codegen.server.upstream import Upstream


class Item(Message):
    """An item of ``input``: a message, perhaps with the ``id`` and ``status`` of an answer."""

    without_effect = Message.without_effect | {"id", "status", "phase"}

    type: str = "message"
    role: str = ""


def _as_items(value: object) -> object:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponsesBody(WithoutEffect):
    """OpenAI's responses."""

    without_effect = frozenset({"max_tool_calls", "stream_options"})

    input: Annotated[list[Item], BeforeValidator(_as_items), Field(min_length=1, max_length=10_000)]
    instructions: str = ""
    model: str = ""
    max_output_tokens: MostTokens | None = None
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    stream: bool = False
    text: Annotated[
        Any,
        only(*({"format": {"type": "text"}, **more} for more in ({}, {"verbosity": "medium"}))),
    ] = None
    tools: Unsupported = None
    tool_choice: Annotated[Any, only("none", "auto")] = None
    include: Unsupported = None
    reasoning: Annotated[Any, only({}, {"effort": "none"})] = None
    truncation: Annotated[Any, only("disabled")] = None
    top_logprobs: Unsupported = None
    previous_response_id: Unsupported = None
    conversation: Unsupported = None
    prompt: Unsupported = None
    background: Unsupported = None
    store: Unsupported = None


def _turns(body: ResponsesBody) -> list[Turn]:
    for number, item in enumerate(body.input):
        if item.type != "message":
            raise Refused(
                f"input.{number} has the type {item.type[:40]!r}: this server takes messages only.",
                param=f"input.{number}.type",
            )
    turns = turns_of(body.input, "input")
    if body.instructions:
        turns.insert(0, {"role": "system", "content": body.instructions})
    return turns


async def responses(service: CompletionService, request: Request) -> Response:
    """``/v1/responses``."""
    given = await read_object(request)
    body = ResponsesBody.read(given)
    turns = _turns(body)
    check_model(body.model, service.engine.model)
    if isinstance(upstream := service.engine.model, Upstream):
        return await relay(service, request, upstream, "responses", {**given, "store": False})
    asked = await conversation_request(
        service,
        turns,
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
    )
    found = _Response(service, body)
    if body.stream:
        return await event_stream(request, found.events(service, request, asked))
    return JSONResponse(found.whole(await service.complete(request, asked)))


class _Response:
    """One answer, whole or as events."""

    def __init__(self, service: CompletionService, body: ResponsesBody) -> None:
        self._message = f"msg_{uuid.uuid4().hex}"
        self._head: dict[str, Any] = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": service.engine.model.name,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions or None,
            "max_output_tokens": body.max_output_tokens,
            "metadata": body.metadata or {},
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
        }

    def whole(self, answer: Completion) -> dict[str, Any]:
        """The answer as one object."""
        one = first_of(answer)
        usage = usage_of([answer])
        more: dict[str, Any] = {}
        if reason_of(one) == "length":
            more = {"incomplete_details": {"reason": "max_output_tokens"}}
        return {
            **self._head,
            **more,
            "status": self._status(one),
            "output": [self._item(one)],
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": usage["prompt_tokens_details"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage["total_tokens"],
            },
        }

    async def events(
        self, service: CompletionService, request: Request, asked: CompletionRequest
    ) -> Events:
        """The answer as the events of a stream."""
        numbers = itertools.count()

        def event(name: str, **more: Any) -> dict[str, Any]:
            return {"type": f"response.{name}", "sequence_number": next(numbers), **more}

        part = {"item_id": self._message, "output_index": 0, "content_index": 0}
        begun = {**self._head, "status": "in_progress", "output": [], "usage": None}

        def opening() -> Iterator[dict[str, Any]]:
            yield event("created", response=begun)
            yield event("in_progress", response=begun)
            item = {**self._item(None), "status": "in_progress", "content": []}
            yield event("output_item.added", output_index=0, item=item)
            yield event("content_part.added", **part, part=_part(""))

        opened = False
        async for piece in service.stream(request, asked):
            if not opened:
                for first in opening():
                    yield first
                opened = True
            if isinstance(piece, str):
                yield event("output_text.delta", **part, delta=piece, logprobs=[])
                continue
            one, answer = first_of(piece), self.whole(piece)
            yield event("output_text.done", **part, text=one.text, logprobs=[])
            yield event("content_part.done", **part, part=_part(one.text))
            yield event("output_item.done", output_index=0, item=self._item(one))
            yield event(answer["status"], response=answer)

    def _item(self, one: Candidate | None) -> dict[str, Any]:
        return {
            "type": "message",
            "id": self._message,
            "role": "assistant",
            "status": self._status(one),
            "content": [_part(one.text if one else "")],
        }

    def _status(self, one: Candidate | None) -> str:
        return "incomplete" if one and reason_of(one) == "length" else "completed"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
