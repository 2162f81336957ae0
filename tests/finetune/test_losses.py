"""Loss in chunks, adapters and optimizers: the same numbers with less memory; and the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codegen.core.errors import ConfigError
from codegen.finetune import parse_recipe
from codegen.finetune.batches import MicroBatch, collate
from codegen.finetune.encode import EncodedExample, causal
from codegen.finetune.lifecycle import train
from codegen.finetune.losses import negative_log_likelihood
from codegen.finetune.model import load_model
from codegen.models import load


def batch_of(rows: int, length: int, vocabulary: int) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    examples = []
    for row in range(rows):
        ids = torch.randint(vocabulary, (length - row,), generator=generator).tolist()
        slots = list(range(3 + row, len(ids) - 1))
        targets = [ids[slot + 1] for slot in slots]
        then = [slot + 1 for slot in slots]
        examples.append(EncodedExample(str(row), ids, slots, targets, then, causal(len(ids))))
    return collate(examples, [((row,),) for row in range(rows)], 0)


class Counts(torch.overrides.TorchFunctionMode):
    """The largest number of rows that are projected at once, backward included."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight, self.largest, self.calls = weight, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.linear and args[1] is self.weight:
            self.largest = max(self.largest, args[0].numel() // args[0].shape[-1])
            self.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tied", [True, False])
def test_chunks_give_the_plain_loss_and_gradients(tied: bool) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3000,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config).double()
    batch, found = batch_of(3, 60, 3000), {}
    for logits_mb in (0, 1):
        model.zero_grad()
        with Counts(model.lm_head.weight) as counts:
            losses = negative_log_likelihood(model, batch, logits_mb)
            (losses * torch.linspace(0, 1, len(losses))).sum().backward()
        assert counts.largest <= (87 if logits_mb else 1 << 30)  # 1 MB of float32 logits
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        found[logits_mb] = [losses.detach(), *gradients]
    assert counts.calls == 2  # chunks
    assert len(found[0]) == len(found[1])
    for plain, chunked in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-6, atol=1e-9)


def test_a_model_that_scales_its_logits_is_run_as_usual() -> None:
    class Scaled(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output: Any = super().forward(*args, **kwargs)
            output.logits = output.logits * 0.5
            return output

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=3000, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4,
    )  # fmt: skip
    model, batch = Scaled(config), batch_of(2, 60, 3000)
    plain = negative_log_likelihood(model, batch)
    for _ in range(2):
        torch.testing.assert_close(negative_log_likelihood(model, batch, 1), plain)


@pytest.fixture
def row(recipe_of: Any) -> dict[str, Any]:
    rows = [{"prompt": f"Add {n}.", "completion": f"x = {n}\n"} for n in range(8)]
    return recipe_of(rows, steps=12, batch_size=8, micro_batch_size=8)


def run(row: dict[str, Any], **changes: Any) -> Any:
    return train(parse_recipe({**row, **changes}))


def test_a_bfloat16_base_learns_as_a_float32_one(row: dict[str, Any], tmp_path: Path) -> None:
    whole = run(row, output=str(tmp_path / "whole"))
    narrow = run(row, dtype="bfloat16")
    differences = [
        abs(a - b) / b for (_, a), (_, b) in zip(narrow.losses, whole.losses, strict=True)
    ]
    assert 0 < max(differences) < 0.05
    adapter = load(narrow.model, dtype=torch.float32)  # the adapter itself is in float32
    assert adapter.model.dtype == torch.float32
    merged = run(row, dtype="bfloat16", merge=True, output=str(tmp_path / "merged"))
    both = [load(result.model, dtype=torch.float32).model for result in (narrow, merged)]
    for (name, one), (_, other) in zip(*(m.named_parameters() for m in both), strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.01, msg=name)


def test_dora_learns_and_loads(row: dict[str, Any], tmp_path: Path) -> None:
    plain = run(row, output=str(tmp_path / "plain"))
    result = run(row, lora={"dora": True})
    assert result.losses[0] == plain.losses[0] and result.losses[-1] != plain.losses[-1]
    assert result.losses[-1][1] < 0.8 * result.losses[0][1]
    load(result.model, dtype=torch.float32)
    assert json.loads(Path(result.model, "adapter_config.json").read_text())["use_dora"]


@pytest.mark.parametrize(
    ("change", "package"),
    [
        ({"optimizer": "adamw_8bit"}, "bitsandbytes"),
        ({"method": "qlora"}, "bitsandbytes"),
    ],
)
def test_packages_that_are_not_installed_are_named(
    row: dict[str, Any], change: dict[str, Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen.finetune.lifecycle.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"needs {package}.*pip install {package}"):
        run(row, **change)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"optimizer": "adamw_8bit"}, {"method": "qlora"}])
def test_few_bits_learn(row: dict[str, Any], change: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    plain = run(row, output=str(tmp_path / "plain"))
    result = run(row, **change)
    assert result.losses[0][1] == pytest.approx(plain.losses[0][1], rel=0.2)
    assert result.losses[-1][1] < 0.8 * result.losses[0][1]


@pytest.mark.slow
def test_evaluation_takes_no_gradients_from_few_bits(row: dict[str, Any]) -> None:
    """A pass in evaluation mode changes neither the weights' layout nor the gradients."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    loaded = load_model(row["model"], method="qlora", dtype="float32", decoder="sample")
    model = loaded.model
    ids = torch.arange(8)[None]
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()

    def gradients() -> torch.Tensor:
        loss = model.train()(inputs_embeds=embeddings).logits.square().sum()
        return torch.autograd.grad(loss, embeddings)[0]

    before = gradients()
    assert before.any()
    with torch.no_grad():
        model.eval()(ids)
    assert torch.equal(gradients(), before)
