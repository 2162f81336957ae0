"""Attention masks of packed rows, described by one integer per slot, and their computation.

Slot k of a row holds a token, its position id and ``end[k]``. Query q sees key k if and only if
``k <= q < end[k]``. That one array expresses

- *packing*: several documents in a row that do not see one another;
- *chunks* (Mixture-of-Instructions, arXiv 2404.18410): groups whose members see one another;
- *backspaces* (SequenceMatch, arXiv 2306.05426): a removed token is seen by tokens written before
  the removal and by none after it (:mod:`codegen.methods.backspace`);

and combinations of these (:func:`joined`). :func:`mask_inputs` turns a batch of rows into

- a plain padding mask, where every row is one causal document;
- *blocks*, where every row consists of causal blocks that do not see one another (packing,
  chunks): each block is computed alone, at the sum of the blocks' squares instead of the row's
  square. On a CUDA device in half precision one variable-length kernel computes all blocks
  (:func:`torch.nn.attention.varlen.varlen_attn`); elsewhere each is one call of SDPA;
- a dense boolean mask for SDPA, on any device;
- a block mask for FlexAttention, which has gradients on GPUs only.

``auto`` uses the first of the first three that fits; ``dense`` uses no blocks; ``flex`` uses the
last one in place of blocks and dense masks.

Several processes can share each row (sequence parallelism as in DeepSpeed-Ulysses, arXiv
2309.14509): each of P processes holds a P-th of the slots, so a row may be about P times as long as
one process has memory for (a dense mask, where the layout needs one, still covers the whole row).
Two all-to-all exchanges around attention give each process all slots for a P-th of the heads, and
back (:func:`exchanging`); blocks and masks hold there as in one process. Everything else in a model
works slot by slot. Accelerate's own configuration switches it on (``parallelism_config_sp_size``).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.errors import ConfigError
from codegen.finetune.recipe import Attention

if TYPE_CHECKING:
    import torch

    from codegen.methods.backspace import StackLayout

Attend = Callable[..., "tuple[torch.Tensor, None]"]
# The remedy where processes cannot share rows.
UNSHARED = "Set parallelism_config_sp_size: 1 in accelerate's configuration."
OPEN = 1 << 40  # the end of a slot that every later query of the row sees
# Names under which the implementations are registered in transformers.
_BLOCKWISE, _SHARED = "codegen_blockwise", "codegen_shared"
_IMPLEMENTATIONS = {"auto": _BLOCKWISE, "flex": "flex_attention"}


@dataclass(frozen=True, slots=True, eq=False)
class RowLayout:
    """Which slots of a row of S slots see which.

    Attributes:
        end: int64 [S]; slot k is seen by the queries ``k <= q < end[k]``; ``OPEN`` for all later.
        positions: int64 [S], the position ids.
    """

    end: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    @property
    def is_causal(self) -> bool:
        """Whether every slot sees all slots before it, with positions that count from 0."""
        count = np.arange(len(self))
        return bool((self.end >= len(self)).all() and (self.positions == count).all())

    @property
    def depth(self) -> int:
        """The number of tokens that remain at the end of the row."""
        return int((self.end == OPEN).sum())


def causal(length: int) -> RowLayout:
    """One document of ``length`` tokens."""
    return RowLayout(np.full(length, OPEN), np.arange(length))


def from_stack(stack: StackLayout) -> RowLayout:
    """A trajectory with backspaces."""
    end, positions = np.array(stack.end), np.array(stack.positions)
    # Tokens removed by the very last actions lie deeper than the last state.
    left = (end == len(end)) & (positions <= stack.positions[stack.nodes[-1]])
    return RowLayout(np.where(left, OPEN, end), positions)


def joined(parts: Sequence[RowLayout], *, isolated: bool) -> RowLayout:
    """Parts one after another in one row.

    Args:
        parts: at least one.
        isolated: the parts do not see one another, and positions restart in each. Otherwise a part
            sees the remaining tokens of the parts before it, and continues their positions.
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
    """The row closed and padded to ``width`` slots; a padding slot sees only itself."""
    length = len(layout)
    fill = np.arange(length, width)
    return RowLayout(
        np.concatenate([np.minimum(layout.end, length), fill + 1]),
        np.concatenate([layout.positions, np.zeros(width - length, np.int64)]),
    )


