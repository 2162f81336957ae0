"""The rows of a decoding, the trees of tokens that a round feeds, and the rows' cached states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache, Pages, recurrences
from codegen.decoding.device import Replays, cuda_graphs, padded_slots
from codegen.decoding.editing.forward import own_step
from codegen.decoding.passes import (
    Drafts,
    ModelPass,
    Passes,
    Step,
    Trees,
    drafts_of,
    forward,
    read_in_place,
)
from codegen.decoding.prefill import prefill
from codegen.kernels.tree_attention import MOST_NODES, pack

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
            trees: those trees; ``path`` may be longer than ``paths`` for a row that has ended.
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
        longest: maximum tokens with which a row is admitted.
        room: slots of a row besides those tokens.
    """

    def __init__(self, model: PreTrainedModel, longest: int, room: int = 0) -> None:
        config = model.config.get_text_config()
        self.model, self.device, self._room = model, model.device, room
        self.in_place = read_in_place(model)
        self.capacity = padded_slots(longest + room, model.device)
        self.cache = KVCache(recurrences(config), self.capacity)
        if self.in_place and not self.cache.recurrent:
            self.cache = KVCache(self.cache.kinds, pages=Pages(self.capacity, model.device))
        self.drafts: Drafts = drafts_of(model)
        self.cursors: list[int] = []
        self._before: list[torch.Tensor] | None = None  # states before the drafted tokens
        limit: int | None = getattr(config, "max_position_embeddings", None)
        self._last_position = (limit or self.capacity) - 1
        # Running a recurrent layer twice changes its state twice; a graph is bound to one device.
        captured = self.device.type == "cuda" and not self.cache.recurrent
        # pyrefly: ignore[not-callable]
        captured = captured and len(set(getattr(model, "hf_device_map", {}).values())) < 2
        self._replays = Replays(cuda_graphs()) if captured else None
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
        # It has run its passes itself, as the passes over prompts are never combined.
        yield from ()  # pyrefly: ignore[invalid-yield]

    def encode(self, trees: Trees) -> Passes[torch.Tensor]:
        """Encodes the trees; see :class:`Sequences`."""
        if self.drafts != "trees" and trees.parents is not None:
            raise ValueError("recurrent layers cannot encode trees with forks")
        mask = self.place(trees)
        if self.cache.recurrent and trees.width > 1:
            self._before = self.cache.snapshot()
        step = self._step if trees.parents is None else None
        # Resumed with the logits by run_alone(); see codegen.decoding.passes.
        return (yield self.pass_of(trees.tokens, mask, step))

    def pass_of(
        self, tokens: torch.Tensor, mask: torch.Tensor, step: Step | None = None
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
            # All slots: the table says how many are read, so one graph serves every length.
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
        prefill(self.model, cache, given)
        return cache, [len(tokens) - 1 for tokens in given]


def _is_apart(path: Sequence[int]) -> bool:
    """Returns True if the accepted nodes do not directly follow node 0."""
    return list(path) != list(range(1, len(path) + 1))
