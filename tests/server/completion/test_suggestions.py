"""Typed as suggested, and delayed."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from codegen.server.completion.engine import DocumentSuggestions
from codegen.server.completion.requests import CompletionRequest, DocumentKey, Snippet
from codegen.server.context.document import TypingDelay

LONG = "".join(f"line {number} = {number}\n" for number in range(60))
KEY = DocumentKey("test", "", "a.py")


def ask(prefix: str, suffix: str = "", **more: object) -> CompletionRequest:
    return CompletionRequest(KEY, prefix, suffix, **more)  # type: ignore[arg-type]


def keep(
    kept: DocumentSuggestions, prefix: str, suffix: str, *texts: str, seen: int | None = None
) -> None:
    kept.add(ask(prefix, suffix), len(prefix) if seen is None else seen, texts)


@pytest.mark.parametrize("prefix", ["", "x", "def f():\n    ", LONG + "y = "])
@pytest.mark.parametrize("suffix", ["", "\n", "\nz = 1\n" + LONG])
def test_typed_as_suggested(prefix: str, suffix: str) -> None:
    kept = DocumentSuggestions()
    keep(kept, prefix, suffix, "return value", "return other")
    assert kept.find(ask(prefix, suffix)) == ("return value", "return other")
    assert kept.find(ask(prefix + "return v", suffix)) == ("alue",)
    assert kept.find(ask(prefix + "return ", suffix, candidates=2)) == ("value", "other")
    assert kept.find(ask(prefix + "return v", suffix, candidates=2)) is None
    assert kept.find(ask(prefix + "raise", suffix)) is None
    assert kept.find(ask(prefix + "return value", suffix)) is None  # nothing is left


@pytest.mark.parametrize("seen", [None, 600])
def test_one_character_changed_anywhere_the_model_looked(seen: int | None) -> None:
    """The call of a function whose signature changed far above is not suggested again."""
    prefix, suffix, typed = "def area(w, h): ...\n" + LONG + "area(", ")\n" + LONG, "1"
    kept = DocumentSuggestions()
    keep(kept, prefix, suffix, "1, 2", seen=seen)
    assert kept.find(ask(prefix + typed, suffix)) == (", 2",)
    first = len(prefix) - (len(prefix) if seen is None else seen)
    for at in range(len(prefix)):
        for changed in (prefix[:at] + "~" + prefix[at + 1 :], prefix[:at] + prefix[at + 1 :]):
            reused = kept.find(ask(changed + typed, suffix)) is not None
            assert reused == (at < first)
    for at in range(len(suffix)):
        assert kept.find(ask(prefix + typed, suffix[:at] + "~" + suffix[at + 1 :])) is None
    assert kept.find(ask(prefix + typed, suffix + "x = 1\n")) is None
    assert (kept.find(ask("x = 1\n" + prefix + typed, suffix)) is None) == (seen is None)


PARAMS = CompletionRequest(KEY, "").params
OTHER: list[tuple[str, Any]] = [
    ("suffix", "x"), ("language", "go"), ("path", "b.py"), ("snippets", (Snippet("b.py", "x"),)),
    ("snippet_share", 0.1), ("repository", "shop"),
    ("params", dataclasses.replace(PARAMS, max_new_tokens=7)),
    ("params", dataclasses.replace(PARAMS, temperature=0.5)),
    ("params", dataclasses.replace(PARAMS, top_p=0.5)),
    ("params", dataclasses.replace(PARAMS, seed=3)), ("stop", (";",)), ("multiline", "never"),
    ("max_lines", 3), ("deadline_s", 0.1), ("key", KEY._replace(client="other")),
    ("tokens", (1,)), ("patient", True), ("waits", False), ("prediction", "x = 1"), ("least", 0.5),
    ("min_probability", 0.5),
    ("hesitant", ((1, 0.5),)),
    ("top_k", 5), ("marks", ("<x>",)),
]  # fmt: skip
COUNTED_APART = {
    "prefix",
    "candidates",
    "settle",
    "enough",
    "follow",
}  # compared by other means, determined by the prefix, or of no concern


def test_other_options_are_asked_again() -> None:
    """Whatever a request has beside its prefix; a field that is new must be thought of here."""
    fields = {field.name for field in dataclasses.fields(CompletionRequest)}
    assert fields == {name for name, _ in OTHER} | COUNTED_APART
    assert {field.name for field in dataclasses.fields(PARAMS)} == {
        "max_new_tokens", "temperature", "top_p", "seed",
    }  # fmt: skip
    for name, value in OTHER:
        kept = DocumentSuggestions()
        keep(kept, "x = ", "", "value")
        assert kept.find(dataclasses.replace(ask("x = v"), **{name: value})) is None, name
    apart: dict[str, Any] = {"settle": False, "candidates": 1}
    for name, value in apart.items():
        kept = DocumentSuggestions()
        keep(kept, "x = ", "", "value")
        assert kept.find(dataclasses.replace(ask("x = v"), **{name: value})) == ("alue",)


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
    reused = 0
    for _ in range(300):
        kept, made = DocumentSuggestions(), []
        text = "".join(rng.choices("ab\n(", k=rng.randrange(8)))
        for _ in range(20):
            at = rng.randrange(len(text) + 1)
            prefix, suffix = text[:at], text[at:]
            found = kept.find(ask(prefix, suffix))
            if found is None:
                words = "".join(rng.choices("ab(", k=4))
                keep(kept, prefix, suffix, words)
                made.append((prefix, suffix, words))
            else:
                reused += 1
                texts = {old + words for old, behind, words in made if suffix == behind}
                assert all(prefix + rest in texts for rest in found)
            grows = rng.random() < 0.8
            text = prefix + rng.choice("ab(") + suffix if grows else prefix[:-1] + suffix
    assert reused > 100
