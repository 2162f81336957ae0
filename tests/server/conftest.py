"""A tiny model behind an engine, and requests on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.generation import SamplingParams
from codegen.server.completion.requests import CompletionRequest, DocumentKey
from tests.llamas import small_llama

pytest.importorskip("pygls")
pytest.importorskip("starlette")


@pytest.fixture(scope="session")
def tiny_model(tiny_model_dir: Path) -> Any:
    import torch

    from codegen.models import load
    from codegen.server.completion.model_worker import ServedModel
    from codegen.server.completion.requests import ServerLimits

    torch.set_num_threads(1)
    loaded = load(str(tiny_model_dir), dtype=torch.float32)
    return ServedModel(loaded, limits=ServerLimits(context_tokens=256))


@pytest.fixture(scope="session")
def whole_model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the tiny model, with layers that the compiled kernels take: multiples of 32."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("whole-model")
    # pyrefly: ignore[missing-attribute]
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(folder)
    model = small_llama(
        1, vocab_size=704, hidden_size=64, intermediate_size=96, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=512, initializer_range=0.3,
        eos_token_id=2, pad_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", params=["model", "upstream"])
def serving(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Options of ``codegen serve``: a tiny model, or a real llama.cpp server."""
    if request.param == "model":
        folder = request.getfixturevalue("tiny_model_dir")
        yield ["--model", str(folder), "--context", "256"]
        return
    server = request.getfixturevalue("llama_server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CODEGEN_TEST_UPSTREAM_KEY", server.api_key)
        options = ["--upstream", server.url, "--api-key-env", "CODEGEN_TEST_UPSTREAM_KEY"]
        yield [*options, "--context", "256"]


@pytest.fixture
def engine(tiny_model: Any) -> Iterator[Any]:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits

    engine = CompletionEngine(
        tiny_model, ServerLimits(context_tokens=256, requests_per_s=1e6, burst=10**6)
    )
    yield engine
    engine.stop()


@pytest.fixture
def ask() -> Callable[..., CompletionRequest]:
    def make(prefix: str, suffix: str = "", document: str = "a.py", **more: Any) -> Any:
        client = more.pop("client", "test")
        key = DocumentKey(client, "", document)
        options: dict[str, Any] = {"language": "python", "multiline": None, **more}
        given: dict[str, Any] = {"max_new_tokens": options.pop("max_tokens", 8)}
        given |= {name: options.pop(name) for name in ("temperature", "seed") if name in options}
        options["params"] = SamplingParams(**given)
        return CompletionRequest(key, prefix, suffix, **options)

    return make


@pytest.fixture
def before_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something called before every forward pass, of one document or several."""
    from codegen.decoding.editing import EditableCache

    run = EditableCache.run_passes

    def install(action: Callable[[], object]) -> None:
        def watched(requests: Any) -> Any:
            action()
            return run(requests)

        monkeypatch.setattr(EditableCache, "run_passes", staticmethod(watched))

    return install


def change(new: str, start: tuple[int, int], end: tuple[int, int] | None = None) -> Any:
    """An editor's change: text in the place of a range, or inserted."""
    from lsprotocol.types import Position, Range, TextDocumentContentChangePartial

    span = Range(Position(*start), Position(*(end or start)))
    return TextDocumentContentChangePartial(span, new)


TOKEN = "a-token-of-this-test-run"
AUTH = {"authorization": f"Bearer {TOKEN}"}


class Served:
    """An application on a real socket, in a thread of this process; by a server of uvicorn, ours
    unless one is given.
    """

    def __init__(self, app: Any, server: Any = None) -> None:
        import asyncio
        import threading

        from codegen.server.http.security import listen, make_server

        self.socket = listen("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        self.server = server or make_server(app)
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
    from codegen.server.http import make_app

    return make_app(engine, TOKEN, origins=frozenset({"http://localhost:8888"}))


@pytest.fixture
def served(app: Any) -> Iterator[Served]:
    served = Served(app)
    yield served
    served.stop()


@pytest.fixture
def fronted(served: Served, engine: Any) -> Iterator[Served]:
    """A server whose completions come from the other one."""
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits
    from codegen.server.completion.upstream import Upstream
    from codegen.server.http import make_app

    upstream = Upstream(f"{served.url}/v1", model=engine.source.name, key=TOKEN)
    upstream.check()
    front = CompletionEngine(upstream, ServerLimits())
    server = Served(make_app(front, TOKEN))
    yield server
    server.stop()
    front.stop()


@pytest.fixture
def post(served: Served) -> Iterator[Callable[..., Any]]:
    """Posts JSON and returns the response."""
    import httpx

    with httpx.Client(base_url=served.url, timeout=60) as client:

        def send(path: str, body: Any, **headers: str) -> Any:
            return client.post(path, json=body, headers={**AUTH, **headers})

        yield send
