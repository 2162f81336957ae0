"""A suffix structure over token sequences: counts, longest matches, drafts with probabilities.

``SuffixIndex`` is the compiled core (``_core``, C++) or, if that could not be built, ``plain``
with the same results; ``COMPILED`` is True for the core. ``SuffixStore`` keeps one index per tenant
under one budget. Neither imports torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from codegen.decoding.suffix.plain import BudgetError

try:
    from codegen.decoding.suffix._core import SuffixIndex

    COMPILED = True
except ImportError as error:
    if error.name != f"{__name__}._core":  # the core exists, but one of its imports is missing
        raise
    from codegen.decoding.suffix.plain import SuffixIndex

    COMPILED = False

__all__ = ["COMPILED", "BudgetError", "SuffixIndex", "SuffixStore"]

_OVERHEAD = 32


class SuffixStore:
    """One index per tenant, under one budget: a tenant's text is never drafted to another.

    The budget is in tokens; each response counts 32 extra tokens. If the sum over all tenants is
    too large, the largest tenant loses its oldest response, so that one tenant cannot displace the
    others' text.

    Args:
        budget: maximum tokens over all tenants, including 32 extra tokens per response.

    Attributes:
        dropped: number of responses not stored because each alone exceeds the budget.
    """

    def __init__(self, budget: int) -> None:
        if budget <= _OVERHEAD:
            raise ValueError(f"budget is {budget}; it must be above {_OVERHEAD}")
        self.budget = budget
        self.dropped = 0
        self._tenants: dict[Hashable, Any] = {}  # tenant -> SuffixIndex, compiled or plain
        self._billed = 0

    def index(self, tenant: Hashable = None) -> SuffixIndex | None:
        """Returns the tenant's index, for reading only; None if absent."""
        return self._tenants.get(tenant)

    @property
    def billed(self) -> int:
        """Tokens that count against the budget."""
        return self._billed

    def add(self, tokens: Sequence[int], tenant: Hashable = None) -> None:
        """Stores a response; the oldest ones beyond the budget are evicted.

        A response that alone exceeds the budget is counted in ``dropped``. Raises ``ValueError``
        and ``TypeError`` for anything other than a sequence of token ids.
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
        assert oldest is not None  # a store has only finished responses
        index.remove(oldest)
        self._billed -= before - index.billed
        if not index.billed:
            del self._tenants[tenant]
