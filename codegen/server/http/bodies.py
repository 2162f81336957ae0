"""Shared parts of the API dialects: checked body fields, errors, streams, and the application.

A field that would change the response is honored or rejected by name, never dropped. Chat bodies
reject unknown fields unless the value has no effect. Bodies of editors' completions ignore them,
like the servers that the plugins were written for.
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

from codegen.core.errors import CodegenError, InputError
from codegen.server.completion.engine import CompletionSource
from codegen.server.completion.model import CompletionModel
from codegen.server.completion.requests import (
    Candidate,
    CompletionResult,
    Overloaded,
    Snippet,
    Superseded,
    Unavailable,
)
from codegen.server.http.completion_service import (
    ClientDisconnected,
    CompletionService,
    unless_left,
)
from codegen.server.http.security import error_response, no_route
from codegen.server.metrics import Metrics

log = logging.getLogger(__name__)

MOST_TOKENS = 100_000
MOST_VALUES = 400_000
"""Maximum JSON values per request; parsing more would delay other clients' requests."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")  # paired or not
_JSON_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class RequestRejected(InputError):
    """Rejection of a request, with an HTTP status and an API error code.

    Attributes:
        code: OpenAI's error code, if any.
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


class JsonBody(BaseModel):
    """JSON body; unknown fields are ignored, and null means a field's default.

    Attributes:
        ignored: unknown names that a strict body accepts with any value.
        neutral: accepted values of unknown fields, in addition to empty values and false.
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
            RequestRejected: if a field is invalid; names the first one.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
        name = ".".join(map(str, first["loc"]))[:200]
        if first["type"] == "missing":
            raise RequestRejected(f"{name} is required.", param=name)
        if first["type"] == "extra_forbidden":
            raise RequestRejected(f"This server does not support the field {name}.", param=name)
        reason = _KIND.sub("an object", re.sub("^(Input|Value)", "it", first["msg"]))
        raise RequestRejected(f"{name} is {reprlib.repr(first['input'])}: {reason}.", param=name)


class StrictBody(JsonBody):
    """JSON body in which an unknown field is an error, unless its value is neutral."""

    model_config = ConfigDict(extra="forbid")


class TextPart(StrictBody):
    """Text part of a message; other types are rejected."""

    ignored = frozenset({"image_url", "input_audio", "file"})

    type: str
    text: str = ""


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Content = Annotated[list[TextPart], BeforeValidator(_as_parts)]
"""Content of a message: a string, or parts."""


def text_of(content: list[TextPart], where: str) -> str:
    """Returns a message's text; errors call its content ``where``.

    Raises:
        RequestRejected: if a part is not text.
    """
    for number, part in enumerate(content):
        if part.type != "text":
            raise RequestRejected(
                f"{where}.{number} has the type {part.type[:40]!r}; only text is supported.",
                param=f"{where}.{number}",
            )
    return "".join(part.text for part in content)


class Prediction(StrictBody):
    """OpenAI's ``prediction``: expected text for most of the response."""

    type: str = "content"
    content: Content

    @property
    def text(self) -> str:
        """The expected text.

        Raises:
            RequestRejected: if the type is not ``content``.
        """
        if self.type != "content":
            raise RequestRejected("prediction.type must be 'content'.", param="prediction.type")
        return text_of(self.content, "prediction.content")


def local_model(service: CompletionService, what: str) -> CompletionModel:
    """Returns the model in this process, which ``what`` requires.

    Raises:
        RequestRejected: if an upstream server generates the completions (status 501).
    """
    source = service.engine.source
    if isinstance(source, CompletionModel):
        return source
    raise RequestRejected(
        f"{what} requires a model in this process; this server forwards requests to "
        f"{source.device}.",
        status=501,
    )


