"""The clients' tests run on a model in this process and on a real llama.cpp server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(params=["model", "upstream"])
def engine(request: pytest.FixtureRequest) -> Iterator[Any]:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits
    from codegen.server.completion.upstream import Upstream

    limits = ServerLimits(context_tokens=256, requests_per_s=1e6, burst=10**6)
    if request.param == "model":
        model = request.getfixturevalue("tiny_model")
    else:
        server = request.getfixturevalue("llama_server")
        model = Upstream(f"{server.url}/v1", key=server.api_key, limits=limits)
        model.check()
    engine = CompletionEngine(model, limits)
    yield engine
    engine.stop()
