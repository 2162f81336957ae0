"""The openai back-end in front of a real vLLM server.

The oracle is the transformers back-end on the same weights. The server is run by the Python that
CODEGEN_VLLM_PYTHON names, or by this one if it has vLLM.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen.errors import CodegenError
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.backends import Endpoint
from codegen.generation.protocol import Completion
from codegen.generation.transformers import TransformersBackend
from codegen.models import load

pytestmark = pytest.mark.long
NEW = 20
KEY = "a-key-for-this-test"
READY_S = 300
PROMPTS = ["def f(x):\n", "import os\n", "class A:\n    def", "x = [1, 2", "for i in range(3):\n"]
CHATS = ["add two numbers", "a function that reverses a list"]
REQUESTS = [
    *(Request(text, problem_id=f"text{i}", heal=False) for i, text in enumerate(PROMPTS)),
    *(Request(text, problem_id=f"chat{i}", chat=True) for i, text in enumerate(CHATS)),
]


@pytest.fixture(scope="module")
def url(vllm_python: str, vllm_model_dir: Path, tmp_path_factory: Any) -> Iterator[str]:
    """Where the server answers under the name ``tiny``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        vllm_python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(vllm_model_dir),
        "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port),
        "--dtype", "float32", "--max-model-len", "512", "--enforce-eager",
        "--max-num-batched-tokens", "4096",
    ]  # fmt: skip
    environment = {
        **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_API_KEY": KEY,
    }  # fmt: skip
    with log.open("wb") as out:
        server = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        until = time.monotonic() + READY_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert server.poll() is None and time.monotonic() < until, log.read_text()[-3000:]
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def ours(vllm_model_dir: Path) -> TransformersBackend:
    return TransformersBackend(load(str(vllm_model_dir), dtype=torch.float32, device="cpu"))


