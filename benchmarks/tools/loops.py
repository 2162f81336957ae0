"""Typical loops of models, from ``data/loops.yaml``, and the copies until a rule stops them.

Each family has two versions: ``counted``, where the new part counts up (``key_7``, then
``key_8``), and ``worded``, where every copy has a new word. Real programs may contain a few copies
of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from codegen.decoding.rpg.penalties import Penalty, Rule

WORDS = ("apple", "river", "stone", "cloud", "tiger", "piano", "maple", "ocean", "candle", "rocket",
         "garden", "silver", "window", "basket", "forest", "bridge")  # fmt: skip
_FILE = Path(__file__).resolve().parents[1] / "data" / "loops.yaml"
_LOGIT = 20.0  # added to the token that continues a loop, since some rules multiply logits
_STOPS = 4.0  # nats; the penalties below grow up to 8
_MOST = 24  # copies


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop's name, language, head, and its copies."""

    name: str
    language: str
    block: bool  # True if a copy has several statements
    counted: bool
    head: str
    copies: tuple[str, ...]


def loops() -> list[Loop]:
    """Returns all families, counted and worded."""
    families = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return [_loop(family, counted) for family in families for counted in (True, False)]


def _loop(family: Mapping[str, Any], counted: bool) -> Loop:
    copies = []
    for i in range(1, _MOST + 2):
        word, number = (f"item_{i}", i) if counted else (WORDS[i % len(WORDS)], i * i % 97)
        numbers = {"number": number, "next": number + 1, "twice": 2 * number}
        words = {"word": word, "upper": word.upper(), "title": word.title()}
        copies.append(family["copy"].format(**words, **numbers))
    return Loop(
        f"{family['name']}, {'counted' if counted else 'worded'}",
        family["language"],
        family["block"],
        counted,
        family["head"],
        tuple(copies),
    )


def stopped_after(
    rule: Rule, loop: Loop, encode: Callable[[str], list[int]], tokens: Sequence[bytes | None]
) -> int | None:
    """Returns the number of copies after which the rule lowers the next copy by 4 nats, or None."""
    ids = encode(loop.head + "".join(loop.copies))
    ends = [len(loop.head)]
    for copy in loop.copies:
        ends.append(ends[-1] + len(copy.encode()))
    at = 0
    for token in ids:
        text = tokens[token] or b""
        first = at + len(text) - len(text.lstrip())
        copy = next((n for n, end in enumerate(ends) if end > first), len(ends)) - 1
        begun = ends[copy] if copy >= 0 else 0
        body = loop.copies[copy] if 0 <= copy < len(loop.copies) else ""
        begun += len(body) - len(body.lstrip())
        begins = text.strip() and copy > 0 and at <= begun <= first
        if begins and _taken(rule.penalties(), token) >= _STOPS:
            return copy
        rule.push(token)
        at += len(text)
    return None


def _taken(penalties: Sequence[Penalty], token: int) -> float:
    """Returns the reduction of a token's logit of 20, in nats."""
    logit = _LOGIT
    for penalty in penalties:
        if token in penalty.ids:
            logit = logit + penalty.amount if penalty.kind == "add" else logit * penalty.amount
    return _LOGIT - logit
