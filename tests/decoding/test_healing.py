"""Token healing against brute force over the vocabulary, and on the real tokenizer."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.decoding.healing import Vocabulary

TOKENS = [b"a", b"b", b"ab", b"abc", b"\n", b"\n  ", b"c", None, b"", b"\xc3", b"\xc3\xa9"]


@given(rest=st.sampled_from([b"a", b"ab", b"abc", b"abca", b"\n", b"\n ", b"c", b"\xc3\xa9", b"z"]))
def test_allowed_equals_brute_force(rest: bytes) -> None:
    vocabulary = Vocabulary(TOKENS)
    expected = {
        i
        for i, token in enumerate(TOKENS)
        if token and (token.startswith(rest) or rest.startswith(token))
    }
    assert set(vocabulary.allowed(rest)) == expected


def test_heal_takes_back_what_a_token_could_span() -> None:
    vocabulary = Vocabulary(TOKENS)
    healed = vocabulary.heal([1, 0, 4])  # "b", "a", "\n": only "\n" begins a longer token
    assert (healed.ids, healed.rest) == ([1, 0], b"\n")
    healed = vocabulary.heal([4, 0, 1])  # "\n", "a", "b": "abc" begins with "ab"
    assert (healed.ids, healed.rest) == ([4], b"ab")
    healed = vocabulary.heal([0, 6])  # nothing begins with "c" but "c"
    assert (healed.ids, healed.rest) == ([0, 6], b"")
    assert vocabulary.heal([0]).ids == [0]


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12))
def test_spelling_the_rest_gives_the_prompt_back(tokenizer: Any, text: str) -> None:
    vocabulary = Vocabulary.of(tokenizer)
    ids = tokenizer(text).input_ids
    healed = vocabulary.heal(ids)
    kept = b"".join(vocabulary.tokens[i] or b"" for i in healed.ids)
    assert kept + healed.rest == text.encode()
    assert healed.ids + healed.taken == ids
    healed.rest.decode()  # never a part of a character
    # Any walk through the allowed tokens ends with text that begins with the prompt.
    rest, spelled = healed.rest, kept
    for _ in range(20):
        if not rest:
            break
        token = max(vocabulary.allowed(rest), key=lambda i: len(vocabulary.tokens[i] or b""))
        spelled += vocabulary.tokens[token] or b""
        rest = vocabulary.after(rest, token)
    assert spelled.startswith(text.encode())
