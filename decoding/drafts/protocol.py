"""The interface between a decoding loop and its drafters.

One drafter serves one row. The loop calls :meth:`Drafter.begin` once, then, round by round,
:meth:`Drafter.draft`, verifies the draft in one forward pass, and hands the tokens that it emitted
(the accepted ones and the target's own) to :meth:`Drafter.accept`. A drafter changes only there, so
there is nothing to roll back. What it drafts depends on its own row alone, unless it is given
something shared on purpose (past responses, learned successors); what the loop emits never depends
on drafts, as long as the loop verifies them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """The length of the beginning that two sequences share."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass(frozen=True, slots=True)
class Draft:
    """A tree of drafted tokens, parents before children; a chain is a tree without forks.

    Attributes:
        tokens: the drafted ids. Siblings have different ids.
        parents: the index of each token's parent, -1 for one that follows the context.
        probabilities: the drafter's estimate that the token and all its ancestors are accepted.
        source: the name of the drafter among several, else empty.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    source: str = ""

    @classmethod
    def chain(cls, tokens: Sequence[int], probabilities: Sequence[float]) -> Draft:
        """A draft without forks."""
        return cls(list(tokens), list(range(-1, len(tokens) - 1)), list(probabilities))

    @property
    def score(self) -> float:
        """The number of tokens that the drafter expects to be accepted."""
        return sum(self.probabilities)

    @property
    def is_chain(self) -> bool:
        """Whether the tree has no fork."""
        return self.parents == list(range(-1, len(self.tokens) - 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def path(self, emitted: Sequence[int]) -> list[int]:
        """The nodes that agree with what was emitted after the context, from the root down."""
        children = {
            (parent, token): node
            for node, (parent, token) in enumerate(zip(self.parents, self.tokens, strict=True))
        }
        found: list[int] = []
        node = -1
        for token in emitted:
            node = children.get((node, token), -1)
            if node < 0:
                break
            found.append(node)
        return found

    def trunk(self) -> Draft:
        """The chain of first children from the root on."""
        if self.is_chain:
            return self
        nodes: list[int] = []
        while (last := nodes[-1] if nodes else -1) in self.parents:
            nodes.append(self.parents.index(last))
        found = Draft.chain(
            [self.tokens[node] for node in nodes], [self.probabilities[node] for node in nodes]
        )
        return replace(found, source=self.source)

    def first(self, count: int) -> Draft:
        """The first ``count`` nodes; they are a tree, as parents come before children."""
        if count >= len(self.tokens):
            return self
        return Draft(
            self.tokens[:count], self.parents[:count], self.probabilities[:count], self.source
        )


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a request besides its prompt.

    Attributes:
        original: token ids of the file that the completion rewrites from its start.
        source: text of the file that the completion changes by a diff or SEARCH/REPLACE blocks.
        tenant: whose past responses may be drafted from.
    """

    original: Sequence[int] = ()
    source: str = ""
    tenant: Hashable = None


class Drafter(Protocol):
    """Drafts the continuation of one row. Those that learn or keep nothing leave the last two
    methods as they are.

    Attributes:
        candidates: how many of the target's most probable tokens :meth:`observe` wants at each
            verified position, 0 for none.
    """

    candidates: int = 0

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """A row begins; what an earlier row left is forgotten."""
        ...

    def draft(self, limit: int) -> Draft:
        """At most ``limit`` tokens that may come next; changes nothing that a later draft sees."""
        ...

    def accept(self, tokens: Sequence[int]) -> None:
        """The row has grown by ``tokens``, whatever drafted them."""
        ...

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """What the target found most probable, best first, after each token that it was fed.

        Args:
            tokens: the fed ids: the context's last token and every drafted one, accepted or not.
            successors: the most probable next ids of each.
        """

    def finish(self) -> None:
        """The row has ended."""
