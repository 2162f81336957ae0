"""Model directories made by a stranger: nothing is unpickled, fetched, or read from elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from codegen.core.errors import CodegenError, ModelError
from codegen.models import fingerprint_of, load, load_tokenizer


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


@pytest.fixture(autouse=True)
def no_pickles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Notes every call of ``torch.load`` and every import of a kernel loader."""
    calls: list[Any] = []

    def loads(*args: Any, **_: Any) -> Any:
        calls.append(args)
        raise RuntimeError("torch.load was reached")

    monkeypatch.setattr(torch, "load", loads)
    yield calls
    assert not calls


def change(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    row = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**row, **changes}))


@pytest.mark.parametrize(
    "name",
    ["../x/pytorch_model.bin", "pytorch_model.bin", "../model.safetensors", "/etc/passwd", "x.pt",
     "sub/model.safetensors", "", "..", "a\0.safetensors", None, 3, ["model.safetensors"]],
)  # fmt: skip
def test_an_index_names_safetensors_of_its_own_directory(folder: Path, name: Any) -> None:
    outside = folder.parent / "x"
    outside.mkdir()
    for place in (outside / "pytorch_model.bin", folder / "pytorch_model.bin", folder / "x.pt"):
        place.write_bytes(b"not even a pickle")
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)


KERNEL = "evil/kernels"


@pytest.mark.parametrize(
    "changes",
    [
        {"_attn_implementation": KERNEL},
        {"attn_implementation": KERNEL},
        {"_attn_implementation_internal": KERNEL},
        {"_attn_implementation": "flash_attention_2"},
        {"_attn_implementation": {"": KERNEL}},
        {"_experts_implementation": KERNEL},
        {"use_kernels": True},
        {"transformers_weights": "adapter_model.bin"},
        {"transformers_weights": "../x.safetensors"},
        {"auto_map": {"AutoModelForCausalLM": "evil--modeling.Evil"}, "trust_remote_code": True},
        {"custom_pipelines": {"x": {"impl": "evil.Evil"}}},
    ],
)
def test_how_a_model_is_computed_is_ours_to_choose(folder: Path, changes: dict[str, Any]) -> None:
    (folder / "adapter_model.bin").write_bytes(b"not even a pickle")
    expected = load(str(folder), dtype=torch.float32, device="cpu")
    change(folder, "config.json", **changes)
    loaded = load(str(folder), dtype=torch.float32, device="cpu")
    assert loaded.model.config._attn_implementation == "sdpa"
    ids = torch.arange(5)[None]
    assert torch.equal(loaded.model(ids).logits, expected.model(ids).logits)


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "hqq", "torchao", "evil", None, 3, []])
def test_quantised_weights_whose_kernels_are_fetched_are_refused(folder: Path, method: Any) -> None:
    change(folder, "config.json", quantization_config={"quant_method": method})
    with pytest.raises(ModelError, match="quantized by"):
        load(str(folder))


@pytest.mark.parametrize("kind", ["evil", "", None, 3, [], {}, "../x"])
def test_architectures_with_code_of_their_own_are_refused(folder: Path, kind: Any) -> None:
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    change(folder, "config.json", model_type=kind, auto_map={"AutoConfig": "modeling.Config"})
    with pytest.raises(ModelError, match="never run"):
        load(str(folder))


def test_every_field_of_a_configuration_as_another_type(folder: Path) -> None:
    """Each makes a model or one clear line."""
    sound = json.loads((folder / "config.json").read_text())
    for key in sound:
        for odd in (None, "x", -1, 0, [], {}):
            (folder / "config.json").write_text(json.dumps({**sound, key: odd}))
            try:
                load(str(folder), device="cpu")
            except CodegenError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("key", ["vocab_file", "merges_file", "tokenizer_file"])
def test_a_tokenizer_reads_no_file_from_elsewhere(folder: Path, key: str) -> None:
    secret = folder.parent / "secret"
    secret.write_text("precious")
    for name in (str(secret), "../secret"):
        change(folder, "tokenizer_config.json", **{key: name})
        with pytest.raises(ModelError, match="outside the model"):
            load_tokenizer(str(folder))
    change(folder, "tokenizer_config.json", **{key: "/home/of/someone/else.json"})
    load_tokenizer(str(folder))


