"""Sorted fine-tuning: the loss against sub-models run one by one; a draft made of first layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from codegen.core.errors import ConfigError
from codegen.core.records import Segment, TrainingText
from codegen.decoding.strategies.sorted import Nested, default_exits
from codegen.finetune import parse_recipe
from codegen.finetune.batches import collate
from codegen.finetune.encode import TextEncoder
from codegen.finetune.lifecycle import train
from codegen.finetune.losses import sorted_likelihoods
from codegen.finetune.trainable import mark_exits
from codegen.models import load
from tests.llamas import small_llama

TEXTS = [
    TrainingText(
        f"t{i}", f"e{i}", "whole",
        (Segment(f"Add {i}.\n", False), Segment(f"def f(x):\n    return x + {i}\n", True)),
    )
    for i in range(12)
]  # fmt: skip


@pytest.fixture
def row(recipe_of: Any, tmp_path: Path) -> dict[str, Any]:
    return recipe_of(
        TEXTS,
        loss="sorted",
        sorted={"exits": [1, 2]},
        method="full",
        steps=8,
        batch_size=4,
        micro_batch_size=2,
        max_length=128,
        learning_rate=0.003,
        evaluation={"data": str(tmp_path / "data.jsonl"), "every": 4},
    )


def test_the_loss_is_that_of_models_cut_short(tiny_model_dir: Path) -> None:
    """Each depth against a model of so many layers, values and gradients."""
    tokenizer = load(str(tiny_model_dir)).tokenizer
    encoder = TextEncoder(tokenizer, "chat", {})
    examples = [encoder.encode(text) for text in TEXTS[:3]]
    batch = collate(examples, [((0, 1),), ((2,),)], tokenizer.pad_token_id)
    model = small_llama(vocab_size=len(tokenizer), num_hidden_layers=4).double()
    config = model.config
    exits = (1, 3, 4)
    by_exit = sorted_likelihoods(model, batch, exits)
    by_exit.mean(0).sum().backward()
    wanted = torch.zeros_like(model.model.layers[0].mlp.up_proj.weight)
    for depth, found in zip(exits, by_exit, strict=True):
        config.num_hidden_layers = depth
        short: Any = LlamaForCausalLM(config).double()
        short.load_state_dict(model.state_dict(), strict=False)
        logits = short(**batch.inputs, use_cache=False).logits
        flat = logits.reshape(-1, logits.shape[-1])[batch.nodes]
        losses = torch.nn.functional.cross_entropy(flat.float(), batch.targets, reduction="none")
        torch.testing.assert_close(found, losses)
        losses.sum().backward()
        wanted += short.model.layers[0].mlp.up_proj.weight.grad / len(exits)
    torch.testing.assert_close(
        model.model.layers[0].mlp.up_proj.weight.grad, wanted, atol=1e-6, rtol=1e-4
    )


def test_a_run_teaches_every_exit_and_writes_them_down(row: dict[str, Any]) -> None:
    result = train(parse_recipe(row))
    for depth in (1, 2):
        curve = result.parts[f"eval_loss_layer_{depth}"]
        assert [step for step, _ in curve] == [4, 8] and curve[1][1] < curve[0][1]
        assert len(result.parts[f"loss_layer_{depth}"]) == 8
    parts = [result.parts[f"loss_layer_{depth}"] for depth in (1, 2)]
    for (_, loss), (_, one), (_, two) in zip(result.losses, *parts, strict=True):
        assert loss == pytest.approx((one + two) / 2, rel=1e-4)
    model = load(result.model).model
    assert default_exits(model) == (1, 2) and Nested(model).exits == (1, 2)
    assert model.config.exit_loss == "sorted"
    mark_exits(model, (), "mle")  # a training after it that knows nothing of exits
    assert not {"exit_layers", "exit_loss"} & model.config.to_dict().keys()


def test_a_draft_of_the_first_layers(row: dict[str, Any]) -> None:
    """With the plain loss the exits are written down and compared, and the last one is trained."""
    row |= {"loss": "mle", "sorted": {"exits": [1]}}
    result = train(parse_recipe(row))
    config = json.loads((Path(result.model) / "config.json").read_text())
    assert config["num_hidden_layers"] == 1 and config["exit_layers"] == [1]
    assert config["exit_loss"] == "mle"
    assert result.parts["eval_loss_layer_1"] == result.evaluations
    found = load(result.model).model
    assert len(found.model.layers) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sorted": {"exits": [2, 1]}}, "must ascend"),
        ({"sorted": {"exits": ["a"]}}, "whole numbers"),
        ({"sorted": {}}, "needs sorted.exits"),
        ({"method": "lora"}, "not an adapter"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_recipes_that_can_not_be(row: dict[str, Any], changes: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_recipe({**row, **changes})
    assert message in f"{error.value.message} {error.value.remedy}"


def test_depths_that_the_model_does_not_have(row: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        train(parse_recipe({**row, "sorted": {"exits": [1, 3]}}))
