"""Backspaces: a model that takes its own tokens back (SequenceMatch, arXiv 2306.05426).

The row's cursor goes back with the token, so what was taken back costs no room. The token is never
chosen where only the prompt is left.
"""

from __future__ import annotations

import torch

from codegen.decoding.loop import Batch, Strategy


class Backspace(Strategy):
    """Plain decoding with a token that takes the last one back.

    Args:
        token: its id.
    """

    forgets = False

    def __init__(self, token: int) -> None:
        self.backspace = token

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        """See :class:`Strategy`."""
        for i, number in enumerate(batch.numbers):
            if not batch.rows[number].tokens:
                logits[i, self.backspace] = -torch.inf
