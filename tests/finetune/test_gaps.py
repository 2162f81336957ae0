"""Training models that fill gaps: draws, batches, resuming, learning, what can't be asked."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codegen.core.errors import ConfigError, InputError, ModelError
from codegen.core.records import Segment, TrainingText, write_jsonl
from codegen.decoding.insertion import InsertionLM, Text
from codegen.finetune import parse_recipe
from codegen.finetune.batch_plan import make_plan
from codegen.finetune.batches import InfillingSteps, text_of
from codegen.finetune.encode import TextEncoder
from codegen.finetune.lifecycle import TrainingResult, train
from codegen.finetune.sft import prepare
from codegen.finetune.trainable import SPECIAL, init_model, words_tokenizer
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.transformers import TransformersBackend
from codegen.models import load


def text(number: int, prompt: str, answer: str) -> TrainingText:
    segments = (Segment(prompt, False), Segment(answer, True))
    return TrainingText(f"t{number}", f"e{number}", "plain", segments)


# Each letter has a translation, and the order is the same throughout: little to learn.
TEXTS = [
    text(n, f"{a} {b} {c} :", f"{a.upper()} {b.upper()} {c.upper()} {a.upper()}")
    for n, (a, b, c) in enumerate((a, b, c) for a in "abcd" for b in "ijkl" for c in "xyz")
]


def row(folder: Path, **changes: Any) -> dict[str, Any]:
    data = folder / "data.jsonl"
    if not data.exists():
        write_jsonl(data, TEXTS)
        write_jsonl(folder / "held.jsonl", TEXTS[::2])
    network = {"layers": 2, "width": 32, "heads": 2, "draws": 2, "final_norm": True}
    return {
        "model": "new",
        "network": network | changes.pop("network", {}),
        "data": str(data),
        "output": str(folder / "out"),
        "decoder": "insertion",
        "method": "full",
        "format": "plain",
        "steps": 6,
        "batch_size": 8,
        "micro_batch_size": 8,
        "learning_rate": 0.01,
        "dtype": "float32",
        "save_every": 2,
        **changes,
    }


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    return load_file(Path(result.model) / "model.safetensors")


def test_the_body_is_what_is_trained() -> None:
    tokenizer = words_tokenizer(["b", "a", "10", "9", ":"])
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == [
        *SPECIAL.values(), "9", "10", ":", "a", "b"
    ]  # fmt: skip
    encoder = TextEncoder(tokenizer, "plain", infilling=True)
    example = encoder.encode(text(0, "a 9 :", "b 10"))
    assert tokenizer.decode(example.targets) == "b 10"
    assert text_of(example) == Text(tokenizer("a 9 :").input_ids, tokenizer("b 10").input_ids)
    assert text_of(encoder.encode(text(0, "", "a b"))).prefix == []
    three = (Segment("a", True), Segment("b", False), Segment("a", True))
    with pytest.raises(InputError, match="untrained segments within its response"):
        encoder.encode(TrainingText("t", "e", "g", three))


def steps_of(
    recipe_row: dict[str, Any], rows: int, world: int = 1, rank: int = 0
) -> InfillingSteps:
    recipe = parse_recipe(recipe_row)
    dataset = prepare(recipe)[1]
    longest = dataset.longest_response
    loaded = init_model(recipe.network, dataset.tokenizer, longest, recipe.seed)
    encoder = TextEncoder(loaded.tokenizer, "plain", infilling=True)
    examples = [encoder.encode(item) for item in TEXTS[:40]]
    plan = make_plan(examples, steps=3, batch_size=8, micro_batch_size=8, seed=0)
    model = loaded.model.double()
    return InfillingSteps(
        examples, plan, model=model, draws=3, rows=rows, seed=5, rank=rank, world=world
    )


def step_loss(steps: InfillingSteps, step: int) -> float:
    batches, total = steps[step]
    with torch.no_grad():
        return sum(
            float(steps.model(**batch.inputs).losses.sum()) * counts
            for batch, counts in batches
        ) / total  # fmt: skip


def test_the_split_into_micro_batches_and_processes_changes_nothing(tmp_path: Path) -> None:
    recipe_row = row(tmp_path)
    whole = steps_of(recipe_row, rows=24)
    batches, total = whole[1]
    assert total == 24 and len(batches) == 1
    expected = step_loss(whole, 1)
    assert step_loss(whole, 0) != expected  # other examples, other draws
    assert step_loss(whole, 1) == expected
    assert abs(step_loss(steps_of(recipe_row, rows=5), 1) - expected) < 1e-6
    parts = [steps_of(recipe_row, rows=5, world=2, rank=rank) for rank in (0, 1)]
    assert abs(sum(step_loss(part, 1) for part in parts) - expected) < 1e-6


def test_draws_of_like_length_share_a_batch(tmp_path: Path) -> None:
    batches, _ = steps_of(row(tmp_path), rows=6)[0]
    lengths = [batch.inputs["attention_mask"].sum(-1) for batch, _ in batches]
    for before, after in pairwise(lengths):
        assert before.max() <= after.min()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_ends_with_the_same_weights(optimizer: str, tmp_path: Path) -> None:
    changes = {"optimizer": optimizer}
    whole = train(parse_recipe(row(tmp_path, output=str(tmp_path / "whole"), **changes)))

    class Killed(Exception):
        pass

    def kill(step: int, *_: object) -> None:
        if step == 5:
            raise Killed

    recipe = parse_recipe(row(tmp_path, output=str(tmp_path / "killed"), **changes))
    with pytest.raises(Killed):
        train(recipe, on_step=kill)
    notes: list[str] = []
    resumed = train(recipe, on_message=notes.append)
    assert any("checkpoint-4" in note for note in notes)
    for name, weight in weights(whole).items():
        assert torch.equal(weight, weights(resumed)[name]), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "insertion",
        *(
            pytest.param(k, marks=pytest.mark.long)
            for k in ("fixed_masks", "llama", "flexible_masks")
        ),
    ],
)
def test_each_kind_learns_and_is_asked(kind: str, tmp_path: Path) -> None:
    steps = 660 if kind == "flexible_masks" else 220  # it also learns how many are missing
    recipe = parse_recipe(
        row(
            tmp_path,
            network={"kind": kind},
            decoder="sample" if kind == "llama" else "insertion",
            steps=steps,
            batch_size=16,
            micro_batch_size=32,
            evaluation={
                "data": str(tmp_path / "held.jsonl"),
                "every": steps // 2,
                "watch": 6,
                "answers": 24,
                "keep": "last",
            },
        )
    )
    result = train(recipe)
    assert result.answers["asked"] == 24
    assert result.answers["exact_match"] >= (0.65 if kind == "flexible_masks" else 0.9)
    low, high = result.answers["interval"]
    assert low <= result.answers["exact_match"] <= high
    assert [step for step, _ in result.parts["exact_match"]] == [steps // 2, steps]
    assert result.evaluations[-1][1] < result.losses[0][1] / 2
    loaded = load(result.model)
    assert loaded.card.decoder == recipe.decoder and loaded.card.style == "plain"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return train(parse_recipe(row(tmp_path_factory.mktemp("small")))).model


def fill(model: str, prompt: str, **options: Any) -> Any:
    params = SamplingParams(max_new_tokens=5)
    generator = TransformersBackend(load(model))
    (sample,) = samples(generator, [Request(prompt)], params, Decoder("insertion", options))
    return sample


def test_several_gaps_are_filled_where_they_are(small: str) -> None:
    assert isinstance(load(small).model, InsertionLM)
    sample = fill(small, "a ___ b c ___ d", gap="___", insist=True)
    kept = sample.completion.split()
    first, second = (piece.split() for piece in sample.meta["gaps"])
    assert kept == ["a", *first, "b", "c", *second, "d"]
    assert len(first) + len(second) == sample.completion_tokens > 0
    at_ends = fill(small, "___ a ___", gap="___", insist=True)
    assert len(at_ends.meta["gaps"]) == 2


def test_what_can_not_be_asked(small: str, tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match="has no gap"):
        fill(small, "a b", gap="___")
    with pytest.raises(ConfigError, match=r"unknown key 'stagse'.*'stages'"):
        fill(small, "a", stagse=1)
    with pytest.raises(ConfigError, match=r"stop_threshold.*is 3.*from 0 to 1"):
        fill(small, "a", stop_threshold=3)
    with pytest.raises(ConfigError, match="joins two strategies"):
        list(
            samples(
                TransformersBackend(load(small)), [], SamplingParams(), Decoder("insertion+rpg")
            )
        )
    with pytest.raises(ModelError, match="generates from left to right"):
        fill(str(tiny_model_dir), "a")
    with pytest.raises(ModelError, match="insertion"):
        next(
            samples(
                TransformersBackend(load(small)),
                [Request("a")],
                SamplingParams(),
                Decoder("sample"),
            )
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": {"kind": "llama"}}, "kind llama does not support decoder: insertion"),
        ({"decoder": "sample"}, "kind insertion does not support decoder: sample"),
        ({"method": "lora"}, "method: full"),
        ({"format": "chat"}, "format: plain"),
        ({"packing": "best_fit"}, "does not support packing"),
        ({"loss": "sequencematch"}, "does not support loss"),
        ({"network": {"heads": 3}}, "network.width 32"),
        ({"data": "puzzles:star-esay:train"}, "Unknown puzzles 'star-esay'"),
    ],
)  # fmt: skip
def test_recipes_that_can_not_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(parse_recipe(row(tmp_path, **changes)))


def test_a_model_of_the_other_kind_is_refused(small: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not support"):
        train(parse_recipe(row(tmp_path, model=small, decoder="sample")))


def test_training_goes_on_from_a_saved_model(small: str, tmp_path: Path) -> None:
    result = train(parse_recipe(row(tmp_path, model=small)))
    assert set(weights(result)) == set(load_file(Path(small) / "model.safetensors"))


def test_what_a_step_loses_depends_on_seed_step_and_example_alone(tmp_path: Path) -> None:
    first, again = steps_of(row(tmp_path), rows=24), steps_of(row(tmp_path), rows=24)
    for step in (2, 0):  # in any order
        one, other = first[step][0][0][0].inputs, again[step][0][0][0].inputs
        assert all(np.array_equal(one[name], other[name]) for name in one)
