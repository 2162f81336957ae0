"""OpenAI's ``/v1/completions``, with infilling by ``suffix`` or by any model's sentinels.

A plain prompt is continued. With ``suffix``, or with the sentinels of any model family in the
prompt (some editors build the prompt themselves), the gap is completed in the loaded model's
layout. A prompt in one of Zed's formats for next edits (:mod:`codegen.edits.prompts`) gets
a response in that format from the model for next edits. ``model`` may be any name, because editors
send whatever their users typed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.edits.prompts import EditorPrompt, read_editor_prompt
from codegen.generation import SamplingParams
from codegen.server.completion.engine import CompletionSource
from codegen.server.completion.prompts import parse_foreign
from codegen.server.completion.requests import (
    Candidate,
    CompletionRequest,
    CompletionResult,
    DocumentKey,
)
from codegen.server.http import bodies
from codegen.server.http.completion_service import CompletionService
from codegen.server.next_edits.proposals import NextEditor

UNNAMED = DocumentKey("", "", "")
# Longer text is rejected before tokenization, because code has fewer characters per token.
CHARS_A_TOKEN = 16
_FILL_LINES = 40
_UNSUPPORTED = ("logprobs", "logit_bias", "presence_penalty", "frequency_penalty")


class StreamOptions(bodies.JsonBody):
    """OpenAI's ``stream_options``."""

    include_usage: bool = False


class OpenAIFields(bodies.JsonBody):
    """Common fields of OpenAI's completions and chat completions."""

    max_tokens: bodies.MostTokens | None = None
    n: bodies.Count = 1
    top_p: bodies.TopP = 1.0
    top_k: Annotated[bodies.Whole, Field(ge=-1)] = 0
    prediction: bodies.Prediction | None = None
    stop: bodies.Strings = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()


class TextBody(OpenAIFields):
    """Body of OpenAI's completions. Fields that default to None depend on the kind of prompt.

    ``language`` and ``certain`` are extensions. If ``certain`` is false, the response is the fast
    one and adds ``certain`` and ``next_edits`` (whether prompts for next edits are supported).
    """

    prompt: bodies.Strings = []
    suffix: str = ""
    language: str = ""
    best_of: Annotated[bodies.Whole, Field(ge=1, le=1)] = 1
    temperature: bodies.Temperature | None = None
    seed: bodies.Seed = 0
    echo: bool = False
    certain: bool = True


async def completions(
    service: CompletionService, request: Request, given: dict[str, Any]
) -> Response:
    """Handles ``/v1/completions``; several prompts run one after the other."""
    body = TextBody.read(given)
    for name in _UNSUPPORTED:
        if given.get(name):
            raise bodies.RequestRejected(
                f"This server does not support the field {name}.", param=name
            )
    editor = service.next_edits if len(body.prompt) == 1 else None
    if editor and (edit := read_editor_prompt(body.prompt[0])):
        return await _next_edit(service, editor, request, body, edit)
    asked = [text_request(service, body, prompt) for prompt in body.prompt or [""]]
    if body.stream:
        if len(asked) > 1 or asked[0].candidates > 1:
            raise bodies.RequestRejected("A stream requires one prompt and n = 1.", param="stream")
        pieces = service.stream(request, asked[0])
        return await bodies.event_stream(request, _events(service, pieces, body), "[DONE]")
    answers = [await service.complete(request, one) for one in asked]
    choices = []
    for one, answer in zip(asked, answers, strict=True):
        # Clients expect a choice even if it is empty.
        for candidate in answer.candidates or (bodies.first_of(answer),):
            text = one.prefix + candidate.text if body.echo else candidate.text
            choices.append(_choice(len(choices), text, candidate))
    found = {**_head(service), "choices": choices, "usage": usage_of(answers)}
    if not body.certain:
        found["certain"] = all(answer.is_certain for answer in answers)
        found["next_edits"] = service.next_edits is not None
    return JSONResponse(found)


async def _next_edit(
    service: CompletionService,
    editor: NextEditor,
    request: Request,
    body: TextBody,
    asked: EditorPrompt,
) -> Response:
    """Handles an editor's prompt for a next edit; streams send the whole edit in one event.

    Raises:
        RequestRejected: if fields cannot be combined.
    """
    if body.n > 1 or body.echo:
        raise bodies.RequestRejected("A next edit requires n = 1 without echo.", param="n")
    text = asked.answer(await service.next_edit(editor, request, asked.edit))
    for stop in body.stop:
        text = text.partition(stop)[0]
    answer = CompletionResult((Candidate(text, 0, "stop"),))
    if body.stream:

        async def pieces() -> AsyncIterator[str | CompletionResult]:
            yield text
            yield answer

        return await bodies.event_stream(request, _events(service, pieces(), body), "[DONE]")
    choices = [_choice(0, text, answer.candidates[0])]
    return JSONResponse({**_head(service), "choices": choices, "usage": usage_of([answer])})


