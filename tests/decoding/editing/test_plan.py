"""Spans of one sequence found in another, checked against their definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.decoding.editing.plan import find_spans, prefix_marks

TOKENS = st.lists(st.integers(0, 3), max_size=40).map(lambda ids: np.array(ids, dtype=np.int64))


@settings(deadline=None, max_examples=300)
@given(old=TOKENS, new=TOKENS, shortest=st.integers(2, 4))
def test_spans_are_equal_disjoint_and_miss_nothing_long(
    old: np.ndarray, new: np.ndarray, shortest: int
) -> None:
    spans = find_spans(old, new, shortest=shortest)
    taken_old, taken_new = np.zeros(len(old), dtype=int), np.zeros(len(new), dtype=int)
    for start, source, size in spans:
        assert size >= shortest
        assert (new[start : start + size] == old[source : source + size]).all()
        taken_new[start : start + size] += 1
        taken_old[source : source + size] += 1
    assert taken_old.max(initial=0) <= 1 and taken_new.max(initial=0) <= 1
    # A run that nothing of both sides is taken of would have been found (few tokens: no cap).
    free = [i for i in range(len(new) - 2 * shortest + 1) if not taken_new[i : i + shortest].any()]
    places = [j for j in range(len(old) - shortest + 1) if not taken_old[j : j + shortest].any()]
    if len(places) <= 4:
        for i in free:
            assert not any((new[i : i + shortest] == old[j : j + shortest]).all() for j in places)


@given(one=TOKENS, other=TOKENS)
def test_marks_tell_texts_apart(one: np.ndarray, other: np.ndarray) -> None:
    a, b = prefix_marks(one), prefix_marks(other)
    for i in range(min(len(one), len(other))):
        assert (a[i] == b[i]) == bool((one[: i + 1] == other[: i + 1]).all())
