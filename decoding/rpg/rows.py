"""Rules for the rows of ``codegen.decoding.loop``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from codegen.decoding.loop import Row
from codegen.decoding.rpg.follower import Follower
from codegen.decoding.rpg.methods import Method
from codegen.decoding.rpg.rules import Penalty, apply


class RowPenalties:
    """Changes the logits of a batch of rows; give it to ``decode`` as ``adjust``.

    Args:
        method: the rule of every row.
        rows: the rows that will be decoded. Their prompts are read at the first step.
    """

    def __init__(self, method: Method, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._followers: list[Follower | None] = [None] * len(rows)
        self._method = method

    def __call__(self, logits: torch.Tensor, batch: Sequence[int]) -> torch.Tensor:
        """Logits [B, V] of the rows with the numbers ``batch``; they are changed in place."""
        apply(logits, [self._penalties(number) for number in batch])
        return logits

    def _penalties(self, number: int) -> Sequence[Penalty]:
        row, follower = self._rows[number], self._followers[number]
        if row.finish:
            return ()
        if follower is None:
            follower = self._followers[number] = Follower(self._method, row.prompt)
        return follower.penalties(row.tokens)
