"""The confidence ladder: a token is drafted by the first exit that is sure of it.

A token that left at an early exit has no states in the layers behind it. Its hidden state waits
there; when a later token goes deeper, all that wait go with it, in order and at their own
positions, so that every layer's states are those of the full model, whatever exits were taken
(arXiv 2407.01955, section 3.3). So layers hold prefixes of different lengths, deeper ones shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from codegen.decoding.cache import RowCache
from codegen.decoding.s2d.nested import Nested

_BLOCK = 1024  # tokens of one pass through a stage
_ROOM = 256  # slots to begin with


class Step(NamedTuple):
    """A drafted token.

    Attributes:
        token: the most probable one at its exit.
        probability: that exit's.
        exit: the number of the exit, from 0.
    """

    token: int
    probability: float
    exit: int


class Ladder:
    """One row's tokens on a nested model.

    Args:
        nested: the model.
        thresholds: an exit whose largest probability is above its threshold is taken; the last exit
            has none.

    Attributes:
        tokens: of the row.
        filled: for each stage, how many of them its layers hold.
        ran: for each stage, how many tokens it has encoded, again after cuts among them.
    """

    def __init__(self, nested: Nested, thresholds: Sequence[float]) -> None:
        if len(thresholds) != len(nested.exits) - 1:
            raise ValueError(f"{len(nested.exits)} exits have {len(nested.exits) - 1} thresholds")
        self.nested, self.thresholds = nested, tuple(thresholds)
        self.tokens: list[int] = []
        self.filled = [0] * len(nested.exits)
        self.ran = [0] * len(nested.exits)
        self.cache = RowCache(nested.layers, _ROOM)
        # Behind each stage but the last, the hidden states [1, N, D] that the next one lacks: those
        # of tokens filled[stage + 1] .. filled[stage] - 1.
        self._waiting: list[list[torch.Tensor]] = [[] for _ in nested.exits[:-1]]

    def extend(self, tokens: Sequence[int]) -> None:
        """The row grows; nothing is computed yet."""
        self.tokens += tokens

    def cut(self, length: int) -> None:
        """Takes the row back to its first ``length`` tokens, in all layers and in what waits."""
        del self.tokens[length:]
        for stage, waiting in enumerate(self._waiting):
            kept = min(self.filled[stage], length) - self.filled[stage + 1]
            if waiting:
                states = torch.cat(waiting, 1)[:, : max(kept, 0)]
                self._waiting[stage] = [states] if kept > 0 else []
        self.filled = [min(filled, length) for filled in self.filled]

    @torch.inference_mode()
    def next(self) -> Step:
        """The token that follows, by the first exit that is sure; the row is not extended.

        Raises:
            ValueError: if no token was added since the last call.
        """
        if self.filled[0] == len(self.tokens):
            raise ValueError("the newest token is encoded already: add one, or cut it off first")
        self.cache.reserve(len(self.tokens))
        found: Step | None = None
        for stage in range(len(self.filled)):
            logits = self.nested.logits(self._climb(stage)).float()
            probability, token = torch.softmax(logits, -1).max(-1)
            found = Step(int(token), float(probability), stage)
            if stage < len(self.thresholds) and found.probability > self.thresholds[stage]:
                break
        assert found is not None
        return found

    def _climb(self, stage: int) -> torch.Tensor:
        """Takes all that waits through a stage; the newest token's hidden state [D] behind it."""
        filled, end = self.filled[stage], len(self.tokens)
        if stage:
            given = torch.cat(self._waiting[stage - 1], 1)
            self._waiting[stage - 1] = []
        else:
            given = self.nested.embed(self.tokens[filled:])
        parts = [
            self.nested.run(stage, part, self.cache, filled + _BLOCK * number)
            for number, part in enumerate(given.split(_BLOCK, 1))
        ]
        self.filled[stage] = end
        self.ran[stage] += end - filled
        if stage < len(self._waiting):
            self._waiting[stage] += parts
        return parts[-1][0, -1]