def adapter(path: Path, base: str, **changes: Any) -> Path:
    path.mkdir()
    row = {"peft_type": "LORA", "base_model_name_or_path": base, **changes}
    (path / "adapter_config.json").write_text(json.dumps(row))
    (path / "adapter_model.safetensors").write_bytes(b"")
    return path


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_adapters_that_name_each_other(tmp_path: Path, length: int) -> None:
    for number in range(length):
        adapter(tmp_path / str(number), str(tmp_path / str((number + 1) % length)))
    for use in (load, fingerprint_of, load_tokenizer):
        with pytest.raises(ModelError, match="its own base"):
            use(str(tmp_path / "0"))


@pytest.mark.parametrize("kind", ["XLORA", "EVIL", "PREFIX_TUNING", "", None, 3, [], {}])
def test_adapters_of_unknown_kinds(folder: Path, tmp_path: Path, kind: Any) -> None:
    path = adapter(tmp_path / "a", str(folder), peft_type=kind, adapters={"x": "/etc"})
    with pytest.raises(ModelError, match="peft_type"):
        load(str(path))


@pytest.mark.parametrize("base", [3, None, [], {"a": 1}, ""])
def test_an_adapters_base_is_a_name(tmp_path: Path, base: Any) -> None:
    with pytest.raises(ModelError, match="does not name its base"):
        load(str(adapter(tmp_path / "a", base)))


def test_an_adapter_imports_no_module_that_it_names(folder: Path, tmp_path: Path) -> None:
    path = adapter(tmp_path / "a", str(folder), megatron_config={}, megatron_core="megatron.evil")
    with pytest.raises(ModelError, match="megatron_config"):
        load(str(path))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_labels": 10**9},
        {"text_config": {"n_layer": 10**5}},
        {"eos_token_id": list(range(10**6))},
        {"num_attention_heads": 2**63},
    ],
    ids=lambda changes: str(changes)[:30],
)
def test_a_configuration_makes_no_more_objects_than_models_have(
    folder: Path, changes: dict[str, Any]
) -> None:
    change(folder, "config.json", **changes)
    with pytest.raises(ModelError, match=r"at most|too large|larger than") as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_configurations_nested_without_end_are_one_line(folder: Path) -> None:
    for name in ("config.json", "adapter_config.json"):
        (folder / name).write_text('{"a":' + "[" * 10**5 + "]" * 10**5 + "}")
        with pytest.raises(ModelError, match="cannot be read"):
            load(str(folder), device="cpu")
        (folder / name).unlink()


def change_tokenizer(folder: Path, **changes: Any) -> None:
    change(folder, "tokenizer.json", **changes)


def test_a_tokenizers_padding_and_truncation_are_ours_to_choose(folder: Path) -> None:
    padding = {"direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>"}
    change_tokenizer(
        folder,
        padding={**padding, "strategy": {"Fixed": 10**12}, "pad_to_multiple_of": None},
        truncation={
            "direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0
        },
    )  # fmt: skip
    tokenizer = load_tokenizer(str(folder))
    ids = tokenizer("some text").input_ids
    assert tokenizer.backend_tokenizer.encode("some text").ids == ids and len(ids) > 1


@pytest.mark.parametrize("changes", [{"r": 10**8}, {"rank_pattern": {"q_proj": 10**9}}])
def test_an_adapter_of_an_absurd_rank(folder: Path, tmp_path: Path, changes: Any) -> None:
    path = adapter(tmp_path / "a", str(folder), target_modules=["q_proj"], **changes)
    with pytest.raises(ModelError, match="the rank"):
        load(str(path), device="cpu")


def _file(header: Any, data: bytes = b"\0" * 64, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def _tensor(**changes: Any) -> dict[str, Any]:
    return {
        "model.norm.weight": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64], **changes}
    }


@pytest.mark.parametrize(
    "content",
    [
        _file(_tensor(), length=2**63),
        _file(_tensor(), length=10**8 + 1),
        _file(b"[" * 100_000),
        _file(_tensor(data_offsets=[0, 2**62])),
        _file(_tensor(data_offsets=[64, 0])),
        _file(_tensor(shape=[-16])),
        _file(_tensor(shape=[2**40, 2**40])),
        _file(_tensor(dtype="F31")),
        _file({**_tensor(), "lm_head.weight": _tensor()["model.norm.weight"]}),
        _file(_tensor(data_offsets=[32, 64], shape=[8])),
        b"",
        b"\x80\x04K\x01.",
    ],
    ids=["length", "long", "deep", "far", "back", "negative", "vast", "type", "twice", "hole",
         "empty", "pickle"],
)  # fmt: skip
def test_weights_with_a_malformed_header_are_one_line(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load(str(folder), device="cpu")
    assert "\n" not in str(caught.value)
