"""Attention masks of packed rows, described by one integer per slot.

Slot k of a row has a token, a position id and ``end[k]``. Query q attends to key k if and only if
``k <= q < end[k]``. This array expresses

- *packing*: several documents in a row that do not attend to each other;
- *chunks* (Mixture-of-Instructions, arXiv 2404.18410): groups whose members attend to each other;
- *backspaces* (SequenceMatch, arXiv 2306.05426): a removed token is visible to tokens written
  before the removal, but not after it (:mod:`codegen.methods.backspace`);

and combinations of these (:func:`joined`). :func:`mask_inputs` turns a batch of rows into

- a plain padding mask, where every row is one causal document;
- *blocks*, where every row consists of causal blocks that do not attend to each other (packing,
  chunks): each block is computed alone, so the cost is the sum of the squared block lengths instead
  of the squared row length. On a CUDA device in half precision one variable-length kernel computes
  all blocks (:func:`torch.nn.attention.varlen.varlen_attn`); elsewhere each block is one SDPA call;
- a dense boolean mask for SDPA, on any device.

``auto`` uses the first applicable form; ``dense`` never uses blocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.finetune.recipe import Attention

if TYPE_CHECKING:
    import torch

    from codegen.methods.backspace import StackLayout

OPEN = 1 << 40  # `end` of a slot that is visible to all later queries of the row
_BLOCKWISE = "codegen_blockwise"  # the implementation's name in transformers


@dataclass(frozen=True, slots=True, eq=False)
class RowLayout:
    """The attention pattern of a row of S slots.

    Attributes:
        end: int64 [S]; queries ``k <= q < end[k]`` attend to slot k; ``OPEN``: all later queries.
        positions: position ids, int64 [S].
    """

    end: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    @property
    def is_causal(self) -> bool:
        """Whether all earlier slots are visible to every slot and positions start at 0."""
        count = np.arange(len(self))
        return bool((self.end >= len(self)).all() and (self.positions == count).all())

    @property
    def depth(self) -> int:
        """Number of tokens that remain at the end of the row."""
        return int((self.end == OPEN).sum())


def causal(length: int) -> RowLayout:
    """Returns the layout of one document of ``length`` tokens."""
    return RowLayout(np.full(length, OPEN), np.arange(length))


def from_stack(stack: StackLayout) -> RowLayout:
    """Returns the layout of a trajectory with backspaces."""
    end, positions = np.array(stack.end), np.array(stack.positions)
    # Tokens removed by the last actions are deeper than the last state.
    left = (end == len(end)) & (positions <= stack.positions[stack.nodes[-1]])
    return RowLayout(np.where(left, OPEN, end), positions)


def joined(parts: Sequence[RowLayout], *, isolated: bool) -> RowLayout:
    """Concatenates parts into one row.

    Args:
        parts: layouts in row order, at least one.
        isolated: the parts do not attend to each other, and positions restart in each. Otherwise a
            part attends to the remaining tokens of the earlier parts and continues their positions.
    """
    ends, positions, start, depth = [], [], 0, 0
    for part in parts:
        stop = start + len(part)
        end = np.where(part.end == OPEN, OPEN, part.end + start)
        ends.append(np.minimum(end, stop) if isolated else end)
        positions.append(part.positions + depth)
        start = stop
        depth += 0 if isolated else part.depth
    return RowLayout(np.concatenate(ends), np.concatenate(positions))


def padded(layout: RowLayout, width: int) -> RowLayout:
    """Closes a row and pads it to ``width`` slots; a padding slot attends only to itself."""
    length = len(layout)
    fill = np.arange(length, width)
    return RowLayout(
        np.concatenate([np.minimum(layout.end, length), fill + 1]),
        np.concatenate([layout.positions, np.zeros(width - length, np.int64)]),
    )


def cumulative_lengths(layout: RowLayout) -> list[int] | None:
    """Returns the borders [0, ..., S] of a row's blocks (variable-length kernels' ``cu_seqlens``).

    None unless the row consists of causal blocks that do not attend to each other.
    """
    borders, end = [0], np.minimum(layout.end, len(layout))
    while borders[-1] < len(layout):
        start = borders[-1]
        stop = int(end[start])
        if not (end[start:stop] == stop).all():
            return None
        borders.append(stop)
    return borders


@dataclass(slots=True)
class Blocks:
    """The causal blocks of B rows of S slots.

    Attributes:
        borders: block borders [0, ..., S] of each row.
        calls: the number of layers that used them.
    """

    borders: list[list[int]]
    calls: int = 0
    _joined: dict[torch.device, tuple[torch.Tensor, int]] = field(default_factory=dict)

    def cumulative(self, device: torch.device) -> tuple[torch.Tensor, int]:
        """Returns ``cu_seqlens`` (int32 [N + 1]) of concatenated rows, and the longest block."""
        import torch

        if device not in self._joined:
            lengths = [stop - start for row in self.borders for start, stop in pairwise(row)]
            joined = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
            self._joined[device] = joined, max(lengths)
        return self._joined[device]


def mask_inputs(
    layouts: Sequence[RowLayout],
    closed: Sequence[RowLayout],
    attention: Attention = "dense",
) -> dict[str, Any]:
    """Returns the keyword arguments that make a transformers model attend by the layouts.

    Args:
        closed: the same layouts, padded to one width.
        attention: the backend; it must be active (:func:`attending`) when the model is called.
    """
    import torch

    if all(layout.is_causal for layout in layouts):
        # The model's own causal mask is sufficient and cheaper.
        slots = np.arange(len(closed[0]))
        rows = [slots < len(layout) for layout in layouts]
        return {"attention_mask": torch.from_numpy(np.stack(rows).astype(np.int64))}
    if attention == "auto":
        borders = [cumulative_lengths(layout) for layout in layouts]
        if all(borders):
            # Padding is a block too. A 4D mask keeps the model from building its own.
            width, unused = len(closed[0]), torch.ones(1, 1, 1, 1, dtype=torch.bool)
            whole = [[*b, *([width] if b[-1] < width else [])] for b in borders if b]
            return {"attention_mask": unused, "blocks": Blocks(whole)}
    end = torch.from_numpy(np.stack([layout.end for layout in closed]))
    return {"attention_mask": dense_mask(end)}


def dense_mask(end: torch.Tensor) -> torch.Tensor:
    """Returns transformers' 4D mask: bool [B, 1, S, S], query by key, true where visible.

    Args:
        end: int64 [B, S].
    """
    import torch

    slots = torch.arange(end.shape[1], device=end.device)
    seen = (slots <= slots[:, None]) & (slots[:, None] < end[:, None, :])  # [B, S, S]
    return seen[:, None]


@contextmanager
def attending(model: Any, attention: Attention) -> Iterator[None]:
    """Context manager that sets a model's attention backend; ``dense`` changes nothing."""
    if attention == "dense":
        yield
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    before = model.config._attn_implementation
    AttentionInterface.register(_BLOCKWISE, _blockwise)
    AttentionMaskInterface.register(_BLOCKWISE, sdpa_mask)
    model.set_attn_implementation(_BLOCKWISE)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def check(model: Any, attention: Attention) -> Attention:
    """Returns the attention backend that a model can be trained with.

    Encodes two short blocks with it and with a dense mask. ``auto`` becomes ``dense`` for a model
    that drops extra attention arguments, and, with a warning, if the logits differ.
    """
    import torch

    from codegen.decoding.passes import logits_agree

    if attention == "dense":
        return attention
    rows = [joined([causal(1), causal(2)], isolated=True)]
    given, plain = mask_inputs(rows, rows, attention), mask_inputs(rows, rows)

    @torch.no_grad()
    def logits(inputs: dict[str, Any]) -> torch.Tensor:
        mask = inputs["attention_mask"].to(model.device)
        return model(ids, position_ids=positions, **(inputs | {"attention_mask": mask})).logits

    ids = torch.tensor([[0, 1, 0]], device=model.device)
    positions = torch.from_numpy(rows[0].positions).to(model.device)[None]
    model.eval()  # dropout would change the logits; training sets its own mode
    try:
        with attending(model, attention):
            found = logits(given)
    except (TypeError, ValueError, ImportError, RuntimeError):
        return "dense"
    layers = model.config.get_text_config().num_hidden_layers
    if given["blocks"].calls != layers:
        return "dense"
    if logits_agree(model, found, logits(plain)):
        return attention
    warnings.warn(
        "Blockwise attention and a dense mask give different logits here; using dense masks.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "dense"


def _blockwise(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    blocks: Blocks | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Computes attention with transformers' signature: query [B, H, S, D], key and value
    [B, H / G, S, D]; returns [B, S, H, D]. Without blocks it is SDPA.
    """
    import torch

    if blocks is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ValueError(f"blockwise attention does not support {name}")
    blocks.calls += 1
    grouped = query.shape[1] != key.shape[1]
    half = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and half and not dropout:
        return _variable_length(query, key, value, scaling, blocks, grouped), None
    rows = []
    for row, borders in enumerate(blocks.borders):
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                *(states[row : row + 1, :, start:stop] for states in (query, key, value)),
                is_causal=True,
                dropout_p=dropout,
                scale=scaling,
                enable_gqa=grouped,
            )
            for start, stop in pairwise(borders)
        ]
        rows.append(torch.cat(parts, 2))
    return torch.cat(rows).transpose(1, 2), None


def _variable_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    blocks: Blocks,
    grouped: bool,
) -> torch.Tensor:
    """Computes all blocks of all rows in one kernel call: [B, S, H, D]."""
    from torch.nn.attention.varlen import varlen_attn

    borders, longest = blocks.cumulative(query.device)
    q, k, v = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    found: Any = varlen_attn(
        q, k, v, borders, borders, longest, longest,
        scale=scaling, window_size=(-1, 0), enable_gqa=grouped,
    )  # fmt: skip
    return found.unflatten(0, (query.shape[0], query.shape[2]))