@pytest.fixture
def endpoint(url: str, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("VLLM_TEST_KEY", KEY)
    return Endpoint(url, "tiny", api_key_env="VLLM_TEST_KEY")


def done(backend: Any, requests: Sequence[Request] = REQUESTS, **params: Any) -> list[Completion]:
    settings = SamplingParams(**{"max_new_tokens": NEW, **params})
    return sorted(
        backend.generate(requests, settings, Decoder("sample")), key=lambda one: one.number
    )


def test_text_and_chat_are_those_of_the_transformers_back_end(
    endpoint: Endpoint, ours: TransformersBackend
) -> None:
    for made, expected in zip(done(endpoint.open()), done(ours), strict=True):
        assert made.error is None
        assert (made.text, made.finish_reason) == (expected.text, expected.finish_reason)
        assert made.completion_tokens - expected.completion_tokens in (0, 1)  # the end counts


@pytest.mark.parametrize("absent", [0, 4])  # with those, more than the four that vLLM takes
def test_stop_strings_and_streams(
    endpoint: Endpoint, ours: TransformersBackend, absent: int
) -> None:
    found = {text[4:6] for text in (one.text for one in done(ours)) if len(text) > 12}
    stop = (*(f"{number} is not written" for number in range(absent)), *sorted(found)[:2])
    requests = [Request(r.prompt, chat=r.chat, heal=False, stop=stop) for r in REQUESTS]
    expected = done(ours, requests)
    assert "stop" in {one.finish_reason for one in expected}
    streamed = [""] * len(requests)

    def on_text(number: int, piece: str) -> None:
        streamed[number] += piece

    settings = SamplingParams(max_new_tokens=NEW)
    made = list(endpoint.open().generate(requests, settings, Decoder("sample"), on_text))
    for one in made:
        assert one.error is None
        assert one.text == streamed[one.number] == expected[one.number].text


def test_seeds_are_honored(endpoint: Endpoint) -> None:
    requests = [Request(PROMPTS[0], problem_id="one", index=i, heal=False) for i in range(4)]
    first = [one.text for one in done(endpoint.open(), requests, temperature=1.5)]
    again = [one.text for one in done(endpoint.open(), requests[::-1], temperature=1.5)]
    assert first == again[::-1] and len(set(first)) > 1
    other = [one.text for one in done(endpoint.open(), requests, temperature=1.5, seed=1)]
    assert other != first


def test_log_probabilities(endpoint: Endpoint, ours: TransformersBackend) -> None:
    """In the text and in the chat layout, against one forward pass over the whole text."""
    tokenizer: Any = ours.loaded.tokenizer
    requests = [replace(request, logprobs=2) for request in REQUESTS]
    for made in done(endpoint.open(), requests):
        rows = made.meta["logprobs"]
        assert "".join(row["token"] for row in rows).startswith(made.text)
        if made.request.chat:
            continue
        prompt = tokenizer(made.request.prompt).input_ids
        with torch.inference_mode():
            logs = ours.loaded.model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        best = logs.topk(2).values.tolist()
        assert rows[0]["logprob"] == pytest.approx(best[0], abs=1e-3)
        assert sorted((one["logprob"] for one in rows[0]["top_logprobs"]), reverse=True) == (
            pytest.approx(best, abs=1e-3)
        )


def test_mistakes_are_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_TEST_KEY", KEY)
    monkeypatch.setenv("WRONG_KEY", "not-" + KEY)
    for wrong in (
        Endpoint(url, "absent", api_key_env="VLLM_TEST_KEY"),
        Endpoint(url, "tiny", api_key_env="WRONG_KEY"),
        Endpoint(url, "tiny"),
    ):
        with pytest.raises(CodegenError) as caught:
            done(wrong.open(), REQUESTS[:1])
        assert "\n" not in str(caught.value) and KEY not in str(caught.value)
    (long,) = done(
        Endpoint(url, "tiny", api_key_env="VLLM_TEST_KEY").open(),
        [Request("x = 1\n" * 400, heal=False)],
    )
    assert long.error is not None and "\n" not in long.error.message


def test_the_command_line(endpoint: Endpoint, ours: TransformersBackend) -> None:
    command = [
        sys.executable, "-m", "codegen", "generate", "--backend", "openai", "--endpoint",
        endpoint.url, "--api-key-env", "VLLM_TEST_KEY", "--model", "tiny", "--prompt", PROMPTS[0],
        "--no-chat", "--max-new-tokens", str(NEW), "--cache", "", "--json",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    (expected,) = done(ours, REQUESTS[:1])
    assert json.loads(result.stdout)["samples"][0]["completion"] == expected.text
    assert KEY not in result.stdout + result.stderr


def test_the_editor_server_in_front_of_it(url: str, ours: TransformersBackend) -> None:
    """Its model has no way to infill, which the server says or hides; the text is the model's."""
    pytest.importorskip("pygls")
    from codegen.server.engine import CompletionEngine
    from codegen.server.requests import CompletionRequest, DocumentKey
    from codegen.server.text import safe_text
    from codegen.server.upstream import Upstream

    upstream = Upstream(url, key=KEY)
    upstream.check()
    assert upstream.offer and upstream.offer.way.kind == "prefix" and upstream.limit == 512
    params = SamplingParams(max_new_tokens=NEW, temperature=0)
    engine = CompletionEngine(upstream)

    async def run() -> list[str]:
        keys = [DocumentKey("test", "", text) for text in PROMPTS]
        asked = [
            CompletionRequest(key, text, multiline=None, params=params)
            for key, text in zip(keys, PROMPTS, strict=True)
        ]
        return [answer.text for answer in await asyncio.gather(*map(engine.complete, asked))]

    try:
        found = asyncio.run(run())
    finally:
        engine.stop()
    requests = [Request(text, problem_id=text, heal=False) for text in PROMPTS]
    wanted = {
        c.request.problem_id: c.text for c in ours.generate(requests, params, Decoder("sample"))
    }
    assert found == [safe_text(wanted[text]) for text in PROMPTS]