def cumulative_lengths(layout: RowLayout) -> list[int] | None:
    """Borders [0, ..., S] of a row's blocks, for variable-length kernels (``cu_seqlens``).

    None unless the row consists of blocks that are causal inside and do not see one another.
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
        borders: for each row, [0, ..., S].
        calls: the number of layers that used them.
    """

    borders: list[list[int]]
    calls: int = 0
    _joined: dict[torch.device, tuple[torch.Tensor, int]] = field(default_factory=dict)

    def cumulative(self, device: torch.device) -> tuple[torch.Tensor, int]:
        """``cu_seqlens`` (int32 [N + 1]) of the rows end to end, and the longest block."""
        import torch

        if device not in self._joined:
            lengths = [stop - start for row in self.borders for start, stop in pairwise(row)]
            joined = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
            self._joined[device] = joined, max(lengths)
        return self._joined[device]


@dataclass(frozen=True, slots=True)
class Ends:
    """``end`` (int64 [B, S]), from which FlexAttention's mask is made on the model's device."""

    end: torch.Tensor

    def to(self, device: torch.device | str) -> Any:
        """The block mask on a device."""
        return flex_block_mask(self.end.to(device))


def mask_inputs(
    layouts: Sequence[RowLayout],
    closed: Sequence[RowLayout],
    attention: Attention = "dense",
    *,
    shared: bool = False,
) -> dict[str, Any]:
    """Keyword arguments that make a transformers model attend as the layouts say.

    Args:
        closed: the same, padded to one width.
        attention: the back-end, which must be active (:func:`attending`) when the model is called.
        shared: the model gets only parts of the rows, for which it cannot make its own mask.
    """
    import torch

    if not shared and all(layout.is_causal for layout in layouts):
        # The model's own causal mask is enough, and cheaper.
        slots = np.arange(len(closed[0]))
        rows = [slots < len(layout) for layout in layouts]
        return {"attention_mask": torch.from_numpy(np.stack(rows).astype(np.int64))}
    if attention == "auto":
        borders = [cumulative_lengths(layout) for layout in layouts]
        if all(borders):
            # Padding is a block too. A four-dimensional mask keeps the model from making its own.
            width, unused = len(closed[0]), torch.ones(1, 1, 1, 1, dtype=torch.bool)
            whole = [[*b, *([width] if b[-1] < width else [])] for b in borders if b]
            return {"attention_mask": unused, "blocks": Blocks(whole)}
    end = torch.from_numpy(np.stack([layout.end for layout in closed]))
    return {"attention_mask": Ends(end) if attention == "flex" else dense_mask(end)}


def dense_mask(end: torch.Tensor) -> torch.Tensor:
    """The mask for transformers' models: bool [B, 1, S, S], query by key, true where seen.

    Args:
        end: int64 [B, S].
    """
    import torch

    slots = torch.arange(end.shape[1], device=end.device)
    seen = (slots <= slots[:, None]) & (slots[:, None] < end[:, None, :])  # [B, S, S]
    return seen[:, None]


def flex_block_mask(end: torch.Tensor) -> Any:
    """The mask as a ``BlockMask`` for ``torch.nn.attention.flex_attention``.

    transformers' models accept it as ``attention_mask`` with the attention ``flex_attention``.

    Args:
        end: int64 [B, S].
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(batch: torch.Tensor, _: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> Any:
        return (k <= q) & (q < end[batch, k])

    size, length = end.shape
    return create_block_mask(seen, size, None, length, length, device=str(end.device))


@contextmanager
def attending(model: Any, attention: Attention, share: RowShare | None = None) -> Iterator[None]:
    """A block in which a transformers model uses an attention back-end; ``dense`` changes nothing.

    Args:
        share: for a process that holds parts of rows; with ``auto`` only.
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
    """The back-end that a model can be trained with.

    Two short blocks are encoded by it and by a dense mask. ``auto`` becomes ``dense`` for a model
    that drops extra attention arguments, and with them the blocks, and, with a warning, where the
    logits differ.

    Raises:
        ConfigError: if the machine or the model does not support FlexAttention.
    """
    import torch

    from codegen.decoding.passes import logits_agree

    if attention == "dense":
        return attention
    if attention == "flex" and model.device.type == "cpu":
        raise ConfigError(
            "attention: flex needs a GPU: FlexAttention has no gradients on a CPU.",
            "Set attention: auto.",
        )
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
    except (TypeError, ValueError, ImportError, RuntimeError) as error:
        if attention == "flex":
            raise ConfigError(
                f"The model does not support FlexAttention: {error}", "Set attention: auto."
            ) from None
        return "dense"
    layers = model.config.get_text_config().num_hidden_layers
    if attention == "auto" and given["blocks"].calls != layers:
        return "dense"
    if logits_agree(model, found, logits(plain)):
        return attention
    if attention == "flex":
        raise ConfigError(
            "FlexAttention and a dense mask give different logits here.", "Set attention: auto."
        )
    warnings.warn(
        "Attention by blocks and a dense mask give different logits here; masks are used.",
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
    """Attention with transformers' signature: query [B, H, S, D], key and value [B, H / G, S, D];
    returns [B, S, H, D]. Without blocks it is SDPA.
    """
    import torch

    if blocks is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ValueError(f"attention by blocks does not support {name}")
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
    """Attention as in :func:`_blockwise` for a rank's subset of heads, to which the module's own
    head counts do not apply.
    """
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
    """All blocks of all rows in one kernel call: [B, S, H, D]."""
    from torch.nn.attention.varlen import varlen_attn

    borders, longest = blocks.cumulative(query.device)
    q, k, v = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    found: Any = varlen_attn(
        q, k, v, borders, borders, longest, longest,
        scale=scaling, window_size=(-1, 0), enable_gqa=grouped,
    )  # fmt: skip
    return found.unflatten(0, (query.shape[0], query.shape[2]))


def processes_per_row() -> int:
    """How many processes share each row of tokens: accelerate's ``parallelism_config_sp_size``."""
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "false").lower() != "true":
        return 1
    return int(os.environ.get("PARALLELISM_CONFIG_SP_SIZE", "1"))


