"""What the rules say: critical tokens, penalties on logits, RPG's modes, baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from codegen.benchmarks.tools.loops import loops, stopped_after
from codegen.core.errors import ConfigError
from codegen.decoding.healing import Vocabulary
from codegen.decoding.rpg import METHODS, RpgOptions, read_options
from codegen.decoding.rpg.methods import Follower, Method
from codegen.decoding.rpg.penalties import CriticalTokens, Penalty, Rule, apply, push_all

EOS = 2


@pytest.fixture(scope="module")
def tokens(tokenizer: Any) -> Sequence[bytes | None]:
    return Vocabulary.of(tokenizer).tokens


def method(tokens: Sequence[bytes | None], name: str, **options: Any) -> Method:
    return Method.of(read_options(name, options), tokens, {EOS})


def changes(rule: Rule, size: int) -> dict[int, float]:
    """What a rule makes of logits that are all 1."""
    logits = torch.ones(1, size)
    apply(logits, [rule.penalties()])
    return {i: float(logits[0, i]) for i in range(size) if logits[0, i] != 1}


# --- critical tokens -----------------------------------------------------------------------------


@given(
    text=st.text("abx_ '1", min_size=1, max_size=5), margin=st.sampled_from([None, "", " ", "  "])
)
@settings(max_examples=200, deadline=None)
def test_critical_tokens_by_definition(text: str, margin: str | None) -> None:
    alphabet = ["a", "b", "x", "_", "'", "1", " "]
    vocabulary = [one + two + three for one in ["", *alphabet] for two in alphabet
                  for three in ["", *alphabet]]  # fmt: skip
    text = text.lstrip() or "a"
    name = text[-1] in "abx_1"
    expected = []
    for index, token in enumerate(vocabulary):
        body = token.lstrip()
        space = token[: len(token) - len(body)]
        whole = body.startswith(text) and not (name and body[len(text) :][:1] in tuple("abx_1"))
        if body and (margin is None or space == margin) and (whole or text.startswith(body)):
            expected.append(index)
    table = CriticalTokens([token.encode() for token in vocabulary])
    found = table.beginning(text.encode(), None if margin is None else margin.encode())
    assert found.tolist() == expected


# --- penalties -----------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_penalties_are_applied_one_after_the_other(data: st.DataObject) -> None:
    ids = st.lists(st.integers(0, 7), unique=True, max_size=5)
    kinds = st.sampled_from(["add", "scale", "multiply"])
    amounts = st.sampled_from([0.25, 0.5, 2.0])
    row = st.lists(st.tuples(ids, amounts, kinds), max_size=4)
    by_row = data.draw(st.lists(row, min_size=1, max_size=3))
    start = data.draw(
        st.lists(st.sampled_from([-4.0, -1.0, 0.0, 3.0, -math.inf]),
                 min_size=8 * len(by_row), max_size=8 * len(by_row))
    )  # fmt: skip
    logits = torch.tensor(start).reshape(len(by_row), 8)
    expected = logits.clone()
    for number, penalties in enumerate(by_row):
        for places, amount, kind in penalties:
            for place in places:
                z = float(expected[number, place])
                changed = {"add": z + amount, "multiply": z * amount,
                           "scale": z * amount if z > 0 else z / amount}[kind]  # fmt: skip
                expected[number, place] = changed
    apply(
        logits,
        [[Penalty(np.array(p, dtype=np.int64), a, k) for p, a, k in row] for row in by_row],  # type: ignore[arg-type]
    )
    assert torch.equal(logits, expected)


# --- RPG -----------------------------------------------------------------------------------------

CHAIN = "if a == 1:\n    return\n"
LINK = "elif a == 2:\n    b = 2\n"


def test_ours_waits_then_grows_up_to_its_cap(tokenizer: Any, tokens: Any) -> None:
    sizes = []
    for copies in range(1, 12):
        ids = tokenizer(CHAIN + LINK * copies).input_ids
        rule = method(tokens, "rpg", k_min=4, strength=2, growth=0.5, cap=6).rule()
        push_all(rule, ids)
        changed = changes(rule, len(tokens))
        worst = min(changed.values(), default=1.0)
        sizes.append(round(1 - worst, 3))
        if changed:
            down = {tokens[i] for i, z in changed.items() if z < 1}
            assert down and all(b"elif".startswith(t) or t.startswith(b"elif") for t in down)  # type: ignore[union-attr]
            assert changed[EOS] == pytest.approx(1 + 0.5 * (1 - worst))
    assert sizes == [0, 0, 0, 2, 3, 4, 5, 6, 6, 6, 6]


def test_paper_penalises_from_the_second_copy_on(tokenizer: Any, tokens: Any) -> None:
    for copies in (1, 2, 3):
        rule = method(tokens, "rpg", mode="paper").rule()
        push_all(rule, tokenizer("pass\n" * copies).input_ids)
        down = changes(rule, len(tokens))
        assert bool(down) == (copies > 1)
        if down:  # the structure and the cycle of tokens both speak of `pass`
            assert min(down.values()) == pytest.approx(0.9 ** (2 * copies))


def test_structural_loops_with_new_content_are_stopped(tokenizer: Any, tokens: Any) -> None:
    """Counted loops of all kinds, and blocks of statements whatever their words; rows of new words
    are left, which can't be told from a table.
    """

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    written = loops()
    assert len(written) > 40
    for loop in written:
        rule = method(tokens, "rpg", language=loop.language).rule()
        found = stopped_after(rule, loop, encode, tokens)
        if loop.counted or (loop.block and loop.name != "cases of Go, worded"):
            assert found is not None and 3 <= found <= 20, loop.name
        else:
            assert found is None, loop.name


@pytest.mark.parametrize("name", [*METHODS, "rpg paper"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_going_back_and_forking_equal_replaying(
    tokenizer: Any, tokens: Any, name: str, data: st.DataObject
) -> None:
    kind, _, mode = name.partition(" ")
    made = method(tokens, kind, **({"mode": mode} if mode else {}))
    text = data.draw(
        st.lists(st.sampled_from([LINK, "f(1)\n", "x", "a, ", "'", "  "]), max_size=12)
    )
    ids = tokenizer("".join(text)).input_ids
    keep = data.draw(st.integers(0, len(ids)))
    rejected = data.draw(st.lists(st.integers(0, len(tokens) - 1), max_size=6))

    def said(rule: Rule) -> dict[int, float]:
        return changes(rule, len(tokens))

    rule, fresh = made.rule(), made.rule()
    push_all(rule, ids[:keep])
    state = rule.snapshot()
    push_all(rule, rejected)
    rule.restore(state)
    other = rule.fork()
    push_all(other, rejected)
    push_all(rule, ids[keep:])
    push_all(fresh, ids)
    assert said(rule) == said(fresh)
    branch = made.rule()
    push_all(branch, ids[:keep] + rejected)
    assert said(other) == said(branch)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_follower_takes_tokens_back(tokenizer: Any, tokens: Any, data: st.DataObject) -> None:
    made = method(tokens, "rpg", mode="paper")
    prompt = tokenizer(CHAIN).input_ids
    link = tokenizer(LINK).input_ids
    follower = Follower(made, prompt)
    written: list[int] = []
    for _ in range(8):
        back = data.draw(st.integers(0, len(written)))
        written = written[: len(written) - back] + link * data.draw(st.integers(0, 4))
        rule = made.rule()
        push_all(rule, prompt + written)
        expected = [(p.ids.tolist(), p.amount) for p in rule.penalties()]
        assert [(p.ids.tolist(), p.amount) for p in follower.penalties(written)] == expected


# --- baselines -----------------------------------------------------------------------------------


@given(ids=st.lists(st.integers(0, 5), min_size=1, max_size=30), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_baselines_are_those_of_transformers(ids: list[int], seed: int) -> None:
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(seed))
    vocabulary: list[bytes | None] = [b"a"] * 8
    pairs = [
        (method(vocabulary, "repetition_penalty", penalty=1.3),
         RepetitionPenaltyLogitsProcessor(1.3)),
        (method(vocabulary, "no_repeat_ngram", size=3), NoRepeatNGramLogitsProcessor(3)),
        (method(vocabulary, "no_repeat_ngram", size=1), NoRepeatNGramLogitsProcessor(1)),
    ]  # fmt: skip
    for ours, theirs in pairs:
        rule = ours.rule()
        push_all(rule, ids)
        changed = logits.clone()
        apply(changed, [rule.penalties()])
        expected = theirs(torch.tensor([ids]), logits.clone())  # type: ignore[arg-type]
        torch.testing.assert_close(changed, expected)


@given(ids=st.lists(st.integers(0, 4), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_dry_by_definition(ids: list[int]) -> None:
    """A token loses multiplier * base^(n - allowed), n the longest suffix that it once followed."""
    breaker = 4
    vocabulary: list[bytes | None] = [b"a", b"b", b"c", b"d", b"x:"]
    rule = method(vocabulary, "dry", multiplier=1, base=2, allowed=2).rule()
    push_all(rule, ids)
    longest: dict[int, int] = {}
    for place in range(1, len(ids)):
        length = 0
        while (
            length < place
            and ids[place - 1 - length] == ids[len(ids) - 1 - length]
            and ids[place - 1 - length] != breaker
        ):
            length += 1
        if length >= 2 and ids[place] != breaker:
            longest[ids[place]] = max(length, longest.get(ids[place], 0))
    expected = {token: pytest.approx(1 - 2.0 ** (n - 2)) for token, n in longest.items()}
    assert changes(rule, 5) == expected


# --- options -------------------------------------------------------------------------------------


def test_options_are_read_from_texts() -> None:
    options = read_options("rpg", {"mode": "paper", "k_min": "5", "strength": "1e0"})
    assert options == RpgOptions(mode="paper", k_min=5, strength=1.0)
    assert read_options("dry", {"breakers": "false"}) == METHODS["dry"](breakers=False)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "given_options", "message"),
    [
        ("rgp", {}, "Choose one of: rpg"),
        ("rpg", {"kmin": 3}, "Did you mean 'k_min'"),
        ("rpg", {"k_min": "three"}, "whole number"),
        ("rpg", {"k_min": 2.5}, "whole number"),
        ("rpg", {"k_min": True}, "whole number"),
        ("rpg", {"k_min": 1}, "k_min is 1"),
        ("rpg", {"cap": "nan"}, "cap is 'nan'"),
        ("rpg", {"mode": "best"}, "ours or paper"),
        ("rpg", {"mode": 3}, "ours or paper"),
        ("rpg", {"language": "klingon"}, "python, javascript"),
        ("no_repeat_ngram", {"size": 0}, "size is 0"),
        ("dry", {"breakers": "maybe"}, "true or false"),
        ("repetition_penalty", {"penalty": []}, "a number"),
    ],
)
def test_wrong_options_are_named(name: str, given_options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options(name, given_options)
    assert message in str(caught.value)
