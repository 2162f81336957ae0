"""The HTTP server's application: a table of endpoints in the dialects that existing plug-ins speak.

**OpenAI's** ``/v1/completions``: with a suffix that counts, and foreign sentinels understood. A
prompt alone is continued as it is. With ``suffix``, or with the sentinels of any model family in
the prompt (editors that build the prompt themselves do that), the text between is completed, in the
layout of the model that is really there.

**llama.cpp's** ``/infill``, with the fields that llama.vim and llama.vscode use. The answer has no
space after its colons: llama.vim drops one that does not hold ``"content":"``.

**Tabby's** API, as its editor plug-ins and ``tabby-agent`` use it.

Numbers above a limit of the engine are lowered silently, as other servers do.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import reprlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from codegen import __version__
from codegen.errors import CodegenError, InputError
from codegen.generation import SamplingParams
from codegen.server.engine import CompletionEngine
from codegen.server.guard import Guard
from codegen.server.prompts import parse_foreign
from codegen.server.requests import (
    Candidate,
    Completion,
    CompletionRequest,
    DocumentKey,
    Overloaded,
    Snippet,
    Superseded,
    Unavailable,
)
from codegen.server.service import ClientLeft, CompletionService, event_stream

log = logging.getLogger(__name__)

Handler = Callable[[CompletionService, Request], Awaitable[Response]]
# Nobody is there to read it; the number is nginx's for a client that closed the connection.
_CLIENT_LEFT = 499
_UNNAMED = DocumentKey("", "", "")
_MOST_TOKENS = 100_000
_MOST_SNIPPETS = 256


def make_app(
    engine: CompletionEngine,
    token: str | None,
    *,
    hosts: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
    exclude: tuple[str, ...] = (),
) -> Guard:
    """The whole application but the sockets.

    Args:
        engine: running.
        token: see :class:`~codegen.server.guard.Guard`, also for ``hosts`` and ``origins``.
        exclude: patterns of files that get no completions.
    """
    service = CompletionService(engine, exclude=exclude)
    routes = [
        Route(path, partial(_answer, service, handler), methods=methods.split())
        for methods, path, handler in _ENDPOINTS
    ]
    app = Starlette(routes=routes, exception_handlers={404: _missing, 405: _missing})
    return Guard(app, token, hosts, origins, engine.limits, engine.metrics)


async def _answer(service: CompletionService, handler: Handler, request: Request) -> Response:
    """The handler's answer, or one line on what is wrong."""
    try:
        return await handler(service, request)
    except InputError as error:
        return _error(400, str(error))
    except Superseded as error:
        return _error(409, str(error))
    except Overloaded as error:
        return _error(429, str(error), {"retry-after": "1"})
    except Unavailable as error:
        return _error(503, str(error), {"retry-after": "1"})
    except CodegenError as error:
        log.warning("%s", error)
        return _error(500, str(error))
    except ClientLeft:
        service.engine.metrics.count("disconnected")
        return Response(status_code=_CLIENT_LEFT)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": status}}, status, headers)


async def _missing(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 404)
    return _error(status, f"There is no {request.method} {request.url.path[:80]} here.")


# ------------------------------------------------------------------ the fields of a body


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_whole)]
Strings = Annotated[
    list[str],
    BeforeValidator(_listed),
    Field(max_length=64),
    AfterValidator(lambda items: [item for item in items if item]),
]
TopP = Annotated[float, Field(ge=0, le=1), AfterValidator(lambda share: max(1e-6, share))]
Temperature = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[Whole, Field(ge=1, le=128)]


_KIND = re.compile(r"a valid dictionary or instance of \w+")


class Body(BaseModel):
    """A JSON body: fields that are not named here are ignored, and null is a field's default."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: value for key, value in given.items() if value is not None}

    @classmethod
    def read(cls, given: dict[str, Any]) -> Self:
        """Checks a JSON object.

        Raises:
            InputError: naming the first field that is wrong.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))
        reason = _KIND.sub("an object", re.sub("^(Input|Value)", "it", first["msg"]))
        raise InputError(f"{name} is {reprlib.repr(first['input'])}: {reason}.")


async def _object(request: Request) -> dict[str, Any]:
    """The request's JSON object."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InputError("The request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise InputError("The request must be a JSON object.")
    return body


def _snippets(pairs: list[tuple[str, str]]) -> tuple[Snippet, ...]:
    """Named texts of other files, empty ones left out."""
    return tuple(Snippet(name, text) for name, text in pairs if text.strip())


# ------------------------------------------------------------------ OpenAI

_FILL_LINES = 40


class StreamOptions(Body):
    """``stream_options`` of OpenAI's completions."""

    include_usage: bool = False


