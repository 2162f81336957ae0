"""A key-value cache whose rows grow independently, for unmodified transformers models.

Rows are aligned at slot 0 and each has its own cursor, so prompts of different lengths need no left
padding, a row's positions never depend on its neighbours, and rows can be dropped when they finish.
The tensors are allocated once: growing costs no copy, where transformers' ``DynamicCache`` copies
everything at every token.

A query at position p may see slot s iff s <= p (:meth:`RowCache.mask`): slots beyond a row's cursor
hold nothing or stale states and are never seen. Models with sliding-window attention are exact only
up to their window's length; :func:`~codegen.decoding.passes.check_supported` refuses beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from codegen.kernels.compaction import compact


class _Slots:
    """Where the next forward pass writes; shared by all layers.

    Attributes:
        index: slots of the new tokens, int64 [B, Q].
        positions: their positions, int64 [B, Q]: the slots themselves but for trees.
        rows: ``arange(B)[:, None]``, the matching row numbers.
        end: number of slots that attention reads.
        capacity: number of slots allocated.
    """

    index: torch.Tensor
    positions: torch.Tensor
    rows: torch.Tensor
    end: int
    capacity: int


class RowCacheLayer(CacheLayerMixin):
    """One layer's keys and values, [B, H, capacity, D] each."""

    is_sliding = False

    def __init__(self, slots: _Slots) -> None:
        super().__init__()
        self.slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocates from the first states' shapes, dtype and device."""

        def allocate(states: torch.Tensor) -> torch.Tensor:
            batch, heads, _, dim = states.shape
            return states.new_zeros(batch, heads, self.slots.capacity, dim)

        self.keys, self.values = allocate(key_states), allocate(value_states)
        self.device = key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes states [B, H, Q, D] at the current slots and returns the read window."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        rows, index, end = self.slots.rows, self.slots.index, self.slots.end
        self.keys[rows, :, index] = key_states.transpose(1, 2)
        self.values[rows, :, index] = value_states.transpose(1, 2)
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows: torch.Tensor) -> None:
        """Keeps only the given rows."""
        if self.is_initialized:
            assert self.keys is not None and self.values is not None
            self.keys = self.keys.index_select(0, rows)
            self.values = self.values.index_select(0, rows)

    def reserve(self, capacity: int) -> None:
        """Makes room for so many slots, which are more than there are."""
        if self.is_initialized:
            assert self.keys is not None and self.values is not None
            more = (0, 0, 0, capacity - self.keys.shape[2])
            self.keys = torch.nn.functional.pad(self.keys, more)
            self.values = torch.nn.functional.pad(self.values, more)

    def join(self, other: RowCacheLayer, rows: int) -> None:
        """Takes another layer's rows in, behind its own; see :meth:`RowCache.join`."""
        assert self.keys is not None and self.values is not None
        if other.is_initialized:
            assert other.keys is not None and other.values is not None
            keys, values = other.keys, other.values
        else:
            keys, values = (
                part.new_zeros(rows, *part.shape[1:]) for part in (self.keys, self.values)
            )
        self.keys, self.values = torch.cat([self.keys, keys]), torch.cat([self.values, values])

    def get_seq_length(self) -> int:
        """Number of slots in use by the longest row."""
        return self.slots.end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(key length, offset); the loop passes its own mask, so models only read this."""
        return self.slots.end, 0

    def get_max_length(self) -> int:
        """Number of slots allocated (transformers >= 5.20's name)."""
        return self.slots.capacity

    def get_max_cache_shape(self) -> int:
        """Number of slots allocated (the name in older releases)."""
        return self.slots.capacity


class RowCache(Cache):
    """The cache of a batch: call :meth:`place` before each forward pass.

    Args:
        layers: number of layers of the model.
        capacity: slots a row, at least the longest prompt plus the tokens to make.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.slots = _Slots()
        self.slots.capacity = capacity
        self.slots.end = 0
        super().__init__(layers=[RowCacheLayer(self.slots) for _ in range(layers)])

    def place(self, positions: torch.Tensor, end: int) -> None:
        """Says where the next tokens go.

        Args:
            positions: slots (and positions) of the new tokens, int64 [B, Q].
            end: one more than the largest of them, known to the host without a device sync.
        """
        self.slots.index = self.slots.positions = positions
        self.slots.rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.slots.end = end

    def mask(self) -> torch.Tensor:
        """The attention mask of the placed tokens: bool [B, 1, Q, end], true where s <= p."""
        slots = torch.arange(self.slots.end, device=self.slots.index.device)
        return (slots <= self.slots.index[:, :, None])[:, None]

    def keep(self, paths: Sequence[Sequence[int]], cursors: Sequence[int]) -> None:
        """Moves together what was accepted of trees, whose node j lies at slot ``cursor + j``.

        Args:
            paths: for each row the accepted nodes below node 0, ascending.
            cursors: the rows' slots of node 0; the i-th of its path comes to ``cursor + 1 + i``.
        """
        depth = max(map(len, paths), default=0)
        if all(list(path) == list(range(1, len(path) + 1)) for path in paths):
            return
        device = self.slots.index.device
        path = torch.tensor([[*p, *[-1] * (depth - len(p))] for p in paths], device=device)
        alike: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        for layer in self.layers:
            assert isinstance(layer, RowCacheLayer)
            for states in (layer.keys, layer.values) if layer.is_initialized else ():
                assert states is not None
                key = (states.shape, states.dtype, states.stride(), states.device)
                alike.setdefault(key, []).append(states)
        for tensors in alike.values():
            compact(tensors, path, torch.tensor(cursors, device=device))

    def reserve(self, slots: int) -> None:
        """Makes room for at least so many slots; the room doubles, so that growing is cheap."""
        if slots <= self.slots.capacity:
            return
        capacity = max(slots, 2 * self.slots.capacity)
        for layer in self.layers:
            assert isinstance(layer, RowCacheLayer)
            layer.reserve(capacity)
        self.slots.capacity = capacity

    def join(self, other: RowCache, rows: int) -> None:
        """Takes another cache's rows in, behind its own; both have the same capacity.

        Args:
            other: nothing need have been written to it yet, other than to this one.
            rows: how many it has.
        """
        for layer, added in zip(self.layers, other.layers, strict=True):
            assert isinstance(layer, RowCacheLayer) and isinstance(added, RowCacheLayer)
            layer.join(added, rows)

    def select(self, rows: torch.Tensor) -> None:
        """Keeps only the given rows (int64 [B']), dropping finished ones."""
        for layer in self.layers:
            assert isinstance(layer, RowCacheLayer)
            layer.select(rows)
