"""The model ``coder`` as users run it; skipped where it was not fetched."""

from __future__ import annotations

import ast
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegen.evals import tasks
from codegen.generation import Decoder, Request, SamplingParams, open_backend
from codegen.generation.llamacpp import LlamaBackend
from codegen.models import load_tokenizer
from codegen.models.pretrained import MODELS
from codegen.sandbox import Sandbox

pytestmark = [pytest.mark.coder, pytest.mark.long]
CODER = MODELS["coder"]


@pytest.fixture(scope="module")
def backend() -> Iterator[LlamaBackend]:
    if CODER.find_gguf() is None:
        pytest.skip("fetch it by `codegen models fetch coder` to run this test")
    opened = open_backend("llamacpp", "coder", batch_size=2)
    assert isinstance(opened, LlamaBackend)
    yield opened
    opened.server.close()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    if CODER.find() is None:
        pytest.skip("fetch it by `codegen models fetch coder --weights` to run this test")
    return load_tokenizer("coder")


def test_it_solves_problems_of_humaneval(backend: LlamaBackend) -> None:
    task, style = tasks.load("humaneval-short"), tasks.find_style("evalplus")
    problems = task.problems()[:6]
    requests = [task.request(problem, style, 0) for problem in problems]
    made = backend.generate(requests, SamplingParams(256), Decoder())
    with Sandbox(workers=1) as sandbox:
        passed = []
        for completion in made:
            sample = replace(completion.sample({}), meta=tasks.meta_of(style))
            problem = next(p for p in problems if p.id == sample.problem_id)
            job = task.job(problem, task.program(problem, sample))
            passed.append(sandbox.run(job).passed)  # type: ignore[arg-type]
            assert completion.finish_reason == "stop"
    assert sum(passed) >= 3


def test_a_converted_tokenizer_is_llama_cpps(backend: LlamaBackend, tokenizer: Any) -> None:
    texts = [Path(str(module.__file__)).read_text()[:20_000] for module in (ast, json, subprocess)]
    texts += ["12345 x1\t\r\n  é漢字🙂", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"]
    for text in texts:
        body = json.dumps({"content": text, "parse_special": True}).encode()
        key = {"Authorization": f"Bearer {backend.server.api_key}"}
        asked = urllib.request.Request(f"{backend.server.url}/tokenize", body, key)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert tokenizer(text).input_ids == json.load(answer)["tokens"]
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.chat_template
    config = json.loads((Path(tokenizer.name_or_path) / "config.json").read_text())
    assert config["tie_word_embeddings"]


def test_converted_weights_go_on_as_the_file(backend: LlamaBackend, tokenizer: Any) -> None:
    """Four-bit products of llama.cpp round otherwise, so single tokens may differ."""
    request = Request("def fibonacci(n):\n    if n < 2:\n        return n\n    return", heal=False)
    params = SamplingParams(16)
    (file,) = backend.generate([request], params, Decoder())
    (weights,) = open_backend("transformers", "coder").generate([request], params, Decoder())
    assert file.text.split()[:4] == weights.text.split()[:4]
