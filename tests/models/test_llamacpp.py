"""GGUF files in a llama.cpp child process: real servers, real deaths, damaged files."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from codegen.models.llamacpp import LlamaOptions, LlamaServer

ONE = LlamaOptions(slots=1, context=512, threads=1)


def ask(server: LlamaServer, route: str, body: Any = None, key: str | None = None) -> Any:
    request = urllib.request.Request(
        server.url + route,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {server.api_key if key is None else key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_a_server_completes_and_wants_its_key(llama_server: LlamaServer) -> None:
    body = {"prompt": "def add(a, b):\n    return a +", "max_tokens": 2, "temperature": 0}
    assert ask(llama_server, "/health", key="")["status"] == "ok"
    assert ask(llama_server, "/v1/completions", body)["choices"][0]["text"].startswith(" b")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(llama_server, "/v1/completions", body, key="another")
    assert llama_server.url.startswith("http://127.0.0.1:")


def test_the_file_with_fim_tokens_infills(fim_gguf: Path) -> None:
    server = LlamaServer(fim_gguf, ONE)
    try:
        body = {"input_prefix": "def f(", "input_suffix": "\n", "n_predict": 3}
        answer = ask(server, "/infill", body)
        assert answer["tokens_predicted"] == 3
        assert answer["tokens_evaluated"] >= 6  # three sentinels and the text
    finally:
        server.close()
