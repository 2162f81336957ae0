"""A rule beside a list of tokens that something else writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codegen.decoding.rpg.methods import Method
from codegen.decoding.rpg.rules import Penalty, push_all

_MOST_BACK = 64  # tokens that may be taken back without the text being read again


class Follower:
    """A rule that follows a list of tokens which grows, and from which tokens may be taken back.

    Args:
        method: makes the rule.
        prompt: the tokens before the list.
    """

    def __init__(self, method: Method, prompt: Sequence[int]) -> None:
        self._method, self._prompt = method, prompt
        self._start()

    def _start(self) -> None:
        self._rule = self._method.rule()
        push_all(self._rule, self._prompt)
        self._seen: list[int] = []
        self._before: list[Any] = []  # states before the last of the seen tokens

    def penalties(self, tokens: Sequence[int]) -> Sequence[Penalty]:
        """The penalties after these tokens."""
        seen = self._seen
        if seen != tokens[: len(seen)]:
            self._go_back(_common(seen, tokens))
        for token in tokens[len(self._seen) :]:
            self._before.append(self._rule.snapshot())
            del self._before[:-_MOST_BACK]
            self._rule.push(token)
            self._seen.append(token)
        return self._rule.penalties()

    def _go_back(self, length: int) -> None:
        back = len(self._seen) - length
        if back > len(self._before):
            self._start()
            return
        self._rule.restore(self._before[-back])
        del self._before[-back:], self._seen[length:]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the beginning that two lists share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
