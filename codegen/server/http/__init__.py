"""The HTTP server: one engine, with the APIs of editor plugins and other clients.

The routes are at the end. Each module is one API dialect: ``openai`` (text completions), ``chat``
(OpenAI's chat completions, Mistral's infilling), ``llamacpp``, ``ollama``, ``tabby``. They share
``bodies``: checked fields, streams and errors. Other packages add dialects through an entry point
(:mod:`codegen.core.plugins`).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from codegen.core import plugins
from codegen.server.completion.engine import CompletionEngine
from codegen.server.http import chat, llamacpp, ollama, openai, tabby
from codegen.server.http.bodies import Endpoint, make_routes, read_object
from codegen.server.http.completion_service import CompletionService
from codegen.server.http.security import Guard
from codegen.server.next_edits.proposals import NextEditor

__all__ = ["make_app"]


def make_app(
    engine: CompletionEngine,
    token: str | None,
    *,
    hosts: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
    exclude: tuple[str, ...] = (),
    next_edits: NextEditor | None = None,
) -> Guard:
    """Creates the application, without sockets.

    Args:
        token, hosts, origins: see :class:`~codegen.server.http.security.Guard`.
        exclude: path patterns of files without completions.
        next_edits: handles prompts in Zed's formats.
    """
    service = CompletionService(engine, exclude=exclude, next_edits=next_edits)
    endpoints = [*_ENDPOINTS]
    for name in plugins.names("dialects"):
        endpoints += plugins.load("dialects", name)
    app = make_routes(service, engine.metrics, endpoints)
    return Guard(app, token, hosts, origins, engine.limits, engine.metrics)


async def _completions(service: CompletionService, request: Request) -> Response:
    """Handles Tabby's completions if the body has ``segments``, else OpenAI's."""
    given = await read_object(request)
    dialect = tabby.completions if "segments" in given else openai.completions
    return await dialect(service, request, given)


_ENDPOINTS: list[Endpoint[CompletionService]] = [
    ("GET", "/v1/models", openai.models),
    ("GET", "/v1/models/{name:path}", openai.model),
    ("GET", "/models", openai.models),
    ("POST", "/v1/completions", _completions),
    ("POST", "/completions", _completions),
    ("POST", "/beta/completions", _completions),
    ("POST", "/v1/fim/completions", chat.fim_completions),
    ("POST", "/v1/chat/completions", chat.chat_completions),
    ("POST", "/chat/completions", chat.chat_completions),
    ("POST", "/infill", llamacpp.infill),
    ("GET", "/props", llamacpp.props),
    ("POST", "/api/generate", ollama.generate),
    ("POST", "/api/chat", ollama.chat),
    ("GET", "/api/tags", ollama.tags),
    ("POST", "/api/show", ollama.show),
    ("GET", "/api/version", ollama.version),
    ("GET POST", "/v1/health", tabby.health),
    ("POST", "/v1/events", tabby.events),
    ("GET", "/v1beta/server_setting", tabby.setting),
]
