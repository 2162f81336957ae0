"""UniCode with a model in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from unicode_helpers import example, texts_of

from codegen.data import MemorySource, run
from codegen.data.generators import config_of
from codegen.errors import CodegenError, ConfigError
from codegen.generation import Completion, Decoder, Request, SamplingParams
from codegen.generation.backends import LocalModel
from codegen.generation.cached import CachedBackend, ResponseCache
from codegen.generation.plans import ModelClient
from codegen.methods.unicode import UniCode


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> LocalModel:
    return LocalModel(str(tiny_model_dir))


def complete(
    spec: LocalModel, requests: list[Request], cache: ResponseCache | None = None
) -> list[Completion]:
    params = SamplingParams(8, temperature=1.0)
    made = CachedBackend(spec, cache).generate(requests, params, Decoder())
    return sorted(made, key=lambda one: one.number)


def test_a_local_model_answers_and_is_cached(tiny: LocalModel, tmp_path: Path) -> None:
    requests = [Request(f"x = {i}", chat=True, seed=i) for i in range(4)]
    requests.insert(2, Request("y = 1\n" * 400, chat=True, seed=0))  # more than the model holds
    with ResponseCache(tmp_path / "c") as cache:
        answers = complete(tiny, requests, cache)
        again = complete(tiny, requests[::-1], cache)[::-1]
    assert answers[2].error and "holds 512" in str(answers[2].error)
    whole = [a for a in answers if not a.error]
    assert len({a.text for a in whole}) == 4 and not any(a.cached for a in whole)
    assert [a.text for a in again if a.cached] == [a.text for a in whole]
    alone = complete(tiny, requests[-1:])
    assert alone[0].text == whole[-1].text
    batched = complete(LocalModel(tiny.model, batch_size=3), requests)
    assert [bool(a.error) for a in batched] == [bool(a.error) for a in answers]


def test_seeded_texts_are_those_of_the_first_version(tiny: LocalModel) -> None:
    """A request's seed counts as the problem of that name, so that data stays what it was."""
    (seeded,) = complete(tiny, [Request("x = 1", chat=True, seed=7)])
    (named,) = complete(tiny, [Request("x = 1", chat=True, problem_id="7")])
    assert (seeded.text, seeded.seed) == (named.text, named.seed)


def test_a_local_model_that_is_not_there(tmp_path: Path) -> None:
    generator = UniCode("llm", llm=ModelClient(LocalModel(str(tmp_path / "nowhere"))))
    with pytest.raises(ConfigError, match="no model directory"):
        texts_of(generator, example())
    with pytest.raises(CodegenError, match="no model directory"):
        config_of(generator)


@pytest.mark.slow
def test_the_embedded_model_answers(tmp_path: Path) -> None:
    from codegen.models import embedded

    if embedded.find() is None:
        pytest.skip("the embedded model is not on this machine")
    generator = UniCode("llm", llm=ModelClient(LocalModel(), str(tmp_path / "c"), max_tokens=24))
    source = MemorySource((example(),))
    manifest = run(generator, source, tmp_path / "out", workers=1)
    outcomes = manifest.counts
    assert outcomes["kept"] + sum(outcomes["skipped"].values()) == 1 and not outcomes["failed"]
    with ResponseCache(tmp_path / "c") as cache:
        assert cache.totals().answers == 1 and 0 < cache.totals().completion_tokens <= 24
