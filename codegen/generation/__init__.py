"""Generation: requests and completions, the back-ends, and the decoders.

Read :mod:`~codegen.generation.protocol` first, then :mod:`~codegen.generation.decoders` and one
back-end. The names here import no model library.
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