@dataclass(frozen=True, slots=True)
class RowShare:
    """A process's part of each row: part ``rank`` of ``size``; ``group`` shares the row."""

    rank: int
    size: int
    group: Any = None


def share_of_launch(model: Any, rank: int, world: int) -> RowShare | None:
    """The part of each row that this process holds; None if it holds all of it.

    Raises:
        ConfigError: if the processes or the model's heads cannot be divided evenly.
    """
    size = processes_per_row()
    if size == 1:
        return None
    if world % size:
        raise ConfigError(
            f"{world} processes cannot form groups of {size} that share a row.",
            "Set num_processes to a multiple of parallelism_config_sp_size.",
        )
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    if heads % size or (groups % size and size % groups):
        raise ConfigError(
            f"{heads} attention heads, {groups} of keys, cannot be divided among {size} processes.",
            "Set parallelism_config_sp_size to a number that divides both.",
        )
    import torch.distributed

    group, _ = torch.distributed.new_subgroups(size)
    return RowShare(rank % size, size, group)


def share_rows_ourselves(accelerator: Any) -> None:
    """Keeps accelerate from letting DeepSpeed split the data, and from replacing transformers'
    attention by DeepSpeed's, which ignores masks.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    prepare = accelerator.prepare

    def prepared(*given: Any, **options: Any) -> Any:
        before = {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}
        try:
            return prepare(*given, **options)
        finally:
            for name, attend in before.items():
                ALL_ATTENTION_FUNCTIONS[name] = attend

    accelerator.prepare = prepared
    accelerator.deepspeed_ulysses_dl_adapter = lambda data, _: data


def exchanging(attend: Attend, share: RowShare) -> Attend:
    """Attention over whole rows in a model that holds a part of them.

    Args:
        attend: with transformers' signature: query [B, H, S, D], keys and values [B, H / G, S, D];
            returns [B, S, H, D].
    """
    size, exchange = share.size, _exchange(share.group)

    def gathered(states: torch.Tensor) -> torch.Tensor:
        """[B, H, S / P, D] of all heads to [B, H / P, S, D] of all slots."""
        rows, heads, slots, width = states.shape
        parts = states.view(rows, size, heads // size, slots, width).transpose(0, 1)
        return exchange(parts).permute(1, 2, 0, 3, 4).flatten(2, 3)

    def dealt(states: torch.Tensor) -> torch.Tensor:
        """[B, S, H / P, D] back to [B, S / P, H, D]."""
        rows, slots, heads, width = states.shape
        parts = states.reshape(rows, size, slots // size, heads, width).transpose(0, 1)
        return exchange(parts).permute(1, 2, 0, 3, 4).flatten(2, 3)

    def attended(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *given: Any,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        if key.shape[1] % size:  # fewer key heads than processes: some hold the same head
            times = size // key.shape[1]
            key, value = (states.repeat_interleave(times, 1) for states in (key, value))
        whole = (gathered(states) for states in (query, key, value))
        found, _ = attend(module, *whole, *given, **options)
        return dealt(found), None

    return attended


def _exchange(group: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Sends part p of a tensor [P, ...] to process p and returns what each sent; differentiable."""
    import torch
    from torch.distributed import all_to_all_single

    def exchanged(parts: torch.Tensor) -> torch.Tensor:
        parts = parts.contiguous()
        found = torch.empty_like(parts)
        all_to_all_single(found, parts, group=group)
        return found

    class Exchange(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, parts: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
            return exchanged(parts)

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
            return exchanged(grads[0])

    return Exchange.apply
