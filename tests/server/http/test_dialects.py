"""Responses, infilling routes, Ollama's and llama.cpp's look-ups, and a server behind this one."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.requests import ServerLimits
from codegen.server.completion.upstream import Upstream
from codegen.server.http import make_app
from tests.server.conftest import AUTH, TOKEN, Served

PREFIX, SUFFIX = "def f(value):\n    return ", "\n\nprint(f(1))\n"
TEXT = [{"role": "user", "content": "def f(value):"}]


def chat_text(post: Any, messages: Any, **more: Any) -> str:
    body = {"messages": messages, "temperature": 0, "max_tokens": 12, **more}
    return post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]


def test_mistrals_and_deepseeks_infilling(post: Any, served: Served) -> None:
    plain = post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 20}).json()
    text = plain["choices"][0]["text"]
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 20}
    assert post("/beta/completions", {"model": "deepseek-v4-pro", **body}).json()["choices"][0][
        "text"
    ] == text  # fmt: skip
    answer = post("/v1/fim/completions", body).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == text
    streamed = ""
    body["stream"] = True
    url = served.url + "/v1/fim/completions"
    with httpx.stream("POST", url, json=body, headers=AUTH, timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    streamed += choice["delta"].get("content", "")
    assert streamed == text
    assert post("/v1/fim/completions", {"suffix": "x"}).json()["error"]["param"] == "prompt"
    assert post("/v1/fim/completions", {**body, "model": "codestral-latest"}).status_code == 404


def test_ollamas_own_client(served: Served, post: Any, engine: Any) -> None:
    ollama = pytest.importorskip("ollama", reason="needs the package ollama")
    client, name = ollama.Client(served.url, headers=AUTH), engine.model.name
    assert [model.model for model in client.list().models] == [name]
    shown = client.show(name)
    assert shown.capabilities == ["completion"]
    options = {"temperature": 0, "num_predict": 12, "top_p": 1, "num_ctx": 4096}
    answer = client.chat(name, TEXT, options=options)
    assert answer.message.content == chat_text(post, TEXT)
    assert answer.done and answer.done_reason == "length" and answer.eval_count == 12
    parts = list(client.chat(name, TEXT, options=options, stream=True))
    assert "".join(part.message.content for part in parts) == answer.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    turn = client.generate(name, TEXT[0]["content"], options=options)
    assert turn.response == answer.message.content
    text = post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 12}).json()
    given = {"suffix": SUFFIX, "options": options}
    filled = client.generate(name, PREFIX, **given)
    assert filled.response == text["choices"][0]["text"]
    parts = list(client.generate(name, PREFIX, **given, stream=True))
    assert "".join(part.response for part in parts) == filled.response
    assert client.generate(name).done_reason == "load"
    for wrong in ({"model": "llama3"}, {"model": name, "options": {"mirostat": 2}}):
        with pytest.raises(ollama.ResponseError) as error:
            client.generate(prompt="x", **wrong)
        assert error.value.status_code in (400, 404) and "\n" not in error.value.error
    with pytest.raises(ollama.ResponseError) as error:
        ollama.Client(served.url).list()
    assert error.value.status_code == 401


def test_props(served: Served, tiny_model: Any) -> None:
    props = httpx.get(served.url + "/props", headers=AUTH).json()
    assert props["default_generation_settings"]["n_ctx"] == tiny_model.longest == 512
    assert props["chat_template"] == tiny_model.tokenizer.chat_template


@pytest.fixture
def fronted(served: Served, engine: Any) -> Iterator[Served]:
    """A server whose completions come from the other one."""
    upstream = Upstream(f"{served.url}/v1", model=engine.model.name, key=TOKEN)
    upstream.check()
    front = CompletionEngine(upstream, ServerLimits())
    server = Served(make_app(front, TOKEN))
    yield server
    server.stop()
    front.stop()


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


def test_ollamas_conversations_pass_an_upstream(fronted: Served, served: Served) -> None:
    options = {"temperature": 0, "num_predict": 12}
    both = []
    for server in (served, fronted):
        found: list[Any] = []
        for path, given, text in (
            ("/api/chat", {"messages": TEXT}, lambda row: row["message"]["content"]),
            ("/api/generate", {"prompt": "x", "system": "Be short."}, lambda row: row["response"]),
        ):
            body = {"model": "", **given, "options": options}
            url = server.url + path
            whole = httpx.post(url, json={**body, "stream": False}, headers=AUTH, timeout=60).json()
            streamed = httpx.post(url, json=body, headers=AUTH, timeout=60)
            rows = [json.loads(line) for line in streamed.text.splitlines()]
            assert "".join(map(text, rows)) == text(whole)
            for last in (whole, rows[-1]):
                assert last["done"] and last["eval_duration"] > 0
            found.append((text(whole), whole["eval_count"], whole["prompt_eval_count"]))
            found.append((whole["done_reason"], rows[-1]["done_reason"]))
            stopped = {**options, "stop": [text(whole)[1]]}
            cut = httpx.post(
                url, json={**body, "stream": False, "options": stopped}, headers=AUTH, timeout=60
            )
            found.append((text(cut.json()), cut.json()["done_reason"]))
        both.append(found)
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
