"""Names, errors and model cards, on the small random model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from codegen.core.errors import CodegenError, InputError, MachineError, ModelError
from codegen.decoding.insertion import InsertionConfig, InsertionLM
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.transformers import TransformersBackend
from codegen.kernels import cpu
from codegen.models import (
    ModelCard,
    count_parameters,
    fingerprint_of,
    load,
    load_tokenizer,
    read_card,
    resolve,
    write_card,
)
from tests.processes import python


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "absent", "a/b/c", ""])
def test_absent_models_are_named(name: str) -> None:
    with pytest.raises(ModelError, match="no model directory"):
        resolve(name)


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither config\.json nor adapter_config\.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["gpt_oss", "mamba2", "lfm2", "gemma2"])
def test_models_without_sdpa_or_attention_are_generated_from(
    name: str, tiny_model_dir: Path, tmp_path: Path
) -> None:
    sizes: dict[str, dict[str, object]] = {
        "gpt_oss": {"head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
        "mamba2": {"state_size": 4, "num_heads": 4, "head_dim": 16, "n_groups": 1},
        "lfm2": {"layer_types": ["conv", "full_attention"]},
        "gemma2": {"head_dim": 8},
    }
    make: Any = CONFIG_MAPPING[name]
    config = make(
        vocab_size=700, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        pad_token_id=2, bos_token_id=0, eos_token_id=2, **sizes[name],
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    load_tokenizer(str(tiny_model_dir)).save_pretrained(tmp_path)
    loaded = load(str(tmp_path), dtype=torch.float32, device="cpu")
    requests = [Request("def f(x):\n", heal=False), Request("x = [1, 2", heal=False)]
    made = TransformersBackend(loaded).generate(requests, SamplingParams(8), Decoder())
    for one in made:
        ids = torch.tensor([loaded.tokenizer(one.request.prompt).input_ids])
        wanted = loaded.model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=2)
        kept = wanted[0, ids.shape[1] :].tolist()
        text = loaded.tokenizer.decode(kept, skip_special_tokens=True)
        assert one.text == text.rstrip("\ufffd")  # half a character is no text


def test_a_tokenizer_may_have_a_directory_to_itself(tiny_model_dir: Path, tmp_path: Path) -> None:
    whole = load_tokenizer(str(tiny_model_dir))
    whole.save_pretrained(tmp_path)
    alone = load_tokenizer(str(tmp_path))
    assert alone("def f(x):").input_ids == whole("def f(x):").input_ids
    assert alone.padding_side == "left" and alone.pad_token_id is not None
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="neither config"):
        load_tokenizer(str(tmp_path))


def test_a_hub_id_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="'org/absent' does not load"):
        load("org/absent")


def test_truncated_weights_are_an_error(tiny_model_dir: Path, tmp_path: Path) -> None:
    for path in tiny_model_dir.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="does not load"):
        load(str(tmp_path))


def test_card_round_trip_and_broken_card(tmp_path: Path) -> None:
    card = ModelCard("embedded", "", "chat", "edit_sequence", {"steps": 3})
    write_card(tmp_path, card)
    assert read_card(str(tmp_path)) == card
    (tmp_path / "codegen.json").write_text("[1")
    with pytest.raises(InputError, match=r"codegen\.json"):
        read_card(str(tmp_path))


def test_fingerprint_follows_the_weights(tiny_model_dir: Path, tmp_path: Path) -> None:
    first = load(str(tiny_model_dir), dtype=torch.float32)
    assert first.fingerprint == load(str(tiny_model_dir)).fingerprint
    with torch.no_grad():
        first.model.model.norm.weight[0] += 1
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    assert load(str(tmp_path)).fingerprint != first.fingerprint
    tied = first.model.config
    expected = tied.vocab_size * tied.hidden_size
    assert count_parameters(first.model) > expected
    total = sum(p.numel() for p in first.model.parameters())
    assert count_parameters(first.model) == total


@pytest.mark.parametrize(
    ("name", "value"), [("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")]
)
def test_bfloat16_is_not_picked_where_pytorch_is_told_to_do_without(name: str, value: str) -> None:
    """What /proc/cpuinfo says is not what PyTorch computes with."""
    script = "from codegen.models import pick_dtype\nprint(pick_dtype('cpu'))\n"
    done = python(script, check=True, env={name: value})
    assert done.stdout == "torch.float32\n"


def test_a_runs_directory_names_the_model_in_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ModelError, match="Pass the directory"):
        resolve(str(tmp_path))
    (tmp_path / "model" / "adapter_config.json").touch()
    with pytest.raises(ModelError, match=f"Did you mean {tmp_path}/model"):
        resolve(str(tmp_path))


def completed(folder: Path, **options: Any) -> tuple[TransformersBackend, str]:
    backend = TransformersBackend.open(str(folder), options={"dtype": "float32", **options})
    made = backend.generate(
        [Request("def f(x):\n    return", heal=False)], SamplingParams(8, 0.0), Decoder("sample")
    )
    (completion,) = made
    assert completion.error is None
    return backend, completion.text


def test_load_options(tiny_model_dir: Path) -> None:
    """The type of the weights; where the layers are changes nothing."""
    plain, text = completed(tiny_model_dir, device="cpu")
    assert "load_options" not in plain.identity(Decoder("sample"))
    spread, same = completed(tiny_model_dir, device_map="auto")
    assert same == text and spread.identity(Decoder("sample"))["load_options"] == {
        "device_map": "auto"
    }
    narrow, _ = completed(tiny_model_dir, dtype="bfloat16")
    assert narrow.loaded.model.dtype == torch.bfloat16


def test_a_model_for_infilling_stays_on_one_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs parts of its layers itself, so accelerate's hooks would miss what they are given."""
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    InsertionLM(InsertionConfig(vocab_size=9, **sizes)).save_pretrained(tmp_path)
    parts = {"encoder": 0, "head": 1}
    monkeypatch.setattr(InsertionLM, "hf_device_map", parts, raising=False)
    with pytest.raises(ModelError, match="cannot be spread") as refused:
        load(str(tmp_path), device="cpu")
    assert refused.value.remedy == "Remove device_map."


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_few_bits(
    tiny_model_dir: Path, tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits near those of whole weights: the more bits the nearer."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    monkeypatch.setattr("codegen.kernels.cpu.KERNELS", {})
    make: Any = CONFIG_MAPPING["llama"]
    config = make(  # its CPU kernels take blocks of 64 weights
        vocab_size=700, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    load_tokenizer(str(tiny_model_dir)).save_pretrained(tmp_path)
    whole, _ = completed(tmp_path)
    few, _ = completed(tmp_path, bits=bits)
    assert few.identity(Decoder("sample"))["load_options"] == {"bits": bits}
    sizes = [
        sum(p.numel() * p.element_size() for p in each.loaded.model.model.layers.parameters())
        for each in (whole, few)
    ]
    assert sizes[1] < sizes[0] * (bits + 2) / 32
    ids = torch.arange(5, 60)[None]
    with torch.inference_mode():
        wanted = whole.loaded.model(ids).logits.float()
        found = few.loaded.model(ids).logits.float()
    error = float((found - wanted).norm() / wanted.norm())
    assert 0 < error < {4: 0.4, 8: 0.1}[bits]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 3}, "bits is 3.*0 or 4 or 8"),
        ({"width": 3}, "width"),
        ({"device": "cpu", "device_map": "auto"}, "device cannot be combined with device_map"),
        ({"device": "nowhere"}, "'nowhere' cannot be used"),
        ({"device": "cuda:99"}, "'cuda:99' cannot be used"),
    ],
)
def test_load_options_that_do_not_fit(
    tiny_model_dir: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodegenError, match=message):
        TransformersBackend.open(str(tiny_model_dir), options=options)


