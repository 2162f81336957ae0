"""Decoding with a draft model whose trees the target verifies in one forward pass.

Both models keep a cache in which node j of a row's tree lies at slot ``cursor + j``; what is
accepted is then moved together. A row's random numbers come from its own generator and their number
depends on nothing but the tree's shape, so a sample does not depend on its batch, up to the last
bits of the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import RowCache
from codegen.decoding.loop import COMPACT_BELOW, Row
from codegen.decoding.passes import check_supported, forward
from codegen.decoding.prefill import prefill
from codegen.decoding.rsd.trees import Beam, Shape, Tree, gumbel
from codegen.decoding.sampling import distribution
from codegen.errors import ModelError
from codegen.kernels.accept import accept_tree


@dataclass
class Tally:
    """What a batch took.

    Attributes:
        passes_of: forward passes of the target that each row took part in.
        drafted: drafted nodes.
        accepted: those that stand.
    """

    passes_of: list[int] = field(default_factory=list)
    drafted: int = 0
    accepted: int = 0


@torch.inference_mode()
def decode(
    target: PreTrainedModel,
    draft: PreTrainedModel,
    rows: Sequence[Row],
    *,
    shape: Shape,
    seeds: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    eos: frozenset[int],
    on_token: Callable[[int, int], bool] | None = None,
) -> Tally:
    """Decodes all rows in one batch, in place; what they get follows the target's distribution.

    Args:
        target, draft: models with the same token ids, loaded with ``sdpa`` attention.
        rows: at least one; their ``uniforms`` and ``rest`` are not read.
        shape: of the trees.
        seeds: one a row.
        max_new_tokens: most tokens a row.
        temperature, top_p: see :func:`codegen.decoding.sampling.choose`; for both models. At
            temperature 0 the tree has the draft's most probable tokens.
        eos: token ids that end a row.
        on_token: called with (row number, token id) after each token; true stops that row.

    Raises:
        ModelError: if a model can't hold the sequence or its architecture is not supported, or if
            the models differ in their vocabulary's size.
    """
    run = _Run(target, draft, rows, shape, seeds, max_new_tokens, temperature, top_p)
    while run.batch:
        tree, draft_probs = run.grow()
        target_probs = run.verify(tree)
        uniforms, last = run.draw()
        accepted = accept_tree(
            tree.children(), tree.tokens, target_probs, draft_probs, uniforms, last
        )
        table = torch.cat([accepted.path, accepted.token[:, None], tree.tokens], 1).tolist()
        run.advance(table, 1 + sum(tree.widths[:-1]), eos, on_token)
    return run.tally


class _Run:
    """The rows of a batch on their way.

    Attributes:
        batch: numbers of the rows in the caches; finished ones ride along for a while.
        pending: what each of them feeds next, not yet in the target's cache.
        cursors: the slot where that will be.
        known: the slots that the draft's cache has of each.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: PreTrainedModel,
        rows: Sequence[Row],
        shape: Shape,
        seeds: Sequence[int],
        max_new_tokens: int,
        temperature: float,
        top_p: float,
    ) -> None:
        self.target, self.drafter, self.rows, self.shape = target, draft, rows, shape
        self.most, self.temperature, self.top_p = max_new_tokens, temperature, top_p
        self.device = target.device
        given = [row.prompt + row.tokens for row in rows]
        longest = max(map(len, given)) + max_new_tokens
        sizes = [model.config.get_text_config().vocab_size for model in (target, draft)]
        if sizes[0] != sizes[1]:
            raise ModelError(
                f"The draft model has {sizes[1]} tokens, the model {sizes[0]}.",
                "Choose a draft model with the same tokenizer.",
            )
        self.caches: list[RowCache] = []
        self.limits: list[int] = []
        for model in (target, draft):
            check_supported(model, longest)
            config = model.config.get_text_config()
            self.limits.append(getattr(config, "max_position_embeddings", None) or longest)
            cache = RowCache(config.num_hidden_layers, longest + shape.nodes + 1)
            prefill(model, cache, given)
            self.caches.append(cache)
        self.batch = list(range(len(rows)))
        self.pending = [tokens[-1] for tokens in given]
        self.cursors = [len(tokens) - 1 for tokens in given]
        self.known = list(self.cursors)
        self.generators = [torch.Generator(self.device).manual_seed(seed % 2**63) for seed in seeds]
        self.tally = Tally(passes_of=[0] * len(rows))

    def grow(self) -> tuple[Tree, torch.Tensor]:
        """Trees, and the draft's probabilities [B, M, V] after their nodes but the last level's."""
        rows = len(self.batch)
        tree, beam = Tree.empty(rows, self.device), Beam.root(rows, self.device)
        logits = self._feed_draft()[:, -1:]
        found = []
        while True:
            if self.temperature == 0:
                found.append(torch.softmax(logits.float(), -1))
                noise = torch.zeros_like(found[-1], dtype=torch.float64)
            else:
                found.append(distribution(logits, self.temperature, self.top_p))
                noise = gumbel(self._uniforms(found[-1].shape[1:]))
            beam = self.shape.grow(tree, found[-1].log(), noise, beam)
            if len(tree.widths) == self.shape.depth:
                return tree, torch.cat(found, 1)
            logits = self._feed_level(tree)

    def verify(self, tree: Tree) -> torch.Tensor:
        """The target's probabilities [B, N+1, V] after each node."""
        root = torch.tensor(self.pending, device=self.device)[:, None]
        tokens = torch.cat([root, tree.tokens], 1)
        logits = self._feed(0, tokens, tree, range(tokens.shape[1]))
        return distribution(logits, self.temperature, self.top_p)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Uniform numbers for the rejections, [B, depth, K], and for the last token, [B].

        K is the shape's, not these trees': what a row draws must not depend on its neighbours.
        """
        depth, most = self.shape.depth, self.shape.branches
        numbers = self._uniforms((depth * most + 1,))
        return numbers[:, :-1].view(-1, depth, most), numbers[:, -1]

    def advance(
        self,
        table: Sequence[Sequence[int]],
        inner: int,
        eos: frozenset[int],
        on_token: Callable[[int, int], bool] | None,
    ) -> None:
        """Takes each row as far as its tree was accepted, and one token more.

        Args:
            table: for each row the path (depth entries), the target's token, and the nodes' tokens.
            inner: nodes that the draft encoded, the root among them.
            eos, on_token: see :func:`decode`.
        """
        depth = self.shape.depth
        paths: dict[int, list[int]] = {}
        for i, number in enumerate(self.batch):
            row = self.rows[number]
            if row.finish:
                continue
            path = [node for node in table[i][:depth] if node >= 0]
            emitted = [*(table[i][depth + node] for node in path), table[i][depth]]
            self.tally.passes_of[number] += 1
            self.tally.drafted += len(table[i]) - depth - 1
            self.tally.accepted += len(path)
            for token in emitted:
                if token in eos:
                    row.finish = "eos"
                    break
                row.tokens.append(token)
                if on_token and on_token(number, token):
                    row.finish = "stop"
                elif len(row.tokens) == self.most:
                    row.finish = "length"
                if row.finish:
                    break
            paths[i] = path
            self.pending[i] = row.tokens[-1] if row.tokens else row.prompt[-1]
        self._settle(paths, inner)
        self._compact()

    def _settle(self, paths: Mapping[int, list[int]], inner: int) -> None:
        """Keeps the states of the accepted nodes; the draft has none of the last level's."""
        stand = [paths.get(i, []) for i in range(len(self.batch))]
        encoded = [[node for node in path if node < inner] for path in stand]
        for cache, kept in zip(self.caches, (stand, encoded), strict=True):
            cache.keep(kept, self.cursors)
        for i, path in paths.items():
            self.known[i] = self.cursors[i] + 1 + len(encoded[i])
            self.cursors[i] += 1 + len(path)

    def _feed_draft(self) -> torch.Tensor:
        """The draft's logits [B, Q, V] after the newest tokens, of which it may lack the last two.

        Rows that lack one token only encode the one before it once more.
        """
        lacking = 1 + max(c - k for c, k in zip(self.cursors, self.known, strict=True))
        tokens = []
        for number in self.batch:
            row = self.rows[number]
            known = row.prompt + row.tokens
            # Of a row that ended at once there may be a single token; nothing is read from it.
            tokens.append((known[:1] * lacking + known)[-lacking:])
        first = torch.tensor(self.cursors, device=self.device)[:, None] - (lacking - 1)
        cache = self.caches[1]
        cache.place(first + torch.arange(lacking, device=self.device), max(self.cursors) + 1)
        given = torch.tensor(tokens, device=self.device)
        return forward(self.drafter, given, cache, cache.mask(), 1)

    def _feed_level(self, tree: Tree) -> torch.Tensor:
        """The draft's logits [B, n, V] after the nodes of the last level."""
        nodes = range(1 + sum(tree.widths[:-1]), 1 + sum(tree.widths))
        return self._feed(1, tree.tokens[:, nodes.start - 1 :], tree, nodes)

    def _feed(self, which: int, tokens: torch.Tensor, tree: Tree, nodes: range) -> torch.Tensor:
        """The logits of a model after some nodes of the trees, which it encodes."""
        cache, model = self.caches[which], (self.target, self.drafter)[which]
        cursors = torch.tensor(self.cursors, device=self.device)[:, None]
        chosen = torch.tensor(list(nodes), device=self.device)
        end = max(self.cursors) + 1 + tree.tokens.shape[1]
        cache.place(cursors + chosen, end)
        depths = torch.tensor(tree.depths, device=self.device)[chosen]
        cache.slots.positions = (cursors + depths).clamp(max=self.limits[which] - 1)
        slots = torch.arange(end, device=self.device)
        node = (slots - cursors)[:, None, :].expand(-1, len(nodes), -1)  # that lies in each slot
        among = tree.ancestors()[:, nodes.start : nodes.stop]
        inside = (node >= 0) & (node < among.shape[-1])
        mask = torch.where(inside, among.gather(2, node.clamp(0, among.shape[-1] - 1)), node < 0)
        return forward(model, tokens, cache, mask[:, None], len(nodes))

    def _uniforms(self, shape: Sequence[int]) -> torch.Tensor:
        """float64 [B, *shape] in [0, 1), each row's from its own generator."""
        return torch.stack(
            [
                torch.rand(
                    *shape,
                    generator=self.generators[number],
                    dtype=torch.float64,
                    device=self.device,
                )
                for number in self.batch
            ]
        )

    def _compact(self) -> None:
        """Drops finished rows once they are many."""
        running = [i for i, number in enumerate(self.batch) if not self.rows[number].finish]
        if running and len(running) > COMPACT_BELOW * len(self.batch):
            return
        if running:
            for cache in self.caches:
                cache.select(torch.tensor(running, device=self.device))
        for name in ("batch", "pending", "cursors", "known"):
            setattr(self, name, [getattr(self, name)[i] for i in running])
