"""Typed as suggested, accepted, delayed."""

from __future__ import annotations

import random

import pytest

from codegen.server.delay import TypingDelay
from codegen.server.suggestions import Suggestions

LONG = "".join(f"line {number} = {number}\n" for number in range(60))


@pytest.mark.parametrize("prefix", ["", "x", "def f():\n    ", LONG + "y = "])
@pytest.mark.parametrize("suffix", ["", "\n", "\nz = 1\n" + LONG])
def test_typed_as_suggested(prefix: str, suffix: str) -> None:
    kept = Suggestions()
    kept.add(prefix, suffix, ("return value", "return other"))
    assert kept.find(prefix, suffix) == ("return value", "return other")
    assert kept.find(prefix + "return v", suffix) == ("alue",)
    assert kept.find(prefix + "return ", suffix, 2) == ("value", "other")
    assert kept.find(prefix + "return v", suffix, 2) is None
    assert kept.find(prefix + "raise", suffix) is None
    assert kept.find(prefix + "return value", suffix) is None  # nothing is left


def test_deleted_again() -> None:
    kept = Suggestions()
    kept.add(LONG + "ab", "\n", ("cd",))
    assert kept.find(LONG + "a", "\n") == ("bcd",)
    assert kept.find(LONG, "\n") == ("abcd",)
    assert kept.find(LONG[:-1], "\n") is None


def test_brackets_that_the_editor_closed() -> None:
    kept = Suggestions()
    kept.add("print", "\nx", ("(value)",))
    assert kept.find("print(", ")\nx") == ("value)",)
    assert kept.find("print(", "y\nx") is None


def test_another_place_with_the_same_line_gets_nothing() -> None:
    kept = Suggestions()
    kept.add("a = 1\nreturn ", "\nx\n", ("a",))
    assert kept.find("b = 1\nreturn ", "\nx\n") is None
    assert kept.find("a = 1\nreturn ", "\ny\n") is None
    kept.add(LONG + "q = ", "\n", ("1",))
    assert kept.find(LONG + "w = ", "\n") is None


def test_nothing_to_suggest_is_remembered_for_the_very_place() -> None:
    kept = Suggestions()
    kept.add("x = ", "", ())
    assert kept.find("x = ", "") == ()
    assert kept.find("x = 1", "") is None


def test_only_the_last_sets_are_kept() -> None:
    kept = Suggestions()
    for number in range(100):
        kept.add(f"{number} = ", "", ("x",))
    assert kept.find("3 = ", "") is None
    assert kept.find("99 = ", "") == ("x",)
    assert len(kept._sets) == 16


def test_acceptance_is_a_change_that_equals_a_suggestion() -> None:
    kept = Suggestions()
    kept.show("def f():\n    ", "\n", ("return value", "pass"))
    assert kept.accepted("r", "def f():\n    ") is None  # typed
    assert kept.accepted("return", "def g():\n    ") is None  # elsewhere
    assert kept.accepted("return", "def f():\n    ") == ("part", 6)
    assert kept.accepted("return value", "def f():\n    ") == ("all", 12)
    assert kept.accepted("return value", "def f():\n    ") is None  # once


def typed(delay: TypingDelay, interval: float) -> float:
    now = 0.0
    for _ in range(20):
        now += interval
        delay.key(now)
    return now


def test_the_delay_follows_the_typing() -> None:
    fast, slow = TypingDelay(), TypingDelay()
    now_fast, now_slow = typed(fast, 0.1), typed(slow, 0.4)
    assert fast.wait_s(now_fast, "a", work_s=0.2) == pytest.approx(0.05)
    assert fast.wait_s(now_fast, ".", work_s=0.2) == pytest.approx(0.025)
    assert slow.wait_s(now_slow, "a", work_s=0.2) == 0  # done before the next key
    assert slow.wait_s(now_slow, "a", work_s=0.6) == pytest.approx(0.08)  # the longest
    assert fast.wait_s(now_fast + 5, "a", work_s=0.2) == 0  # after a pause
    assert TypingDelay().wait_s(0.0, "a", work_s=9) == 0


def test_random_typing_never_gets_another_texts_suggestion() -> None:
    """An oracle on whole texts: the answer is what is left of a suggestion for this very text."""
    rng = random.Random(0)
    for _ in range(300):
        kept, made = Suggestions(), []
        text = "".join(rng.choices("ab\n(", k=rng.randrange(8)))
        for _ in range(20):
            at = rng.randrange(len(text) + 1)
            prefix, suffix = text[:at], text[at:]
            found = kept.find(prefix, suffix)
            if found is None:
                words = ("".join(rng.choices("ab(", k=4)),)
                kept.add(prefix, suffix, words)
                made.append((prefix, suffix, words))
            else:
                texts = {
                    old_prefix + word
                    for old_prefix, old_suffix, words in made
                    for word in words
                    if suffix.lstrip(")") == old_suffix.lstrip(")")
                }
                assert all(prefix + rest in texts for rest in found)
            text = (
                prefix + rng.choice("ab(") + suffix if rng.random() < 0.8 else prefix[:-1] + suffix
            )
