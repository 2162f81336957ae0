"""Encodes a batch's prompts: padded to one length, or packed if there would be much padding.

Packing puts several prompts into one row, so that prompts of unequal length need no padding.
Source: Zhao, Israel, Van den Broeck and Grover, *Prepacking: A Simple Method for Fast Prefilling
and Increased Throughput in Large Language Models* (arXiv 2404.09529). Positions restart with each
prompt and the mask is block-diagonal, so each prompt gets the same states as in a separate row.
Rows are filled by best-fit decreasing up to the longest prompt's length.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import CacheLayer, KVCache
from codegen.decoding.passes import StepProtocol, forward

# One pass has at most this many tokens, all rows together, to bound activation memory.
PASS_TOKENS = 8192
# Packing copies the states once more and needs a larger mask; it pays off only above this padding.
_WORTH_PACKING = 1.2


def prefill(
    model: PreTrainedModel,
    cache: KVCache,
    given: Sequence[list[int]],
    step: StepProtocol | None = None,
) -> None:
    """Encodes each row's tokens except the last, with the model or a step that encodes prompts."""
    if step is not None and step.read(given, cache):
        return
    lengths = [len(tokens) - 1 for tokens in given]
    if cache.recurrent:
        _by_length(model, cache, given)
    elif max(lengths) * len(given) > _WORTH_PACKING * sum(lengths):
        packed(model, cache, given, PASS_TOKENS)
    else:
        padded(model, cache, given)