def text_request(service: CompletionService, body: TextBody, prompt: str) -> CompletionRequest:
    """Builds the engine's request for one prompt.

    Raises:
        RequestRejected: if fields cannot be combined.
    """
    foreign = None if body.suffix else parse_foreign(prompt)
    prefix, suffix, before = foreign or (prompt, body.suffix, "")
    fills = bool(suffix) or foreign is not None
    default_tokens, default_temperature = (64, 0.0) if fills else (16, 1.0)
    temperature = default_temperature if body.temperature is None else body.temperature
    if body.top_k > 0:
        bodies.local_model(service, "top_k")
    prediction = check_together(service, body.n, body.prediction)
    return CompletionRequest(
        UNNAMED,
        prefix,
        suffix,
        language=body.language,
        snippets=bodies.snippets([("context", before)]),
        candidates=body.n,
        params=SamplingParams(
            max_new_tokens=default_tokens if body.max_tokens is None else body.max_tokens,
            temperature=temperature,
            top_p=body.top_p,
            seed=body.seed,
        ),
        stop=tuple(body.stop),
        wait_for_upstream=False,
        multiline="auto" if fills else None,
        max_lines=_FILL_LINES,
        certain=body.certain,
        prediction=prediction,
        top_k=max(0, body.top_k),
    )


def check_together(service: CompletionService, n: int, given: bodies.Prediction | None) -> str:
    """Returns a prediction's text, after checking fields that depend on each other.

    Raises:
        RequestRejected: if they cannot be combined; names them.
    """
    most = service.engine.limits.candidates
    if n > most:
        raise bodies.RequestRejected(
            f"n is {n}: this server returns at most {most} choices.", param="n"
        )
    prediction = given.text if given else ""
    if prediction and n > 1:
        raise bodies.RequestRejected("A prediction requires n = 1.", param="prediction")
    if len(prediction) > (longest := service.engine.source.longest * CHARS_A_TOKEN):
        raise bodies.RequestRejected(
            f"The prediction has over {longest} characters.", param="prediction"
        )
    return prediction


async def _events(
    service: CompletionService, pieces: AsyncIterator[str | CompletionResult], body: TextBody
) -> bodies.Events:
    head = _head(service)
    async for piece in pieces:
        if isinstance(piece, str):
            yield {**head, "choices": [_choice(0, piece, None)]}
            continue
        yield {**head, "choices": [_choice(0, "", bodies.first_of(piece))]}
        if body.stream_options.include_usage:
            yield {**head, "choices": [], "usage": usage_of([piece])}


def _head(service: CompletionService) -> dict[str, Any]:
    return head_of(service, "cmpl", "text_completion")


def head_of(service: CompletionService, kind: str, name: str) -> dict[str, Any]:
    """Returns the first fields of every response; ``kind`` is the prefix of its id."""
    return {
        "id": f"{kind}-{uuid.uuid4().hex[:24]}",
        "object": name,
        "created": int(time.time()),
        "model": service.engine.source.name,
    }


def _choice(index: int, text: str, candidate: Candidate | None) -> dict[str, Any]:
    reason = None if candidate is None else reason_of(candidate)
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def reason_of(candidate: Candidate) -> Literal["length", "stop"]:
    """Returns OpenAI's finish reason."""
    return "length" if candidate.finish_reason == "length" else "stop"


def usage_of(answers: list[CompletionResult]) -> dict[str, Any]:
    """Returns OpenAI's ``usage``, summed over completions."""
    prompt = sum(answer.prompt_tokens for answer in answers)
    decoded = decoded_by(answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": decoded,
        "total_tokens": prompt + decoded,
        "prompt_tokens_details": {"cached_tokens": sum(answer.reused for answer in answers)},
        "completion_tokens_details": {
            "accepted_prediction_tokens": sum(answer.accepted for answer in answers),
            "rejected_prediction_tokens": sum(answer.rejected for answer in answers),
        },
    }


def decoded_by(answers: list[CompletionResult]) -> int:
    """Returns the number of tokens decoded for all candidates."""
    return sum(candidate.completion_tokens for answer in answers for candidate in answer.candidates)


async def models(service: CompletionService, _: Request) -> Response:
    """Handles ``/v1/models``: lists the loaded model."""
    return JSONResponse({"object": "list", "data": [_entry(service.engine.source)]})


async def model(service: CompletionService, request: Request) -> Response:
    """Handles ``/v1/models/NAME``; the name may be a path."""
    bodies.check_model(request.path_params["name"], service.engine.source)
    return JSONResponse(_entry(service.engine.source))


def _entry(model: CompletionSource) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "codegen",
        "max_model_len": model.longest,
    }
