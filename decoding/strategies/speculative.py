"""Speculative decoding: drafted tokens verified in one forward pass, as chains or trees.

A row's k-th token is a function x_k = f(logits, u_k) of only the logits and the row's k-th random
number: the largest logit, or the token whose interval of the cumulative distribution contains u_k.
So a drafted token is accepted iff it is the token that would have been chosen (:func:`walk`), and
the result equals plain decoding's, greedy or sampled, up to the last bits of logits computed in a
batch of another shape. (Leviathan et al., arXiv 2211.17192, accept with probability min(1, q / p)
instead. That is needed for drafts sampled from a model, see :mod:`.rsd`; these drafters do not
sample.)

The planner determines the draft length (``codegen.decoding.drafts.planner``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from codegen.core.errors import ModelError
from codegen.decoding.device import download, padded_width
from codegen.decoding.drafts.planner import Planner
from codegen.decoding.drafts.protocol import Context, Draft, Drafter
from codegen.decoding.loop import OWN, Batch, NewTokens, Strategy, Walk
from codegen.decoding.sequences import Trees

_NONE = Draft()

Children = Mapping[tuple[int, int], int]
"""A row's tree: (node, token) -> the node's child with that token."""


def walk(children: Children, chosen: Callable[[int], int]) -> Iterator[tuple[int, int]]:
    """Applies the acceptance rule: goes down the tree while the chosen token was drafted.

    Args:
        children: the row's tree.
        chosen: returns the target's token after a node; called only for nodes that are reached.

    Yields:
        The row's tokens, each with its node. The last token is the target's own, with the node
        :data:`OWN`.
    """
    node = 0
    while node != OWN:
        token = chosen(node)
        node = children.get((node, token), OWN)
        yield token, node


def children_of(draft: Draft) -> Children:
    """Builds the tree of a draft."""
    nodes = zip(draft.parents, draft.tokens, strict=True)
    return {(parent + 1, token): node for node, (parent, token) in enumerate(nodes, start=1)}


def tree_tensors(
    pending: Sequence[int], drafts: Sequence[Draft], children: Sequence[Children], width: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Builds tokens and parents, int64 [B, W], of drafts below the pending tokens (:class:`Trees`).

    Padding, and a node with the same token as a later sibling, have no parent and are never
    accepted.
    """
    tokens = [
        [token, *draft.tokens, *[token] * (width - 1 - len(draft))]
        for token, draft in zip(pending, drafts, strict=True)
    ]
    if all(draft.is_chain for draft in drafts):
        return torch.tensor(tokens), None
    parents = torch.full((len(drafts), width), -1)
    for row, known in enumerate(children):
        for (parent, _), node in known.items():
            parents[row, node] = parent
    return torch.tensor(tokens), parents


