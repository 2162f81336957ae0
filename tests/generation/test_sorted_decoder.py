"""The decoder sorted: the text of plain decoding, options that can't be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from codegen.core.errors import ModelError
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.transformers import TransformersBackend
from codegen.models import LoadedModel, load

REQUESTS = [Request(prompt) for prompt in ("def f(x):\n", "import", "class A:\n    def g(self):\n")]


def written(source: Path, target: Path, **settings: object) -> str:
    """A copy of a model with other settings in its configuration."""
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return str(target)


@pytest.fixture(scope="module")
def loaded(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    target = tmp_path_factory.mktemp("sorted") / "model"
    name = written(tiny_model_dir, target, exit_layers=[2], exit_loss="sorted")
    return load(name, dtype=torch.float32, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [{}, {"exit_layers": [1, 2]}, {"exit_loss": "sorted"},
     {"exit_layers": [1, 2], "exit_loss": "mle"}],
    ids=str,
)  # fmt: skip
def test_a_draft_that_was_not_trained_as_one_is_refused(
    loaded: LoadedModel, tiny_model_dir: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    name = written(tiny_model_dir, tmp_path / "model", **settings)
    for options in ({}, {"exits": "1,2"}):
        decoder = Decoder("sorted", {"draft": name, **options})
        with pytest.raises(ModelError, match="not trained with the loss sorted") as error:
            list(samples(TransformersBackend(loaded), REQUESTS, SamplingParams(), decoder))
        assert "codegen finetune" in str(error.value.remedy)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize(
    "options",
    [{"exits": "1,2", "thresholds": 0.2}, {"exits": [1], "tokens": 3}, {"least": 0.01}],
    ids=str,
)
def test_the_text_is_that_of_plain_decoding(
    loaded: LoadedModel, temperature: float, options: dict[str, object]
) -> None:
    params = SamplingParams(max_new_tokens=16, temperature=temperature)
    plain = list(samples(TransformersBackend(loaded), REQUESTS, params, Decoder()))
    decoder = Decoder("sorted", {"draft": loaded.name, **options})
    drafted = list(samples(TransformersBackend(loaded), REQUESTS, params, decoder))
    for one, other in zip(plain, drafted, strict=True):
        assert (one.completion, one.finish_reason) == (other.completion, other.finish_reason)
        assert 0 < other.meta["passes"] <= other.completion_tokens + 1
    if temperature == 0 and "least" in options:  # the draft is the target
        assert sum(s.meta["passes"] for s in drafted) < sum(s.completion_tokens for s in drafted)
