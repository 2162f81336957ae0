"""A suffix structure over token sequences: counts, longest matches, drafts with probabilities.

``SuffixIndex`` is the compiled core (``_core``, C++) or, where that could not be built, ``plain``
with the same results; ``COMPILED`` says which. ``SuffixStore`` keeps one index a tenant under one
budget. Neither imports torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from codegen.decoding.suffix.plain import BudgetError

try:
    from codegen.decoding.suffix._core import SuffixIndex

    COMPILED = True
except ImportError as error:
    if error.name != f"{__name__}._core":  # it is there, but not what it imports
        raise
    from codegen.decoding.suffix.plain import SuffixIndex

    COMPILED = False

__all__ = ["COMPILED", "BudgetError", "SuffixIndex", "SuffixStore"]

_OVERHEAD = 32


class SuffixStore:
    """One index a tenant, under one budget: a tenant's text is never drafted to another.

    The budget is in tokens, each response billed 32 on top. Where the sum over all tenants is too
    large, the tenant that holds the most gives up its oldest response, so that one tenant can't
    drive the others' text out.

    Args:
        budget: tokens over all tenants, each response billed 32 on top.

    Attributes:
        dropped: responses that were not kept because they exceed a budget by themselves.
    """

    def __init__(self, budget: int) -> None:
        if budget <= _OVERHEAD:
            raise ValueError(f"budget is {budget}; it must be above {_OVERHEAD}")
        self.budget = budget
        self.dropped = 0
        self._tenants: dict[Hashable, Any] = {}  # of SuffixIndex, compiled or plain
        self._billed = 0

    def index(self, tenant: Hashable = None) -> SuffixIndex | None:
        """The tenant's responses, None if there are none. To be read, not changed."""
        return self._tenants.get(tenant)

    @property
    def billed(self) -> int:
        """Tokens that count against the budget."""
        return self._billed

    def add(self, tokens: Sequence[int], tenant: Hashable = None) -> None:
        """Keeps a response; what is too old for the budget goes.

        A response that exceeds a budget by itself is counted in ``dropped``. Raises ``ValueError``
        and ``TypeError`` for what is not a sequence of token ids.
        """
        index = self._tenants.get(tenant)
        before = index.billed if index is not None else 0
        index = index if index is not None else SuffixIndex(self.budget)
        try:
            index.add(tokens)
        except BudgetError:
            self.dropped += 1
            return
        self._tenants[tenant] = index
        self._billed += index.billed - before
        while self._billed > self.budget:
            self._evict()

    def _evict(self) -> None:
        tenant, index = max(self._tenants.items(), key=lambda item: item[1].billed)
        before = index.billed
        oldest = index.oldest()
        assert oldest is not None  # a store holds finished responses only
        index.remove(oldest)
        self._billed -= before - index.billed
        if not index.billed:
            del self._tenants[tenant]
