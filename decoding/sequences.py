"""Decoded rows, the trees of tokens that a round feeds, and the rows' cached states."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache, Pages, recurrences
from codegen.decoding.device import CapturedGraphs, cuda_graphs, padded_slots, upload
from codegen.decoding.editing.forward import own_step
from codegen.decoding.passes import (
    Drafts,
    ModelPass,
    Passes,
    StepProtocol,
    drafts_of,
    forward,
    read_in_place,
)
from codegen.decoding.prefill import prefill
from codegen.kernels.tree_attention import MOST_NODES, pack
from codegen.kernels.vocabulary import accept_greedy

Finish = Literal["eos", "stop", "length"]


@dataclass
class Row:
    """One sequence being decoded.

    Attributes:
        prompt: token ids, at least one.
        uniforms: one random number per new token, in order.
        rest: bytes that the first tokens must spell (token healing).
        tokens: the generated ids, without the end of sequence and without removed tokens; tokens
            present at the start are continued.
        actions: all chosen ids, including the end of sequence; used with a backspace token.
        finish: reason why the row ended; None while it runs.
    """

    prompt: list[int]
    uniforms: Sequence[float]
    rest: bytes = b""
    tokens: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    finish: Finish | None = None


@dataclass
class Trees:
    """The tokens that a round feeds: one tree per row, of W nodes, parents before children.

    Node 0 is the token that the row feeds next; the other nodes are drafted. Node j has slot
    ``cursor + j`` of the cache and position ``cursor`` plus its depth, and attends to the context
    and its ancestors. Tensors may be on the host; :meth:`upload` moves them to the device.

    Attributes:
        tokens: int64 [B, W].
        parents: each node's parent, int64 [B, W]; -1 for node 0 and for padding. None if no tree
            has a fork: a node's parent is then the node before it.
        cursors: slot of each row's node 0, int64 [B]; None to use the sequences' slots.
        made: tokens chosen before this round, int64 [B].
        path: the accepted nodes below node 0, ascending, padded with -1, int64 [B, D]; set by the
            strategy where trees have forks.
    """

    tokens: torch.Tensor
    parents: torch.Tensor | None = None
    cursors: torch.Tensor | None = None
    made: torch.Tensor | None = None
    path: torch.Tensor | None = None

    @property
    def width(self) -> int:
        """Number of nodes W."""
        return self.tokens.shape[1]

    @functools.cached_property
    def ancestors(self) -> torch.Tensor:
        """True where node j is node i or above it, bool [B, W, W] at (i, j)."""
        number = torch.arange(self.width, device=self.tokens.device)
        if self.parents is None:
            return (number <= number[:, None]).expand(len(self.tokens), -1, -1)
        among = (self.parents[..., None] == number) | (number == number[:, None])
        for _ in range((self.width - 1).bit_length()):  # each product doubles the reach
            among = (reach := among.float()) @ reach > 0
        return among

    @functools.cached_property
    def depths(self) -> torch.Tensor:
        """Distances from node 0, int64 [B, W]."""
        return self.ancestors.sum(-1) - 1

    @property
    def places(self) -> torch.Tensor:
        """Number of the row's choices before the choice after each node, int64 [B, W]."""
        assert self.made is not None
        return self.made[:, None] + self.depths

    def accept(self, chosen: torch.Tensor) -> torch.Tensor:
        """Sets ``path`` to the nodes chosen after their parents, from node 0 down.

        Args:
            chosen: the target's token after each node, int64 [B, W].

        Returns:
            The token after each path, int64 [B].
        """
        assert self.parents is not None
        self.path = accept_greedy(self.tokens, self.parents, chosen)
        last = self.path.amax(1, keepdim=True).clamp(min=0)
        return chosen.gather(1, last)[:, 0]

    def followed(self, chosen: torch.Tensor) -> Trees:
        """Returns the next round's trees, without drafts: the chosen tokens int64 [B, 1]."""
        assert self.made is not None
        cursors = None if self.cursors is None else self.cursors + 1
        return Trees(chosen, None, cursors, self.made + 1)

    def upload(self, device: torch.device) -> None:
        """Moves tensors that are still on the host to the device, in one copy."""
        given = {name: getattr(self, name) for name in ("tokens", "parents", "cursors", "made")}
        on_host = {k: t for k, t in given.items() if t is not None and t.device.type != device.type}
        if on_host:
            self.__dict__.update(zip(on_host, upload(device, *on_host.values()), strict=True))