class OpenAIBody(Body):
    """OpenAI's completions. Defaults of None depend on the kind of prompt.

    ``language`` and ``settle`` are ours: with ``settle`` false the answer is the fast one, and its
    field ``settled`` says whether it is certain.
    """

    prompt: Strings = []
    suffix: str = ""
    language: str = ""
    max_tokens: Annotated[Whole, Field(ge=1, le=_MOST_TOKENS)] | None = None
    n: Count = 1
    temperature: Temperature | None = None
    top_p: TopP = 1.0
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63)] = 0
    stop: Strings = []
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    echo: bool = False
    settle: bool = True


async def openai_completions(service: CompletionService, request: Request) -> Response:
    """Answers one request; several prompts one after the other."""
    return await _openai(service, request, await _object(request))


async def _openai(service: CompletionService, request: Request, given: dict[str, Any]) -> Response:
    body = OpenAIBody.read(given)
    asked = [_openai_request(body, prompt) for prompt in body.prompt or [""]]
    if body.stream:
        if len(asked) > 1 or asked[0].candidates > 1:
            raise InputError("A stream takes one prompt and n = 1.")
        usage = body.stream_options.include_usage
        return event_stream(_openai_events(service, request, asked[0], usage), "[DONE]")
    answers = [await service.complete(request, one) for one in asked]
    choices = []
    for one, answer in zip(asked, answers, strict=True):
        # A client counts on a choice even where there is nothing to say.
        for candidate in answer.candidates or (Candidate("", 0, "stop"),):
            text = one.prefix + candidate.text if body.echo else candidate.text
            choices.append(_choice(len(choices), text, candidate))
    found = {**_openai_head(service), "choices": choices, "usage": _usage(answers)}
    if not body.settle:
        found["settled"] = all(answer.settled for answer in answers)
    return JSONResponse(found)


def _openai_request(body: OpenAIBody, prompt: str) -> CompletionRequest:
    foreign = None if body.suffix else parse_foreign(prompt)
    prefix, suffix, before = foreign or (prompt, body.suffix, "")
    infill = bool(suffix) or foreign is not None
    default_tokens, default_temperature = (64, 0.0) if infill else (16, 1.0)
    return CompletionRequest(
        _UNNAMED,
        prefix,
        suffix,
        language=body.language,
        snippets=_snippets([("context", before)]),
        candidates=body.n,
        params=SamplingParams(
            max_new_tokens=default_tokens if body.max_tokens is None else body.max_tokens,
            temperature=default_temperature if body.temperature is None else body.temperature,
            top_p=body.top_p,
            seed=body.seed,
        ),
        stop=tuple(body.stop),
        multiline="auto" if infill else None,
        max_lines=_FILL_LINES,
        settle=body.settle,
    )


async def _openai_events(
    service: CompletionService, request: Request, asked: CompletionRequest, usage: bool
) -> AsyncIterator[Any]:
    head = _openai_head(service)
    async for piece in service.stream(request, asked):
        if isinstance(piece, str):
            yield {**head, "choices": [_choice(0, piece, None)]}
            continue
        last = piece.candidates[0] if piece.candidates else Candidate("", 0, "stop")
        yield {**head, "choices": [_choice(0, "", last)]}
        if usage:
            yield {**head, "choices": [], "usage": _usage([piece])}


def _openai_head(service: CompletionService) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex[:24]}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": service.engine.model.name,
    }


