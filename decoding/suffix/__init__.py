"""A suffix structure over token sequences: counts, longest matches, drafts with probabilities.

``SuffixIndex`` is the compiled core (``_core``, C++) or, where that could not be built, ``plain``
with the same results; ``COMPILED`` says which. ``SuffixStore`` keeps one index a tenant under one
budget. Neither imports torch.
"""

from codegen.decoding.suffix.errors import BudgetError
from codegen.decoding.suffix.store import SuffixStore

try:
    from codegen.decoding.suffix._core import SuffixIndex

    COMPILED = True
except ImportError:
    from codegen.decoding.suffix.plain import SuffixIndex

    COMPILED = False

__all__ = ["COMPILED", "BudgetError", "SuffixIndex", "SuffixStore"]
