"""A key-value cache of cells: where a token's states lie says nothing about its position.

Every token holds one cell. Attention asks a cell's position, never its place, so deleting a token
is forgetting its position, inserting takes any free cells, and moving turns the keys where they
lie. Removed tokens stay until their cells are needed, for what is undone or pasted.

The keys as they were encoded are kept untouched beside the turned ones as soon as some were moved,
so that a key is always one rotation away from what the model computed: turning turned keys again
adds rounding errors, 4 % after a thousand edits in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from codegen.decoding.editing.rotation import Rotation
from codegen.kernels.rotation import turn_cells

_STEP = 256  # cells are allocated in multiples of this
NOWHERE = 1 << 40  # position of a cell that no query sees


Probe = Callable[["CellLayer", torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Room:
    """What all layers share.

    Attributes:
        positions: of the cells, int64 [capacity], :data:`NOWHERE` if not in the sequence.
        index: cells of the tokens that are being encoded, int64 [Q].
        end: attention reads the cells before this one.
        probe: takes over what layers do with new states (:mod:`deviation`).
    """

    def __init__(self, device: torch.device) -> None:
        self.positions = torch.full((0,), NOWHERE, device=device)
        self.index = torch.empty(0, dtype=torch.int64, device=device)
        self.end = 0
        self.probe: Probe | None = None


class CellLayer(CacheLayerMixin):
    """One layer's states: keys [1, H, capacity, D], values [1, H', capacity, D'].

    Attributes:
        base: the rotating part as it was encoded, None as long as no cell has moved.
    """

    is_sliding = False

    def __init__(self, room: Room, rotation: Rotation | None) -> None:
        super().__init__()
        self.room, self.rotation = room, rotation
        self.base: torch.Tensor | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocates from the first states' shapes, dtype and device."""
        capacity = len(self.room.positions)
        self.keys = key_states.new_zeros(*key_states.shape[:2], capacity, key_states.shape[3])
        self.values = value_states.new_zeros(
            *value_states.shape[:2], capacity, value_states.shape[3]
        )
        self.device = key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes states [1, H, Q, D] into the current cells and returns what attention reads."""
        if self.room.probe is not None:
            return self.room.probe(self, key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        self.write(self.room.index, key_states, value_states)
        return self.keys[:, :, : self.room.end], self.values[:, :, : self.room.end]

    def write(
        self, cells: torch.Tensor, key_states: torch.Tensor, value_states: torch.Tensor
    ) -> None:
        """Writes states [1, H, N, D] into cells int64 [N]."""
        assert self.keys is not None and self.values is not None
        self.keys.index_copy_(2, cells, key_states)
        self.values.index_copy_(2, cells, value_states)
        if self.base is not None and self.rotation is not None:
            rotating = key_states if self.rotation.part == "keys" else value_states
            self.base.index_copy_(2, cells, rotating)

    def move(self, cells: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> None:
        """Turns cells int64 [N] from their encoded states."""
        assert self.rotation is not None and self.keys is not None and self.values is not None
        states = self.keys if self.rotation.part == "keys" else self.values
        if self.base is None:
            self.base = states.clone()
        turn_cells(self.base, states, cells, cosines, sines, self.rotation.neighbours)

    def grow(self, capacity: int) -> None:
        """Makes room for more cells."""
        if self.is_initialized:
            assert self.keys is not None and self.values is not None
            self.keys = _longer(self.keys, capacity)
            self.values = _longer(self.values, capacity)
            if self.base is not None:
                self.base = _longer(self.base, capacity)

    def take(self, cells: torch.Tensor, capacity: int) -> None:
        """Keeps these cells only, int64 [N], as the first N of ``capacity``."""
        if self.is_initialized:
            assert self.keys is not None and self.values is not None
            self.keys = _longer(self.keys.index_select(2, cells), capacity)
            self.values = _longer(self.values.index_select(2, cells), capacity)
            if self.base is not None:
                self.base = _longer(self.base.index_select(2, cells), capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        tensors = (self.keys, self.values, self.base) if self.is_initialized else ()
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    def get_seq_length(self) -> int:
        """Number of cells that attention reads."""
        return self.room.end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(key length, offset); masks are given, so models only read this."""
        return self.room.end, 0

    def get_max_length(self) -> int:
        """Number of cells allocated (transformers >= 5.20's name)."""
        return len(self.room.positions)

    def get_max_cache_shape(self) -> int:
        """Number of cells allocated (the name in older releases)."""
        return len(self.room.positions)


