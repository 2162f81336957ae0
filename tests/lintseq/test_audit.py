"""The audit: pylint on a share of the states that a faster check let pass."""

from __future__ import annotations

import dataclasses
import math
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.errors import ConfigError
from codegen.lintseq import LintSeq, audit_summary, prepare, resolve
from codegen.lintseq.program import Prepared
from codegen.lintseq.verify import check_pylint, new_findings, wilson_interval
from codegen.records import Example

PROGRAM = "x = 1\ny = x\nif y:\n    z = y\n    print(z)\nprint(unknown)\n"
EXAMPLE = Example("a", "Do it.", PROGRAM)


def without_edges() -> Prepared:
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
        list(LintSeq(sequences=6, audit=audit).generate(EXAMPLE, random.Random(1)))
        for audit in (0, 0.3, 1)
    )
    for a, b, c in zip(plain, some, all_, strict=True):
        assert a.segments == b.segments == c.segments
        assert "audited_states" not in a.meta
        assert b.meta.get("audited_states", 0) <= c.meta["audited_states"]
        assert {**a.meta, "audited_states": a.meta["edits"] - 1, "dirty_states": 0} == c.meta
    drawn = [text.meta.get("audited_states", 0) for text in some]
    assert 0 < sum(drawn) < sum(text.meta["audited_states"] for text in all_)
    again = list(LintSeq(sequences=3, audit=0.3).generate(EXAMPLE, random.Random(1)))
    assert again == some[:3]


def test_share_of_states() -> None:
    program = "".join(f"x{i} = {i}\n" for i in range(400))
    config = LintSeq(sequences=5, verify="static", audit=0.1)
    texts = list(config.generate(Example("a", "", program), random.Random(0)))
    states = sum(text.meta["edits"] - 1 for text in texts)
    drawn = sum(text.meta["audited_states"] for text in texts)
    assert abs(drawn - 0.1 * states) < 4 * math.sqrt(0.09 * states)


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_solves_wilsons_equation(counts: tuple[int, int]) -> None:
    """The bounds are the rates p with |k/n - p| = z sqrt(p (1 - p) / n)."""
    hits, trials = counts
    low, high = wilson_interval(hits, trials)
    assert 0 <= low <= high <= 1
    if trials == 0:
        assert (low, high) == (0, 1)
        return
    rate = hits / trials
    assert low <= rate <= high
    for bound in (low, high):
        expected = 1.959963984540054 * math.sqrt(bound * (1 - bound) / trials)
        assert abs(rate - bound) == pytest.approx(expected, abs=1e-9)


def test_published_interval() -> None:
    """10 of 100: R's prop.test without continuity correction gives 5.523 % to 17.437 %."""
    low, high = wilson_interval(10, 100)
    assert (round(low, 5), round(high, 5)) == (0.05523, 0.17437)


def test_summary() -> None:
    assert audit_summary(100, 10) == (
        "pylint audit: 10 of 100 states dirty, 10.00% (95 % interval 5.52% to 17.44%)."
    )
    assert re.search("no state", audit_summary(0, 0))
    with pytest.raises(ConfigError, match="3 of 2"):
        audit_summary(2, 3)
