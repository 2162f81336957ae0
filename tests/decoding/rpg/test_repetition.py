"""Squares found by lag counters against a search of all of them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.decoding.rpg.repetition import Square, Stream, TokenLags


def brute_force(items: list[int], most: int) -> Square | None:
    """The smallest block that stands twice at the end, and how often, by comparing slices."""
    size = len(items)
    for period in range(1, min(most, size // 2) + 1):
        if items[size - period :] != items[size - 2 * period : size - period]:
            continue
        copies = 2
        while (copies + 1) * period <= size and items[
            size - (copies + 1) * period : size - copies * period
        ] == items[size - period :]:
            copies += 1
        run = 0
        while run < size - period and items[size - 1 - run] == items[size - 1 - run - period]:
            run += 1
        return Square(period, copies, run)
    return None


# Few symbols and joined blocks: squares of all sizes at the end.
sequences = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.integers(1, 5)), max_size=8
).map(lambda blocks: [item for block, times in blocks for item in block * times])


@given(items=sequences, most=st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_counters_find_the_smallest_square(items: list[int], most: int) -> None:
    stream, lags = Stream(), TokenLags.empty(most)
    for length, item in enumerate(items, 1):
        stream, lags = stream.pushed(item, None, most), lags.pushed(item)
        expected = brute_force(items[:length], most)
        assert stream.square() == expected
        assert lags.square() == expected
        if expected:
            assert lags.expected(expected.period) == items[length - expected.period]


@given(items=sequences, rejected=sequences)
@settings(max_examples=50, deadline=None)
def test_states_are_values(items: list[int], rejected: list[int]) -> None:
    lags = TokenLags.empty(8)
    states = [lags]
    for item in items:
        lags = lags.pushed(item)
        states.append(lags)
    squares = [state.square() for state in states]
    branch = states[len(items) // 2]
    for item in rejected:
        branch = branch.pushed(item)
    assert [state.square() for state in states] == squares
