"""The HTTP server's application: the table of endpoints, and what is said when one fails."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from codegen.errors import CodegenError, InputError
from codegen.server.engine import CompletionEngine
from codegen.server.guard import Guard, error_response, no_route
from codegen.server.http import chat, llamacpp, ollama, openai, responses, tabby
from codegen.server.http.wire import Refused, read_object
from codegen.server.requests import Overloaded, Superseded, Unavailable
from codegen.server.service import ClientLeft, CompletionService

log = logging.getLogger(__name__)

Handler = Callable[[CompletionService, Request], Awaitable[Response]]
# Nobody is there to read it; the number is nginx's for a client that closed the connection.
_CLIENT_LEFT = 499


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
    app = Starlette(routes=routes, exception_handlers={404: no_route, 405: no_route})
    return Guard(app, token, hosts, origins, engine.limits, engine.metrics)


async def _answer(service: CompletionService, handler: Handler, request: Request) -> Response:
    """The handler's answer, or one line on what is wrong."""
    path = request.url.path
    try:
        return await handler(service, request)
    except Refused as error:
        return error_response(path, error.status, str(error), code=error.code, param=error.param)
    except InputError as error:
        return error_response(path, 400, str(error))
    except Superseded as error:
        return error_response(path, 409, str(error))
    except Overloaded as error:
        return error_response(path, 429, str(error), headers={"retry-after": "1"})
    except Unavailable as error:
        return error_response(path, 503, str(error), headers={"retry-after": "1"})
    except CodegenError as error:
        log.warning("%s", error)
        return error_response(path, 500, str(error))
    except ClientLeft:
        service.engine.metrics.count("disconnected")
        return Response(status_code=_CLIENT_LEFT)


async def _completions(service: CompletionService, request: Request) -> Response:
    """``/v1/completions``: Tabby's with ``segments``, OpenAI's else."""
    given = await read_object(request)
    dialect = tabby.completions if "segments" in given else openai.completions
    return await dialect(service, request, given)


async def _openai_completions(service: CompletionService, request: Request) -> Response:
    return await openai.completions(service, request, await read_object(request))


async def _health(_: CompletionService, __: Request) -> Response:
    """``/health``: whether the server runs; the one endpoint without a token."""
    return JSONResponse({"status": "ok"})


async def _metrics(service: CompletionService, _: Request) -> Response:
    """``/metrics`` in Prometheus's text format."""
    return PlainTextResponse(service.engine.metrics.prometheus())


_ENDPOINTS: list[tuple[str, str, Handler]] = [
    ("GET", "/health", _health),
    ("GET", "/metrics", _metrics),
    ("GET", "/v1/models", openai.models),
    ("GET", "/models", openai.models),
    ("POST", "/v1/completions", _completions),
    ("POST", "/completions", _openai_completions),
    ("POST", "/beta/completions", _openai_completions),
    ("POST", "/v1/fim/completions", chat.fim_completions),
    ("POST", "/v1/chat/completions", chat.chat_completions),
    ("POST", "/chat/completions", chat.chat_completions),
    ("POST", "/v1/responses", responses.responses),
    ("POST", "/infill", llamacpp.infill),
    ("GET", "/props", llamacpp.props),
    ("POST", "/tokenize", llamacpp.tokenize),
    ("POST", "/detokenize", llamacpp.detokenize),
    ("POST", "/apply-template", llamacpp.apply_template),
    ("POST", "/api/generate", ollama.generate),
    ("POST", "/api/chat", ollama.chat),
    ("GET", "/api/tags", ollama.tags),
    ("POST", "/api/show", ollama.show),
    ("GET", "/api/version", ollama.version),
    ("GET POST", "/v1/health", tabby.health),
    ("POST", "/v1/events", tabby.events),
    ("GET", "/v1beta/server_setting", tabby.setting),
]
