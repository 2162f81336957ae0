"""Whatever a line of a file holds, it is filed and shown without an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.server.viewer.records import facts_of, kind_of, preview_of, show

TEXT = st.text(max_size=6)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
SEGMENTS = st.lists(st.fixed_dictionaries({"text": TEXT, "train": st.booleans()}), max_size=3)
FIELDS = """id example_id generator segments meta prompt chosen rejected completion label problem_id
index status trust message output actions settings step rewards reward solved suspects earlier
outcome reason detail messages program tokens cpu_s finish_reason"""
NAMES = st.sampled_from(FIELDS.split())
KINDS = {
    "text": ("id", "example_id", "generator", "segments", "meta"),
    "preference": ("id", "prompt", "generator", "chosen", "rejected"),
    "sample": ("problem_id", "index", "completion"),
    "rollout": ("step", "problem_id", "completion", "rewards"),
    "verdict": ("problem_id", "index", "status"),
    "reject": ("id", "outcome", "reason"),
}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(sorted(KINDS)), more=st.dictionaries(NAMES, ANY | SEGMENTS), data=st.data()
)
def test_no_record_is_an_error(kind: str, more: dict[str, Any], data: st.DataObject) -> None:
    row = {name: data.draw(ANY | TEXT | SEGMENTS) for name in KINDS[kind]} | more
    row = json.loads(json.dumps(row))
    facts = facts_of(row)
    assert all(isinstance(value, str) for value in facts.facets.values())
    assert all(value == value and abs(value) < 1e16 for value in facts.numbers.values())
    assert "\n" not in preview_of(row)
    verdict: Any = data.draw(st.none() | st.dictionaries(NAMES, ANY))
    shown = show(row, verdict, data.draw(TEXT))
    for piece in shown.pieces:
        assert isinstance(piece.text, str)
        assert piece.lines or piece.spans or not row.get("segments")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANY)
def test_no_line_is_an_error(value: Any) -> None:
    facts_of(value)
    preview_of(value)
    assert show(value).pieces


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_records_are_known_by_their_keys(kind: str) -> None:
    assert kind_of(dict.fromkeys(KINDS[kind], "x")) == kind


def test_numbers_and_values_are_what_a_sample_holds() -> None:
    row = {"problem_id": "p" * 300, "index": 2, "completion": "x", "completion_tokens": 7,
           "finish_reason": "length", "meta": {"style": "chat", "edits": 3}}  # fmt: skip
    facts = facts_of(row)
    assert facts.facets == {"problem": "p" * 300, "ended by": "length", "style": "chat"}
    assert facts.numbers == {"index": 2, "tokens": 7, "edits": 3}
