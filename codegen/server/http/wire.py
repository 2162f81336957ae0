"""What the dialects share: checked fields of bodies, refusals, streams, and the application.

A field that would change the answer is honored or refused by name, never dropped. Chat bodies
refuse unknown names whose values ask for something. Bodies of editors' completions ignore them, as
the servers do that the plug-ins were written for.
"""

from __future__ import annotations

import json
import logging
import re
import reprlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Self, TypeVar

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
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from codegen.errors import CodegenError, InputError
from codegen.server.engine import Source
from codegen.server.guard import error_response, no_route
from codegen.server.metrics import Metrics
from codegen.server.model import CompletionModel
from codegen.server.requests import (
    Candidate,
    Completion,
    Overloaded,
    Snippet,
    Superseded,
    Unavailable,
)
from codegen.server.service import ClientLeft, CompletionService, unless_left

log = logging.getLogger(__name__)

MOST_TOKENS = 100_000
MOST_VALUES = 400_000
"""Of the JSON of one request: more would hold up the requests of others while it is read."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # paired or not
_JSON_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class Refused(InputError):
    """A request refused with a status or code of the API.

    Attributes:
        code: OpenAI's short name for the mistake, if there is one.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: str = "", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


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
MostTokens = Annotated[Whole, Field(ge=1, le=MOST_TOKENS)]
Seed = Annotated[Whole, Field(ge=-(2**63), le=2**63)]

_NOTHING = ([], {}, "", False)
_KIND = re.compile(r"a valid dictionary or instance of \w+")


