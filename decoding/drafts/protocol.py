"""The interface between a decoding loop and its drafters.

One drafter serves one row. The loop calls :meth:`Drafter.begin` once. In each round it calls
:meth:`Drafter.draft`, verifies the draft in one forward pass, and passes the emitted tokens (the
accepted ones and the target's own) to :meth:`Drafter.accept`. Only ``accept`` changes the drafter's
state, so no rollback is needed. Drafts depend only on their row, unless drafters share data (past
responses, learned successors). The emitted tokens never depend on drafts, since the loop verifies
them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Returns the length of the common prefix of two sequences."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


@dataclass(frozen=True, slots=True)
class Draft:
    """A tree of drafted tokens, parents before children; a chain is a tree without forks.

    Attributes:
        tokens: the drafted ids; siblings differ.
        parents: the index of each token's parent, -1 for children of the context.
        probabilities: the drafter's estimate that the token and all its ancestors are accepted.
        source: the drafter's name, if there are several drafters.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    source: str = ""

    @classmethod
    def chain(cls, tokens: Sequence[int], probabilities: Sequence[float]) -> Draft:
        """Creates a draft without forks."""
        return cls(list(tokens), list(range(-1, len(tokens) - 1)), list(probabilities))

    @property
    def score(self) -> float:
        """The expected number of accepted tokens."""
        return sum(self.probabilities)

    @property
    def is_chain(self) -> bool:
        """True if the tree has no fork."""
        return self.parents == list(range(-1, len(self.tokens) - 1))

    def __len__(self) -> int:
        return len(self.tokens)

    def path(self, emitted: Sequence[int]) -> list[int]:
        """Returns the nodes that agree with the emitted tokens, from the root down."""
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
        """Returns the chain of first children."""
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
        """Returns the first ``count`` nodes, which are a tree, as parents come before children."""
        if count >= len(self.tokens):
            return self
        return Draft(
            self.tokens[:count], self.parents[:count], self.probabilities[:count], self.source
        )


@dataclass(frozen=True, slots=True)
class Context:
    """A request's information besides its prompt.

    Attributes:
        original: token ids of the file that the completion rewrites from its start.
        source: text of the file that the completion changes by a diff or SEARCH/REPLACE blocks.
        tenant: owner of the past responses that may be used for drafts.
    """

    original: Sequence[int] = ()
    source: str = ""
    tenant: Hashable = None


class Drafter(Protocol):
    """Drafter of one row's continuation; :meth:`observe` and :meth:`finish` are optional.

    Attributes:
        candidates: number of the target's most likely tokens that :meth:`observe` gets per
            verified position; 0 for none.
    """

    candidates: int = 0

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Begins a row; the state of an earlier row is dropped."""

    def draft(self, limit: int) -> Draft:
        """Returns up to ``limit`` likely next tokens; does not change later drafts."""

    def accept(self, tokens: Sequence[int]) -> None:
        """Appends the tokens added to the row, drafted or not."""

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Records the target's most likely tokens, best first, after each fed token.

        Args:
            tokens: the fed ids: the context's last token and all drafted ones, accepted or not.
            successors: the most likely next ids after each.
        """
        return  # most drafters ignore them

    def finish(self) -> None:
        """Ends the row."""
        return  # most drafters keep no state
