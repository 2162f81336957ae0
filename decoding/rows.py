"""What a decoding is about: its rows, the trees of tokens that a round feeds them, their states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache, recurrences
from codegen.decoding.passes import Drafts, ModelPass, Passes, drafts_of, forward
from codegen.decoding.prefill import prefill

Finish = Literal["eos", "stop", "length"]


@dataclass
class Row:
    """One sequence being decoded.

    Attributes:
        prompt: token ids, at least one.
        uniforms: the random numbers of its tokens in order, one for each of ``max_new_tokens``.
        rest: bytes that the first tokens must spell (token healing).
        tokens: the generated ids, without the end-of-sequence token and what was taken back;
            existing tokens are continued.
        actions: with a backspace token, all ids that were chosen, the end-of-sequence token too.
        finish: why it ended, None while it runs.
    """

    prompt: list[int]
    uniforms: Sequence[float]
    rest: bytes = b""
    tokens: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Trees:
    """The tokens that a round feeds: a tree a row, of W nodes, parents before children.

    Node 0 is the token that the row feeds next; nodes 1.. are drafted. Node j takes slot
    ``cursor + j`` of the cache, its position is ``cursor`` plus its depth, and it sees the context
    and its ancestors.

    Attributes:
        tokens: int64 [B, W].
        depths: distance from node 0, int64 [B, W]; None if no tree has a fork, so that a node's
            slot is its position.
        ancestors: whether node j is node i or above it, bool [B, W, W] at (i, j); None likewise.
    """

    tokens: torch.Tensor
    depths: torch.Tensor | None = None
    ancestors: torch.Tensor | None = None

    @property
    def width(self) -> int:
        """W."""
        return self.tokens.shape[1]


class Sequences(Protocol):
    """The states of the rows of a batch."""

    @property
    def drafts(self) -> Drafts:
        """Which drafts they can encode; chains are trees without forks."""
        ...

    @property
    def device(self) -> torch.device:
        """Where logits and tokens are."""
        ...

    def admit(self, given: Sequence[list[int]]) -> Passes[torch.Tensor | None]:
        """Takes rows in, behind those that are there; ``given`` are their tokens.

        Returns:
            Logits [B, 1, V] of the token after each row, if they are known; else None, and the
            rows' last tokens are to be fed yet.
        """
        ...

    def encode(self, trees: Trees) -> Passes[torch.Tensor]:
        """The logits [B, W, V] after each node."""
        ...

    def keep(self, paths: Sequence[Sequence[int]], steps: Sequence[int]) -> None:
        """Keeps, of what was encoded last, node 0 and the accepted nodes below it.

        Args:
            paths: the accepted nodes of each row, ascending.
            steps: by how many tokens each row has grown; negative if some were taken back.
        """
        ...

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only these rows."""
        ...


class CachedRows:
    """Rows in one cache, each with a cursor: the slot of the token that it feeds next.

    Drafts for a model with recurrent layers are chains. Where some of a chain was not accepted, the
    states go back to before it, and what was accepted is encoded again.

    Args:
        model: loaded with ``sdpa`` or ``eager`` attention.
        capacity: slots a row.
    """

    def __init__(self, model: PreTrainedModel, capacity: int) -> None:
        config = model.config.get_text_config()
        self.model, self.device = model, model.device
        self.cache = KVCache(recurrences(config), capacity)
        self.drafts: Drafts = drafts_of(model)
        self.cursors: list[int] = []
        self._drafted: tuple[Trees, list[torch.Tensor]] | None = None  # with the states before
        limit: int | None = getattr(config, "max_position_embeddings", None)
        self._last_position = (limit or capacity) - 1

    def admit(self, given: Sequence[list[int]]) -> Passes[None]:
        """See :class:`Sequences`. Encodes all tokens but the last."""
        cache, cursors = self._encoded(given)
        if self.cursors:
            self.cache.join(cache, len(given))
        else:
            self.cache = cache
        self.cursors += cursors
        yield from ()  # the prompts' passes are not shared with other work

    def encode(self, trees: Trees) -> Passes[torch.Tensor]:
        """See :class:`Sequences`."""
        if self.drafts != "trees" and trees.depths is not None:
            raise ValueError("recurrent layers can't encode trees with forks")
        mask = self.place(trees)
        if self.cache.recurrent and trees.width > 1:
            self._drafted = trees, self.cache.snapshot()
        return (yield ModelPass(self.model, trees.tokens, self.cache, mask, trees.width))

    def place(self, trees: Trees, first: int = 0) -> torch.Tensor:
        """Places the nodes from ``first`` on; returns their mask, bool [B, 1, W - first, slots].

        The positions of a tree that reaches beyond what the model holds are cut: nodes there are
        never accepted.
        """
        width, device = trees.width, self.device
        cursors = torch.tensor(self.cursors, device=device)[:, None]  # [B, 1]
        nodes = cursors + torch.arange(first, width, device=device)
        end = max(self.cursors) + width
        if trees.depths is None or trees.ancestors is None:
            self.cache.place(nodes, end)
            return self.cache.mask()
        positions = (cursors + trees.depths).clamp(max=self._last_position)
        slot = torch.arange(end, device=device)
        node = slot - cursors  # the one that lies in a slot, [B, end]
        inside = (node >= 0) & (node < width)
        index = node.clamp(0, width - 1)
        held = torch.where(inside, positions.gather(1, index), slot)
        self.cache.place(nodes, end, positions[:, first:], held)
        index = index[:, None].expand(-1, width - first, -1)
        among = trees.ancestors[:, first:].gather(2, index)  # [B, W - first, end]
        return torch.where(inside[:, None], among, (node < 0)[:, None])[:, None]

    def keep(self, paths: Sequence[Sequence[int]], steps: Sequence[int]) -> None:
        """See :class:`Sequences`."""
        if self._drafted is not None:
            trees, before = self._drafted
            self._drafted = None
            self._repeat(trees, before, [1 + len(path) for path in paths])
        else:
            self.cache.keep(paths, self.cursors)
        self.cursors = [cursor + step for cursor, step in zip(self.cursors, steps, strict=True)]

    def select(self, rows: Sequence[int]) -> None:
        """See :class:`Sequences`."""
        if rows:
            self.cache.select(torch.tensor(rows, device=self.device))
        self.cursors = [self.cursors[row] for row in rows]

    def _repeat(
        self, chains: Trees, before: Sequence[torch.Tensor], lengths: Sequence[int]
    ) -> None:
        """Makes the recurrent states those after the first tokens of each row's chain.

        Args:
            chains: what was encoded last.
            before: the states before it.
            lengths: how many of its tokens stay; of a row that has finished any number.
        """
        if min(lengths) == chains.width:
            return
        rows_of = {n: [i for i, length in enumerate(lengths) if length == n] for n in set(lengths)}
        found = {chains.width: self.cache.snapshot()}
        self.cache.restore(before)
        start = 0
        for stop in sorted(set(lengths) - {chains.width}):
            part = Trees(chains.tokens[:, :stop])
            mask = self.place(part, start)
            forward(self.model, part.tokens[:, start:], self.cache, mask, 1)
            found[stop] = self.cache.snapshot()
            start = stop
        for length, rows in rows_of.items():
            self.cache.put(found[length], rows)

    def _encoded(self, given: Sequence[list[int]]) -> tuple[KVCache, list[int]]:
        """A cache with the rows' tokens but the last, and their cursors."""
        cache = self.cache.fresh()
        prefill(self.model, cache, given)
        return cache, [len(tokens) - 1 for tokens in given]
