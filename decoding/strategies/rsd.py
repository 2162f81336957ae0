"""Recursive speculative decoding (RSD): a draft model's trees, sampled without replacement.

Source: Jeon et al., *Recursive Speculative Decoding: Accelerating LLM Inference via Sampling
Without Replacement* (arXiv 2402.14160). :class:`DraftTree` is sampled level by level, with constant
branching (RSD-C) or by stochastic beam search (RSD-S). The target verifies it in one forward pass.
Recursive rejection (:func:`codegen.kernels.vocabulary.accept_tree`, the acceptance rule) then walks
down the tree, and the emitted tokens follow the target's distribution exactly.

Siblings must be distinct and must be tried in sampling order: recursive rejection assumes that the
i-th is a sample from the draft's distribution without the siblings before it. The largest
log-probabilities with Gumbel noise, in descending order, are such a sample
(Gumbel-top-k; Kool, van Hoof and Welling 2019, arXiv 1903.06059). Sorting siblings by probability,
or omitting some by their content, would change the distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedModel

from codegen.core.errors import ModelError
from codegen.decoding.device import download, upload
from codegen.decoding.loop import OWN, Batch, NewTokens, Strategy, Walk
from codegen.decoding.passes import check_attention_only, check_supported, run_alone
from codegen.decoding.sampling import distribution
from codegen.decoding.sequences import CachedRows, Trees
from codegen.kernels.backend import use_triton
from codegen.kernels.vocabulary import MOST, SampledTokens, accept_tree, gumbel_top_k


@dataclass
class DraftTree:
    """The drafted nodes of a batch of rows, level by level; node 0 is the row's last token.

    Attributes:
        tokens: int64 [B, N], the tokens of nodes 1 .. N.
        parents: int64 [B, N], each node's parent.
        alive: bool [B, N]; dead nodes pad a level if too few tokens have nonzero probability. They
            come after their siblings.
        widths: number of nodes of each level.
        branches: maximum children per node.
    """

    tokens: torch.Tensor
    parents: torch.Tensor
    alive: torch.Tensor
    widths: list[int] = field(default_factory=list)
    branches: int = 0

    @classmethod
    def empty(cls, rows: int, device: torch.device | str = "cpu") -> DraftTree:
        """Creates trees with only the root."""
        nothing = torch.empty(rows, 0, dtype=torch.long, device=device)
        return cls(nothing, nothing, nothing.bool())

    def add(
        self, tokens: torch.Tensor, parents: torch.Tensor, alive: torch.Tensor, branches: int
    ) -> None:
        """Adds a level of tokens [B, n], with at most ``branches`` children per node; ``parents``
        are numbered within the level above.
        """
        above = 1 + sum(self.widths[:-1]) if self.widths else 0
        self.tokens = torch.cat([self.tokens, tokens], 1)
        self.parents = torch.cat([self.parents, parents + above], 1)
        self.alive = torch.cat([self.alive, alive], 1)
        self.widths.append(tokens.shape[1])
        self.branches = max(self.branches, branches)

    def fed(self, root: torch.Tensor, cursors: torch.Tensor) -> Trees:
        """Returns the trees to feed, with the rows' last tokens, int64 [B, 1], and their slots."""
        none = torch.full_like(root, -1)
        tokens, parents = torch.cat([root, self.tokens], 1), torch.cat([none, self.parents], 1)
        return Trees(tokens, parents, cursors)

    def children(self) -> torch.Tensor:
        """Returns each node's children in sampling order, int64 [B, N+1, branches]; -1 pads."""
        rows, nodes = self.tokens.shape
        same = self.parents[:, :, None] == self.parents[:, None, :]
        earlier = torch.ones(nodes, nodes, dtype=torch.bool, device=same.device).tril(-1)
        rank = (same & earlier).sum(-1)
        found = self.tokens.new_full((rows, nodes + 1, self.branches), -1)
        number = torch.arange(1, nodes + 1, device=same.device).expand(rows, -1)
        every = torch.arange(rows, device=same.device)[:, None].expand(-1, nodes)
        found[every, self.parents, rank] = torch.where(self.alive, number, -1)
        return found


