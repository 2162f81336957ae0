"""Responses, infilling routes, Ollama's and llama.cpp's look-ups, and a server behind this one."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import openai
import pytest

from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.requests import ServerLimits
from codegen.server.completion.upstream import Upstream
from codegen.server.http import make_app
from tests.server.conftest import AUTH, TOKEN, Served

TEXT = [{"role": "user", "content": "def f(value):"}]


def test_conversations_pass_an_upstream(fronted: Served, served: Served) -> None:
    given: Any = {"model": "", "messages": TEXT, "temperature": 0, "max_tokens": 12}
    both = []
    for server in (served, fronted):
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as client:
            answer = client.chat.completions.create(**given)
            rows = list(client.chat.completions.create(**given, stream=True))
            streamed = "".join(row.choices[0].delta.content or "" for row in rows)
            both.append((answer.choices, streamed))
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**given, tools=[{"type": "function"}])  # type: ignore[call-overload]
            with pytest.raises(openai.BadRequestError) as long:
                client.chat.completions.create(
                    model="", messages=[{"role": "user", "content": "x " * 2000}]
                )
            assert TOKEN not in str(long.value) and "\n" not in str(long.value)
    assert both[0] == both[1]


def test_an_upstreams_reason_is_shown_without_the_key(fronted: Served) -> None:
    """The words of the server that refused, to the client that asked it."""
    for stream in (False, True):
        body = {"model": "", "messages": TEXT, "n": 99, "stream": stream}
        answer = httpx.post(
            fronted.url + "/v1/chat/completions", json=body, headers=AUTH, timeout=60
        )
        said = answer.json()["error"]["message"]
        assert answer.status_code == 400 and "at most" in said and "\n" not in said


def test_what_a_server_in_front_lacks_is_one_line(fronted: Served) -> None:
    with httpx.Client(base_url=fronted.url, headers=AUTH, timeout=60) as client:
        answer = client.post("/v1/completions", json={"prompt": "x", "top_k": 5})
        assert answer.status_code == 501 and "requires a model in this process" in answer.text
        for path in ("/props", "/api/tags", "/v1/models"):
            assert client.get(path).status_code == 200


def test_an_upstream_that_is_gone_is_503(engine: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        upstream = Upstream(f"http://127.0.0.1:{free.getsockname()[1]}/v1", model="m", key=TOKEN)
        front = CompletionEngine(upstream, ServerLimits())
        server = Served(make_app(front, TOKEN))
        try:
            with openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0) as client:
                given: Any = {"model": "", "messages": TEXT}
                for stream in (False, True):
                    with pytest.raises(openai.InternalServerError) as gone:
                        client.chat.completions.create(**given, stream=stream)
                    assert gone.value.status_code == 503
        finally:
            server.stop()
            front.stop()