def check_model(name: str, source: CompletionSource) -> None:
    """Checks that a request names the loaded model or none.

    Raises:
        RequestRejected: if it names another model (status 404).
    """
    placeholder = "dummy"  # sent by huggingface_hub's client without a model
    known = {"", placeholder, source.name, source.name.rstrip("/").rpartition("/")[2]}
    if name.removesuffix(":latest") not in known:
        raise RequestRejected(
            f"Unknown model {name[:80]!r}; this server has {source.name!r}.",
            status=404, code="model_not_found", param="model",
        )  # fmt: skip


async def read_body(request: Request) -> bytes:
    """Returns the request's body.

    Raises:
        RequestRejected: if it is JSON of more than :data:`MOST_VALUES` values.
    """
    body = await request.body()
    if len(body) > MOST_VALUES:
        marks, texts = _JSON_TEXT.subn(b"", body, 2 * MOST_VALUES)  # a value has at most one key
        if texts == 2 * MOST_VALUES or sum(map(marks.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise RequestRejected(f"The request has more than {MOST_VALUES} values.", status=413)
    return body


async def read_object(request: Request) -> dict[str, Any]:
    """Returns the request's JSON object.

    Raises:
        RequestRejected: if the body is not a JSON object, is too large, or contains half a
            surrogate pair, which tokenizers do not accept.
    """
    data = await read_body(request)
    try:
        body = json.loads(data)
        if _SURROGATE.search(data):
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestRejected("The request contains a lone surrogate, which is not text.") from None
    except (ValueError, RecursionError):
        raise RequestRejected("The request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise RequestRejected("The request must be a JSON object.")
    return body


def first_of(answer: CompletionResult) -> Candidate:
    """Returns the first candidate, or an empty one, because clients expect one."""
    return answer.candidates[0] if answer.candidates else Candidate("", 0, "stop")


def snippets(pairs: list[tuple[str, str]]) -> tuple[Snippet, ...]:
    """Converts (name, text) pairs of other files to snippets, without blank texts."""
    return tuple(Snippet(name, text) for name, text in pairs if text.strip())


Events = AsyncIterator[dict[str, Any]]


def as_json(value: Any) -> str:
    """Encodes JSON without spaces, because llama.vim searches for ``"content":"``."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


async def event_stream(
    request: Request, events: Events, last: str | None = None
) -> StreamingResponse:
    """Streams JSON objects as server-sent events; a ``type`` field names the event.

    Args:
        request: the stream stops when its client disconnects.
        last: data of a final event.

    Raises:
        ClientDisconnected, CodegenError: if the client disconnects, or ``events`` fails, before the
            first event.
    """

    def event(value: dict[str, Any]) -> str:
        name = f"event: {value['type']}\n" if "type" in value else ""
        return f"{name}data: {as_json(value)}\n\n"

    def failed(error: CodegenError) -> str:
        return event({"error": {"message": str(error), "type": "server_error"}})

    end = "" if last is None else f"data: {last}\n\n"
    return await _stream(request, events, event, failed, end, "text/event-stream")


async def line_stream(request: Request, events: Events) -> StreamingResponse:
    """Streams JSON objects, one per line (NDJSON); otherwise like :func:`event_stream`."""

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
    # Wait for the first event here, so that its failure can still set the status.
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

_CLIENT_LEFT = 499  # nginx's status for a closed connection; no client receives it
_STATUSES = ((InputError, 400), (Superseded, 409), (Overloaded, 429), (Unavailable, 503))


def make_routes(service: S, metrics: Metrics, endpoints: Sequence[Endpoint[S]]) -> Starlette:
    """Creates an application of these endpoints, ``/health`` and ``/metrics``; errors are one line.

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
    except ClientDisconnected:
        metrics.count("disconnected")
        return Response(status_code=_CLIENT_LEFT)
    except RequestRejected as error:
        return error_response(path, error.status, str(error), code=error.code, param=error.param)
    except CodegenError as error:
        status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
        if status == 500:
            log.warning("%s", error)
        wait_s = error.after_s if isinstance(error, Overloaded) else 1
        headers = {"retry-after": str(wait_s)} if status in (429, 503) else None
        return error_response(path, status, str(error), headers)
