"""UniCode with a model in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from unicode_helpers import example, texts_of

from codegen.data import MemorySource, run
from codegen.data.generators import config_of
from codegen.errors import CodegenError, ConfigError
from codegen.generation.local_model import LocalClient, LocalModel
from codegen.generation.response_cache import ResponseCache
from codegen.methods.unicode import UniCode


@pytest.fixture(scope="module")
def tiny(tiny_model_dir: Path) -> LocalModel:
    return LocalModel(str(tiny_model_dir))


def test_a_local_model_answers_and_is_cached(tiny: LocalModel, tmp_path: Path) -> None:
    from codegen.generation.asking import Answer, Ask, RequestFailed

    asks = [Ask(f"x = {i}", max_tokens=8, temperature=1.0, seed=i) for i in range(4)]
    asks.insert(2, Ask("y = 1\n" * 400, max_tokens=8))  # more than the model holds
    with ResponseCache(tmp_path / "c") as cache:
        answers = LocalClient(tiny, cache).ask_many(asks)
        again = LocalClient(tiny, cache).ask_many(asks[::-1])[::-1]
    assert isinstance(answers[2], RequestFailed) and "holds 512" in str(answers[2])
    whole = [a for a in answers if isinstance(a, Answer)]
    assert len({a.text for a in whole}) == 4 and not any(a.cached for a in whole)
    assert [a.text for a in again if isinstance(a, Answer) and a.cached] == [a.text for a in whole]
    alone = LocalClient(tiny).ask_many(asks[-1:])
    assert isinstance(alone[0], Answer) and alone[0].text == whole[-1].text
    batched = LocalClient(LocalModel(tiny.model, batch_size=3)).ask_many(asks)
    assert [isinstance(a, Answer) for a in batched] == [isinstance(a, Answer) for a in answers]


def test_a_local_model_that_is_not_there(tmp_path: Path) -> None:
    generator = UniCode("llm", llm=LocalModel(str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="no model directory"):
        texts_of(generator, example())
    with pytest.raises(CodegenError, match="no model directory"):
        config_of(generator)


@pytest.mark.slow
def test_the_embedded_model_answers(tmp_path: Path) -> None:
    from codegen.models import embedded

    if embedded.find() is None:
        pytest.skip("the embedded model is not on this machine")
    generator = UniCode("llm", llm=LocalModel(), cache=str(tmp_path / "c"), max_tokens=24)
    source = MemorySource((example(),))
    manifest = run(generator, source, tmp_path / "out", workers=1)
    outcomes = manifest.counts
    assert outcomes["kept"] + sum(outcomes["skipped"].values()) == 1 and not outcomes["failed"]
    with ResponseCache(tmp_path / "c") as cache:
        assert cache.totals().answers == 1 and 0 < cache.totals().completion_tokens <= 24
