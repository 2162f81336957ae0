"""``--backend`` of ``codegen generate`` and ``codegen eval run``, with a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai_server import Model, completion, serving, sse

Codegen = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CODEGEN_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def server() -> Iterator[Model]:
    with serving(lambda _: completion("    return 1\n", chat=False)) as model:
        yield model


def test_a_servers_text_is_streamed(codegen: Codegen, server: Model) -> None:
    server.answer = lambda _: sse(["Hello", ", ", "you."])
    code, out, err = codegen(
        "generate", "--backend", "openai", "--endpoint", server.url, "--model", "m",
        "--prompt", "Greet.", "--stop", "!",
    )  # fmt: skip
    assert (code, out) == (0, "Hello, you.\n"), err
    (body,) = server.bodies
    assert body["messages"] == [{"role": "user", "content": "Greet."}]
    assert body["stream"] and body["stop"] == ["!"] and body["model"] == "m"


def test_samples_of_a_server_are_records_like_others(codegen: Codegen, server: Model) -> None:
    code, out, _ = codegen(
        "generate", "--backend", "openai", "--endpoint", server.url, "--model", "m", "--no-chat",
        "--prompt", "def f():\n", "-n", "3", "--temperature", "0.5", "--json",
    )  # fmt: skip
    samples = json.loads(out)["samples"]
    assert code == 0 and [sample["completion"] for sample in samples] == ["    return 1\n"] * 3
    assert {sample["index"] for sample in samples} == {0, 1, 2}
    assert len({body["seed"] for body in server.bodies}) == 3
    assert samples[0]["settings"] == {
        "model": "m", "decoder": "sample", "max_new_tokens": 256, "temperature": 0.5,
        "top_p": 1.0, "seed": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--backend", "openai"], "--endpoint"),
        (["--backend", "transformers", "--endpoint", "http://h"], "--backend openai"),
        (["--model", "nobody", "--backend", "openai"], "--endpoint"),
        (["--api-key-env", "KEY"], "--api-key-env cannot be used without a server"),
        (["--endpoint", "http://h", "--model", "m", "--max-cost", "1"], "-o price_in"),
        (["--endpoint", "http://h", "--api-key-env", "sk-secret"], "looks like an API key"),
        (["--endpoint", "ftp://h"], "not an http or https URL"),
        (["--model", "m", "--endpoint", "http://h", "-o", "engine.a=1"], "-o engine"),
        (["--model", "m", "--endpoint", "http://h", "-o", "lm_infinite=1,2"], "transformers"),
        (["--model", "m", "--endpoint", "http://h", "--decoder", "rpg"], "logits"),
        (["--backend", "vllm", "--decoder", "backspace"], "the backend vllm does not support"),
        (["--backend", "lama"], "Unknown backend 'lama'"),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(
    codegen: Codegen, arguments: list[str], what: str
) -> None:
    decoder = [] if "--decoder" in arguments else ["--decoder", "edit_sequence"]
    code, out, err = codegen("generate", "--prompt", "x", *arguments, *decoder)
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "secret" not in err
    assert code == 2 and not out and len(lines) == 1 and what in lines[0]