class CellCache(Cache):
    """The cells of one sequence.

    Args:
        rotations: of the layers.
        device: of the model.
    """

    def __init__(self, rotations: Sequence[Rotation | None], device: torch.device) -> None:
        self.room = Room(device)
        self.rotations = rotations
        super().__init__(layers=[CellLayer(self.room, rotation) for rotation in rotations])

    @property
    def capacity(self) -> int:
        """Number of cells allocated."""
        return len(self.room.positions)

    @property
    def nbytes(self) -> int:
        """Bytes of all layers' states."""
        return sum(layer.nbytes for layer in self.layers if isinstance(layer, CellLayer))

    def reserve(self, cells: int) -> None:
        """Makes sure that there are so many cells, with an eighth to spare when it has to grow."""
        if cells <= self.capacity:
            return
        capacity = _rounded(cells + cells // 8)
        positions = torch.full((capacity,), NOWHERE, device=self.room.positions.device)
        positions[: self.capacity] = self.room.positions
        self.room.positions = positions
        for layer in self.layers:
            assert isinstance(layer, CellLayer)
            layer.grow(capacity)

    def take(self, cells: torch.Tensor) -> None:
        """Keeps these cells only, int64 [N], as the first N; positions are to be set anew."""
        capacity = _rounded(len(cells))
        for layer in self.layers:
            assert isinstance(layer, CellLayer)
            layer.take(cells, capacity)
        self.room.positions = self.room.positions.new_full((capacity,), NOWHERE)

    def copy(self) -> CellCache:
        """Independent cells with the same states."""
        twin = CellCache(self.rotations, self.room.positions.device)
        twin.room.positions = self.room.positions
        for layer, other in zip(twin.layers, self.layers, strict=True):
            assert isinstance(layer, CellLayer) and isinstance(other, CellLayer)
            if not other.is_initialized:
                continue
            assert other.keys is not None and other.values is not None
            layer.keys, layer.values = other.keys.clone(), other.values.clone()
            layer.base = None if other.base is None else other.base.clone()
            layer.device, layer.is_initialized = other.device, True
        return twin

    def move(self, cells: torch.Tensor, shifts: torch.Tensor) -> None:
        """Turns cells so that they are ``shifts`` positions from where they were encoded.

        Args:
            cells: int64 [N].
            shifts: int64 [N], accumulated since the cell was encoded.
        """
        turns: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for layer, rotation in zip(self.layers, self.rotations, strict=True):
            if rotation is None:
                continue
            assert isinstance(layer, CellLayer)
            table = id(rotation.frequencies)
            if table not in turns:
                turns[table] = rotation.turns(shifts)
            layer.move(cells, *turns[table])

    def mask(self, positions: torch.Tensor, window: int | None) -> torch.Tensor:
        """Who sees whom: bool [1, 1, Q, end].

        Args:
            positions: of the queries, int64 [Q].
            window: a query sees so many of the last positions, its own among them; None for all.
        """
        cells = self.room.positions[: self.room.end]
        visible = cells <= positions[:, None]
        if window is not None:
            visible &= cells > positions[:, None] - window
        return visible[None, None]


def _longer(states: torch.Tensor, capacity: int) -> torch.Tensor:
    longer = states.new_zeros(*states.shape[:2], capacity, states.shape[3])
    longer[:, :, : states.shape[2]] = states
    return longer


def _rounded(cells: int) -> int:
    return -(-cells // _STEP) * _STEP
