"""The audit: pylint on a share of the states that a faster check let pass."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from codegen.core.records import Example
from codegen.lintseq import LintSeq, prepare, resampling, resolve
from codegen.lintseq.program import PreparedProgram
from codegen.lintseq.verify import check_pylint, new_findings

PROGRAM = "x = 1\ny = x\nif y:\n    z = y\n    print(z)\nprint(unknown)\n"
EXAMPLE = Example("a", "Do it.", PROGRAM)
CLEAN = Example("a", "Do it.", PROGRAM.replace("unknown", "2"))


def without_edges() -> PreparedProgram:
    """The program, with the dependencies of one of its shape whose lines are independent."""
    prepared = prepare("a = 1\nb = 1\nif 1:\n    c = 1\n    print(1)\nprint(2)\n")
    return dataclasses.replace(prepared, lines=prepare(PROGRAM).lines)


def test_counts_are_those_of_pylint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.generator.prepare", lambda *_, **__: without_edges())
    config = LintSeq(sequences=10, verify="static", audit=1)
    texts = list(config.generate(EXAMPLE, random.Random(0)))
    whole = check_pylint([PROGRAM])[0]
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
