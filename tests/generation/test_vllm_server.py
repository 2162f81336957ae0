"""The openai back-end in front of a real vLLM server.

The oracle is the transformers back-end on the same weights. The server is run by the Python that
CODEGEN_VLLM_PYTHON names, or by this one if it has vLLM.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen.core.generation import Completion
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.endpoints import Endpoint
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
