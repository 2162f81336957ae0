"""Generation: requests and completions, the backends, and the decoders.

Read :mod:`~codegen.generation.protocol` first, then :mod:`~codegen.generation.decoders` and one
backend. The names here import no model library.
"""

from codegen.generation.protocol import (
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