class Sequences(Protocol):
    """The cached states of a batch's rows."""

    @property
    def drafts(self) -> Drafts:
        """Drafts that can be encoded; chains are trees without forks."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of logits and tokens."""
        ...

    def admit(self, given: Sequence[list[int]]) -> Passes[torch.Tensor | None]:
        """Appends rows with the tokens ``given``.

        Returns:
            Logits [B, 1, V] of each row's next token, or None if the rows' last tokens must be fed
            first.
        """
        ...

    def encode(self, trees: Trees) -> Passes[torch.Tensor]:
        """Returns the logits [B, W, V] after each node."""
        ...

    def keep(self, trees: Trees, paths: Sequence[Sequence[int]], steps: Sequence[int]) -> None:
        """Keeps node 0 and the accepted nodes of the latest encoded trees.

        Args:
            trees: the encoded trees; ``path`` may exceed ``paths`` for a row that has ended.
            paths: the accepted nodes of each row, ascending.
            steps: number of tokens added to each row; negative if some were removed.
        """

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only these rows, in this order."""


class CachedRows:
    """Rows in one cache. A row's cursor is the slot of the token that it feeds next.

    Recurrent layers support drafts as chains. If a part of a chain is rejected, the states from
    before the chain are restored and the accepted part is re-encoded.

    Args:
        model: loaded with ``sdpa`` or ``eager`` attention.
        longest: maximum tokens of a row when admitted.
        room: additional slots per row.
    """

    def __init__(self, model: PreTrainedModel, longest: int, room: int = 0) -> None:
        config = model.config.get_text_config()
        self.model, self.device, self._room = model, model.device, room
        self.in_place, self.drafts = read_in_place(model), drafts_of(model)
        self.capacity = padded_slots(longest + room, model.device)
        self.cache = KVCache(recurrences(config), self.capacity)
        if self.in_place and not self.cache.recurrent:
            self.cache = KVCache(self.cache.kinds, pages=Pages(self.capacity, model.device))
        self.cursors: list[int] = []
        self._before: list[torch.Tensor] | None = None  # states before the drafted tokens
        limit: int | None = getattr(config, "max_position_embeddings", None)
        self._last_position = (limit or self.capacity) - 1
        # Running a recurrent layer twice changes its state twice; a graph is bound to one device.
        captured = self.device.type == "cuda" and not self.cache.recurrent
        # pyrefly: ignore[not-callable]
        captured = captured and len(set(getattr(model, "hf_device_map", {}).values())) < 2
        self._replays = CapturedGraphs(cuda_graphs()) if captured else None
        self._step = own_step(model) if self.device.type == "cpu" else None

    def admit(self, given: Sequence[list[int]]) -> Passes[None]:
        """Encodes all tokens except each row's last; see :class:`Sequences`."""
        cache, cursors = self._encoded(given)
        if self.cache.slots.pages:
            self.cache.admit([len(tokens) + self._room for tokens in given])
        if self.cursors or self.cache.slots.pages:
            self.cache.join(cache, len(given))
        else:
            self.cache = cache
        self.cursors += cursors
        # Runs its own passes, as passes over prompts are never combined.
        yield from ()  # pyrefly: ignore[invalid-yield]

    def encode(self, trees: Trees) -> Passes[torch.Tensor]:
        """Encodes the trees; see :class:`Sequences`."""
        if self.drafts != "trees" and trees.parents is not None:
            raise ValueError("recurrent layers cannot encode branching trees")
        mask = self.place(trees)
        if self.cache.recurrent and trees.width > 1:
            self._before = self.cache.snapshot()
        step = self._step if trees.parents is None else None
        # Resumed with the logits by run_alone(); see codegen.decoding.passes.
        return (yield self.pass_of(trees.tokens, mask, step))

    def pass_of(
        self, tokens: torch.Tensor, mask: torch.Tensor, step: StepProtocol | None = None
    ) -> ModelPass:
        """Returns the pass over placed tokens, with logits after each."""
        width = tokens.shape[1]
        return ModelPass(self.model, tokens, self.cache, mask, width, self._replays, step)

    def make_room(self, width: int) -> None:
        """Called before the cursors are read for trees of at most ``width`` nodes."""

    def place(self, trees: Trees, first: int = 0) -> torch.Tensor:
        """Places the nodes from ``first`` on in the cache.

        Positions beyond the model's last one are clamped; nodes there are never accepted.

        Returns:
            Their mask, bool [B, 1, W - first, slots]; or their table, int64 [B, 1, W, 4], if
            attention reads the cache in place.
        """
        width, device = trees.width, self.device
        if trees.cursors is None:
            trees.cursors = torch.tensor(self.cursors)
        trees.upload(device)
        cursors = trees.cursors[:, None]  # [B, 1]
        # The cursor of a finished row stops at the last slot.
        nodes = (cursors + torch.arange(first, width, device=device)).clamp(0, self.capacity - 1)
        end = min(padded_slots(max(self.cursors) + width, device), self.capacity)
        if self.in_place and width <= MOST_NODES:
            positions = (cursors + trees.depths[:, first:]).clamp(max=self._last_position)
            # All slots: the table has the number to read, so one graph fits every length.
            self.cache.place(nodes, None, positions)
            return pack(trees.cursors, trees.ancestors, self.cache.starts)[:, None]
        if trees.parents is None:
            self.cache.place(nodes, end, nodes.clamp(max=self._last_position))
            return self.cache.mask()
        positions = (cursors + trees.depths).clamp(max=self._last_position)
        slot = torch.arange(end, device=device)
        node = slot - cursors  # the node in each slot, [B, end]
        inside = (node >= 0) & (node < width)
        index = node.clamp(0, width - 1)
        held = torch.where(inside, positions.gather(1, index), slot)
        self.cache.place(nodes, end, positions[:, first:], held)
        index = index[:, None].expand(-1, width - first, -1)
        among = trees.ancestors[:, first:].gather(2, index)  # [B, W - first, end]
        return torch.where(inside[:, None], among, (node < 0)[:, None])[:, None]

    def keep(self, trees: Trees, paths: Sequence[Sequence[int]], steps: Sequence[int]) -> None:
        """Keeps the accepted nodes; see :class:`Sequences`."""
        if self._before is not None:
            before, self._before = self._before, None
            self._repeat(trees, before, [1 + len(path) for path in paths])
        elif trees.path is not None and any(map(_is_apart, paths)):
            assert trees.cursors is not None
            self.cache.keep(trees.path, trees.cursors)
        self.cursors = [cursor + step for cursor, step in zip(self.cursors, steps, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only these rows; see :class:`Sequences`."""
        if pages := self.cache.slots.pages:
            pages.select(rows)
        elif rows:
            self.cache.select(torch.tensor(rows, device=self.device))
        self.cursors = [self.cursors[row] for row in rows]

    def _repeat(
        self, chains: Trees, before: Sequence[torch.Tensor], lengths: Sequence[int]
    ) -> None:
        """Sets the recurrent states to those after the first tokens of each row's chain.

        Args:
            chains: the latest encoded chains.
            before: the states before them.
            lengths: number of tokens kept per chain; any number for finished rows.
        """
        if min(lengths) == chains.width:
            return
        rows_of = {n: [i for i, length in enumerate(lengths) if length == n] for n in set(lengths)}
        found = {chains.width: self.cache.snapshot()}
        self.cache.restore(before)
        start = 0
        for stop in sorted(set(lengths) - {chains.width}):
            part = Trees(chains.tokens[:, :stop], cursors=chains.cursors)
            mask = self.place(part, start)
            forward(self.model, part.tokens[:, start:], self.cache, mask, 1)
            found[stop] = self.cache.snapshot()
            start = stop
        for length, rows in rows_of.items():
            self.cache.put(found[length], rows)

    def _encoded(self, given: Sequence[list[int]]) -> tuple[KVCache, list[int]]:
        """Builds a cache of the rows' tokens except the last, and returns it and their cursors."""
        paged = self.cache.slots.pages
        cache = self.cache.fresh(max(map(len, given)) if paged else self.capacity)
        prefill(self.model, cache, given, self._step)
        return cache, [len(tokens) - 1 for tokens in given]


def _is_apart(path: Sequence[int]) -> bool:
    """Returns True if the accepted nodes do not directly follow node 0."""
    return list(path) != list(range(1, len(path) + 1))
