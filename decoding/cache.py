"""The key-value cache of all decoding methods, for unmodified transformers models.

A layer holds keys and values in slots, [B, H, capacity, D], which are allocated once. A growing row
needs no copies, while transformers' ``DynamicCache`` copies everything at every token. Tokens are
laid out in one of two ways:

- *Rows* (the decoding loop): slot s of a row contains its token at position s, and each row has
  its own cursor. Prompts of different lengths need no left padding, a row's positions do not depend
  on the other rows, and finished rows are dropped. Each row has separate slots or, where attention
  reads them by a table, uses pages of slots that all rows share (:class:`Pages`).
- *One edited text* (``codegen.decoding.editing``): a token may be in any slot, and
  ``slots.position_of`` contains each slot's position. Deleting a token clears its position,
  inserting one takes a free slot, and moving one rotates its key in place. Removed tokens stay
  until their slots are needed, so that undo and paste can reuse them.

A query at position p attends to a slot iff the slot's position is at most p
(:meth:`KVCache.mask`). Slots beyond a row's cursor are empty or stale, and always masked.

Recurrent layers (Mamba, linear attention, short convolutions) have no slots. They keep one state
per row for all tokens fed so far, so each token is fed once and in order; :meth:`KVCache.snapshot`
saves the states before tokens that may be rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    LinearAttentionLayer,
    get_layer_types_and_kwargs,
)

from codegen.decoding.device import upload
from codegen.kernels.kv_cache import compact, turn_slots, turned
from codegen.kernels.tree_attention import PAGE

_STEP = 256  # slots of a growing cache are a multiple of this
NOWHERE = 1 << 40  # position of a masked slot


@dataclass(frozen=True)
class Recurrence:
    """A recurrent layer.

    Attributes:
        states: number of states per row.
        attends: True if the layer also has attention.
    """

    states: int
    attends: bool


def recurrences(config: Any) -> list[Recurrence | None]:
    """Returns each layer's :class:`Recurrence` in a text model; None for attention layers."""
    return [
        Recurrence(options["number_of_states"], kind.startswith("hybrid"))
        if "number_of_states" in options
        else None
        for kind, options in zip(*get_layer_types_and_kwargs(config), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotation of one layer's cached states when their position changes.

    Attributes:
        part: the cached tensor with the rotated channels. Multi-head latent attention caches
            the latent as keys and the shared rotary key as values.
        frequencies: f_t in radians per position, float32 [R / 2]; the first R channels rotate.
        neighbors: True if pairs are channels (2t, 2t + 1), False if (t, t + R / 2).
    """

    part: Literal["keys", "values"]
    frequencies: torch.Tensor
    neighbors: bool

    def turns(self, shifts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns cosines and sines, float32 [N, R / 2], of shifts int64 [N] in positions.

        The cached key already includes any factor that a model applies to its cosines (YaRN's
        attention scaling), so the factor is omitted here.
        """
        angles = shifts.double()[:, None] * self.frequencies.to(shifts.device).double()
        return angles.cos().float(), angles.sin().float()

    def turn(
        self, states: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor
    ) -> torch.Tensor:
        """Rotates states [..., N, D] by the result of :meth:`turns`, computed in float32."""
        return turned(states, cosines, sines, self.neighbors)


class Pages:
    """Page tables of a batch's rows (Kwon et al., arXiv 2309.06180).

    All rows share the slots of a layer, so rows come and go without copying the others' states,
    no row takes more memory than its maximum length needs, and states keep their addresses, which
    captured passes require. Page 0 belongs to no row: it replaces the slots beyond a row's own
    pages, is written by finished rows, and is always masked.

    Attributes:
        starts: first shared slot of each row's pages, int64 [B, N].
        count: number of pages in use or free, including page 0.

    Args:
        slots: maximum slots per row.
        device: device of ``starts``.
    """

    def __init__(self, slots: int, device: torch.device) -> None:
        self.starts = torch.zeros(0, -(-slots // PAGE), dtype=torch.long, device=device)
        self.count = 1
        self._rows: list[list[int]] = []
        self._free: list[int] = []

    def admit(self, slots: Sequence[int]) -> None:
        """Appends rows with at least ``slots[i]`` slots each."""
        new = torch.zeros(len(slots), self.starts.shape[1], dtype=torch.long)
        for row, needed in zip(new, slots, strict=True):
            pages = -(-needed // PAGE)
            missing = max(0, pages - len(self._free))
            self._free += range(self.count, self.count + missing)
            self.count += missing
            self._rows.append([self._free.pop() for _ in range(pages)])
            row[:pages] = PAGE * torch.tensor(self._rows[-1])
        self.starts = torch.cat([self.starts, *upload(self.starts.device, new)])

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only the given rows, in this order."""
        for row, pages in enumerate(self._rows):
            self._free += [] if row in rows else pages
        self._rows = [self._rows[row] for row in rows]
        (kept,) = upload(self.starts.device, torch.tensor(rows, dtype=torch.long))
        self.starts = self.starts[kept]

    def places(self, slots: torch.Tensor) -> torch.Tensor:
        """Maps the rows' slots, int64 [B, Q], to shared slots of the same shape."""
        return self.starts.gather(1, slots // PAGE) + slots % PAGE


class WriteSlots:
    """Slots that the next forward pass writes and reads; shared by all layers.

    Attributes:
        index: slots of the new tokens, int64 [B, Q].
        positions: their positions, int64 [B, Q].
        held: positions of the slots that attention reads, int64 [end] or [B, end].
        read: for pages, the slots that masked attention reads, int64 [B, end]; else None.
        rows: ``arange(B)[:, None]``, the matching row numbers; 0 for pages.
        end: number of slots that attention reads.
        capacity: number of slots allocated.
        pages: the rows' page tables, if they share slots.
        position_of: each slot's position for an edited text, int64 [capacity],
            :data:`NOWHERE` for slots outside the text; None if slot s has position s.
        layout: replaced by a new object whenever states move in memory.
    """

    index: torch.Tensor
    positions: torch.Tensor
    held: torch.Tensor
    rows: torch.Tensor
    read: torch.Tensor | None = None

    def __init__(self, capacity: int, pages: Pages | None = None) -> None:
        self.capacity, self.end, self.pages = capacity, 0, pages
        self.position_of: torch.Tensor | None = None
        self.layout = object()

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns ``rows`` and ``index`` on a layer's device, as models may span several."""
        if device == self.index.device:
            return self.rows, self.index
        return self.rows.to(device), self.index.to(device)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the placed tensors by name."""
        return {name: t for name, t in vars(self).items() if isinstance(t, torch.Tensor)}

    def restore(self, placed: Mapping[str, torch.Tensor]) -> None:
        """Sets the tensors that :meth:`tensors` returned; other names are ignored."""
        vars(self).update((name, placed[name]) for name in self.tensors())


class CacheLayer(CacheLayerMixin):
    """One layer's states: keys [B, H, capacity, D], values [B, H', capacity, D']; B is 1 for pages.

    Attributes:
        encoded: the rotating part as the model encoded it; None until a slot moves. Keys are always
            rotated from it, because repeated rotation accumulates rounding errors (4% after a
            thousand edits in bfloat16).
    """

    is_sliding = False

    def __init__(self, slots: WriteSlots, rotation: Rotation | None = None) -> None:
        super().__init__()
        self.slots, self.rotation = slots, rotation
        self.encoded: torch.Tensor | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocates from the first states' shapes, dtype and device."""

        def allocate(states: torch.Tensor) -> torch.Tensor:
            batch, heads, _, dim = states.shape
            batch = 1 if self.slots.pages else batch
            return states.new_zeros(batch, heads, self.slots.capacity, dim)

        self.keys, self.values = allocate(key_states), allocate(value_states)
        self.device = key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes states [B, H, Q, D] at the current slots and returns the read window."""
        slots = self.slots
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        keys, values = self.states
        rows, index = slots.on(keys.device)
        if slots.position_of is not None:
            self.write(index[0], key_states, value_states)
        else:
            keys[rows, :, index] = key_states.transpose(1, 2)
            values[rows, :, index] = value_states.transpose(1, 2)
        if slots.read is not None:
            read = slots.read.to(keys.device)
            return keys[0][:, read].transpose(0, 1), values[0][:, read].transpose(0, 1)
        return keys[:, :, : slots.end], values[:, :, : slots.end]

    @property
    def states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of an initialized layer."""
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def write(
        self, index: torch.Tensor, key_states: torch.Tensor, value_states: torch.Tensor
    ) -> None:
        """Writes an edited text's states [1, H, N, D] into slots int64 [N]."""
        keys, values = self.states
        keys.index_copy_(2, index, key_states)
        values.index_copy_(2, index, value_states)
        if self.encoded is not None and self.rotation is not None:
            rotating = key_states if self.rotation.part == "keys" else value_states
            self.encoded.index_copy_(2, index, rotating)

    def move(self, index: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> None:
        """Rotates the states of slots int64 [N], from their encoded states."""
        assert self.rotation is not None
        states = self.states[0 if self.rotation.part == "keys" else 1]
        if self.encoded is None:
            self.encoded = states.clone()
        at = states.device
        index, cosines, sines = index.to(at), cosines.to(at), sines.to(at)
        turn_slots(self.encoded, states, index, cosines, sines, self.rotation.neighbors)

    def change(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Applies a function to all states, if any."""
        if self.is_initialized:
            keys, values = self.states
            self.keys, self.values = change(keys), change(values)
            self.slots.layout = object()
            if self.encoded is not None:
                self.encoded = change(self.encoded)

    def join(self, other: CacheLayer, rows: int) -> None:
        """Appends another layer's rows; see :meth:`KVCache.join`."""
        if not self.is_initialized:
            return  # a layer without attention
        if other.is_initialized:
            added = other.states
        else:
            keys, values = (part.new_zeros(rows, *part.shape[1:]) for part in self.states)
            added = keys, values
        pairs = zip(self.states, added, strict=True)
        self.keys, self.values = (torch.cat(pair) for pair in pairs)
        self.slots.layout = object()

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        tensors = (*self.states, self.encoded) if self.is_initialized else ()
        return sum(t.numel() * t.element_size() for t in tensors if t is not None)

    def get_seq_length(self) -> int:
        """Returns the number of slots that attention reads."""
        return self.slots.end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Returns (key length, offset); masks are passed, so models only read this."""
        return self.slots.end, 0

    def get_max_length(self) -> int:
        """Returns the number of allocated slots (transformers >= 5.20's name)."""
        return self.slots.capacity

    def get_max_cache_shape(self) -> int:
        """Returns the number of allocated slots (the name in older releases)."""
        return self.slots.capacity


class _HybridLayer(LinearAttentionLayer, CacheLayer):
    """A layer with both a recurrent state and slots."""

    def __init__(self, slots: WriteSlots, states: int) -> None:
        CacheLayer.__init__(self, slots)
        LinearAttentionLayer.__init__(self, states)

    def lazy_initialization(self, *states: torch.Tensor, **named: Any) -> None:  # type: ignore[override]
        """Allocates slots from positional keys and values, or recurrent states from keywords."""
        if states:
            CacheLayer.lazy_initialization(self, *states)
        else:
            LinearAttentionLayer.lazy_initialization(self, **named)


class KVCache(Cache):
    """The states of a batch of rows, or of one edited text.

    Call :meth:`place` before each forward pass.

    Args:
        layers: number of layers; or each layer's :class:`Recurrence`, :class:`Rotation` (for
            editing), or None.
        capacity: slots per row, at least the longest prompt plus its new tokens; :meth:`reserve`
            can raise it. With pages, the maximum slots per row.
        device: the model's device; passed only for an edited text's cache.
        pages: page tables of the rows, for attention layers; unsupported by recurrent layers.
    """

    def __init__(
        self,
        layers: int | Sequence[Rotation | Recurrence | None],
        capacity: int = 0,
        *,
        device: torch.device | None = None,
        pages: Pages | None = None,
    ) -> None:
        self.slots = WriteSlots(capacity, pages)
        self.kinds = [None] * layers if isinstance(layers, int) else list(layers)
        if device is not None:
            self.slots.position_of = torch.full((capacity,), NOWHERE, device=device)
        super().__init__(layers=[self._layer(kind) for kind in self.kinds])

    def _layer(self, kind: Rotation | Recurrence | None) -> CacheLayer | LinearAttentionLayer:
        if not isinstance(kind, Recurrence):
            return CacheLayer(self.slots, kind)
        if kind.attends:
            return _HybridLayer(self.slots, kind.states)
        return LinearAttentionLayer(kind.states)

    @property
    def recurrent(self) -> bool:
        """True if some layers are recurrent."""
        return any(isinstance(kind, Recurrence) for kind in self.kinds)

    @property
    def capacity(self) -> int:
        """Slots per row; with pages, the slots of all rows together."""
        return self.slots.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of all layers' states."""
        return sum(layer.nbytes for layer in self._each())

    def place(
        self,
        index: torch.Tensor,
        end: int | None,
        positions: torch.Tensor | None = None,
        held: torch.Tensor | None = None,
    ) -> None:
        """Sets the slots and positions of the next tokens.

        Args:
            index: slots of the new tokens, int64 [B, Q].
            end: one more than the largest slot that attention reads; None if it reads by a table
                (:mod:`codegen.decoding.passes`) instead of a mask.
            positions: positions of the tokens, int64 [B, Q]; the slots' numbers by default.
            held: positions of the slots up to ``end``, int64 [B, end]; the slots'
                numbers by default, or ``position_of`` for an edited text.
        """
        slots = self.slots
        slots.index, slots.positions = index, index if positions is None else positions
        slots.rows = torch.arange(len(index), device=index.device)[:, None]
        slots.end = self.capacity if end is None else end
        slots.read = None
        if held is not None or end is None:
            slots.held = slots.positions if held is None else held  # unused by a table
        elif slots.position_of is None:
            slots.held = torch.arange(end, device=index.device)
        else:
            slots.held = slots.position_of[:end]
        if slots.pages:
            slots.index, slots.rows = slots.pages.places(index), torch.zeros_like(slots.rows)
            if end is not None:
                everything = torch.arange(end, device=index.device).expand(len(index), -1)
                slots.read = slots.pages.places(everything)

    def mask(self) -> torch.Tensor:
        """Returns the slots that each placed token attends to, bool [B, 1, Q, end]."""
        slots = self.slots
        return (slots.held[..., None, :] <= slots.positions[:, :, None])[:, None]

    def within(self, window: int) -> torch.Tensor:
        """Returns the slots in each placed token's window, bool [B, 1, Q, end].

        Args:
            window: number of latest positions that a query attends to, including its own.
        """
        slots = self.slots
        return (slots.held[..., None, :] > slots.positions[:, :, None] - window)[:, None]

    def in_chunk(self, size: int) -> torch.Tensor:
        """Returns the slots in each token's chunk of ``size`` positions, bool [B, 1, Q, end]."""
        slots = self.slots
        chunk = slots.positions[:, :, None] // size
        return (slots.held[..., None, :] // size == chunk)[:, None]

    @property
    def starts(self) -> torch.Tensor | None:
        """First shared slots of the rows' pages, int64 [B, N]; None without pages."""
        return self.slots.pages.starts if self.slots.pages else None

    def admit(self, slots: Sequence[int]) -> None:
        """Allocates pages for new rows, at least ``slots[i]`` slots each."""
        assert self.slots.pages is not None
        self.slots.pages.admit(slots)
        if (capacity := PAGE * self.slots.pages.count) > self.capacity:
            self._resize(capacity)

    def keep(self, path: torch.Tensor, cursors: torch.Tensor) -> None:
        """Compacts the accepted nodes of trees; node j is in slot ``cursor + j``.

        Args:
            path: each row's accepted nodes below node 0, ascending, padded with -1, int64 [B, D];
                the i-th moves to slot ``cursor + 1 + i``.
            cursors: the slot of each row's node 0, int64 [B].
        """
        targets = cursors[:, None] + torch.arange(1, path.shape[1] + 1, device=path.device)
        sources = torch.where(path >= 0, cursors[:, None] + path, targets)
        if self.slots.pages:
            sources, targets = self.slots.pages.places(sources), self.slots.pages.places(targets)
        alike: dict[tuple[Any, ...], list[torch.Tensor]] = {}
        for layer in self._each():
            for states in layer.states if layer.is_initialized else ():
                key = (states.shape, states.dtype, states.stride(), states.device)
                alike.setdefault(key, []).append(states)
        for tensors in alike.values():
            device = tensors[0].device
            compact(tensors, sources.to(device), targets.to(device))

    def join(self, other: KVCache, rows: int) -> None:
        """Appends the rows of another cache of the same capacity; for pages, of any capacity.

        Args:
            other: may still be unused; this cache may not, unless it has pages.
            rows: number of the other cache's rows, which are the last rows of the pages.
        """
        if self.slots.pages:
            self._fill(other, rows, self.slots.pages)
            return
        for layer, added in zip(self._each(), other._each(), strict=True):
            layer.join(added, rows)
        for layer, added in zip(self._stateful(), other._stateful(), strict=True):
            for own, theirs in zip(_states(layer), _states(added), strict=True):
                for number, state in own.items():
                    more = theirs[number]
                    if state is not None:
                        more = state.new_zeros(rows, *state.shape[1:]) if more is None else more
                        own[number] = torch.cat([state, more])

    def _fill(self, other: KVCache, rows: int, pages: Pages) -> None:
        """Copies the rows of a cache without pages to the last rows' pages."""
        slots = torch.arange(other.capacity, device=pages.starts.device)
        index = pages.places(slots.expand(len(pages.starts), -1))[-rows:]
        for layer, added in zip(self._each(), other._each(), strict=True):
            if not added.is_initialized:
                continue  # the prompts had one token
            if not layer.is_initialized:
                layer.lazy_initialization(*added.states)
            for own, new in zip(layer.states, added.states, strict=True):
                own[0, :, index.to(own.device)] = new.transpose(0, 1)

    def select(self, rows: torch.Tensor) -> None:
        """Keeps only the given rows (int64 [B']), in this order; for pages see :class:`Pages`."""
        for layer in self._each():
            layer.change(lambda states: states.index_select(0, rows.to(states.device)))
        for layer in self._stateful():
            LinearAttentionLayer.reorder_cache(layer, rows)  # type: ignore[reportArgumentType]

    def fresh(self, capacity: int) -> KVCache:
        """Returns an empty cache without pages for other rows of the same model."""
        return KVCache(self.kinds, capacity)

    def snapshot(self) -> list[torch.Tensor]:
        """Returns a copy of all recurrent states; empty before the first pass."""
        return [state.clone() for state in self._all_states()]

    def restore(self, states: Sequence[torch.Tensor]) -> None:
        """Restores all recurrent states from a snapshot."""
        if not states:
            for layer in self._stateful():
                LinearAttentionLayer.reset(layer)
        for state, kept in zip(self._all_states(), states, strict=bool(states)):
            state.copy_(kept)

    def put(self, states: Sequence[torch.Tensor], rows: Sequence[int]) -> None:
        """Restores the recurrent states of some rows from a snapshot, in one launch."""
        own = [state[row] for state in self._all_states() for row in rows]
        kept = [state[row] for state in states for row in rows]
        torch._foreach_copy_(own, kept)

    def reserve(self, slots: int) -> None:
        """Grows the cache to at least ``slots``, with an eighth to spare."""
        if slots <= self.capacity:
            return
        self._resize(_rounded(slots + slots // 8))

    def take(self, index: torch.Tensor) -> None:
        """Keeps only these slots, int64 [N], as the first N; the caller resets their positions."""
        for layer in self._each():
            layer.change(lambda states: states.index_select(2, index.to(states.device)))
        self._resize(_rounded(len(index)))
        assert self.slots.position_of is not None
        self.slots.position_of.fill_(NOWHERE)

    def copy(self) -> KVCache:
        """Returns an independent copy of an edited text's cache."""
        held = self.slots.position_of
        assert held is not None
        twin = KVCache(self.kinds, self.capacity, device=held.device)
        twin.slots.position_of = held.clone()
        for layer, other in zip(twin._each(), self._each(), strict=True):
            if other.is_initialized:
                layer.keys, layer.values = (states.clone() for states in other.states)
                layer.encoded = None if other.encoded is None else other.encoded.clone()
                layer.device, layer.is_initialized = other.device, True
        return twin

    def move(self, index: torch.Tensor, shifts: torch.Tensor) -> None:
        """Rotates keys by ``shifts`` positions from their encoded positions.

        Args:
            index: slots, int64 [N].
            shifts: int64 [N].
        """
        turns: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for layer, rotation in zip(self._each(), self.kinds, strict=True):
            if not isinstance(rotation, Rotation):
                continue
            table = id(rotation.frequencies)
            if table not in turns:
                turns[table] = rotation.turns(shifts)
            layer.move(index, *turns[table])

    def _each(self) -> Iterator[CacheLayer]:
        for layer in self.layers:
            if isinstance(layer, CacheLayer):
                yield layer

    def _stateful(self) -> Iterator[LinearAttentionLayer]:
        for layer in self.layers:
            if isinstance(layer, LinearAttentionLayer):
                yield layer

    def _all_states(self) -> Iterator[torch.Tensor]:
        for layer in self._stateful():
            for states in _states(layer):
                yield from (state for state in states.values() if state is not None)

    def _resize(self, capacity: int) -> None:
        """Sets the capacity, which must cover the slots in use."""

        def resized(states: torch.Tensor) -> torch.Tensor:
            found = states.new_zeros(*states.shape[:2], capacity, states.shape[3])
            found[:, :, : states.shape[2]] = states
            return found

        for layer in self._each():
            layer.change(resized)
        held = self.slots.position_of
        if held is not None:
            longer = held.new_full((capacity,), NOWHERE)
            count = min(capacity, len(held))
            longer[:count] = held[:count]
            self.slots.position_of = longer
        self.slots.capacity = capacity


def _states(layer: LinearAttentionLayer) -> tuple[dict[int, torch.Tensor | None], ...]:
    """Returns a layer's states by number, each [B, ...]."""
    return layer.conv_states, layer.recurrent_states


def _rounded(slots: int) -> int:
    return -(-slots // _STEP) * _STEP
