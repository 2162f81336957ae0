"""How attention computes what a layout says: the back-ends of training.

A batch of rows becomes one of

- a plain padding mask, where every row is one causal document;
- *blocks*, where every row falls into causal blocks that do not see one another (packing, chunks):
  each block is computed by itself, which costs the sum of the blocks' squares instead of the
  square of the row. On a CUDA device in half precision one variable-length kernel does all blocks
  (:func:`torch.nn.attention.varlen.varlen_attn`), elsewhere each is a call of SDPA;
- a dense boolean mask for SDPA, on any device;
- a block mask for FlexAttention, which has gradients on GPUs alone.

``auto`` takes the first that fits of the first three; ``dense`` leaves the blocks out; ``flex``
takes the last in place of blocks and dense masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from codegen.errors import ConfigError
from codegen.finetune.attention import Layout, cumulative_lengths
from codegen.finetune.sequences import exchanging

if TYPE_CHECKING:
    import torch

    from codegen.finetune.sequences import Share

Attention = Literal["auto", "dense", "flex"]
# What transformers calls the implementations.
_BLOCKWISE, _SHARED = "codegen_blockwise", "codegen_shared"
_IMPLEMENTATIONS = {"auto": _BLOCKWISE, "flex": "flex_attention"}


@dataclass(slots=True)
class Blocks:
    """The causal blocks of B rows of S slots.

    Attributes:
        borders: of each row, [0, ..., S].
        calls: how many layers have attended by them.
    """

    borders: list[list[int]]
    calls: int = 0
    _joined: dict[torch.device, tuple[torch.Tensor, int]] = field(default_factory=dict)

    def cumulative(self, device: torch.device) -> tuple[torch.Tensor, int]:
        """``cu_seqlens`` (int32 [N + 1]) of the rows laid end to end, and the longest block."""
        import torch

        if device not in self._joined:
            lengths = [stop - start for row in self.borders for start, stop in pairwise(row)]
            joined = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
            self._joined[device] = joined, max(lengths)
        return self._joined[device]


@dataclass(frozen=True, slots=True)
class Ends:
    """``end`` (int64 [B, S]), of which FlexAttention's mask is made where the model is."""

    end: torch.Tensor

    def to(self, device: torch.device | str) -> Any:
        """The block mask on a device."""
        return flex_block_mask(self.end.to(device))


def mask_inputs(
    layouts: Sequence[Layout],
    closed: Sequence[Layout],
    attention: Attention = "dense",
    *,
    shared: bool = False,
) -> dict[str, Any]:
    """What a model is called with so that it attends as the layouts say.

    Args:
        layouts: of the rows.
        closed: the same, padded to one width.
        attention: the back-end, which must be in use (:func:`attending`) when the model is called.
        shared: whether the model will hold parts of the rows, which it can make no mask for.
    """
    import torch

    if not shared and all(layout.is_causal for layout in layouts):
        # The model's own mask does, and is cheaper.
        slots = np.arange(len(closed[0]))
        rows = [slots < len(layout) for layout in layouts]
        return {"attention_mask": torch.from_numpy(np.stack(rows).astype(np.int64))}
    if attention == "auto":
        borders = [cumulative_lengths(layout) for layout in layouts]
        if all(borders):
            # Padding is a block of its own. A mask of four dimensions is left as it is: the model
            # shall make none.
            width, nothing = len(closed[0]), torch.ones(1, 1, 1, 1, dtype=torch.bool)
            whole = [[*b, *([width] if b[-1] < width else [])] for b in borders if b]
            return {"attention_mask": nothing, "blocks": Blocks(whole)}
    end = torch.from_numpy(np.stack([layout.end for layout in closed]))
    return {"attention_mask": Ends(end) if attention == "flex" else dense_mask(end)}


def dense_mask(end: torch.Tensor) -> torch.Tensor:
    """The mask as transformers' models take it: bool [B, 1, S, S], query by key, true where seen.

    Args:
        end: int64 [B, S].
    """
    import torch

    slots = torch.arange(end.shape[1], device=end.device)
    seen = (slots <= slots[:, None]) & (slots[:, None] < end[:, None, :])
    return seen[:, None]


def flex_block_mask(end: torch.Tensor) -> Any:
    """The mask as a ``BlockMask`` for ``torch.nn.attention.flex_attention``.

    transformers' models take it as ``attention_mask``, with the attention ``flex_attention``.

    Args:
        end: int64 [B, S].
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(batch: torch.Tensor, _: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> Any:
        return (k <= q) & (q < end[batch, k])

    size, length = end.shape
    return create_block_mask(seen, size, None, length, length, device=str(end.device))


@contextmanager
def attending(model: Any, attention: Attention, share: Share | None = None) -> Iterator[None]:
    """Within the block a transformers model attends by a back-end; ``dense`` changes nothing.

    Args:
        model: called there.
        attention: the back-end.
        share: of a process that holds parts of rows; for ``auto`` alone.
    """
    if attention == "dense":
        yield
        return
    name, before = _IMPLEMENTATIONS[attention], model.config._attn_implementation
    if attention == "auto":
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask

        attend: Any = _blockwise
        if share is not None:
            name, attend = _SHARED, exchanging(_of_some_heads, share)
        AttentionInterface.register(name, attend)
        AttentionMaskInterface.register(name, sdpa_mask)
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def check(model: Any, attention: Attention) -> Attention:
    """The back-end that a model can be trained with: ``dense`` for ``auto`` where it has to be.

    A model that does not hand its attention what it is called with knows no blocks.

    Raises:
        ConfigError: if the machine or the model has no FlexAttention.
    """
    import torch

    if attention == "dense":
        return attention
    if attention == "flex" and model.device.type == "cpu":
        raise ConfigError(
            "attention: flex needs a GPU: FlexAttention has no gradients on a CPU.",
            "Set attention: auto.",
        )
    try:
        with attending(model, attention), torch.no_grad():
            if attention == "flex":
                return attention
            blocks = Blocks([[0, 1, 3]])
            ids = torch.zeros(1, 3, dtype=torch.long, device=model.device)
            positions = torch.tensor([[0, 0, 1]], device=model.device)
            nothing = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=model.device)
            model(ids, position_ids=positions, attention_mask=nothing, blocks=blocks)
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        if attention == "flex":
            raise ConfigError(
                f"This model has no FlexAttention: {error}", "Set attention: auto."
            ) from None
        return "dense"
    layers = model.config.get_text_config().num_hidden_layers
    return "auto" if blocks.calls == layers else "dense"


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
    """Attention as transformers calls it: query [B, H, S, D], key and value [B, H / G, S, D]; gives
    [B, S, H, D]. Without blocks it is SDPA's.
    """
    import torch

    if blocks is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ValueError(f"attention by blocks has no {name}")
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


def _of_some_heads(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any,
    scaling: float | None = None, dropout: float = 0.0, **options: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """The same for a share of the heads, of which the module's own numbers don't hold."""
    import torch

    if options.get("blocks") is not None:
        return _blockwise(module, query, key, value, None, scaling, dropout, **options)
    found = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return found.transpose(1, 2), None


def _variable_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    blocks: Blocks,
    grouped: bool,
) -> torch.Tensor:
    """All blocks of all rows in one kernel: [B, S, H, D]."""
    from torch.nn.attention.varlen import varlen_attn

    borders, longest = blocks.cumulative(query.device)
    q, k, v = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    found: Any = varlen_attn(
        q, k, v, borders, borders, longest, longest,
        scale=scaling, window_size=(-1, 0), enable_gqa=grouped,
    )  # fmt: skip
    return found.unflatten(0, (query.shape[0], query.shape[2]))