def test_bits_without_bitsandbytes(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needed for training everywhere, and for decoding without our kernels."""
    monkeypatch.setattr("codegen.models.loading.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="bitsandbytes is not installed"):
        load(str(tiny_model_dir), bits=4, trained=True)
    monkeypatch.setattr("codegen.kernels.cpu.KERNELS", {})
    with pytest.raises(MachineError, match="bitsandbytes is not installed") as caught:
        TransformersBackend.open(str(tiny_model_dir), options={"bits": 4, "dtype": "float32"})
    assert "codegen-toolkit[quant]" in str(caught.value.remedy)


@pytest.mark.long
def test_a_compiled_model_gives_the_same_text(tiny_model_dir: Path) -> None:
    compiled, text = completed(tiny_model_dir, compile=True)
    assert text == completed(tiny_model_dir)[1]
    assert compiled.loaded.model._compiled_call_impl is not None


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
    if torch.float32 in cpu.KERNELS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("codegen.models.loading._decode_with_copies", lambda *_: None)
            assert not hasattr(load(str(tmp_path / "first"), bits=8).model, "peft_config")  # merged


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
    with pytest.raises(ModelError, match=r"lack 9 tensors, such as model\.layers\.1"):
        load(str(tmp_path / "m"))


def test_pickled_weights_are_refused(tiny_model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model_dir, tmp_path / "m")
    state = load_file(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="does not load"):
        load(str(tmp_path / "m"))
