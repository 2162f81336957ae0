"""The generator as the data engine calls it, and its data on disk."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hard_programs import HARD

from codegen.core.errors import ConfigError
from codegen.core.records import Example, TrainingText, from_json, to_json
from codegen.data import MemorySource, open_source, read_texts, run
from codegen.methods.backspace import Backspace, Codec, UnsuitableExample, from_text, is_trajectory

PROGRAM = "def f(x, y):\n    if x >= y:\n        return x\n    return y\n"
EXAMPLE = Example("a/1", "The larger one.", PROGRAM)


def test_training_text(tiny: Codec) -> None:
    (text,) = Backspace(model=tiny.name, eta=0.3, span=2).generate(EXAMPLE, random.Random(0))
    assert (text.id, text.example_id, text.generator) == ("a/1#backspace-0", "a/1", "backspace")
    # Who knows nothing of backspaces trains on the right program.
    assert [segment.train for segment in text.segments] == [False, True]
    assert text.prompt == "The larger one.\n" and text.segments[1].text == PROGRAM
    meta = text.meta
    actions, start = list(meta["actions"]), meta["prompt_tokens"]
    assert tiny.decode(actions[:start]) == text.prompt
    # Replay by hand.
    kept: list[int] = []
    for action in actions[start:]:
        if action == meta["bkspc"]:
            kept.pop()
        else:
            kept.append(action)
    assert tiny.decode(kept[:-1]) == PROGRAM and kept[-1] == tiny.tokenizer.eos_token_id
    assert meta["tokens"] == len(kept)
    assert meta["backspaces"] == actions.count(meta["bkspc"]) > 0
    assert meta["backspaces"] >= meta["noised"] > 0
    assert (meta["tokenizer"], meta["tokenizer_fingerprint"]) == (tiny.name, tiny.fingerprint)
    assert is_trajectory(text) and from_text(text).clean == [*actions[:start], *kept]
    assert from_json(TrainingText, to_json(text)) == text


@pytest.mark.parametrize("noise", ["uniform", "syntax", "syntax,uniform"])
@pytest.mark.parametrize("name", HARD)
def test_hard_programs(tiny: Codec, embedded: Codec, name: str, noise: str) -> None:
    for codec in (tiny, embedded):
        options = Backspace(model=codec.name, eta=0.2, span=3, noise=noise)
        (text,) = options.generate(Example("e", "Dö it.", HARD[name]), random.Random(1))
        trajectory = from_text(text)  # checks each label
        *completion, end = trajectory.clean[trajectory.prompt_tokens :]
        assert codec.decode(completion) == HARD[name] and end == codec.tokenizer.eos_token_id
        special = {*codec.tokenizer.all_special_ids} - {codec.bkspc}
        assert not special & set(trajectory.actions[:-1])
        assert trajectory.actions.count(codec.bkspc) == text.meta["backspaces"]
        assert (text.meta["no_candidate"] == 0) or noise == "syntax"


def test_sequences_are_independent_and_stable(tiny: Codec) -> None:
    options: dict[str, Any] = {"model": tiny.name, "eta": 0.3}
    one = list(Backspace(**options).generate(EXAMPLE, random.Random(3)))
    five = list(Backspace(**options, sequences=5).generate(EXAMPLE, random.Random(3)))
    assert five[0] == one[0]
    assert [text.id for text in five] == [f"a/1#backspace-{k}" for k in range(5)]
    assert len({text.meta["actions"].__repr__() for text in five}) == 5
    assert list(Backspace(**options, sequences=5).generate(EXAMPLE, random.Random(3))) == five


def test_the_default_rate_over_humaneval(embedded: Codec, tmp_path: Path) -> None:
    """The paper's 0.001, within five standard deviations; every text replays."""
    manifest = run(Backspace(sequences=20), open_source("humaneval"), tmp_path / "out", workers=1)
    assert manifest.counts["kept"] == 164 and manifest.texts == 3280
    positions = noised = 0
    for text in read_texts(tmp_path / "out"):
        positions += text.meta["tokens"]
        noised += text.meta["noised"]
    assert abs(noised - 0.001 * positions) < 5 * math.sqrt(0.001 * positions)


def test_max_tokens(tiny: Codec) -> None:
    options: dict[str, Any] = {"model": tiny.name, "eta": 0.1, "sequences": 20}
    texts = list(Backspace(**options).generate(EXAMPLE, random.Random(0)))
    lengths = [len(text.meta["actions"]) for text in texts]
    limit = sorted(lengths)[10]
    fitting = list(Backspace(**options, max_tokens=limit).generate(EXAMPLE, random.Random(0)))
    assert [t.id for t in fitting] == [t.id for t in texts if len(t.meta["actions"]) <= limit]
    assert 0 < len(fitting) < 20
    assert {t.meta["failed_sequences"] for t in fitting} == {20 - len(fitting)}
    with pytest.raises(UnsuitableExample) as caught:
        list(Backspace(**options, max_tokens=10).generate(EXAMPLE, random.Random(0)))
    assert caught.value.reason == "too_long"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.5}, "eta is 1.5"),
        ({"eta": -0.1}, "eta is -0.1"),
        ({"eta": math.nan}, "eta is nan"),
        ({"span": 0}, "span is 0"),
        ({"sequences": 0}, "sequences is 0"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"noise": "uniform,typos"}, "noise 'typos'.*uniform, syntax"),
        ({"noise": ""}, "noise ''"),
        ({"noise": "uniform,uniform"}, "remove the repeated kind"),
        ({"format": "markdown"}, "format is 'markdown'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Backspace(**options)


def test_a_changed_tokenizer_under_the_same_name_refuses_to_resume(
    tiny: Codec, tmp_path: Path
) -> None:
    from codegen.core.errors import ResumeError
    from codegen.methods.backspace import load_codec

    model, source = tmp_path / "model", MemorySource((EXAMPLE,))
    model.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (model / name).write_bytes((Path(tiny.name) / name).read_bytes())
    run(Backspace(model=str(model)), source, tmp_path / "out", workers=1)
    path = model / "tokenizer.json"
    row = json.loads(path.read_text(encoding="utf-8"))
    row["model"]["merges"].pop()
    path.write_text(json.dumps(row), encoding="utf-8")
    load_codec.cache_clear()
    with pytest.raises(ResumeError, match="tokenizer_fingerprint"):
        run(Backspace(model=str(model)), source, tmp_path / "out", workers=1)
