"""Trees of drafted tokens, drawn from the draft's distribution without replacement.

Siblings must be distinct, and must be tried in the order in which they were drawn: recursive
rejection takes the i-th for a sample from what the draft's distribution is without those before it.
The top of log-probabilities with Gumbel noise is such a draw, in falling order (Gumbel-top-k;
Kool, van Hoof and Welling 2019, arXiv 1903.06059). Sorting siblings by probability instead, or
leaving one out for what it says, would change what is emitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch


@dataclass
class Tree:
    """The drafted nodes of a batch of rows, level by level; node 0 is the row's last token.

    Attributes:
        tokens: int64 [B, N], the tokens of nodes 1 .. N.
        parents: int64 [B, N], the node that each hangs on.
        alive: bool [B, N]; dead nodes fill a level up where the draft gives too few tokens any
            probability. They stand behind their siblings.
        widths: number of nodes of each level.
    """

    tokens: torch.Tensor
    parents: torch.Tensor
    alive: torch.Tensor
    widths: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, rows: int, device: torch.device | str = "cpu") -> Tree:
        """Trees of the root alone."""
        nothing = torch.empty(rows, 0, dtype=torch.long, device=device)
        return cls(nothing, nothing, nothing.bool())

    def add(self, tokens: torch.Tensor, parents: torch.Tensor, alive: torch.Tensor) -> None:
        """Adds a level of int64 [B, n]; ``parents`` counts within the level above."""
        above = 1 + sum(self.widths[:-1]) if self.widths else 0
        self.tokens = torch.cat([self.tokens, tokens], 1)
        self.parents = torch.cat([self.parents, parents + above], 1)
        self.alive = torch.cat([self.alive, alive], 1)
        self.widths.append(tokens.shape[1])

    @property
    def depths(self) -> list[int]:
        """The depth of nodes 0 .. N."""
        return [0, *(level + 1 for level, n in enumerate(self.widths) for _ in range(n))]

    def ancestors(self) -> torch.Tensor:
        """bool [B, N+1, N+1]: whether node j is i or above it."""
        rows, nodes = self.tokens.shape
        among = torch.eye(nodes + 1, dtype=torch.bool, device=self.tokens.device)
        among = among.repeat(rows, 1, 1)
        every = torch.arange(rows, device=self.tokens.device)
        for node in range(1, nodes + 1):
            among[:, node] |= among[every, self.parents[:, node - 1]]
        return among

    def children(self) -> torch.Tensor:
        """int64 [B, N+1, K]: each node's children in the order drawn, -1 behind the last."""
        rows, nodes = self.tokens.shape
        same = self.parents[:, :, None] == self.parents[:, None, :]
        earlier = torch.ones(nodes, nodes, dtype=torch.bool, device=same.device).tril(-1)
        rank = (same & earlier).sum(-1)
        most = int(rank.max()) + 1 if nodes else 0
        found = self.tokens.new_full((rows, nodes + 1, most), -1)
        number = torch.arange(1, nodes + 1, device=same.device).expand(rows, -1)
        every = torch.arange(rows, device=same.device)[:, None].expand(-1, nodes)
        found[every, self.parents, rank] = torch.where(self.alive, number, -1)
        return found


class Shape(Protocol):
    """How a tree grows."""

    @property
    def depth(self) -> int:
        """Levels below the root."""
        ...

    @property
    def nodes(self) -> int:
        """Drafted nodes of a whole tree, at most."""
        ...

    @property
    def branches(self) -> int:
        """Children of a node, at most."""
        ...

    def grow(self, tree: Tree, log_probs: torch.Tensor, noise: torch.Tensor, beam: Beam) -> Beam:
        """Adds a level.

        Args:
            tree: gets it.
            log_probs: the draft's, [B, n, V] after the n nodes of the last level.
            noise: independent standard Gumbel variables of the same shape.
            beam: of the last level.
        """
        ...


@dataclass
class Beam:
    """The last level's nodes.

    Attributes:
        alive: bool [B, n].
        log_probs: of the paths to them, [B, n].
        perturbed: their Gumbel variables' values, [B, n]; of stochastic beams alone.
    """

    alive: torch.Tensor
    log_probs: torch.Tensor
    perturbed: torch.Tensor

    @classmethod
    def root(cls, rows: int, device: torch.device | str = "cpu") -> Beam:
        """That of the root."""
        zero = torch.zeros(rows, 1, dtype=torch.float64, device=device)
        return cls(torch.ones_like(zero, dtype=torch.bool), zero, zero)


@dataclass(frozen=True)
class ConstantBranching:
    """RSD-C: each node of level l gets ``branching[l]`` children."""

    branching: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Levels below the root."""
        return len(self.branching)

    @property
    def nodes(self) -> int:
        """Drafted nodes."""
        total, width = 0, 1
        for branch in self.branching:
            width *= branch
            total += width
        return total

    @property
    def branches(self) -> int:
        """Children of a node, at most."""
        return max(self.branching)

    def grow(self, tree: Tree, log_probs: torch.Tensor, noise: torch.Tensor, beam: Beam) -> Beam:
        """Adds a level; see :class:`Shape`."""
        rows, above, vocabulary = log_probs.shape
        branch = min(self.branching[len(tree.widths)], vocabulary)
        keys, tokens = (log_probs.double() + noise).topk(branch, dim=-1)
        alive = (keys > -torch.inf) & beam.alive[..., None]
        parents = torch.arange(above, device=tokens.device).repeat_interleave(branch)
        tree.add(tokens.flatten(1), parents.expand(rows, -1), alive.flatten(1))
        nothing = keys.flatten(1)
        return Beam(alive.flatten(1), nothing, nothing)


@dataclass(frozen=True)
class StochasticBeam:
    """RSD-S: each level keeps the ``width`` paths with the largest Gumbel variables (Kool et al.).

    A path's variable has the largest of its children's: these are drawn under that condition, so
    that a level is a draw of paths without replacement. A node may have several children or none.
    """

    width: int
    depth: int

    @property
    def nodes(self) -> int:
        """Drafted nodes."""
        return self.width * self.depth

    @property
    def branches(self) -> int:
        """Children of a node, at most."""
        return self.width

    def grow(self, tree: Tree, log_probs: torch.Tensor, noise: torch.Tensor, beam: Beam) -> Beam:
        """Adds a level; see :class:`Shape`."""
        vocabulary = log_probs.shape[-1]
        paths = beam.log_probs[..., None] + log_probs.double()
        loose = paths + noise
        largest = loose.amax(-1, keepdim=True)
        above = beam.perturbed[..., None]
        gap = above - loose + torch.log1p(-torch.exp(loose - largest))
        bound = above - gap.clamp(min=0) - torch.log1p(torch.exp(-gap.abs()))
        bound = bound.where(beam.alive[..., None] & (loose > -torch.inf), -torch.inf)
        keys, places = bound.flatten(1).topk(min(self.width, bound[0].numel()), dim=-1)
        alive = keys > -torch.inf
        tree.add(places % vocabulary, places // vocabulary, alive)
        kept = paths.flatten(1).gather(1, places)
        # Dead paths must not turn into NaN; nothing is read from them.
        return Beam(alive, kept.where(alive, 0.0), keys.where(alive, 0.0))


def gumbel(uniforms: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel variables from uniform ones in [0, 1)."""
    return -torch.log(-torch.log(uniforms))
