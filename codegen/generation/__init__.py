"""Generation: the request and sampling types, the back-ends, and the decoders.

The names here import no model library; :func:`codegen.generation.hf.HFGenerator` does.
"""

from codegen.generation.protocol import (
    Decoder,
    Generator,
    Request,
    SamplingParams,
    request_seed,
    settings_of,
)

__all__ = ["Decoder", "Generator", "Request", "SamplingParams", "request_seed", "settings_of"]