def padded(model: PreTrainedModel, cache: KVCache, given: Sequence[list[int]]) -> None:
    """Encodes each row's tokens except the last, in blocks of columns.

    Short rows are padded on the right; the padding's slots are overwritten before they are read.
    """
    # Blocks bound the activations, and are exact under a causal mask.
    _columns(model, cache, given, max(1, PASS_TOKENS // len(given)))


def _columns(
    model: PreTrainedModel, cache: KVCache, given: Sequence[list[int]], block: int
) -> None:
    width = max(map(len, given)) - 1
    pad = given[0][0]
    ids = [tokens[:-1] + [pad] * (width - len(tokens) + 1) for tokens in given]
    tokens = torch.tensor(ids, device=model.device)
    for start in range(0, width, block):
        part = tokens[:, start : start + block]
        stop = start + part.shape[1]
        positions = torch.arange(start, stop, device=model.device).expand(len(given), -1)
        cache.place(positions, stop)
        forward(model, part, cache, cache.mask(), 1)


def _by_length(model: PreTrainedModel, cache: KVCache, given: Sequence[list[int]]) -> None:
    """Encodes rows of equal lengths together, each row in one pass.

    Padding would change the state of a recurrent layer, and some such layers cannot encode several
    tokens from a saved state.
    """
    # Longest first: one-token rows have no states and must join a longer row.
    order = sorted(range(len(given)), key=lambda number: -len(given[number]))
    start = 0
    while start < len(order):
        length = len(given[order[start]])
        most = start + max(1, PASS_TOKENS // length)
        rows = [number for number in order[start:most] if len(given[number]) == length]
        part = cache.fresh(cache.capacity) if start else cache
        _columns(model, part, [given[number] for number in rows], length)
        if start:
            cache.join(part, len(rows))
        start += len(rows)
    cache.select(torch.tensor(order, device=model.device).argsort())


@dataclass(frozen=True, slots=True)
class PackedPrompts:
    """Chunks of tokens laid out in rows.

    Attributes:
        tokens: int64 [R, C]; padding at the end of a row is 0.
        positions: int64 [R, C], from 0 in each chunk.
        pieces: each token's chunk number, int64 [R, C]; -1 for padding.
        places: row and first column of each chunk.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    pieces: torch.Tensor
    places: list[tuple[int, int]]

    @classmethod
    def of(cls, pieces: Sequence[Sequence[int]], device: torch.device) -> PackedPrompts:
        """Packs chunks into rows of the longest chunk's length.

        Empty chunks are in no row; their place is (0, 0).
        """
        lengths = [len(piece) for piece in pieces]
        filled = [i for i, length in enumerate(lengths) if length]
        width = max(lengths, default=0)
        rows = best_fit([lengths[i] for i in filled], width)
        width = max((sum(lengths[filled[i]] for i in row) for row in rows), default=0)
        tokens = torch.zeros(len(rows), width, dtype=torch.long)
        positions, owner = torch.zeros_like(tokens), torch.full_like(tokens, -1)
        places = [(0, 0)] * len(pieces)
        for number, row in enumerate(rows):
            column = 0
            for piece in (filled[i] for i in row):
                end = column + lengths[piece]
                tokens[number, column:end] = torch.tensor(pieces[piece])
                positions[number, column:end] = torch.arange(lengths[piece])
                owner[number, column:end] = piece
                places[piece] = (number, column)
                column = end
        return cls(tokens.to(device), positions.to(device), owner.to(device), places)

    def mask(self, start: int, stop: int) -> torch.Tensor:
        """Returns the attention mask of these columns: bool [R, 1, stop - start, stop].

        Padding attends to itself, since a row of the mask must not be empty.
        """
        width = self.tokens.shape[1]
        columns = torch.arange(width, device=self.tokens.device)
        causal = columns[:stop] <= columns[start:stop, None]
        same = self.pieces[:, start:stop, None] == self.pieces[:, None, :stop]
        return (same & causal)[:, None]


@torch.inference_mode()
def packed(
    model: PreTrainedModel, cache: KVCache, given: Sequence[Sequence[int]], block: int = 2048
) -> None:
    """Encodes each row's tokens except the last, several prompts in one row.

    Args:
        model: loaded with ``sdpa`` attention.
        cache: the rows' empty cache.
        given: the rows' tokens, at least one each.
        block: maximum tokens per forward pass, all rows together; bounds the activations.
    """
    pieces = [list(tokens[:-1]) for tokens in given]
    layout = PackedPrompts.of(pieces, model.device)
    rows, width = layout.tokens.shape
    if not width:
        return
    together = KVCache(cache.kinds, width)
    columns = torch.arange(width, device=model.device)
    for start in range(0, width, step := max(1, block // rows)):
        stop = min(width, start + step)
        slots, held = columns[start:stop].expand(rows, -1), layout.positions[:, :stop]
        together.place(slots, stop, layout.positions[:, start:stop], held)
        forward(model, layout.tokens[:, start:stop], together, layout.mask(start, stop), 1)
    most = max(map(len, pieces))
    # The slots of a row's k-th token; those after a short row's last token are never read.
    row = torch.tensor([place[0] for place in layout.places], device=model.device)
    column = torch.tensor([place[1] for place in layout.places], device=model.device)
    source = (column[:, None] + columns[:most]).clamp(max=width - 1)
    target = columns[:most].expand(len(given), -1)
    cache.place(target, most)
    for layer, packed_layer in zip(cache.layers, together.layers, strict=True):
        assert isinstance(layer, CacheLayer) and isinstance(packed_layer, CacheLayer)
        states = packed_layer.states
        rows_of, slots_of = (part.to(states[0].device) for part in (row, source))
        keys, values = (part[rows_of[:, None], :, slots_of].transpose(1, 2) for part in states)
        layer.update(keys, values)


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Returns rows of item numbers whose lengths sum to at most ``capacity``; splits no item.

    Best-fit decreasing: the longest item comes first, and each is added to the fullest row with
    enough room (11/9 OPT + 6/9 rows at most, Dosa 2007). A longer item gets a separate row. The
    result depends only on the lengths; ties: the lower number first.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free space, row), sorted
    for item in order:
        place = bisect_left(room, (lengths[item], -1))
        if place == len(room):
            free, row = capacity, len(rows)
            rows.append([])
        else:
            free, row = room.pop(place)
        rows[row].append(item)
        insort(room, (free - lengths[item], row))
    return rows
