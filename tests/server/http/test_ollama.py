"""Ollama's API, by its own client and in front of an upstream."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.server.conftest import AUTH, Served
from tests.server.http.test_chat import ASKED
from tests.server.http.test_openai import PREFIX, SUFFIX


def chat_text(post: Any, messages: Any, **more: Any) -> str:
    body = {"messages": messages, "temperature": 0, "max_tokens": 12, **more}
    return post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]


def test_ollamas_own_client(served: Served, post: Any, engine: Any) -> None:
    ollama = pytest.importorskip("ollama", reason="needs the package ollama")
    client, name = ollama.Client(served.url, headers=AUTH), engine.source.name
    assert [model.model for model in client.list().models] == [name]
    shown = client.show(name)
    assert shown.capabilities == ["completion"]
    options = {"temperature": 0, "num_predict": 12, "top_p": 1, "num_ctx": 4096}
    answer = client.chat(name, ASKED, options=options)
    assert answer.message.content == chat_text(post, ASKED)
    assert answer.done and answer.done_reason == "length" and answer.eval_count == 12
    parts = list(client.chat(name, ASKED, options=options, stream=True))
    assert "".join(part.message.content for part in parts) == answer.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    turn = client.generate(name, ASKED[0]["content"], options=options)
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


def test_ollamas_conversations_pass_an_upstream(fronted: Served, served: Served) -> None:
    options = {"temperature": 0, "num_predict": 12}
    both = []
    for server in (served, fronted):
        found: list[Any] = []
        for path, given, text in (
            ("/api/chat", {"messages": ASKED}, lambda row: row["message"]["content"]),
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
