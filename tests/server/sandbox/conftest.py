"""A sandbox behind the service, on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from codegen.core.errors import SandboxError
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
def sandbox() -> Iterator[Sandbox]:
    try:
        with Sandbox(workers=1) as opened:
            yield opened
    except SandboxError as error:
        pytest.skip(str(error))


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
def client(service: Served) -> Iterator[SandboxClient]:
    with SandboxClient(service.url, patience_s=30) as client:
        yield client
