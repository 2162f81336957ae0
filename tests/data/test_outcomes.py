"""Statistics of texts, and their JSON form."""

from __future__ import annotations

import pytest

from codegen.core.errors import ConfigError
from codegen.core.records import Example, Segment, TrainingText
from codegen.data.outcomes import MapTask, example_rng, measures


def text(**meta: object) -> TrainingText:
    segments = (Segment("ab\n", False), Segment("céd", True))
    return TrainingText("t", "e", "g", segments, meta)


def test_what_is_measured() -> None:
    measured = measures(text(edits=3, done=True, share=0.5, name="x", characters=9, none=None))
    assert measured == {"characters": 6, "edits": 3}


def test_labels_are_not_added_up() -> None:
    measured = measures(text(bkspc=49152, score=4, pair=2, pairs=7, edits=3))
    assert measured == {"characters": 6, "edits": 3}


def test_a_batch_that_cannot_work_is_not_asked_for_one_by_one() -> None:
    class Refusing:
        name = "refusing"

        def generate_many(self, items: object) -> list[list[TrainingText]]:
            raise ConfigError("it needs a thing")

        def generate(self, example: Example, rng: object) -> list[TrainingText]:
            raise AssertionError(example.id)

    with pytest.raises(ConfigError, match="needs a thing"):
        list(MapTask(Refusing(), 0, 5.0)([Example("a", "", "x"), Example("b", "", "y")]))


def test_randomness_depends_on_seed_and_id() -> None:
    draws = {
        (s, i): example_rng(s, i).random() for s in (0, 1, -1) for i in ("a", "b", "", "\ud800")
    }
    assert len(set(draws.values())) == len(draws)
    assert draws == {key: example_rng(*key).random() for key in draws}
