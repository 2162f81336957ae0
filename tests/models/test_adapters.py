"""Adapters: right in any precision, tied to their base, refused when they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from codegen.core.errors import ModelError
from codegen.models import ModelCard, fingerprint_of, load, write_card


@pytest.fixture
def adapter(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A LoRA adapter with small random updates, as a short training leaves them."""
    base = load(str(tiny_model_dir), dtype=torch.float32, device="cpu")
    torch.manual_seed(0)
    model: Any = get_peft_model(base.model, LoraConfig(r=4, target_modules="all-linear"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.005 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    card = ModelCard(str(tiny_model_dir), base.fingerprint, "chat", "sample")
    write_card(folder, card)
    return folder


IDS = torch.arange(3, 43)[None]


@torch.inference_mode()
def logits(name: str | Path, dtype: torch.dtype) -> torch.Tensor:
    return load(str(name), dtype=dtype, device="cpu").model(IDS).logits.float()


def test_a_narrow_dtype_does_not_lose_the_update(adapter: Path, tiny_model_dir: Path) -> None:
    """What the adapter changes in bfloat16 is what it changes in float32, not rounding noise."""
    update = logits(adapter, torch.float32) - logits(tiny_model_dir, torch.float32)
    narrow = logits(adapter, torch.bfloat16) - logits(tiny_model_dir, torch.bfloat16)
    unrounded = torch.nn.functional.cosine_similarity(update.flatten(), narrow.flatten(), dim=0)
    loaded = load(str(adapter), dtype=torch.bfloat16, device="cpu").model
    kept = {n: p for n, p in loaded.named_parameters() if "lora_B" in n}
    assert kept
    assert all(p.dtype == torch.bfloat16 for p in kept.values())
    stored = load_file(adapter / "adapter_model.safetensors")
    for name, parameter in kept.items():
        [match] = [v for k, v in stored.items() if k.endswith(name.replace(".default", ""))]
        torch.testing.assert_close(parameter.float(), match, rtol=2**-8, atol=0)
    assert float(unrounded) > 0.7


def test_float32_folds_the_update_in(adapter: Path, tiny_model_dir: Path) -> None:
    loaded = load(str(adapter), dtype=torch.float32, device="cpu").model
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert not torch.equal(logits(adapter, torch.float32), logits(tiny_model_dir, torch.float32))


@pytest.mark.parametrize("tokens", [None, [5, 6]])
def test_an_adapter_of_an_adapter(
    adapter: Path, tiny_model_dir: Path, tmp_path: Path, tokens: list[int] | None
) -> None:
    """Both change the model, in any precision, also if the first one trained embeddings."""
    names = ["embed_tokens"]
    first: Any = get_peft_model(
        load(str(tiny_model_dir), dtype=torch.float32, device="cpu").model,
        LoraConfig(r=4, target_modules="all-linear",
                   trainable_token_indices={names[0]: tokens} if tokens else None),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in first.named_parameters():
            if "lora_B" in name or "token_adapter" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    first.save_pretrained(tmp_path / "first", save_embedding_layers=False)
    base = load(str(tiny_model_dir), device="cpu")
    write_card(tmp_path / "first", ModelCard(str(tiny_model_dir), base.fingerprint))
    below = load(str(tmp_path / "first"), dtype=torch.float32, device="cpu")
    write_card(adapter, ModelCard(str(tmp_path / "first"), below.fingerprint))
    alone, both = logits(tmp_path / "first", torch.float32), logits(adapter, torch.float32)
    plain = logits(tiny_model_dir, torch.float32)
    assert (alone - plain).abs().max() > 0.05 and (both - alone).abs().max() > 0.001
    narrow = logits(adapter, torch.bfloat16)
    near = torch.nn.functional.cosine_similarity
    assert near((narrow - plain).flatten(), (both - plain).flatten(), dim=0) > 0.98
    with pytest.raises(ModelError, match="an adapter of the adapter"):
        load(str(adapter), bits=4, device="cpu")


def test_another_base_is_refused(adapter: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    state = load_file(other / "model.safetensors")
    state["model.norm.weight"] += 1
    save_file(state, other / "model.safetensors", {"format": "pt"})
    assert fingerprint_of(str(other)) != fingerprint_of(str(tiny_model_dir))
    card = json.loads((adapter / "codegen.json").read_text())
    write_card(adapter, ModelCard(str(other), card["base_fingerprint"]))
    with pytest.raises(ModelError, match="not the one it was trained on"):
        load(str(adapter))


def test_an_adapter_whose_keys_do_not_fit_is_refused(adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    state = {"odd." + key: value for key, value in load_file(path).items()}
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match="does not fit its base model"):
        load(str(adapter))


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_adapter_config_is_an_error(adapter: Path, text: str) -> None:
    (adapter / "codegen.json").unlink()
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match="adapter"):
        load(str(adapter))


def test_fingerprint_needs_no_loading(adapter: Path) -> None:
    assert fingerprint_of(str(adapter)) == load(str(adapter)).fingerprint
    config = json.loads((adapter / "adapter_config.json").read_text())
    before = fingerprint_of(str(adapter))
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 1000}))
    assert fingerprint_of(str(adapter)) != before


def test_missing_weights_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    state = {k: v for k, v in load_file(path).items() if "layers.1" not in k}
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 9 tensors, model\.layers\.1"):
        load(str(tmp_path / "m"))


def test_pickled_weights_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "m")
    state = load_file(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="does not load"):
        load(str(tmp_path / "m"))
