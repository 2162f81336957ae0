"""OpenAI's ``/v1/chat/completions``; Mistral's ``/v1/fim/completions``, with the same responses.

A conversation is rendered with the model's chat template. It runs in the engine together with
editors' requests, which take precedence. Its states are cached, so the next turn encodes only new
tokens. Text in the turns is never tokenized as control tokens. Each field is honored, ignored as it
does not affect the text, or rejected by name; docs/editor.md has the table.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.core.errors import ModelError
from codegen.generation import SamplingParams
from codegen.models.chat import conversation
from codegen.server.completion.requests import CompletionRequest
from codegen.server.completion.upstream import Upstream
from codegen.server.http import bodies, openai
from codegen.server.http.completion_service import CompletionService, unless_left

_HEAD_LINES = 60  # number of first lines that identify a conversation
_FIM_TOKENS = 64
_ROLES = ("system", "user", "assistant")

Turn = dict[str, str]


class Message(bodies.StrictBody):
    """One turn of a conversation."""

    ignored = frozenset({"tool_call_id"})  # tool messages are rejected by role

    role: str
    content: bodies.Content | None = None


class ChatBody(openai.OpenAIFields, bodies.StrictBody):
    """Body of OpenAI's chat completions."""

    ignored = frozenset({
        "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "parallel_tool_calls", "cache_prompt", "id_slot",
    })  # fmt: skip
    neutral = {
        "tool_choice": ["none", "auto"],
        "function_call": ["none", "auto"],
        "response_format": [{"type": "text"}],
        "modalities": [["text"]],
        "reasoning_effort": ["none"],
        "verbosity": ["medium"],
        "repeat_penalty": [1],
        "repetition_penalty": [1],
    }

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    model: str = ""
    max_completion_tokens: bodies.MostTokens | None = None
    temperature: bodies.Temperature = 1.0
    seed: bodies.Seed | None = None


class FimBody(bodies.StrictBody):
    """Body of Mistral's and DeepSeek's infilling."""

    ignored = frozenset({"metadata", "prompt_cache_key"})

    prompt: str
    suffix: str = ""
    model: str = ""
    max_tokens: bodies.MostTokens | None = None
    temperature: bodies.Temperature | None = None
    top_p: bodies.TopP = 1.0
    stop: bodies.Strings = []
    stream: bool = False
    random_seed: bodies.Seed = 0


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """Converts messages for a chat template.

    Raises:
        RequestRejected: if a role is not system, developer, user or assistant, or content is not
            text.
    """
    turns: list[Turn] = []
    for number, message in enumerate(messages):
        where, role = f"messages.{number}", message.role
        if role in ("tool", "function"):
            raise bodies.RequestRejected(
                f"{where} has the role {role!r}: this server has no tools.", param=f"{where}.role"
            )
        role = "system" if role == "developer" else role
        if role not in _ROLES:
            raise bodies.RequestRejected(
                f"{where} has the role {message.role[:40]!r}: choose {', '.join(_ROLES)}.",
                param=f"{where}.role",
            )
        if message.content is None:
            raise bodies.RequestRejected(f"{where}.content is required.", param=f"{where}.content")
        turns.append({"role": role, "content": bodies.text_of(message.content, f"{where}.content")})
    return turns


def _too_long(count: object, longest: int) -> bodies.RequestRejected:
    return bodies.RequestRejected(
        f"The conversation has {count} tokens; the limit is {longest}, including the response.",
        code="context_length_exceeded",
        param="messages",
    )


