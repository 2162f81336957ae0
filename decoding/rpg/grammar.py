"""RPG: penalties on tokens that would begin one more copy of a structure that repeats.

Dong et al. 2025, "Rethinking Repetition Problems of LLMs in Code Generation" (RPG, arXiv
2505.10402). Two modes share the trackers of ``structure`` and ``repetition``; the third is in the
module ``reference``.

``paper``: if the statements so far end in k >= 2 copies of a block, the logit z of tokens that
begin the block becomes z * decay^k (z / decay^k if z < 0), with decay 0.9. After a cycle of k >= 2
copies of the same tokens, the token that would continue it gets the same penalty.

``ours``: human code repeats structure too (import lists, tables, asserts), so the penalty comes
later. Each copy has a weight: the less it adds, the larger (``repetition``). Let e be the sum of
the weights. Once e reaches k_min, z is lowered by

    min(cap, strength * (1 + growth * (e - k_min)))

and the ways out, the end of the sequence or the closing bracket, are raised by ``bonus`` times as
much. Copies in cycles of the same tokens have weight 1, in strings and outside.

Limits: see ``structure``; a boundary inside a token is not seen.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from codegen.decoding.rpg.languages import find_language
from codegen.decoding.rpg.options import RpgOptions
from codegen.decoding.rpg.repetition import TokenLags
from codegen.decoding.rpg.rules import Penalty
from codegen.decoding.rpg.structure import Repetition, StructureTracker

# Shorter cycles of tokens are not penalized: 0, 0, 0, 0 and ====.
_LEAST_CYCLE = 24
_SPACES = b" \t\r\n\f\v"
_NAME_BYTES = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$" + bytes(range(128, 256))
)
_MOST_KEPT = 1 << 14
_NO_IDS = np.empty(0, dtype=np.int64)


class CriticalTokens:
    """The token ids that would begin a given text: the critical tokens of a repetition.

    Many tokens can begin a text: ``elif`` after two of four columns can begin with ``"  elif"``,
    ``"  el"`` and others. They are looked up in a sorted table of the vocabulary, built once per
    tokenizer; results are cached, as the same keywords recur.

    Args:
        tokens: bytes of each token id, None for special and unused ids
            (``codegen.decoding.healing.Vocabulary.tokens``).
    """

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        self.tokens = tokens
        self._found: dict[tuple[bytes, bytes | None], np.ndarray] = {}

    @cached_property
    def _tables(self) -> dict[bytes | None, tuple[list[bytes], list[int]]]:
        """Sorted bodies (tokens without leading white space) with their ids, by that white space.

        All bodies are under None.
        """
        rows: dict[bytes | None, list[tuple[bytes, int]]] = {None: []}
        for index, token in enumerate(self.tokens):
            body = (token or b"").lstrip(_SPACES)
            if token and body:
                space = token[: len(token) - len(body)]
                rows.setdefault(space, []).append((body, index))
                rows[None].append((body, index))
        tables = {}
        for space, found in rows.items():
            found.sort()
            tables[space] = [body for body, _ in found], [index for _, index in found]
        return tables

    def beginning(self, text: bytes, margin: bytes | None) -> np.ndarray:
        """Ids of the tokens that begin ``margin`` followed by ``text``, int64, sorted.

        A token counts if it has the margin and then either a beginning of the text or all of it. If
        the text ends in a letter of a name, no other such letter may follow (``printer`` does not
        begin ``print``). Tokens of white space only do not count.

        Args:
            text: what comes next, not empty.
            margin: white space before it; None for any.
        """
        key = text, margin
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_KEPT:
                self._found.clear()
            found = self._found[key] = self._look_up(text, margin)
        return found

    def _look_up(self, text: bytes, margin: bytes | None) -> np.ndarray:
        if not text or margin not in self._tables:
            return _NO_IDS
        bodies, ids = self._tables[margin]
        found = []
        for length in range(1, len(text)):
            at = bisect_left(bodies, text[:length])
            if at == len(bodies) or not bodies[at].startswith(text[:length]):
                break  # no token has this beginning, so none has a longer one
            while at < len(bodies) and bodies[at] == text[:length]:
                found.append(ids[at])
                at += 1
        at = bisect_left(bodies, text)
        whole = text[-1] in _NAME_BYTES
        while at < len(bodies) and bodies[at].startswith(text):
            rest = bodies[at][len(text) :]
            if not (whole and rest and rest[0] in _NAME_BYTES):
                found.append(ids[at])
            at += 1
        return np.array(sorted(found), dtype=np.int64)


class GrammarRule:
    """RPG's modes ``ours`` and ``paper`` for one row (:class:`codegen.decoding.rpg.rules.Rule`).

    Args:
        options: the settings.
        critical: the vocabulary's lookup, shared by all rows.
        eos: ids that end the sequence.
    """

    __slots__ = ("_cycle", "_eos", "_structure", "critical", "options")

    def __init__(
        self, options: RpgOptions, critical: CriticalTokens, eos: Iterable[int] = ()
    ) -> None:
        self.options = options
        self.critical = critical
        self._eos = np.array(sorted(eos), dtype=np.int64)
        self._structure = StructureTracker(find_language(options.language), options.period)
        self._cycle = TokenLags.empty(options.tokens)

    def push(self, token: int) -> None:
        """Takes the next token; special tokens and unknown ids have no text."""
        tokens = self.critical.tokens
        data = tokens[token] if 0 <= token < len(tokens) else None
        if data:
            self._structure.feed(data)
        self._cycle = self._cycle.pushed(token)

    def penalties(self) -> list[Penalty]:
        """What to change for the next token."""
        return self._ours() if self.options.mode == "ours" else self._paper()

    def snapshot(self) -> tuple[Any, ...]:
        """The state, an immutable value."""
        return self._structure.snapshot(), self._cycle

    def restore(self, state: tuple[Any, ...]) -> None:
        """Restores a state of this rule or of one with the same arguments."""
        structure, self._cycle = state
        self._structure.restore(structure)

    def fork(self) -> GrammarRule:
        """A second rule in this state."""
        other = GrammarRule(self.options, self.critical)
        other._eos = self._eos
        other.restore(self.snapshot())
        return other

    def _paper(self) -> list[Penalty]:
        found = []
        if repetition := self._structure.repetition():
            amount = self.options.decay**repetition.square.copies
            found.append(Penalty(self._beginnings(repetition), amount, "scale"))
        if square := self._cycle.square():
            expected = np.array([self._cycle.expected(square.period)])
            found.append(Penalty(expected, self.options.decay**square.copies, "scale"))
        return found

    def _ours(self) -> list[Penalty]:
        down: list[Penalty] = []
        up: list[Penalty] = []
        repetition = self._structure.repetition()
        if repetition and repetition.square.copies >= self.options.k_min:
            size = self._size(self._structure.weight(repetition.square))
            if size:
                down.append(Penalty(self._beginnings(repetition), -size))
                up.append(Penalty(self._ways_out(repetition), size * self.options.bonus))
        square = self._cycle.square()
        if square and square.run % square.period == 0 and square.run >= _LEAST_CYCLE:
            size = self._size(square.copies)
            if size:
                down.append(Penalty(np.array([self._cycle.expected(square.period)]), -size))
                up.append(Penalty(self._eos, size * self.options.bonus))
        return down + (up[:1] if self.options.bonus else [])

    def _size(self, copies: float) -> float:
        options = self.options
        if copies < options.k_min:
            return 0.0
        return min(options.cap, options.strength * (1 + options.growth * (copies - options.k_min)))

    def _beginnings(self, repetition: Repetition) -> np.ndarray:
        look_up, margin = self.critical.beginning, repetition.margin
        ids = [look_up(anchor, margin) for anchor in repetition.anchors if anchor]
        if len(ids) == 1:
            return ids[0]
        return np.unique(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int64)

    def _ways_out(self, repetition: Repetition) -> np.ndarray:
        if not repetition.bracketed:
            return self._eos
        closer = self._structure.closer
        return self.critical.beginning(closer, None) if closer else self._eos
