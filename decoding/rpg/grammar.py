"""RPG: penalties on tokens that would begin one more copy of a structure that repeats.

Dong et al. 2025, "Rethinking Repetition Problems of LLMs in Code Generation" (RPG, arXiv
2505.10402). Two modes share the trackers of ``structure`` and ``lags``; the third, ``reference``,
is in the module of that name.

``paper``: where the statements so far end in k >= 2 copies of a block, the logit z of the tokens
that begin the block becomes z * decay^k (z / decay^k if z < 0), decay 0.9; a cycle of k >= 2 copies
of the same tokens does the same to the token that would go on with it.

``ours``: human code repeats structure too (import lists, tables, asserts), so a penalty waits.
A copy counts by how little it says (``novelty``), and e is what they count together. Once e reaches
k_min, z falls by

    min(cap, strength * (1 + growth * (e - k_min)))

and the ways out, the end of the sequence or the closing bracket, rise by ``bonus`` times as much.
Cycles of the same tokens count whole, in and outside of strings.

Limits: only boundaries that tokens respect are seen, see ``structure``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from codegen.decoding.rpg.critical import CriticalTokens
from codegen.decoding.rpg.lags import TokenLags
from codegen.decoding.rpg.languages import find_language
from codegen.decoding.rpg.options import RpgOptions
from codegen.decoding.rpg.rules import Penalty
from codegen.decoding.rpg.structure import Repetition, StructureTracker

# A cycle of few tokens is no loop before it is this long: 0, 0, 0, 0 and ====.
_LEAST_CYCLE = 24


class GrammarRule:
    """RPG's modes ``ours`` and ``paper`` for one row; see :class:`codegen.decoding.rpg.rules.Rule`.

    Args:
        options: the settings.
        critical: the vocabulary; share one between rows.
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
        """Takes the next token. Special tokens have no text, and an unknown id none either."""
        tokens = self.critical.tokens
        data = tokens[token] if 0 <= token < len(tokens) else None
        if data:
            self._structure.feed(data)
        self._cycle = self._cycle.pushed(token)

    def penalties(self) -> list[Penalty]:
        """What to change for the next token."""
        return self._ours() if self.options.mode == "ours" else self._paper()

    def snapshot(self) -> tuple[Any, ...]:
        """The state, a value."""
        return self._structure.snapshot(), self._cycle

    def restore(self, state: tuple[Any, ...]) -> None:
        """Goes to a state of this rule or of one like it."""
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
