"""The suffix structure against brute force: counts, matches, drafts, removal, eviction."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from suffix_oracle import Oracle, Place

from codegen.decoding.suffix import BudgetError

Make = Callable[..., Any]

# Few different tokens, so that texts repeat; runs and periods on purpose.
token = st.integers(0, 3)
text = st.one_of(
    st.lists(token, max_size=12),
    st.builds(lambda t, n: [t] * n, token, st.integers(0, 40)),
    st.builds(
        lambda unit, n: unit * n, st.lists(token, min_size=1, max_size=4), st.integers(0, 12)
    ),
)
operation = st.one_of(
    st.tuples(st.just("start")),
    st.tuples(st.just("append"), st.integers(0, 9), text),
    st.tuples(st.just("finish"), st.integers(0, 9)),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("add"), text),
)
options = st.fixed_dictionaries(
    {
        "limit": st.integers(0, 12),
        "factor": st.sampled_from([0.0, 0.5, 1.0, 2.5]),
        "offset": st.sampled_from([0.0, -1.0, 2.0]),
        "min_probability": st.sampled_from([0.0, 0.1, 0.4, 1.0]),
        "tree": st.booleans(),
        "sample": st.sampled_from([1, 2, 7, 1000]),
        "min_match": st.integers(1, 3),
        "max_match": st.sampled_from([2, 1024]),
    }
)


def build(make: Make, operations: list[tuple[Any, ...]], budget: int | None = None) -> Any:
    """The same operations on an index and on the oracle, errors compared as they come."""
    index, oracle, known = make(budget), Oracle(budget), []
    for name, *arguments in operations:
        if name == "start":
            if oracle.evict_for(32):
                known.append(index.start())
                oracle.texts[known[-1]] = []
            else:
                with pytest.raises(BudgetError):
                    index.start()
        elif name == "add":
            if oracle.evict_for(32 + len(arguments[0])):
                known.append(index.add(arguments[0]))
                oracle.texts[known[-1]] = arguments[0]
                oracle.finished.append(known[-1])
            else:
                with pytest.raises(BudgetError):
                    index.add(arguments[0])
        elif known:
            _change(index, oracle, name, known[arguments[0] % len(known)], *arguments[1:])
        assert index.sequences() == sorted(oracle.texts)
        assert index.billed == oracle.billed()
        assert index.oldest() == (oracle.finished[0] if oracle.finished else None)
        assert budget is None or index.billed <= budget
    index.check()
    return index, oracle


def _change(index: Any, oracle: Oracle, name: str, id_: int, tokens: Any = None) -> None:
    if id_ not in oracle.texts:
        arguments = (id_,) if tokens is None else (id_, tokens)
        with pytest.raises(KeyError, match="unknown sequence"):
            getattr(index, name)(*arguments)
    elif name == "append" and id_ in oracle.finished:
        with pytest.raises(ValueError, match="finished"):
            index.append(id_, tokens)
    elif name == "append":
        if oracle.evict_for(len(tokens)):
            index.append(id_, tokens)
            oracle.texts[id_] = oracle.texts[id_] + tokens
        else:
            with pytest.raises(BudgetError):
                index.append(id_, tokens)
    elif name == "finish":
        index.finish(id_)
        if id_ not in oracle.finished:
            oracle.finished.append(id_)
    else:
        index.remove(id_)
        del oracle.texts[id_]
        if id_ in oracle.finished:
            oracle.finished.remove(id_)


def same_answers(index: Any, oracle: Oracle, context: list[int], given: dict[str, Any]) -> None:
    """Compares everything one can ask."""
    assert len(index) == sum(map(len, oracle.texts.values()))
    substrings = {tuple(t[i:j]) for t in oracle.texts.values() if len(t) < 14
                  for i in range(len(t)) for j in range(i, len(t) + 1)}  # fmt: skip
    for substring in sorted(substrings)[:150]:
        assert index.count(substring) == oracle.count(substring)
    assert index.count(context) == oracle.count(context)
    for end in range(len(context) + 1):
        assert index.match(context[:end]) == oracle.match(context[:end])
    assert index.draft(context, **given) == oracle.draft(context, **given)
    for id_, stored in oracle.texts.items():
        assert index.text(id_) == stored
        assert index.is_finished(id_) == (id_ in oracle.finished)
        assert index.draft(stored, **given) == oracle.draft(stored, **given)
        own = Place(id_, len(stored) - 1) if stored else None
        assert index.draft_after(id_, **given) == oracle.draft(stored, own=own, **given)


@given(st.lists(operation, max_size=14), st.sampled_from([None, 90, 200]), text, options)
@settings(max_examples=200, deadline=None)
def test_everything_against_brute_force(
    make: Make, operations: list[Any], budget: int | None, context: list[int], given: dict[str, Any]
) -> None:
    index, oracle = build(make, operations, budget)
    same_answers(index, oracle, context, given)


@given(st.lists(text, min_size=1, max_size=6), st.data(), text, options)
@settings(max_examples=100, deadline=None)
@example([[1, 1, 1]], None, [1, 1], {"limit": 3})
def test_removal_equals_never_seen(
    make: Make, texts: list[list[int]], data: Any, context: list[int], given: dict[str, Any]
) -> None:
    gone = data.draw(st.sets(st.integers(0, len(texts) - 1))) if data else {0}
    index, fresh = make(), make()
    ids = [index.add(t) for t in texts]
    for number in gone:
        index.remove(ids[number])
    for number, stored in enumerate(texts):
        if number not in gone:
            fresh.add(stored)
    index.check()
    assert index.draft(context, **given) == fresh.draft(context, **given)
    assert index.match(context) == fresh.match(context)
    assert len(index) == len(fresh) and index.billed == fresh.billed
    for size in range(len(context)):
        assert index.count(context[:size]) == fresh.count(context[:size])


def test_eviction_equals_removal_of_the_oldest(make: Make) -> None:
    rng = random.Random(5)
    index, other = make(400), make()
    kept: list[int] = []
    for _ in range(40):
        tokens = [rng.randrange(4) for _ in range(rng.randrange(60))]
        index.add(tokens)
        kept.append(other.add(tokens))
        while other.billed > 400:
            other.remove(kept.pop(0))
        assert index.sequences() == other.sequences()
        context = [rng.randrange(4) for _ in range(12)]
        assert index.draft(context) == other.draft(context)
        assert index.count(context[-2:]) == other.count(context[-2:])


@pytest.mark.parametrize("kind", ["equal", "random", "periodic", "few"])
def test_many_leaves_and_groups(make: Make, kind: str) -> None:
    """Enough text for every level of the core to split and merge, in each kind of order."""
    compiled = make.__module__.endswith("_core")
    rng = random.Random(kind)
    tokens = {
        "equal": lambda n: [7] * n,
        "random": lambda n: [rng.randrange(30000) for _ in range(n)],
        "periodic": lambda n: [i % 11 for i in range(n)],
        "few": lambda n: [rng.randrange(2) for _ in range(n)],
    }[kind]
    index, oracle = make(), Oracle()
    for step in range(40 if compiled else 12):
        id_ = index.start()
        oracle.texts[id_] = tokens(rng.randrange(900 if compiled else 60))
        index.append(id_, oracle.texts[id_])
        if rng.random() < 0.4:
            victim = rng.choice(sorted(oracle.texts))
            index.remove(victim)
            del oracle.texts[victim]
        if step % 10 == 9:
            index.check()
    for stored in list(oracle.texts.values())[:6]:
        for size in (1, 2, 5, 60):
            if len(stored) >= size:
                start = rng.randrange(len(stored) - size + 1)
                part = stored[start : start + size]
                assert index.count(part) == sum(
                    _occurrences(t, part) for t in oracle.texts.values()
                )
    for id_ in list(oracle.texts):
        index.remove(id_)
        if id_ % 8 == 0:
            index.check()
    assert len(index) == index.billed == 0
    assert index.draft([7, 7]) == ([], [], [], 0.0, 0)


def _occurrences(text: list[int], part: list[int]) -> int:
    return sum(text[i : i + len(part)] == part for i in range(len(text) - len(part) + 1))
