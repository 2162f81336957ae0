"""The generator as the data engine calls it."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import pickle
import random

import pytest

from codegen.core.errors import ConfigError
from codegen.core.records import Example, TrainingText, from_json, to_json
from codegen.data.generators import make
from codegen.lintseq import (
    LintSeq,
    UnsupportedProgram,
    VerificationFailed,
    prepare,
    resampling,
    resolve,
)
from codegen.lintseq.generator import Format, program_of
from codegen.lintseq.program import PreparedProgram
from codegen.lintseq.verify import check_pylint, new_findings

PROGRAM = (
    "import os\n\n\ndef f(x):\n    y = os.path.join(x)\n    if y:\n        return y\n    return x\n"
)
EXAMPLE = Example("a/1", "Join paths.", PROGRAM)


def test_training_text() -> None:
    (text,) = LintSeq(audit=0).generate(EXAMPLE, random.Random(0))
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
    one = list(LintSeq(sequences=1).generate(EXAMPLE, random.Random(3)))
    five = list(LintSeq(sequences=5).generate(EXAMPLE, random.Random(3)))
    assert five[0] == one[0]
    assert [text.id for text in five] == [f"a/1#lintseq-{k}" for k in range(5)]
    assert len({text.text for text in five}) > 1
    assert list(LintSeq(sequences=5).generate(EXAMPLE, random.Random(3))) == five


@pytest.mark.parametrize("verify", ["static", "compile", "ruff", "pylint"])
def test_clean_sequences_do_not_depend_on_the_check(verify) -> None:
    texts = list(LintSeq(sequences=3, verify=verify).generate(EXAMPLE, random.Random(5)))
    assert texts == list(LintSeq(sequences=3, audit=0).generate(EXAMPLE, random.Random(5)))


@pytest.mark.parametrize("engine", ["reference", "random"])
def test_engines(engine) -> None:
    config = LintSeq(sequences=4, engine=engine)
    texts = list(config.generate(EXAMPLE, random.Random(5)))
    assert texts == list(config.generate(EXAMPLE, random.Random(5)))
    assert texts[:2] == list(
        LintSeq(sequences=2, engine=engine).generate(EXAMPLE, random.Random(5))
    )
    resolutions = [resolve(text.segments[1].text) for text in texts]
    assert {resolution.program for resolution in resolutions} == {PROGRAM}
    clean = [not any(check_pylint(resolution.states)) for resolution in resolutions]
    assert all(clean) if engine == "reference" else not all(clean)


def test_lines_are_finer_than_statements() -> None:
    program = "x = [\n    1,\n    2,\n    3,\n]\n"
    example = Example("a", "", program)
    for verify in ("ruff", "pylint"):
        by = {
            granularity: list(
                LintSeq(sequences=8, granularity=granularity, verify=verify).generate(
                    example, random.Random(0)
                )
            )
            for granularity in ("statement", "line")
        }
        assert {text.meta["edits"] for text in by["statement"]} == {1}
        assert max(text.meta["edits"] for text in by["line"]) > 1


def test_formats() -> None:
    """Notes on a sequence are on one text of it, so that sums over texts are right."""
    formats: tuple[Format, ...] = ("diff", "anchored", "chat", "pairs")
    plain, anchored, chat, pairs = (
        list(LintSeq(sequences=3, format=form, audit=1).generate(EXAMPLE, random.Random(2)))
        for form in formats
    )
    assert len(plain) == len(anchored) == len(chat) == 3
    for one, other in zip(plain, anchored, strict=True):
        assert program_of([one]) == program_of([other])
    assert len(pairs) == sum(text.meta["edits"] + 1 for text in plain)
    assert len({text.id for text in pairs}) == len(pairs)
    for key in ("edits", "lines", "audited_states", "dirty_states"):
        every = (plain, anchored, chat, pairs)
        totals = {sum(text.meta.get(key, 0) for text in texts) for texts in every}
        assert len(totals) == 1


def test_defaults_are_told() -> None:
    """The configuration that a run's manifest records has no blanks."""
    assert (LintSeq().granularity, LintSeq().verify, LintSeq().audit) == ("line", "ruff", 0.005)
    reference = LintSeq(engine="reference")
    assert (reference.granularity, reference.verify, reference.audit) == ("line", "pylint", 0.0)
    ablation = LintSeq(engine="random")
    assert (ablation.granularity, ablation.verify, ablation.audit) == ("line", "static", 0.0)
    paper = LintSeq(preset="paper")
    assert (paper.engine, paper.sequences, paper.granularity) == ("reference", 5, "line")
    assert LintSeq(preset="paper", sequences=2).sequences == 2
    assert LintSeq(verify="pylint").audit == 0.0
    assert LintSeq(engine="random", granularity="line", audit=0.5).audit == 0.5


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
        (Example("a", "", "SELECT 1", language="sql"), "unknown_language"),
        (Example("a", "", "x = '<|diff|>'"), "contains_marker"),
    ],
)
def test_reasons(example: Example, reason: str) -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        list(LintSeq().generate(example, random.Random(0)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"sequences": 0}, "sequences"),
        ({"verify": "mypy"}, "mypy"),
        ({"granularity": "token"}, "token"),
        ({"engine": "slow"}, "slow"),
        ({"format": "xml"}, "xml"),
        ({"audit": 1.5}, "audit"),
        ({"audit": float("nan")}, "audit"),
        ({"audit": "much"}, "audit"),
        ({"verify": "pylint", "audit": 0.1}, "every state"),
        ({"engine": "reference", "verify": "ruff"}, "verify 'pylint'"),
        ({"engine": "reference", "granularity": "statement"}, "granularity 'line'"),
        ({"engine": "reference", "audit": 0.1}, "every state"),
        ({"engine": "random", "verify": "pylint"}, "verify 'static'"),
        ({"engine": "random", "strict": True}, "strict"),
        ({"preset": "draft"}, "preset"),
        ({"preset": "paper", "engine": "fast"}, "preset 'paper'"),
        ({"preset": "paper", "granularity": "statement"}, "granularity 'line'"),
    ],
)
def test_wrong_options(options, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        LintSeq(**options)


def test_unknown_option() -> None:
    with pytest.raises(ConfigError, match="verfy"):
        make("lintseq", verfy="ruff")


def test_pylint_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pylint" else find(name)
    )
    with pytest.raises(ConfigError, match="pip install"):
        LintSeq()
    with pytest.raises(ConfigError, match="pip install"):
        LintSeq(engine="reference")
    assert LintSeq(audit=0).verify == "ruff"


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


