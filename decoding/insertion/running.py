"""The state of decoding: the unfinished texts of a batch, and what became of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from codegen.decoding.insertion.base import Filled
from codegen.decoding.insertion.text import BODY, Batch


class Running:
    """Texts leave the batch when they are finished.

    Attributes:
        batch: B unfinished texts.
        rows: their numbers.
        given: bool [B, S], the tokens that stood there from the start.
        steps: forward passes so far.
    """

    def __init__(self, batch: Batch, rngs: Sequence[np.random.Generator]) -> None:
        self.batch, self.rngs = batch, list(rngs)
        self.rows = list(range(len(self.rngs)))
        self.given = batch.attention_mask
        self.steps = 0
        self._start = batch.lengths
        self._filled: dict[int, Filled] = {}

    @property
    def written(self) -> Tensor:
        """int64 [B], tokens inserted so far."""
        return self.batch.lengths - self._start

    def uniforms(self, count: int) -> Tensor:
        """float64 [count, B, S] in [0, 1): a row's depend on nothing but the row."""
        batch, width = self.batch.input_ids.shape
        out = np.ones((count, batch, width))
        for row, (rng, length) in enumerate(
            zip(self.rngs, self.batch.lengths.tolist(), strict=True)
        ):
            out[:, row, :length] = rng.random((count, length))
        return torch.from_numpy(out).to(self.batch.input_ids.device)

    def insert(self, where: Tensor, tokens: Tensor) -> None:
        """Inserts tokens right after the marked ones; see :meth:`Batch.insert`."""
        given = replace(self.batch, input_ids=self.given.long())
        self.given = given.insert(where, torch.zeros_like(tokens)).input_ids.bool()
        self.batch = self.batch.insert(where, tokens)

    def finish(self, done: Tensor, *, finished: bool) -> None:
        """Takes texts out of the batch: bool [B]."""
        if not bool(done.any()):
            return
        inside = self.batch.attention_mask & (self.batch.kinds == BODY)
        for row in done.nonzero()[:, 0].tolist():
            keep = inside[row]
            self._filled[self.rows[row]] = Filled(
                self.batch.input_ids[row][keep].tolist(),
                self.given[row][keep].tolist(),
                self.steps,
                finished,
            )
        left = (~done).nonzero()[:, 0].tolist()
        self.rows = [self.rows[row] for row in left]
        self.rngs = [self.rngs[row] for row in left]
        self.batch, self._start = self.batch.take(~done), self._start[~done]
        self.given = self.given[~done, : self.batch.input_ids.shape[1]]

    def results(self) -> list[Filled]:
        """All texts, in their first order."""
        return [self._filled[number] for number in range(len(self._filled))]
