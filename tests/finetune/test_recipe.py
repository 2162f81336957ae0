"""Recipes: defaults, overrides, and one clear error a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codegen.core.config import keys, table
from codegen.core.errors import CodegenError, ConfigError
from codegen.finetune import load_recipe, parse_recipe
from codegen.finetune.recipe import Recipe

GOOD: dict[str, Any] = {"model": "embedded", "data": "d", "output": "o", "steps": 10}


def test_defaults_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: embedded\ndata: [a, b]\noutput: o\nsteps: 3\nlora:\n  rank: 4\n")
    recipe = load_recipe(path, ["lora.alpha=8", "learning_rate=1e-4", "steps=7"])
    assert (recipe.steps, recipe.lora.rank, recipe.lora.alpha) == (7, 4, 8)
    assert recipe.learning_rate == 1e-4
    assert recipe.sources == (("", "a"), ("", "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rte": 1}, r"unknown key 'learning_rte'.*Did you mean 'learning_rate'"),
        ({"lora": {"rnk": 1}}, r"unknown key 'lora.rnk'.*Did you mean 'lora.rank'"),
        ({"lora": 3}, "'lora' must be a section"),
        ({"steps": 0}, "neither steps nor epochs.*optimizer steps"),
        ({"steps": -1}, r"steps is -1.*a whole number"),
        ({"epochs": 2}, "sets both steps and epochs"),
        ({"steps": 0, "epochs": 1, "curriculum": {"mode": "bucket"}}, "curriculum needs .*steps"),
        ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs.a b is 1"),
        ({"chat_template_kwargs": {"ab": [1]}}, r"chat_template_kwargs.ab is \[1\]|\(1,\)"),
        ({"optimizer": "adamw_9bit"}, "optimizer is 'adamw_9bit'.*adamw_8bit"),
        ({"steps": True}, "steps is True.*a whole number"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"method": "LoRA"}, r"method is 'LoRA'.*lora or qlora or full"),
        ({"learning_rate": "fast"}, r"learning_rate is 'fast'.*a number from 0 to 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"data": []}, r"data is \[\]"),
        ({"data": {"a": ""}}, r"data is \{'a': ''\}.*mapping of names to texts"),
        ({"isolation": "chunk"}, "two domains"),
        ({"data": {"a": "p", "b": "q"}, "mixture": {"systems": {"c": "x"}}}, "domain 'c'"),
        ({"mixture": {"shares": {"a": 1.0}}}, "mixture.shares has a; data has the domains none"),
        ({"data": {"a": "p", "b": "q"}, "mixture": {"shares": {"a": 1.0, "b": 0.0}}},
         "Set a share above 0 for each domain of data"),
        ({"data": {"a": "p", "b": "q"}, "mixture": {"balance": True}, "batch_size": 3},
         "batch_size 3 is not a multiple of the 2 domains"),
        ({"packing": "best_fit", "row_length": 100}, "row_length 100 needs"),
        ({"row_length": 1000}, "row_length 1000 needs packing"),
        ({"curriculum": {"mode": "bucket"}, "packing": "best_fit"}, "rows of one example"),
        ({"loss": "sequencematch", "sequencematch": {"gamma": 1.0}},
         "gamma must be below 1 unless alpha is 0"),
        ({"gradient_checkpointing": "yes please"}, "true or false"),
        ({"seed": -1}, "seed is -1"),
    ],
)  # fmt: skip
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^file.yaml: .*{message}"):
        parse_recipe({**GOOD, **change}, "file.yaml")


def test_missing_key_says_what_it_is() -> None:
    with pytest.raises(ConfigError, match=r"key 'output' is missing.*directory for checkpoints"):
        parse_recipe({k: v for k, v in GOOD.items() if k != "output"})
    with pytest.raises(ConfigError, match="neither steps nor epochs"):
        parse_recipe({k: v for k, v in GOOD.items() if k != "steps"})


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "\x00", "just words"])
def test_broken_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(CodegenError, match=r"r\.yaml"):
        load_recipe(path)
    with pytest.raises(CodegenError, match=r"absent\.yaml"):
        load_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize("override", ["steps", "=3", "steps.x=1", "steps=["])
def test_broken_overrides(tmp_path: Path, override: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: embedded\ndata: d\noutput: o\nsteps: 3\n")
    with pytest.raises(ConfigError, match="override"):
        load_recipe(path, [override])


def test_every_key_has_help() -> None:
    found = list(keys(Recipe))
    assert ("lora.rank", "a whole number from 1 to 1024", "rank of the update", "16") in found
    assert all(key.about for key in found)


def test_shipped_recipes_are_valid() -> None:
    folder = Path(__file__).parents[2] / "recipes"
    paths = sorted(folder.glob("*.yaml"))
    assert paths
    for path in paths:
        recipe = load_recipe(path)
        assert recipe.steps > 0
        assert load_recipe(path.stem) == recipe  # from any directory


def test_a_file_comes_before_a_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lintseq").mkdir()  # a directory, as in a checkout, is none
    assert load_recipe("lintseq").batch_size != 3
    Path("lintseq").rmdir()
    Path("lintseq").write_text("model: embedded\ndata: x\noutput: y\nsteps: 1\nbatch_size: 3\n")
    assert load_recipe("lintseq").batch_size == 3


def test_the_documentation_lists_every_key() -> None:
    """The table at the end of docs/finetuning.md is the one that the recipe's fields give."""
    page = Path(__file__).parents[2] / "docs" / "finetuning.md"
    assert page.read_text(encoding="utf-8").endswith(table(Recipe))