DIRTY = "x = 1\ny = x\nif y:\n    z = y\n    print(z)\nprint(unknown)\n"
DIRTY_EXAMPLE = Example("a", "Do it.", DIRTY)
CLEAN = Example("a", "Do it.", DIRTY.replace("unknown", "2"))


def without_edges() -> PreparedProgram:
    """The program, with the dependencies of one of its shape whose lines are independent."""
    prepared = prepare("a = 1\nb = 1\nif 1:\n    c = 1\n    print(1)\nprint(2)\n")
    return dataclasses.replace(prepared, lines=prepare(DIRTY).lines)


def test_counts_are_those_of_pylint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.generator.prepare", lambda *_, **__: without_edges())
    config = LintSeq(sequences=10, verify="static", audit=1)
    texts = list(config.generate(DIRTY_EXAMPLE, random.Random(0)))
    whole = check_pylint([DIRTY])[0]
    assert [finding.rule for finding in whole] == ["E0602"]
    for text in texts:
        states = resolve(text.segments[1].text).states[:-1]
        dirty = [found for found in check_pylint(states) if new_findings(found, whole)]
        assert text.meta["audited_states"] == len(states)
        assert text.meta["dirty_states"] == len(dirty)
    assert sum(text.meta["dirty_states"] for text in texts) > 0


def test_audit_changes_no_text() -> None:
    plain, some, all_ = (
        list(LintSeq(sequences=6, audit=audit).generate(CLEAN, random.Random(1)))
        for audit in (0, 0.3, 1)
    )
    for a, b, c in zip(plain, some, all_, strict=True):
        assert a.segments == b.segments == c.segments
        assert "audited_states" not in a.meta
        assert b.meta.get("audited_states", 0) <= c.meta["audited_states"]
        audited = {
            key: n for key, n in c.meta.items() if "compared" not in key and "ref" not in key
        }
        assert {**a.meta, "audited_states": a.meta["edits"] - 1, "dirty_states": 0} == audited
    drawn = [text.meta.get("audited_states", 0) for text in some]
    assert 0 < sum(drawn) < sum(text.meta["audited_states"] for text in all_)
    again = list(LintSeq(sequences=3, audit=0.3).generate(CLEAN, random.Random(1)))
    assert again == some[:3]


def test_share_of_states() -> None:
    program = "".join(f"x{i} = {i}\n" for i in range(400))
    config = LintSeq(sequences=5, verify="static", audit=0.1)
    texts = list(config.generate(Example("a", "", program), random.Random(0)))
    states = sum(text.meta["edits"] - 1 for text in texts)
    drawn = sum(text.meta["audited_states"] for text in texts)
    assert abs(drawn - 0.1 * states) < 4 * math.sqrt(0.09 * states)


def test_long_programs_are_not_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as their states' size allows; what is audited never depends on the machine."""
    (plain,) = LintSeq(audit=1).generate(CLEAN, random.Random(0))
    states = resolve(plain.segments[1].text).states[:-1]
    sizes = [len(state) for state in states]
    for most, audited in (
        (sum(sizes), len(sizes)),
        (sum(sizes) - 1, len(sizes) - 1 or None),
        (0, None),
    ):
        monkeypatch.setattr(resampling, "MOST_AUDITED_CHARACTERS", most)
        (text,) = LintSeq(audit=1).generate(CLEAN, random.Random(0))
        assert text.segments == plain.segments
        assert text.meta.get("audited_states") == audited


def test_edits_are_compared_with_those_of_the_published_algorithm() -> None:
    """The numbers are those of a sequence that the reference engine draws of the program."""
    programs = [f"def f{n}(x):\n    y = x\n    return y\n" for n in range(12)]
    config = LintSeq(sequences=5, verify="static", audit=1)
    texts = [
        text
        for n, program in enumerate(programs)
        for text in config.generate(Example(str(n), "", program), random.Random(n))
    ]
    compared = [text.meta for text in texts if "compared_sequences" in text.meta]
    assert 3 < len(compared) < 30  # a fifth of 60
    for meta in compared:
        assert meta["compared_edits"] == meta["edits"]
        assert 1 <= meta["reference_edits"] <= 2
