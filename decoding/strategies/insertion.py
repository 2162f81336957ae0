"""The strategy that fills gaps with insertion models (``codegen.decoding.insertion``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from codegen.decoding.insertion import Filled, FillingModel, FillOptions, Text
from codegen.decoding.loop import Batch, Row, Strategy
from codegen.decoding.passes import Passes
from codegen.decoding.rows import CachedRows
from codegen.errors import ModelError


@dataclass
class GapRow(Row):
    """A row that is a text with open slots; ``prompt`` is its prefix and body.

    Attributes:
        text: the prefix, the body so far, and where something may be inserted.
        filled: the finished text; ``tokens`` is its body.
    """

    text: Text = field(default_factory=lambda: Text([]))
    filled: Filled | None = None

    @classmethod
    def of(cls, text: Text) -> GapRow:
        """The row of a text."""
        return cls([*text.prefix, *text.body], (), text=text)


class Insertion(Strategy):
    """Fills :class:`GapRow` objects together, each with randomness of its own.

    Args:
        options: how gaps are filled; token limit, temperature and top-p come from the batch.
        rngs: one generator per row.
    """

    forgets = False

    def __init__(self, options: FillOptions, rngs: Sequence[np.random.Generator]) -> None:
        self.options, self.rngs = options, rngs

    def rounds(self, batch: Batch) -> Passes[None]:
        """See :class:`Strategy`; the model runs its own passes.

        Raises:
            ModelError: if the model writes from left to right.
        """
        assert isinstance(batch.sequences, CachedRows)
        model = batch.sequences.model
        if not isinstance(model, FillingModel):
            raise ModelError(
                f"{type(model).__name__} writes from left to right; it is not an insertion model.",
                "Choose another decoder, or a model trained for insertion.",
            )
        options = replace(
            self.options,
            max_new_tokens=batch.most,
            temperature=batch.temperature,
            top_p=batch.top_p,
        )
        rows = [row for row in batch.rows if isinstance(row, GapRow)]
        filled = model.fill([row.text for row in rows], options, self.rngs)
        for row, found in zip(rows, filled, strict=True):
            row.filled, row.tokens = found, found.body
            row.finish = "eos" if found.finished else "length"
        yield from ()
