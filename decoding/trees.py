"""The tokens that a round feeds, drafts included, as trees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from codegen.decoding.device import upload
from codegen.kernels.vocabulary import accept_greedy


@dataclass
class Trees:
    """The tokens that a round feeds: one tree per row, of W nodes, parents before children.

    Node 0 is the token that the row feeds next; the other nodes are drafted. Node j has slot
    ``cursor + j`` of the cache and position ``cursor`` plus its depth, and sees the context and its
    ancestors. Tensors may be on the host; :meth:`upload` moves them to the device.

    Attributes:
        tokens: int64 [B, W].
        parents: each node's parent, int64 [B, W]; -1 for node 0 and for padding. None if no tree
            has a fork: a node's parent is then the node before it.
        cursors: slots of the nodes 0, int64 [B]; None to use those of the sequences.
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
        """W."""
        return self.tokens.shape[1]

    @cached_property
    def ancestors(self) -> torch.Tensor:
        """Whether node j is node i or above it, bool [B, W, W] at (i, j)."""
        number = torch.arange(self.width, device=self.tokens.device)
        if self.parents is None:
            return (number <= number[:, None]).expand(len(self.tokens), -1, -1)
        among = (self.parents[..., None] == number) | (number == number[:, None])
        for _ in range((self.width - 1).bit_length()):  # each product doubles how far up it looks
            among = (reach := among.float()) @ reach > 0
        return among

    @cached_property
    def depths(self) -> torch.Tensor:
        """Distances from node 0, int64 [B, W]."""
        return self.ancestors.sum(-1) - 1

    @property
    def places(self) -> torch.Tensor:
        """How many of the row's choices precede the one after each node, int64 [B, W]."""
        assert self.made is not None
        return self.made[:, None] + self.depths

    def accept(self, chosen: torch.Tensor) -> torch.Tensor:
        """Sets ``path`` to the nodes that were chosen after their parents, from node 0 down.

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
        """The next round's trees, without drafts: the chosen tokens int64 [B, 1]."""
        assert self.made is not None
        cursors = None if self.cursors is None else self.cursors + 1
        return Trees(chosen, None, cursors, self.made + 1)

    def upload(self, device: torch.device) -> None:
        """Moves tensors that are still on the host to the device, in one copy."""
        given = {name: getattr(self, name) for name in ("tokens", "parents", "cursors", "made")}
        on_host = {k: t for k, t in given.items() if t is not None and t.device.type != device.type}
        if on_host:
            self.__dict__.update(zip(on_host, upload(device, *on_host.values()), strict=True))
