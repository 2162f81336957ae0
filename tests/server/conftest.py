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
