"""Generation: requests and completions, the backends, and the decoders.

Read :mod:`~codegen.core.generation` first, then :mod:`~codegen.generation.decoders` and one
backend. The names here import no model library.
"""

from codegen.core.generation import (
    Backend,
    Completion,
    Decoder,
    Request,
    SamplingParams,
    samples,
)

__all__ = [
    "Backend", "Completion", "Decoder", "Request", "SamplingParams", "samples",
]  # fmt: skip