@dataclass
class Beam:
    """The nodes of the last level.

    Attributes:
        alive: bool [B, n].
        log_probs: log-probabilities of the paths to the nodes, [B, n].
        perturbed: the nodes' Gumbel variables, [B, n]; used by stochastic beams only.
    """

    alive: torch.Tensor
    log_probs: torch.Tensor
    perturbed: torch.Tensor

    @classmethod
    def root(cls, rows: int, device: torch.device | str = "cpu") -> Beam:
        """Creates the level with only the root."""
        zero = torch.zeros(rows, 1, dtype=torch.float64, device=device)
        return cls(torch.ones_like(zero, dtype=torch.bool), zero, zero)


@dataclass(frozen=True)
class ConstantBranching:
    """RSD-C: each node of level l gets ``branching[l]`` children.

    Both shapes have ``depth``, the levels below the root; ``nodes``, the maximum drafted nodes per
    tree; ``branches``, the maximum children per node; and ``grow``, which adds a level to a tree.
    """

    branching: tuple[int, ...]

    @property
    def depth(self) -> int:
        """Levels below the root."""
        return len(self.branching)

    @property
    def nodes(self) -> int:
        """Maximum drafted nodes."""
        total, width = 0, 1
        for branch in self.branching:
            width *= branch
            total += width
        return total

    @property
    def branches(self) -> int:
        """Maximum children per node."""
        return max(self.branching)

    def grow(self, tree: DraftTree, drawn: SampledTokens, beam: Beam) -> Beam:
        """Adds a level.

        Args:
            tree: the tree to extend.
            drawn: tokens sampled after each of the last level's n nodes, [B, n, k]; k is
                ``branches``, or the vocabulary's size if that is smaller.
            beam: the last level.

        Returns:
            The new level.
        """
        rows, above, most = drawn.tokens.shape
        branch = min(self.branching[len(tree.widths)], most)  # the first children are a sample, too
        keys, tokens = drawn.keys[..., :branch], drawn.tokens[..., :branch]
        alive = (keys > -torch.inf) & beam.alive[..., None]
        parents = torch.arange(above, device=tokens.device).repeat_interleave(branch)
        tree.add(tokens.flatten(1), parents.expand(rows, -1), alive.flatten(1), branch)
        nothing = keys.flatten(1)
        return Beam(alive.flatten(1), nothing, nothing)


