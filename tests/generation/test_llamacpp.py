"""The llamacpp back-end against the server's own routes, and a child that dies under it."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError, InputError, ModelError
from codegen.core.generation import Decoder, ModelUnusable, Request, SamplingParams
from codegen.generation import LocalModel, local_backend, open_backend
from codegen.generation.llamacpp import LlamaBackend

GREEDY = SamplingParams(12)
PROMPTS = ["def add(a, b):\n    return", "import numpy as", "for i in range(10):\n", "class A:"]


@pytest.fixture(scope="module")
def backend(embedded_gguf: Path) -> Iterator[LlamaBackend]:
    options = {"threads": 1, "context": 512}
    opened = open_backend("llamacpp", str(embedded_gguf), batch_size=1, options=options)
    assert isinstance(opened, LlamaBackend)
    yield opened
    opened.server.close()


def texts(backend: Any, requests: list[Request], params: SamplingParams = GREEDY) -> list[str]:
    made = list(backend.generate(requests, params, Decoder()))
    assert not any(one.error for one in made)
    return [one.text for one in sorted(made, key=lambda one: one.number)]


def post(backend: LlamaBackend, route: str, body: Any) -> Any:
    request = urllib.request.Request(
        backend.server.url + route,
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {backend.server.api_key}"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_greedy_texts_are_those_of_the_native_route(backend: LlamaBackend) -> None:
    native = {"n_predict": 12, "temperature": 0, "cache_prompt": False}
    for prompt in PROMPTS:
        expected = post(backend, "/completion", {"prompt": prompt, **native})["content"]
        assert texts(backend, [Request(prompt)]) == [expected]


def test_a_chat_request_uses_the_files_template(backend: LlamaBackend) -> None:
    made = next(backend.generate([Request("Say hi.", chat=True)], GREEDY, Decoder()))
    template = backend.server.header.chat_template
    assert "<|im_start|>assistant" in template
    shown = post(backend, "/apply-template", {"messages": [{"role": "user", "content": "Say hi."}]})
    tokens = post(backend, "/tokenize", {"content": shown["prompt"], "parse_special": True})
    assert made.prompt_tokens == len(tokens["tokens"])


def test_a_begun_answer_is_continued_and_not_repeated(backend: LlamaBackend) -> None:
    begun = "Sure, zebra:\n```python\n"
    request = Request("Write add(a, b).", chat=True, prefill=begun, stop=("zebra",))
    made = next(backend.generate([request], GREEDY, Decoder()))
    turns = [{"role": "user", "content": request.prompt}, {"role": "assistant", "content": begun}]
    shown = post(backend, "/apply-template", {"messages": turns})["prompt"]
    assert shown.endswith(begun)
    native = {"n_predict": GREEDY.max_new_tokens, "temperature": 0, "cache_prompt": False}
    expected = post(backend, "/completion", {"prompt": shown, **native})["content"]
    assert made.text == expected


def test_samples_are_drawn_from_the_whole_distribution(backend: LlamaBackend) -> None:
    # At this temperature all 49,152 tokens are about equally likely. llama.cpp's own defaults
    # (top-k 40, min-p) would leave at most 40 of them.
    requests = [Request("x =", index=i) for i in range(80)]
    assert len(set(texts(backend, requests, SamplingParams(1, 100.0)))) > 60
    # A nucleus this small is the most probable token, at the temperature 1.
    (greedy,) = texts(backend, [Request("x =")], SamplingParams(1))
    assert set(texts(backend, requests[:10], SamplingParams(1, 1.0, 1e-6))) == {greedy}


def test_a_seed_gives_the_same_text_whatever_was_before(backend: LlamaBackend) -> None:
    params = SamplingParams(8, 1.0)
    request = Request(PROMPTS[0], problem_id="a", index=3)
    (first,) = texts(backend, [request], params)
    texts(backend, [Request(prompt) for prompt in PROMPTS])
    assert texts(backend, [request], params) == [first]
    others = texts(
        backend, [Request(PROMPTS[0], problem_id="a", index=i) for i in range(6)], params
    )
    assert len(set(others)) > 3


def test_a_prompt_that_is_too_long_fails_alone(backend: LlamaBackend) -> None:
    long, short = Request("x = 1\n" * 400, problem_id="long"), Request("x =")
    made = {one.number: one for one in backend.generate([long, short], GREEDY, Decoder())}
    assert made[1].error is None and made[1].text
    assert made[0].error
    assert "available context size (512 tokens)" in made[0].error.message
    assert made[0].error.remedy == "Set a larger -o engine.context=TOKENS."
    assert "http" not in made[0].error.message.lower().replace("http 400", "")


@pytest.mark.parametrize("decoder", ["rpg", "suffix", "backspace", "superposed", "rsd"])
def test_what_needs_logits_is_refused_in_the_one_place(backend: LlamaBackend, decoder: str) -> None:
    options = {"draft": "x"} if decoder == "rsd" else {}
    with pytest.raises(ConfigError, match="the backend llamacpp does not support"):
        next(backend.generate([Request("x")], GREEDY, Decoder(decoder, options)))


def test_a_name_chooses_the_backend(embedded_gguf: Path, tmp_path: Path) -> None:
    assert local_backend(str(embedded_gguf)) == "llamacpp"
    assert local_backend("embedded") == local_backend("org/name") == "transformers"
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelUnusable, match="is not a GGUF file"):
        LocalModel(str(tmp_path / "text.gguf")).open()
    with pytest.raises(InputError, match="is not a GGUF file"):
        open_backend("llamacpp", str(tmp_path / "text.gguf"))
    with pytest.raises(ModelError, match="'org/name' is not a GGUF file"):
        open_backend("llamacpp", "org/name")
    with pytest.raises(ConfigError, match="no option 'colour'"):
        open_backend("llamacpp", str(embedded_gguf), colour="red")


def test_a_child_that_dies_ends_the_run_with_one_line(embedded_gguf: Path) -> None:
    backend = LocalModel(str(embedded_gguf), 2).open()
    assert isinstance(backend, LlamaBackend)

    def requests() -> Iterator[Request]:
        for i in range(1000):
            if i == 5:
                os.kill(backend.server.pid, signal.SIGSEGV)
            yield Request(PROMPTS[i % 4], index=i)

    made = []
    with pytest.raises(ModelUnusable, match=r"Q4_1\.gguf stopped: .* killed by SIGSEGV\. "):
        made.extend(backend.generate(requests(), GREEDY, Decoder()))
    assert all(one.text for one in made)