async def conversation_request(
    service: CompletionService,
    turns: list[Turn],
    *,
    max_tokens: int | None,
    temperature: float,
    top_p: float,
    seed: int | None = None,
    **more: Any,
) -> CompletionRequest:
    """Builds the engine's request for the next turn of a conversation.

    Args:
        max_tokens: maximum tokens of the response; None for as many as fit.
        temperature, top_p: see :class:`SamplingParams`.
        seed: None chooses a random one, so that repeated requests return different responses.

    Raises:
        RequestRejected: if the conversation is too long, or the model's template is missing or
            rejects it.
    """
    model = bodies.local_model(service, "A conversation in this dialect")
    if sum(len(turn["content"]) for turn in turns) > model.longest * openai.CHARS_A_TOKEN:
        raise _too_long(f"over {model.longest}", model.longest)
    control = model.prompter.control
    try:
        text, ids = await asyncio.to_thread(conversation, model.tokenizer, turns, control)
    except ModelError as error:
        raise bodies.RequestRejected(
            f"{error.message} Use /v1/completions to continue text."
        ) from None
    room = model.longest - len(ids)
    if room < 1:
        raise _too_long(len(ids), model.longest)
    return CompletionRequest(
        openai.UNNAMED,
        "\n".join(text.splitlines()[:_HEAD_LINES]),
        tokens=tuple(ids),
        low_priority=True,
        params=SamplingParams(
            max_new_tokens=min(max_tokens or room, room),
            temperature=temperature,
            top_p=top_p,
            seed=secrets.randbits(63) if seed is None else seed,
        ),
        multiline=None,
        deadline_s=service.engine.limits.conversation_s,
        **more,
    )


async def chat_completions(service: CompletionService, request: Request) -> Response:
    """Handles ``/v1/chat/completions``."""
    given = await bodies.read_object(request)
    body = ChatBody.read(given)
    turns = turns_of(body.messages)
    bodies.check_model(body.model, service.engine.source)
    if isinstance(upstream := service.engine.source, Upstream):
        return await relay(service, request, upstream, "chat/completions", given)
    prediction = openai.check_together(service, body.n, body.prediction)
    if body.stream and body.n > 1:
        raise bodies.RequestRejected("A stream requires n = 1.", param="n")
    asked = await conversation_request(
        service,
        turns,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        candidates=body.n,
        stop=tuple(body.stop),
        prediction=prediction,
        top_k=max(0, body.top_k),
    )
    return await _answer(service, request, asked, body.stream, body.stream_options.include_usage)


async def fim_completions(service: CompletionService, request: Request) -> Response:
    """Handles ``/v1/fim/completions``."""
    body = FimBody.read(await bodies.read_object(request))
    bodies.check_model(body.model, service.engine.source)
    text = openai.TextBody(
        suffix=body.suffix,
        max_tokens=body.max_tokens or _FIM_TOKENS,
        temperature=body.temperature or 0.0,
        top_p=body.top_p,
        seed=body.random_seed,
        stop=body.stop,
    )
    asked = openai.text_request(service, text, body.prompt)
    return await _answer(service, request, asked, body.stream, True)


async def relay(
    service: CompletionService,
    request: Request,
    upstream: Upstream,
    route: str,
    given: dict[str, Any],
) -> Response:
    """Forwards a checked conversation to an upstream route, and returns its response; closes the
    upstream connection when the client disconnects.

    Raises:
        InputError: if the upstream server rejects it.
        Unavailable: if the server does not respond.
    """
    body = {**given, "model": upstream.name}
    if given.get("stream"):
        rows = upstream.stream(route, body)
        return await bodies.event_stream(request, rows, "[DONE]")
    work = upstream.json(route, body, service.engine.limits.conversation_s)
    return JSONResponse(await unless_left(request, work))


async def _answer(
    service: CompletionService,
    request: Request,
    asked: CompletionRequest,
    stream: bool,
    usage: bool,
) -> Response:
    if stream:
        return await bodies.event_stream(request, _events(service, request, asked, usage), "[DONE]")
    answer = await service.complete(request, asked)
    found = answer.candidates or (bodies.first_of(answer),)
    choices = [
        {
            "index": number,
            "message": {"role": "assistant", "content": one.text, "refusal": None},
            "logprobs": None,
            "finish_reason": openai.reason_of(one),
        }
        for number, one in enumerate(found)
    ]
    head = openai.head_of(service, "chatcmpl", "chat.completion")
    return JSONResponse({**head, "choices": choices, "usage": openai.usage_of([answer])})


async def _events(
    service: CompletionService, request: Request, asked: CompletionRequest, usage: bool
) -> bodies.Events:
    head = openai.head_of(service, "chatcmpl", "chat.completion.chunk")

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice]}

    role = {"role": "assistant"}
    async for piece in service.stream(request, asked):
        if isinstance(piece, str):
            yield chunk({**role, "content": piece})
            role = {}
            continue
        yield chunk(role, openai.reason_of(bodies.first_of(piece)))
        if usage:
            yield {**head, "choices": [], "usage": openai.usage_of([piece])}