def _choice(index: int, text: str, candidate: Candidate | None) -> dict[str, Any]:
    reason = None
    if candidate is not None:
        reason = "length" if candidate.finish_reason == "length" else "stop"
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _usage(answers: list[Completion]) -> dict[str, Any]:
    prompt = sum(answer.prompt_tokens for answer in answers)
    decoded = sum(
        candidate.completion_tokens for answer in answers for candidate in answer.candidates
    )
    cached = sum(answer.reused for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": decoded,
        "total_tokens": prompt + decoded,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


async def models(service: CompletionService, _: Request) -> Response:
    """``/v1/models``: the one that is loaded."""
    name = service.engine.model.name
    entry = {"id": name, "object": "model", "created": 0, "owned_by": "codegen"}
    return JSONResponse({"object": "list", "data": [entry]})


# ------------------------------------------------------------------ llama.cpp

_MOST_MS = 3_600_000
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
    n_predict: Annotated[Whole, Field(ge=-1, le=_MOST_TOKENS)] = -1
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
    given = await _object(request)
    for key in ("input_prefix", "input_suffix"):
        if key not in given:
            raise InputError(f'"{key}" is required.')
    body = InfillBody.read(given)
    asked = _infill_request(body)
    if body.n_predict == 0:
        # A warm-up: the context is encoded while nothing else is to do, and nobody waits for it.
        service.warm_up(request, asked)
        return JSONResponse(_row(service, asked, Completion(()), Candidate("", 0, "length"), 0))
    if body.stream:
        return event_stream(_infill_events(service, request, asked))
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
        _UNNAMED,
        body.input_prefix + body.prompt,
        body.input_suffix,
        language=body.language,
        snippets=_snippets(extra),
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


async def _infill_events(
    service: CompletionService, request: Request, asked: CompletionRequest
) -> AsyncIterator[Any]:
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


# ------------------------------------------------------------------ Tabby

_EVENTS = ("view", "select", "dismiss")
_DECLARATIONS = 8


class Declaration(Body):
    """Text of another file, as Tabby's plug-ins send it."""

    filepath: str = ""
    body: str = ""


class Segments(Body):
    """The text around the cursor, and of other files."""

    prefix: str = ""
    suffix: str = ""
    filepath: str = ""
    git_url: str = ""
    relevant_snippets_from_recently_opened_files: list[Declaration] = []
    relevant_snippets_from_changed_files: list[Declaration] = []
    declarations: list[Declaration] = []


class TabbyBody(Body):
    """Tabby's ``/v1/completions``."""

    mode: str = "standard"
    segments: Segments = Segments()
    language: str = ""
    temperature: Temperature = 0.0
    seed: Annotated[Whole, Field(ge=0, le=2**63)] = 0


class TabbyEvent(Body):
    """Tabby's ``/v1/events``."""

    type: str = ""


async def completions(service: CompletionService, request: Request) -> Response:
    """``/v1/completions``: Tabby's with ``segments``, OpenAI's else."""
    given = await _object(request)
    if "segments" not in given:
        return await _openai(service, request, given)
    answer_id = f"cmpl-{uuid.uuid4()}"
    body = TabbyBody.read(given)
    if body.mode != "standard":
        return JSONResponse({"id": answer_id, "choices": []})
    segments = body.segments
    extra = [
        (one.filepath, one.body)
        for group in (
            segments.relevant_snippets_from_recently_opened_files,
            segments.relevant_snippets_from_changed_files,
            segments.declarations,
        )
        for one in group[-_DECLARATIONS:]
    ]
    asked = CompletionRequest(
        DocumentKey("", segments.git_url, ""),
        segments.prefix,
        segments.suffix,
        language=body.language,
        path=segments.filepath,
        snippets=_snippets(extra),
        params=SamplingParams(64, body.temperature, seed=body.seed),
    )
    answer = await service.complete(request, asked)
    choices = [{"index": n, "text": one.text} for n, one in enumerate(answer.candidates)]
    return JSONResponse({"id": answer_id, "choices": choices})


async def tabby_health(service: CompletionService, _: Request) -> Response:
    """``/v1/health``."""
    model = service.engine.model
    return JSONResponse(
        {
            "model": model.name,
            "device": model.device,
            "arch": platform.machine(),
            "cpu_info": platform.processor(),
            "cpu_count": os.cpu_count(),
            "cuda_devices": [],
            "version": {
                "build_date": "",
                "build_timestamp": "",
                "git_sha": "",
                "git_describe": f"codegen {__version__}",
            },
        }
    )


async def tabby_events(service: CompletionService, request: Request) -> Response:
    """``/v1/events``: only counted, and only here."""
    kind = TabbyEvent.read(await _object(request)).type
    if kind in _EVENTS:
        service.engine.metrics.count(f"tabby_{kind}")
        if kind == "select":
            service.engine.metrics.count("accepted")
    return Response(status_code=200)


async def tabby_setting(_: CompletionService, __: Request) -> Response:
    """``/v1beta/server_setting``: clients are asked to send nothing on."""
    return JSONResponse({"disable_client_side_telemetry": True})


# ------------------------------------------------------------------ the table


async def health(_: CompletionService, __: Request) -> Response:
    """``/health``: whether the server runs; the one endpoint without a token."""
    return JSONResponse({"status": "ok"})


async def metrics(service: CompletionService, _: Request) -> Response:
    """``/metrics`` in Prometheus's text format."""
    return PlainTextResponse(service.engine.metrics.prometheus())


_ENDPOINTS: list[tuple[str, str, Handler]] = [
    ("GET", "/health", health),
    ("GET", "/metrics", metrics),
    ("GET", "/v1/models", models),
    ("GET", "/models", models),
    ("POST", "/v1/completions", completions),
    ("POST", "/completions", openai_completions),
    ("POST", "/infill", infill),
    ("GET POST", "/v1/health", tabby_health),
    ("POST", "/v1/events", tabby_events),
    ("GET", "/v1beta/server_setting", tabby_setting),
]