class Speculation(Strategy):
    """Speculative decoding with one drafter per row.

    Args:
        drafters: one per row, in order.
        contexts: each row's context besides its prompt; empty if absent.
        limit: maximum tokens per draft.
        planner: trims drafts to the profitable length; None to verify whole drafts.

    Attributes:
        passes_of: forward passes per row.
        tallies: verified and accepted tokens, per row and source of drafts.
        drafted: number of drafted tokens.
        emitted: number of tokens added to rows.
        drafts: this round's drafts, one per row of the batch.
    """

    def __init__(
        self,
        drafters: Sequence[Drafter],
        contexts: Sequence[Context] = (),
        limit: int = 16,
        planner: Planner | None = None,
    ) -> None:
        self.drafters, self.contexts, self.limit, self.planner = drafters, contexts, limit, planner
        self._passes = [0] * len(drafters)
        self.passes_of = self._passes
        self.tallies: list[dict[str, list[int]]] = [{} for _ in drafters]
        self.drafted = self.emitted = 0
        self.drafts: list[Draft] = []
        self._children: list[Children] = []
        self._fed: list[int] = []  # the token of each row's node 0
        self._best: list[list[list[int]]] = []  # [B][W], the most likely tokens after each node
        self._began = 0.0
        self._seconds = 0.0  # duration of this round's pass

    @property
    def passes(self) -> int:
        """Forward passes, summed over rows."""
        return sum(self._passes)

    def start(self, batch: Batch) -> None:
        """Checks that the model can verify drafts.

        Raises:
            ModelError: if the model's recurrent layers take one token per pass.
        """
        if batch.sequences.drafts == "none":
            raise ModelError(
                "The recurrent layers of this model take one token per pass, so drafts cannot be "
                "verified.",
                "Choose a decoder without drafts.",
            )

    def clock(self, device: torch.device) -> float:
        """Returns the time; on a CPU this thread's CPU time, as cores may be shared."""
        if self.planner is None:
            return 0.0
        if device.type == "cpu":
            return time.thread_time()
        return time.perf_counter()

    def begin(
        self, batch: Batch, numbers: Sequence[int], given: Sequence[list[int]], seconds: float
    ) -> None:
        """Begins the rows' drafters; see :class:`Strategy`."""
        if self.planner:
            self.planner.costs.add_prompt(sum(map(len, given)), seconds)
        for number, tokens in zip(numbers, given, strict=True):
            context = self.contexts[number] if self.contexts else Context()
            self.drafters[number].begin(tokens, context)

    def propose(self, batch: Batch) -> Trees:
        """Proposes the planned drafts; see :class:`Strategy`."""
        drafts = self.draft(batch) if batch.known is None else {}
        self.drafts = [drafts.get(number, _NONE) for number in batch.numbers]
        self._children = [children_of(draft) for draft in self.drafts]
        self._fed = list(batch.pending)
        self._began = self.clock(batch.device)
        width = padded_width(1 + max(map(len, self.drafts)), batch.device)
        return batch.trees(*tree_tensors(batch.pending, self.drafts, self._children, width))

    def draft(self, batch: Batch) -> dict[int, Draft]:
        """Returns drafts for the running rows, by number."""
        left = batch.left()
        found: dict[int, Draft] = {}
        for number, most in left.items():
            most = min(self.limit, most - 1)
            draft = self.drafters[number].draft(most) if most > 0 else _NONE
            found[number] = draft if batch.sequences.drafts == "trees" else draft.trunk()
        if self.planner is None or not found:
            return found
        rows, waiting = len(batch.numbers), bool(batch.waiting)
        cut = self.planner.plan(list(found.values()), rows, list(left.values()), waiting)
        return dict(zip(found, cut, strict=True))

    def verify(self, batch: Batch, trees: Trees, logits: torch.Tensor) -> list[Walk]:
        """Verifies the drafts; see :class:`Strategy`."""
        chosen = batch.choose(logits, trees.places)  # [B, W]
        if trees.parents is not None:
            trees.accept(chosen)
        found = chosen[..., None]
        if candidates := self.candidates(len(batch.numbers)):
            found = torch.cat([found, logits.topk(candidates).indices], dim=-1)
        found = download(found)  # the only transfer to the host
        self._seconds = self.clock(batch.device) - self._began
        self._best = [[node[1:] for node in row] for row in found] if candidates else []
        tokens = [[node[0] for node in row] for row in found]
        return [
            walk(children, row.__getitem__)
            for children, row in zip(self._children, tokens, strict=True)
        ]

    def candidates(self, rows: int) -> int:
        """Returns the number of likely next tokens to observe; 0 if wide passes are costly."""
        if self.planner is not None and not self.planner.is_cheap(rows):
            return 0
        return max((drafter.candidates for drafter in self.drafters), default=0)

    def commit(self, batch: Batch, trees: Trees, grown: Sequence[NewTokens | None]) -> None:
        """Passes the accepted tokens to the drafters and the planner."""
        for i, (number, given) in enumerate(zip(batch.numbers, grown, strict=True)):
            if given is None:
                continue
            draft, drafter = self.drafts[i], self.drafters[number]
            self._passes[number] += 1
            self.drafted += len(draft)
            self.emitted += len(given.tokens)
            if len(draft):
                tally = self.tallies[number].setdefault(draft.source, [0, 0])
                tally[0] += len(draft)
                tally[1] += len(draft.path(given.tokens))
            drafter.accept(given.tokens)
            if drafter.candidates and self._best:
                nodes = self._best[i][: 1 + len(draft)]
                fed = [self._fed[i], *draft.tokens]
                drafter.observe(fed, [node[: drafter.candidates] for node in nodes])
            if batch.rows[number].finish:
                drafter.finish()
        if self.planner:
            sizes = [1 + len(given.path) for given in grown if given is not None]
            self.planner.record(len(batch.numbers), trees.width, sizes, self._seconds)
