"""Weights of trained text, against a plain loop: the weighted mean of cross entropies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from codegen.core.errors import InputError
from codegen.core.records import Segment, TrainingText
from codegen.finetune import parse_recipe
from codegen.finetune.batch_plan import make_plan
from codegen.finetune.batches import StepDataset, collate
from codegen.finetune.dataset import EncodingStats, cached, encode_rows
from codegen.finetune.encode import EncodedExample, TextEncoder
from codegen.finetune.lifecycle import train
from codegen.finetune.losses import LossSums, NestedLikelihood, negative_log_likelihood


def text(i: int) -> TrainingText:
    copied = "".join(f"    y{k} = {k * i}\n" for k in range(i % 5))
    parts = (
        Segment(f"Add {i}.\n", False),
        Segment(f"def f{i}(x):\n", 0.25),
        Segment(copied, 0.5),
        Segment(f"    return x + {i}\n", True),
    )
    # Every fourth has no weights, and every fourth a gap.
    if i % 4 == 0:
        parts = tuple(part._replace(train=bool(part.train)) for part in parts)
    if i % 4 == 1:
        parts = (*parts[:2], Segment("    # hidden\n", 0), *parts[2:])
    return TrainingText(f"t{i}", f"e{i}", "whole", parts)


TEXTS = [text(i) for i in range(12)]


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float64)


@pytest.fixture(scope="module")
def examples(tokenizer: Any) -> list[EncodedExample]:
    encoder = TextEncoder(tokenizer, "plain")
    return list(encode_rows((("", t) for t in TEXTS), encoder, EncodingStats(), max_length=512))


def oracle(model: Any, tokenizer: Any, texts: list[TrainingText]) -> Any:
    """The loss of some texts as one step, one token at a time, from the characters alone."""
    total, weights = torch.zeros((), dtype=torch.float64), 0.0
    for record in texts:
        # All runs of one kind are tokenized together; the weight of each character of a run.
        runs: list[tuple[bool, str, list[float]]] = []
        for part in record.segments:
            if not runs or runs[-1][0] != (part.train > 0):
                runs.append((part.train > 0, "", []))
            is_trained, before, of_characters = runs[-1]
            runs[-1] = (is_trained, before + part.text, of_characters)
            of_characters += [float(part.train)] * len(part.text)
        ids: list[int] = []
        counts: list[float] = []
        for is_trained, whole, of_characters in runs:
            at = 0
            for token in tokenizer(whole, add_special_tokens=False).input_ids:
                size = len(tokenizer.decode([token]))
                counts.append(max(of_characters[at : at + size]) if is_trained else 0.0)
                ids.append(token)
                at += size
            assert at == len(whole)
        ids.append(tokenizer.eos_token_id)
        counts.append(1.0)
        logits = model(torch.tensor([ids])).logits[0]
        for slot in range(1, len(ids)):
            chosen = logits[slot - 1].log_softmax(-1)[ids[slot]]
            total = total - chosen * counts[slot]
        weights += sum(counts[1:])
    return total / weights


def gradient(model: Any, loss: Any) -> Any:
    (found,) = torch.autograd.grad(loss, [model.model.layers[0].mlp.up_proj.weight])
    return found


@pytest.mark.parametrize("row_length", [0, 96])
@pytest.mark.parametrize("world", [1, 2])
def test_a_step_is_the_plain_loop(
    model: Any, tokenizer: Any, examples: list[EncodedExample], tmp_path: Path, row_length: int,
    world: int,
) -> None:  # fmt: skip
    """Loss and gradient, over micro-batches, packed rows, and processes; from memory and disk."""
    options: dict[str, Any] = {"row_length": row_length} if row_length else {}
    steps = make_plan(examples, steps=2, batch_size=6, micro_batch_size=2, seed=0, **options)
    cache = cached(tmp_path, "key", examples, EncodingStats())
    for step in range(2):
        wanted = oracle(model, tokenizer, [TEXTS[n] for n in steps.numbers(step)])
        slope = gradient(model, wanted)
        for found in (examples, cache):
            data = [StepDataset(found, steps, 2, rank=r, world=world)[step] for r in range(world)]
            loss: Any = 0.0
            for batches, total in data:
                for batch, counts in batches:
                    part = negative_log_likelihood(model, batch).sum()
                    loss = loss + part * float(counts) / total
            assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
            torch.testing.assert_close(
                gradient(model, loss), slope, rtol=1e-4, atol=1e-7 * float(slope.abs().max()) + 1e-8
            )


def test_chunks_and_depths_weigh_too(
    model: Any, tokenizer: Any, examples: list[EncodedExample]
) -> None:
    batch = collate(examples, [((0, 1, 2),), ((3, 5),)], 2)
    whole = negative_log_likelihood(model, batch)
    torch.testing.assert_close(negative_log_likelihood(model, batch, logits_mb=1), whole)
    numbers = [0, 1, 2, 3, 5]
    wanted = oracle(model, tokenizer, [TEXTS[n] for n in numbers]).item()
    sums = LossSums()
    nested = NestedLikelihood([1, 2], trains_all=True)
    losses = nested.losses(model, batch, 0, sums)
    shallow = AutoModelForCausalLM.from_pretrained(
        model.name_or_path, dtype=torch.float64, num_hidden_layers=1
    )
    first = oracle(shallow, tokenizer, [TEXTS[n] for n in numbers]).item()
    total = sum(examples[number].weight for number in numbers)
    assert losses.sum().item() / total == pytest.approx((first + wanted) / 2, rel=1e-5)
    means = sums.means()
    assert means["loss_layer_1"] == pytest.approx(first, rel=1e-5)
    assert means["loss_layer_2"] == pytest.approx(wanted, rel=1e-5)


def test_a_run_reports_the_weighted_loss(
    tokenizer: Any, model: Any, recipe_of: Any, tmp_path: Path
) -> None:
    recipe = recipe_of(
        TEXTS,
        steps=1,
        method="full",
        batch_size=12,
        micro_batch_size=3,
        format="plain",
        packing="best_fit",
        max_length=128,
        learning_rate=0.001,
        evaluation={"data": str(tmp_path / "data.jsonl"), "every": 1},
    )
    found = train(parse_recipe(recipe))
    wanted = oracle(model, tokenizer, TEXTS).item()
    assert found.losses[0][1] == pytest.approx(wanted, rel=1e-4)
    trained = AutoModelForCausalLM.from_pretrained(found.model, dtype=torch.float64)
    assert found.evaluations[-1][1] == pytest.approx(
        oracle(trained, tokenizer, TEXTS).item(), rel=1e-3
    )


def test_a_token_over_a_border_has_the_larger_weight(tokenizer: Any) -> None:
    word = next(
        w for w in sorted(tokenizer.get_vocab()) if len(w) > 3 and w.isascii() and w.isalpha()
    )
    ids = tokenizer(word, add_special_tokens=False).input_ids
    assert len(ids) == 1  # one token over both parts
    for first, second, weight in ((0.2, 0.7, 0.7), (1, 0.2, 1.0), (True, 0.2, 1.0)):
        record = TrainingText("t", "e", "g", (Segment(word[:2], first), Segment(word[2:], second)))
        example = TextEncoder(tokenizer, "chat").encode(record)
        assert example.targets == [*ids, tokenizer.eos_token_id]
        assert (list(example.weights) or [1.0, 1.0]) == [weight, 1.0]
        assert example.weight == pytest.approx(weight + 1)


def test_the_start_of_a_long_text_keeps_its_weights(tokenizer: Any) -> None:
    whole = TextEncoder(tokenizer, "plain").encode(TEXTS[9])
    encoder, rows = TextEncoder(tokenizer, "plain"), [("", TEXTS[9])]
    (example,) = encode_rows(rows, encoder, EncodingStats(), max_length=16, overlong="truncate")
    weights = list(example.weights)
    assert weights and weights == list(whole.weights)[: len(weights)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"loss": "sequencematch"}, "loss: sequencematch does not support"),
        ({"curriculum": {"mode": "decompose", "least": 4}}, "decompose does not support them"),
    ],
)
def test_what_does_not_support_weights_says_so(
    recipe_of: Any, more: dict[str, Any], message: str
) -> None:
    row = recipe_of(TEXTS[1:], steps=1, format="plain", batch_size=2, max_length=128)
    with pytest.raises(InputError, match=message):
        train(parse_recipe({**row, **more}))
