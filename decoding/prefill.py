"""A batch's prompts into its cache: padded to one length, or packed where padding is much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from codegen.decoding import prepack
from codegen.decoding.cache import RowCache
from codegen.decoding.passes import forward

# One pass holds at most this many tokens, all rows together, to bound activation memory.
PASS_TOKENS = 8192
# Packing copies the states once more and has a mask of its own; below this much padding it does
# not pay.
_WORTH_PACKING = 1.2


def prefill(model: PreTrainedModel, cache: RowCache, given: Sequence[list[int]]) -> None:
    """Encodes each row's tokens but for the last."""
    lengths = [len(tokens) - 1 for tokens in given]
    if max(lengths) * len(given) > _WORTH_PACKING * sum(lengths):
        prepack.prefill(model, cache, given, PASS_TOKENS)
    else:
        padded(model, cache, given)


def padded(model: PreTrainedModel, cache: RowCache, given: Sequence[list[int]]) -> None:
    """Encodes each row's tokens but for the last, column by column.

    Short rows are padded on the right. The padding's states land in slots that the row overwrites
    before any of its queries may see them.
    """
    width = max(map(len, given)) - 1
    if width == 0:
        return
    # Columns are encoded in blocks, which is exact under a causal mask and bounds the activations.
    block = max(1, PASS_TOKENS // len(given))
    pad = given[0][0]
    ids = [tokens[:-1] + [pad] * (width - len(tokens) + 1) for tokens in given]
    tokens = torch.tensor(ids, device=model.device)
    for start in range(0, width, block):
        part = tokens[:, start : start + block]
        stop = start + part.shape[1]
        positions = torch.arange(start, stop, device=model.device).expand(len(given), -1)
        cache.place(positions, stop)
        forward(model, part, cache, cache.mask(), 1)
