"""Drafts put to the target: one forward pass over trees of tokens, a tree a row.

Node 0 of a row is the token that the row feeds next; nodes 1.. are drafted. Node j takes slot
``cursor + j`` of the cache, its position is ``cursor`` plus its depth, and it sees the context and
its own ancestors. What is accepted is a path from node 0 down; its states are moved together if
they don't lie so, the others' slots are overwritten by the next round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from codegen.decoding.cache import RowCache
from codegen.decoding.drafts.planner import Planner
from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_NONE = Draft()


@dataclass
class Speculation:
    """The drafters of a batch, one a row, and what came of them.

    Attributes:
        drafters: of the rows, in their order.
        contexts: what is known of each row besides its prompt; empty if nothing.
        limit: most tokens of a draft.
        planner: cuts drafts to what pays; None to verify all that is drafted.
        passes_of: forward passes that each row took part in.
        tallies: of each row, by a draft's source: tokens that were verified, and the right ones.
        drafted: tokens that were drafted.
        emitted: tokens that the rows grew by.
    """

    drafters: Sequence[Drafter]
    contexts: Sequence[Context] = ()
    limit: int = 16
    planner: Planner | None = None
    passes_of: list[int] = field(default_factory=list)
    tallies: list[dict[str, list[int]]] = field(default_factory=list)
    drafted: int = 0
    emitted: int = 0

    def __post_init__(self) -> None:
        self.passes_of = [0] * len(self.drafters)
        self.tallies = [{} for _ in self.drafters]

    @property
    def passes(self) -> int:
        """Forward passes, summed over rows."""
        return sum(self.passes_of)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens that a row grew by in a forward pass; 1 without drafts."""
        return self.emitted / self.passes if self.passes else 0.0

    def begin(self, number: int, tokens: Sequence[int]) -> None:
        """A row begins with these tokens."""
        context = self.contexts[number] if self.contexts else Context()
        self.drafters[number].begin(tokens, context)

    def draft(self, left: Mapping[int, int], rows: int, waiting: bool) -> dict[int, Draft]:
        """Drafts for the rows that run, by their number.

        Args:
            left: tokens that each of them may still grow by; 0 for one that takes no draft.
            rows: of the pass, with those that have ended and ride along.
            waiting: whether other rows wait for a place in the batch.
        """
        found: dict[int, Draft] = {}
        for number, most in left.items():
            most = min(self.limit, most - 1)
            found[number] = self.drafters[number].draft(most) if most > 0 else _NONE
        if self.planner is None or not found:
            return found
        cut = self.planner.plan(list(found.values()), rows, list(left.values()), waiting)
        return dict(zip(found, cut, strict=True))

    def tell(self, number: int, draft: Draft, emitted: Sequence[int]) -> None:
        """Tells a row's drafter what came of its draft."""
        self.passes_of[number] += 1
        self.drafted += len(draft)
        self.emitted += len(emitted)
        if len(draft):
            tally = self.tallies[number].setdefault(draft.source, [0, 0])
            tally[0] += len(draft)
            tally[1] += len(draft.path(emitted))
        self.drafters[number].accept(emitted)

    def candidates(self, rows: int) -> int:
        """Most probable next tokens that some drafter wants to know; 0 where too little is gained
        by a wider pass for them to be looked for.
        """
        if self.planner is not None and not self.planner.is_cheap(rows):
            return 0
        return max((drafter.candidates for drafter in self.drafters), default=0)


@dataclass
class Trees:
    """The trees of a batch of rows, padded to W nodes.

    Attributes:
        tokens: [B][W] token ids; padding repeats node 0.
        depths: [B][W] distance from node 0.
        children: for each row, (node, token) -> node.
        chains: whether no row's tree has a fork, so that slot and position agree.
    """

    tokens: list[list[int]]
    depths: list[list[int]]
    children: list[dict[tuple[int, int], int]] = field(default_factory=list)
    parents: list[list[int]] = field(default_factory=list)
    chains: bool = True

    @classmethod
    def of(cls, pending: Sequence[int], drafts: Sequence[Draft]) -> Trees:
        """The trees under the tokens that the rows feed next."""
        width = 1 + max(map(len, drafts))
        trees = cls([], [])
        for token, draft in zip(pending, drafts, strict=True):
            trees.tokens.append([token, *draft.tokens, *[token] * (width - 1 - len(draft))])
            parents = [-1, *(parent + 1 for parent in draft.parents)]
            depths = [0]
            for parent in parents[1:]:
                depths.append(depths[parent] + 1)
            trees.chains = trees.chains and draft.is_chain
            # Padding goes on like a chain: what it computes is never looked at.
            depths += range(len(depths), width)
            trees.depths.append(depths)
            trees.parents.append(parents)
            trees.children.append(
                {
                    (parent, child): node + 1
                    for node, (parent, child) in enumerate(
                        zip(parents[1:], draft.tokens, strict=True)
                    )
                }
            )
        return trees

    @property
    def width(self) -> int:
        """W."""
        return len(self.tokens[0])

    def place(self, cache: RowCache, cursors: Sequence[int], device: torch.device) -> torch.Tensor:
        """Places the nodes in the cache; returns the attention mask, bool [B, 1, W, end]."""
        width = self.width
        first = torch.tensor(cursors, device=device)[:, None]
        slots = first + torch.arange(width, device=device)
        cache.place(slots, max(cursors) + width)
        if self.chains:
            return cache.mask()
        cache.slots.positions = first + torch.tensor(self.depths, device=device)
        mask = torch.arange(cache.slots.end, device=device) < first[..., None]  # [B, 1, end]
        mask = mask.expand(-1, width, -1).clone()
        for row, (cursor, parents) in enumerate(zip(cursors, self.parents, strict=True)):
            among = torch.eye(width, dtype=torch.bool)
            for node, parent in enumerate(parents[1:], start=1):
                among[node] |= among[parent]
            among[len(parents) :, 0] = True
            mask[row, :, cursor : cursor + width] = among.to(device)
        return mask[:, None]