@dataclass(frozen=True)
class StochasticBeam:
    """RSD-S: each level keeps the ``width`` paths with the largest Gumbel variables (Kool et al.).

    A path's variable equals the largest of its children's; the children are sampled under that
    condition, so a level is a sample of paths without replacement. A node may have several
    children or none.
    """

    width: int
    depth: int

    @property
    def nodes(self) -> int:
        """Maximum drafted nodes."""
        return self.width * self.depth

    @property
    def branches(self) -> int:
        """Maximum children per node."""
        return self.width

    def grow(self, tree: DraftTree, drawn: SampledTokens, beam: Beam) -> Beam:
        """Adds a level; see :meth:`ConstantBranching.grow`. A node's children keep their order
        under the condition, so its first ``width`` children are enough.
        """
        most = drawn.tokens.shape[-1]
        paths = beam.log_probs[..., None] + drawn.log_probs.double()
        loose = beam.log_probs[..., None] + drawn.keys.double()
        most_likely = loose[..., :1]
        above = beam.perturbed[..., None]
        gap = above - loose + torch.log1p(-torch.exp(loose - most_likely))
        bound = above - gap.clamp(min=0) - torch.log1p(torch.exp(-gap.abs()))
        bound = bound.where(beam.alive[..., None] & (loose > -torch.inf), -torch.inf)
        keys, places = bound.flatten(1).topk(min(self.width, bound[0].numel()), dim=-1)
        alive = keys > -torch.inf
        tree.add(drawn.tokens.flatten(1).gather(1, places), places // most, alive, self.width)
        kept = paths.flatten(1).gather(1, places)
        # Dead paths are unused, but must not become NaN.
        return Beam(alive, kept.where(alive, 0.0), keys.where(alive, 0.0))


Shape = ConstantBranching | StochasticBeam


def largest(log_probs: torch.Tensor, k: int, noise: torch.Tensor | float = 0.0) -> SampledTokens:
    """Returns the k largest log-probabilities [..., V]; Gumbel noise makes them a sample."""
    keys, tokens = (log_probs.double() + noise).topk(min(k, log_probs.shape[-1]), dim=-1)
    return SampledTokens(tokens, keys, log_probs.gather(-1, tokens))


def gumbel(uniforms: torch.Tensor) -> torch.Tensor:
    """Transforms uniform variables in [0, 1) to standard Gumbel variables."""
    return -torch.log(-torch.log(uniforms))


class RecursiveSpeculation(Strategy):
    """Speculative decoding with a draft tree per row; tokens follow the target's distribution.

    At temperature 0 the tree has the draft's most likely tokens. Node j of a row's tree is in
    slot ``cursor + j`` of both models' caches. Each row has its own random generator, and only the
    tree's shape decides how many numbers it uses. So a sample does not depend on its batch, up to
    the last bits of the logits.

    Args:
        draft: a model with the target's token ids, loaded with ``sdpa`` attention.
        shape: growth rule of the trees.
        seeds: one per row.

    Attributes:
        passes_of: forward passes of the target per row.
        drafted: number of drafted nodes.
        accepted: number of accepted nodes.
    """

    forgets = False

    def __init__(self, draft: PreTrainedModel, shape: Shape, seeds: Sequence[int]) -> None:
        self.draft, self.shape, self.limit = draft, shape, shape.nodes
        self._seeds = [seed % 2**63 for seed in seeds]
        self.generators = [torch.Generator(draft.device).manual_seed(seed) for seed in self._seeds]
        self._passes = [0] * len(seeds)
        self.passes_of = self._passes
        self.drafted = self.accepted = 0
        self._known: list[int] = []  # filled slots of the draft's cache, per row
        # Each row's seed and round, int64 [B, 2]: the keys of the kernels' noise.
        self._keys = torch.empty(0, 2, dtype=torch.long, device=draft.device)

    def start(self, batch: Batch) -> None:
        """Prepares the draft model.

        Raises:
            ModelError: if the sequence is too long for the draft model, its architecture is not
                supported, or its vocabulary differs in size from the target's.
        """
        assert isinstance(batch.sequences, CachedRows)
        models = (batch.sequences.model, self.draft)
        sizes = [model.config.get_text_config().vocab_size for model in models]
        if sizes[0] != sizes[1]:
            raise ModelError(
                f"The draft model's vocabulary has {sizes[1]} tokens, the target's {sizes[0]}.",
                "Choose a draft model with the same tokenizer.",
            )
        check_supported(self.draft, batch.length)
        for model in models:
            check_attention_only(model, "draft trees")
        longest = batch.length - batch.most
        self._rows = CachedRows(self.draft, longest, batch.most + self.limit)

    def begin(
        self, batch: Batch, numbers: Sequence[int], given: Sequence[list[int]], seconds: float
    ) -> None:
        """Encodes the new rows with the draft model, too."""
        run_alone(self._rows.admit(given))
        self._known += self._rows.cursors[-len(given) :]
        new = torch.tensor([[self._seeds[number], 0] for number in numbers])
        self._keys = torch.cat([self._keys, *upload(batch.device, new)])

    def propose(self, batch: Batch) -> Trees:
        """Grows trees; stores the draft's probabilities p [B, M, V] after all nodes above the last
        level.
        """
        rows = len(batch.numbers)
        tree, beam = DraftTree.empty(rows, batch.device), Beam.root(rows, batch.device)
        last = self._last(batch)
        mask = self._rows.place(last)
        logits = self._rows.pass_of(last.tokens, mask).run()[:, -1:]
        assert last.cursors is not None
        root, cursors = last.tokens[:, -1:], last.cursors + last.width - 1
        found = []
        while True:
            if batch.temperature == 0:
                found.append(torch.softmax(logits.float(), -1))
            else:
                found.append(distribution(logits, batch.temperature, batch.top_p))
            beam = self.shape.grow(tree, self._drawn(batch, tree, found[-1].log()), beam)
            trees = tree.fed(root, cursors)
            if len(tree.widths) == self.shape.depth:
                self._tree, self._p = tree, torch.cat(found, 1)
                self._keys[:, 1] += 1
                return trees
            first = 1 + sum(tree.widths[:-1])
            mask = self._rows.place(trees, first)
            logits = self._rows.pass_of(trees.tokens[:, first:], mask).run()

    def verify(self, batch: Batch, trees: Trees, logits: torch.Tensor) -> list[Walk]:
        """Accepts nodes by recursive rejection; see :class:`Strategy`."""
        depth, most = self.shape.depth, self.shape.branches
        if batch.temperature == 0:
            token = trees.accept(logits.argmax(-1))
            assert trees.path is not None
            trees.path = trees.path[:, :depth]
            return self._walks(trees, token)
        q = distribution(logits, batch.temperature, batch.top_p)  # [B, N+1, V]
        # Uses the shape's K instead of these trees' K, since samples must not depend on other rows.
        numbers = self._uniforms(batch, (depth * most + 1,))
        uniforms, last = numbers[:, :-1].view(-1, depth, most), numbers[:, -1]
        found = accept_tree(
            self._tree.children(), self._tree.tokens, trees.depths, q, self._p, uniforms, last
        )
        trees.path = found.path
        return self._walks(trees, found.token)

    def _walks(self, trees: Trees, token: torch.Tensor) -> list[Walk]:
        """Returns the rows' walks: the accepted path, then the target's token, int64 [B]."""
        assert trees.path is not None
        depth = trees.path.shape[1]
        table = download(torch.cat([trees.path, token[:, None], trees.tokens], 1))
        return [_walk(row[:depth], row[depth], row[depth + 1 :]) for row in table]

    def commit(self, batch: Batch, trees: Trees, grown: Sequence[NewTokens | None]) -> None:
        """Updates the draft's cache, which lacks the nodes of the last level."""
        assert trees.path is not None
        inner = trees.width - self._tree.widths[-1]
        paths = [[node for node in g.path if node < inner] if g else [] for g in grown]
        path = trees.path.where(trees.path < inner, -1)
        self._known = [
            cursor + 1 + len(path) if g else known
            for cursor, path, g, known in zip(
                self._rows.cursors, paths, grown, self._known, strict=True
            )
        ]
        steps = [g.step if g else 0 for g in grown]
        self._rows.keep(replace(trees, path=path), paths, steps)
        for number, given in zip(batch.numbers, grown, strict=True):
            if given is not None:
                self._passes[number] += 1
                self.drafted += trees.width - 1
                self.accepted += len(given.path)

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only these rows; see :class:`Strategy`."""
        self._rows.select(rows)
        self._known = [self._known[row] for row in rows]
        if rows:
            self._keys = self._keys[upload(self._keys.device, torch.tensor(rows))[0]]

    def _last(self, batch: Batch) -> Trees:
        """Returns each row's last token, or the last two if the draft's cache lacks two of any row.

        The other rows then re-encode a token.
        """
        cursors = self._rows.cursors
        lacking = 1 + max(c - k for c, k in zip(cursors, self._known, strict=True))
        tokens = []
        for number in batch.numbers:
            row = batch.rows[number]
            known = row.prompt + row.tokens
            # A row that ended immediately may have a single token; its result is unused.
            tokens.append((known[:1] * lacking + known)[-lacking:])
        first = torch.tensor(cursors) - (lacking - 1)
        return Trees(torch.tensor(tokens), cursors=first)

    def _drawn(self, batch: Batch, tree: DraftTree, log_probs: torch.Tensor) -> SampledTokens:
        """Samples children by the draft's log-probabilities [B, n, V]; at temperature 0, the top.

        On a GPU the kernel computes the noise from the row's seed, the round and the node. So the
        sample does not depend on the batch there either, but differs from the sample on a CPU.
        """
        rows, nodes, size = log_probs.shape
        branches = min(self.shape.branches, size)
        if batch.temperature == 0:
            return largest(log_probs, branches)
        if branches > MOST or not use_triton(log_probs):
            return largest(log_probs, branches, gumbel(self._uniforms(batch, (nodes, size))))
        first = 1 + sum(tree.widths[:-1]) if tree.widths else 0
        number = torch.arange(first, first + nodes, device=log_probs.device).repeat(rows)
        seeds, rounds = self._keys.T[..., None].expand(-1, -1, nodes).flatten(1)
        drawn = gumbel_top_k(log_probs.flatten(0, 1), branches, seeds, number, rounds)
        tokens, keys, chosen = (part.view(rows, nodes, branches) for part in drawn)
        return SampledTokens(tokens.clamp(min=0), keys, chosen)

    def _uniforms(self, batch: Batch, shape: Sequence[int]) -> torch.Tensor:
        """Returns float64 [B, *shape] in [0, 1), each row's from its own generator."""
        return torch.stack(
            [
                torch.rand(
                    *shape,
                    generator=self.generators[number],
                    dtype=torch.float64,
                    device=batch.device,
                )
                for number in batch.numbers
            ]
        )


def _walk(path: Sequence[int], token: int, tokens: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields the accepted nodes' tokens (their path is padded with -1) and the target's own."""
    for node in path:
        if node >= 0:
            yield tokens[node], node
    yield token, OWN
