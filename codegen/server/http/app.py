"""The ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from codegen.errors import CodegenError, InputError
from codegen.server.engine import CompletionEngine
from codegen.server.http import fields, infill, openai, tabby
from codegen.server.http.backend import Backend
from codegen.server.http.guard import Guard
from codegen.server.http.stream import ClientLeft
from codegen.server.requests import Overloaded, Superseded

log = logging.getLogger(__name__)

Dialect = Callable[[Backend, Request, fields.Body], Awaitable[Any]]
# Nobody is there to read it; the number is nginx' for a client that closed the connection.
_CLIENT_LEFT = 499


def make_app(
    engine: CompletionEngine,
    token: str | None,
    *,
    hosts: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
    exclude: tuple[str, ...] = (),
) -> Guard:
    """Everything but the sockets.

    Args:
        engine: running.
        token: see :class:`~codegen.server.http.guard.Guard`, also for ``hosts`` and ``origins``.
        exclude: patterns of files that get no completions.
    """
    backend = Backend(engine, exclude=exclude)

    async def completions(backend: Backend, request: Request, body: fields.Body) -> Any:
        dialect = tabby.completions if "segments" in body else openai.completions
        return await dialect(backend, request, body)

    def post(path: str, dialect: Dialect) -> Route:
        async def handle(request: Request) -> Any:
            return await _answered(backend, request, dialect)

        return Route(path, handle, methods=["POST"])

    def get(path: str, answer: Callable[[Backend], Response], *more: str) -> Route:
        async def handle(_: Request) -> Response:
            return answer(backend)

        return Route(path, handle, methods=["GET", *more])

    routes = [
        get("/health", _health),
        get("/metrics", _metrics),
        get("/v1/models", _models),
        get("/models", _models),
        get("/v1beta/server_setting", tabby.server_setting),
        get("/v1/health", tabby.health, "POST"),
        post("/v1/completions", completions),
        post("/completions", openai.completions),
        post("/infill", infill.infill),
        post("/v1/events", tabby.events),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _missing, 405: _missing})
    return Guard(app, token, hosts, origins, engine.limits, engine.metrics)


async def _answered(backend: Backend, request: Request, dialect: Dialect) -> Any:
    """The dialect's answer, or one line on what is wrong."""
    try:
        return await dialect(backend, request, fields.parse(await request.body()))
    except InputError as error:
        return _error(400, str(error))
    except Superseded as error:
        return _error(409, str(error))
    except Overloaded as error:
        return _error(429, str(error), {"retry-after": "1"})
    except CodegenError as error:
        log.warning("%s", error)
        return _error(500, str(error))
    except ClientLeft:
        backend.engine.metrics.count("disconnected")
        return Response(status_code=_CLIENT_LEFT)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "code": status}}, status, headers)


async def _missing(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 404)
    return _error(status, f"There is no {request.method} {request.url.path[:80]} here.")


def _health(_: Backend) -> Response:
    return JSONResponse({"status": "ok"})


def _metrics(backend: Backend) -> Response:
    return PlainTextResponse(backend.engine.metrics.prometheus())


def _models(backend: Backend) -> Response:
    model = backend.engine.model
    entry = {"id": model.name, "object": "model", "created": 0, "owned_by": "codegen"}
    return JSONResponse({"object": "list", "data": [entry]})
