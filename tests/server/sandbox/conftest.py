"""A sandbox behind the service, on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from codegen.sandbox import Sandbox
from codegen.sandbox.client import SandboxClient
from codegen.server.sandbox import SandboxService, make_app, most_limits
from tests.server.conftest import Served

TOKEN = "a-token-of-the-tests-only"
MOST = most_limits(cpu_s=5.0, memory_mib=512)


@contextmanager
def serving(sandbox: Any, token: str | None = None, **options: Any) -> Iterator[Served]:
    """A service on a socket."""
    served = Served(make_app(SandboxService(sandbox, MOST, **options), token))
    try:
        yield served
    finally:
        served.stop()


@pytest.fixture(scope="session")
def service(sandbox: Sandbox) -> Iterator[Served]:
    with serving(sandbox) as served:
        yield served


@pytest.fixture(scope="session")
def post(service: Served) -> Iterator[Callable[..., httpx.Response]]:
    """Posts JSON and returns the response."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield lambda path, body, **options: client.post(path, json=body, **options)


@pytest.fixture
def chat() -> Iterator[tuple[str, list[str]]]:
    """The URL of a server of chat models, and the replies that it will give."""
    replies: list[str] = []

    async def answer(request: Request) -> JSONResponse:
        message = {"role": "assistant", "content": replies.pop(0)}
        row = {"id": "x", "object": "chat.completion", "created": 0, "model": "stub"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({**row, "choices": [choice]})

    served = Served(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])]))
    yield f"{served.url}/v1", replies
    served.stop()


@pytest.fixture
def client(service: Served) -> Iterator[SandboxClient]:
    with SandboxClient(service.url, patience_s=30) as client:
        yield client
