"""The generator as the data engine calls it."""

from __future__ import annotations

import pickle
import random

import pytest

from codegen.errors import ConfigError
from codegen.lintseq import LintSeq, UnsupportedProgram, VerificationFailed, generate, resolve
from codegen.records import Example, TrainingText, from_json, to_json

PROGRAM = (
    "import os\n\n\ndef f(x):\n    y = os.path.join(x)\n    if y:\n        return y\n    return x\n"
)
EXAMPLE = Example("a/1", "Join paths.", PROGRAM)


def test_training_text() -> None:
    (text,) = generate(EXAMPLE, random.Random(0))
    assert text.id == "a/1#lintseq-0"
    assert text.example_id == "a/1"
    assert text.generator == "lintseq"
    assert [segment.train for segment in text.segments] == [False, True]
    assert text.prompt == "Join paths.\n"
    resolution = resolve(text.segments[1].text)
    assert resolution.program == PROGRAM
    assert text.meta == {
        "edits": len(resolution.edits),
        "hunks": sum(len(edit.hunks) for edit in resolution.edits),
        "lines": 8,
    }
    assert text.text.startswith("Join paths.\n<|diff|>@@ -0,0 +1")
    assert text.text.endswith("\n<|diff|>\n<|diff|>")
    assert from_json(TrainingText, to_json(text)) == text


def test_sequences_are_independent_and_stable() -> None:
    one = list(generate(EXAMPLE, random.Random(3), sequences=1))
    five = list(LintSeq(sequences=5).generate(EXAMPLE, random.Random(3)))
    assert five[0] == one[0]
    assert [text.id for text in five] == [f"a/1#lintseq-{k}" for k in range(5)]
    assert len({text.text for text in five}) > 1
    assert list(LintSeq(sequences=5)(EXAMPLE, random.Random(3))) == five


@pytest.mark.parametrize("verify", ["static", "compile", "ruff"])
def test_clean_sequences_do_not_depend_on_the_check(verify) -> None:
    texts = list(generate(EXAMPLE, random.Random(5), sequences=3, verify=verify))
    assert texts == list(generate(EXAMPLE, random.Random(5), sequences=3))


def test_many_is_as_one_by_one() -> None:
    examples = [EXAMPLE, Example("b", "", "x = ("), Example("c", "Two.", "x = 1\ny = x\n")]
    config = LintSeq(sequences=2, verify="ruff")
    first, second, third = config.generate_many([(e, random.Random(1)) for e in examples])
    assert first == list(config.generate(examples[0], random.Random(1)))
    assert isinstance(second, UnsupportedProgram)
    assert third == list(config.generate(examples[2], random.Random(1)))
    assert config.generate_many([]) == []


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (Example("a", "", "x = ("), "syntax_error"),
        (Example("a", "", "SELECT 1", language="sql"), "not_python"),
        (Example("a", "", "x = '<|diff|>'"), "contains_marker"),
    ],
)
def test_reasons(example: Example, reason: str) -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        list(generate(example, random.Random(0)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"sequences": 0}, "sequences"),
        ({"verify": "mypy"}, "mypy"),
        ({"granularity": "token"}, "token"),
    ],
)
def test_wrong_options(options, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        LintSeq(**options)


@pytest.mark.parametrize(
    "value",
    [
        LintSeq(sequences=5, verify="ruff", strict=False),
        UnsupportedProgram("empty", "it is empty.", "Leave it out."),
        VerificationFailed("ruff", "line 1: F821 Undefined name `x`"),
    ],
)
def test_values_can_be_sent_to_another_process(value) -> None:
    copy = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
    assert type(copy) is type(value)
    assert repr(copy) == repr(value)
    assert str(copy) == str(value)
    if not isinstance(value, LintSeq):
        assert vars(copy) == vars(value)
