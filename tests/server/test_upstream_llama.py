"""The engine in front of real llama.cpp servers."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from codegen.server.engine import CompletionEngine
from codegen.server.requests import ServerLimits
from codegen.server.upstream import Upstream
from codegen.server.upstream.prompts import plain

pytestmark = pytest.mark.slow

TEXT = Path(__file__).read_text()
PROMPTS = [
    "def add(a, b):\n    return",
    "import os\nimport sys\n\nfor name in os.listdir(",
    "class Point:\n    def __init__(self, x, y):\n        self.x =",
    "numbers = [1, 2, 3, 4, 5, 6,",
]
LIMITS = ServerLimits(context_tokens=512, deadline_s=120, requests_per_s=1e6)


def connected(server: Any, **options: Any) -> CompletionEngine:
    upstream = Upstream(f"{server.url}/v1", key=server.api_key, limits=LIMITS, **options)
    upstream.check()
    return CompletionEngine(upstream, LIMITS)


def post(server: Any, path: str, body: Any) -> Any:
    headers = {"authorization": f"Bearer {server.api_key}"}
    answer = httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=120)
    answer.raise_for_status()
    return answer.json()


def test_text_is_what_the_server_gives_for_the_same_prompt(llama_server: Any, ask: Any) -> None:
    engine = connected(llama_server)
    assert engine.model.offer.way.kind == "prefix"  # type: ignore[attr-defined]

    async def run() -> list[str]:
        asked = [ask(text, document=text, max_tokens=6) for text in PROMPTS]
        return [(await engine.complete(one)).text for one in asked]

    try:
        texts = asyncio.run(run())
    finally:
        engine.stop()
    for prompt, text in zip(PROMPTS, texts, strict=True):
        body = {"prompt": prompt, "n_predict": 6, "temperature": 0}
        assert text == post(llama_server, "/completion", body)["content"] != ""


def test_no_control_token_comes_out_of_a_document(llama_server: Any) -> None:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>"]
    marks += ["<file_sep>", "<filename>", "<gh_stars>", "<issue_start>", "<issue_comment>"]
    marks += ["<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>"]
    marks += ["<jupyter_output>", "<jupyter_script>", "<empty_output>"]

    def tokens(text: str) -> list[int]:
        body = {"content": text, "parse_special": True}
        return post(llama_server, "/tokenize", body)["tokens"]

    assert [tokens(mark) for mark in marks] == [[number] for number in range(17)]
    assert not set(range(17)) & set(tokens(plain("x = ".join(marks))))


def test_a_cancelled_request_ends_in_the_server(llama_server: Any, ask: Any) -> None:
    engine = connected(llama_server)
    headers = {"authorization": f"Bearer {llama_server.api_key}"}

    def slots() -> list[Any]:
        return httpx.get(f"{llama_server.url}/slots", headers=headers, timeout=60).json()

    async def run() -> list[Any]:
        task = asyncio.ensure_future(engine.complete(ask("x = [1, 2, 3, ", max_tokens=250)))
        while True:
            found = await asyncio.to_thread(slots)
            busy = any(slot["is_processing"] for slot in found)
            if busy:
                task.cancel()
            elif task.cancelled():
                return found

    try:
        found = asyncio.run(run())
    finally:
        engine.stop()
    made = [token["n_decoded"] for slot in found for token in slot.get("next_token", ())]
    assert made and max(made) < 200


def test_infill_uses_the_server_s_cache_while_one_types(fim_gguf: Path, ask: Any) -> None:
    from codegen.models.llamacpp import LlamaOptions, LlamaServer

    server = LlamaServer(fim_gguf, LlamaOptions(slots=2, context=1024, threads=1))
    engine = None
    try:
        engine = connected(server)
        assert engine.model.offer.way.kind == "infill"  # type: ignore[attr-defined]
        suffix = TEXT[700:800]

        async def run() -> list[Any]:
            found = []
            for end in range(600, 606):
                for name in ("a.py", "b.py"):  # each in a slot of its own
                    asked = ask(f"# {name}\n{TEXT[:end]}", suffix, document=name, max_tokens=2)
                    found.append(await engine.complete(asked))
            return found

        answers = asyncio.run(run())
    finally:
        if engine:
            engine.stop()
        server.close()
    tail = len(suffix)  # what follows what is typed is encoded again; tokens are fewer
    assert all(answer.prompt_tokens > 150 for answer in answers)
    for answer in answers[2:]:
        assert answer.reused >= answer.prompt_tokens - tail and answer.encoded <= tail
    assert len({answer.prompt_tokens for answer in answers}) <= 8


def test_a_real_server_is_killed_and_restarted_in_the_middle_of_traffic(
    embedded_gguf: Path, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    from codegen.models.llamacpp import LlamaOptions, LlamaServer

    options = LlamaOptions(slots=2, context=512, threads=1)
    server = LlamaServer(embedded_gguf, options)
    port, key = int(server.url.rpartition(":")[2]), server.api_key
    engine = None
    try:
        engine = connected(server)
        answered: list[str] = []

        async def client(name: str) -> None:
            for turn in range(6):
                asked = ask(f"def {name}_{turn}(value):\n    return", document=name, max_tokens=6)
                answered.append((await engine.complete(asked)).text)

        async def run() -> LlamaServer:
            work = asyncio.gather(*(client(name) for name in ("a", "b", "c", "d")))
            while len(answered) < 6:
                await asyncio.sleep(0.01)
            server.close()  # SIGKILL
            await asyncio.sleep(0.5)
            again = await asyncio.to_thread(LlamaServer, embedded_gguf, options, port, key)
            await work
            return again

        with caplog.at_level(logging.WARNING, "codegen"):
            again = asyncio.run(run())
        again.close()
    finally:
        if engine:
            engine.stop()
        server.close()
    assert len(answered) == 24 and all(answered)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert engine and engine.model.status.kind == "Normal"
