"""A tiny model behind an engine, and requests on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.server.requests import CompletionRequest, DocumentKey

pytest.importorskip("pygls")
pytest.importorskip("starlette")


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir: Path) -> Any:
    import torch

    from codegen.models import load
    from codegen.server.model import CompletionModel
    from codegen.server.settings import Limits

    torch.set_num_threads(1)
    loaded = load(str(tiny_model_dir), dtype=torch.float32)
    return CompletionModel(loaded, limits=Limits(context_tokens=256))


@pytest.fixture
def engine(tiny_model: Any) -> Iterator[Any]:
    from codegen.server.engine import CompletionEngine
    from codegen.server.settings import Limits

    engine = CompletionEngine(
        tiny_model, Limits(context_tokens=256, requests_per_s=1e6, burst=10**6)
    )
    yield engine
    engine.stop()


@pytest.fixture
def ask() -> Callable[..., CompletionRequest]:
    def make(prefix: str, suffix: str = "", document: str = "a.py", **more: Any) -> Any:
        client = more.pop("client", "test")
        key = DocumentKey(client, "", document)
        options = {"language": "python", "max_tokens": 8, "multiline": None, **more}
        return CompletionRequest(key, prefix, suffix, **options)

    return make


@pytest.fixture
def before_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something called before every forward pass, the model's own or a decode step."""
    from codegen.decoding.editing import EditableCache

    run = EditableCache._run

    def install(action: Callable[[], object]) -> None:
        def watched(*args: Any) -> Any:
            action()
            return run(*args)

        monkeypatch.setattr(EditableCache, "_run", watched)

    return install


TOKEN = "a-token-of-this-test-run"


class Served:
    """An application on a real socket, in a thread of this process."""

    def __init__(self, app: Any) -> None:
        import asyncio
        import threading

        from codegen.server.http.run import listen, make_server

        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.server = make_server(app)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self.server.serve(sockets=[self.socket])), daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(timeout=10)


@pytest.fixture
def app(engine: Any) -> Any:
    from codegen.server.http.app import make_app

    return make_app(engine, TOKEN, origins=frozenset({"http://localhost:8888"}))


@pytest.fixture
def served(app: Any) -> Iterator[Served]:
    served = Served(app)
    yield served
    served.stop()


@pytest.fixture
def post(served: Served) -> Iterator[Callable[..., Any]]:
    """Posts JSON and returns the response."""
    import httpx

    with httpx.Client(base_url=served.url, timeout=60) as client:

        def send(path: str, body: Any, **headers: str) -> Any:
            return client.post(
                path, json=body, headers={"authorization": f"Bearer {TOKEN}", **headers}
            )

        yield send