class Body(BaseModel):
    """A JSON body: unknown fields are ignored, and null is a field's default.

    Attributes:
        ignored: unknown names that a strict body accepts with any value.
        neutral: values of unknown fields that change nothing, besides empty ones and false.
    """

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
    ignored: ClassVar[frozenset[str]] = frozenset()
    neutral: ClassVar[Mapping[str, Sequence[object]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _that_asks(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        known = cls.__pydantic_fields__
        return {
            name: value
            for name, value in given.items()
            if value is not None and (name in known or not cls._is_idle(name, value))
        }

    @classmethod
    def _is_idle(cls, name: str, value: object) -> bool:
        idle = (*_NOTHING, *cls.neutral.get(name, ()))
        return name in cls.ignored or any(value == one for one in idle)

    @classmethod
    def read(cls, given: dict[str, Any]) -> Self:
        """Checks a JSON object.

        Raises:
            Refused: naming the first wrong field.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))[:200]
        if first["type"] == "missing":
            raise Refused(f"{name} is required.", param=name)
        if first["type"] == "extra_forbidden":
            raise Refused(f"This server does not support the field {name}.", param=name)
        reason = _KIND.sub("an object", re.sub("^(Input|Value)", "it", first["msg"]))
        raise Refused(f"{name} is {reprlib.repr(first['input'])}: {reason}.", param=name)


class StrictBody(Body):
    """A JSON body in which an unknown field is a mistake, unless it is neutral."""

    model_config = ConfigDict(extra="forbid")


class Part(StrictBody):
    """A part of a message: text. Parts of other types are refused by their type."""

    ignored = frozenset({"image_url", "input_audio", "file"})

    type: str
    text: str = ""


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Content = Annotated[list[Part], BeforeValidator(_as_parts)]
"""The content of a message: a string, or parts."""


def text_of(content: list[Part], where: str) -> str:
    """The text of a message's content, which errors call ``where``.

    Raises:
        Refused: for a part that is not text.
    """
    for number, part in enumerate(content):
        if part.type != "text":
            raise Refused(
                f"{where}.{number} has the type {part.type[:40]!r}: this server takes text only.",
                param=f"{where}.{number}",
            )
    return "".join(part.text for part in content)


class Prediction(StrictBody):
    """OpenAI's ``prediction``: most of the text that the answer is expected to have."""

    type: str = "content"
    content: Content

    @property
    def text(self) -> str:
        """The expected text.

        Raises:
            Refused: for another type.
        """
        if self.type != "content":
            raise Refused("prediction.type must be 'content'.", param="prediction.type")
        return text_of(self.content, "prediction.content")


def local_model(service: CompletionService, what: str) -> CompletionModel:
    """The model of this process, which ``what`` requires.

    Raises:
        Refused: with status 501, if an upstream server makes the completions.
    """
    model = service.engine.model
    if isinstance(model, CompletionModel):
        return model
    raise Refused(
        f"{what} requires a model in this process; this server passes requests on to "
        f"{model.device}.",
        status=501,
    )


def check_model(name: str, model: Source) -> None:
    """Refuses a model name other than the loaded model's or none.

    Raises:
        Refused: with status 404, and the loaded model's name.
    """
    placeholder = "dummy"  # what huggingface_hub's client sends without a model
    known = {"", placeholder, model.name, model.name.rstrip("/").rpartition("/")[2]}
    if name.removesuffix(":latest") not in known:
        raise Refused(
            f"There is no model {name[:80]!r} here; the one that is served is {model.name!r}.",
            status=404, code="model_not_found", param="model",
        )  # fmt: skip


async def read_body(request: Request) -> bytes:
    """The request's body.

    Raises:
        Refused: if it is JSON of more than :data:`MOST_VALUES` values.
    """
    body = await request.body()
    if len(body) > MOST_VALUES:
        marks, texts = _JSON_TEXT.subn(b"", body, 2 * MOST_VALUES)  # a value has a key, at most
        if texts == 2 * MOST_VALUES or sum(map(marks.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise Refused(f"The request holds more than {MOST_VALUES} values.", status=413)
    return body


async def read_object(request: Request) -> dict[str, Any]:
    """The request's JSON object.

    Raises:
        Refused: if the body is not a JSON object, is too large, or holds half a surrogate pair,
            which no tokenizer takes.
    """
    data = await read_body(request)
    try:
        body = json.loads(data)
        if _SURROGATE.search(data):
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused("The request holds half a surrogate pair, which is not text.") from None
    except (ValueError, RecursionError):
        raise Refused("The request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise Refused("The request must be a JSON object.")
    return body


def first_of(answer: Completion) -> Candidate:
    """The first candidate, or an empty one: clients expect one."""
    return answer.candidates[0] if answer.candidates else Candidate("", 0, "stop")


def snippets(pairs: list[tuple[str, str]]) -> tuple[Snippet, ...]:
    """Texts of other files with their names, without blank ones."""
    return tuple(Snippet(name, text) for name, text in pairs if text.strip())


Events = AsyncIterator[dict[str, Any]]


def as_json(value: Any) -> str:
    """JSON without spaces: llama.vim looks for ``"content":"``."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


async def event_stream(
    request: Request, events: Events, last: str | None = None
) -> StreamingResponse:
    """Server-sent events, one JSON object each; an object with a ``type`` is an event of that name.

    Args:
        request: the events end when its client leaves.
        last: text of a last event.

    Raises:
        ClientLeft, CodegenError: if the client leaves, or ``events`` fails, before the first.
    """

    def event(value: dict[str, Any]) -> str:
        name = f"event: {value['type']}\n" if "type" in value else ""
        return f"{name}data: {as_json(value)}\n\n"

    def failed(error: CodegenError) -> str:
        return event({"error": {"message": str(error), "type": "server_error"}})

    end = "" if last is None else f"data: {last}\n\n"
    return await _stream(request, events, event, failed, end, "text/event-stream")


async def line_stream(request: Request, events: Events) -> StreamingResponse:
    """JSON objects, one a line (NDJSON); otherwise as :func:`event_stream`."""

    def line(value: dict[str, Any]) -> str:
        return f"{as_json(value)}\n"

    def failed(error: CodegenError) -> str:
        return line({"error": str(error)})

    return await _stream(request, events, line, failed, "", "application/x-ndjson")


async def _stream(
    request: Request,
    events: Events,
    written: Callable[[dict[str, Any]], str],
    failed: Callable[[CodegenError], str],
    end: str,
    media_type: str,
) -> StreamingResponse:
    # Wait for the first one here: its failure can still have a status of its own.
    first = await unless_left(request, _first(events))

    async def pieces() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield written(first).encode("utf-8", "replace")
            async for value in events:
                yield written(value).encode("utf-8", "replace")
        except CodegenError as error:
            yield failed(error).encode("utf-8", "replace")
        yield end.encode()

    return StreamingResponse(pieces(), media_type=media_type)


async def _first(events: Events) -> dict[str, Any] | None:
    return await anext(events, None)


S = TypeVar("S")
Handler = Callable[[S, Request], Awaitable[Response]]
Endpoint = tuple[str, str, Handler[S]]
"""HTTP methods, path and handler."""

_CLIENT_LEFT = 499  # nginx's number for a client that closed the connection: nobody reads it
_STATUSES = ((InputError, 400), (Superseded, 409), (Overloaded, 429), (Unavailable, 503))


def make_routes(service: S, metrics: Metrics, endpoints: Sequence[Endpoint[S]]) -> Starlette:
    """An application of these endpoints, ``/health`` and ``/metrics``; an error is one line.

    Args:
        metrics: shown at ``/metrics`` in Prometheus's text format.
    """

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def shown(_: Request) -> Response:
        return PlainTextResponse(metrics.prometheus())

    routes = [
        Route(path, partial(_respond, partial(handler, service), metrics), methods=methods.split())
        for methods, path, handler in endpoints
    ]
    routes += [Route("/health", health), Route("/metrics", shown)]
    return Starlette(routes=routes, exception_handlers={404: no_route, 405: no_route})


async def _respond(
    handler: Callable[[Request], Awaitable[Response]], metrics: Metrics, request: Request
) -> Response:
    path = request.url.path
    try:
        return await handler(request)
    except ClientLeft:
        metrics.count("disconnected")
        return Response(status_code=_CLIENT_LEFT)
    except Refused as error:
        return error_response(path, error.status, str(error), code=error.code, param=error.param)
    except CodegenError as error:
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
        if status == 500:
            log.warning("%s", error)
        wait_s = error.after_s if isinstance(error, Overloaded) else 1
        headers = {"retry-after": str(wait_s)} if status in (429, 503) else None
        return error_response(path, status, str(error), headers)
