"""Language models that generate tokens in any order: insertions, and masks of flexible length.

- :class:`InsertionLM`: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755).
- :class:`FlexibleMaskLM`: Kim et al., "Any-Order Flexible Length Masked Diffusion", 2025 (arXiv
  2509.01025).
- :class:`FixedMaskLM`: masked diffusion of fixed length, as a baseline.

All are ``PreTrainedModel`` classes with one interface, :class:`FillingModel`.
"""

from codegen.decoding.insertion.base import (
    FilledText,
    FillingModel,
    FillOptions,
    GapRow,
    Insertion,
    Losses,
)
from codegen.decoding.insertion.models import FixedMaskLM, FlexibleMaskLM, InsertionLM
from codegen.decoding.insertion.text import (
    EncoderConfig,
    FixedMaskConfig,
    FlexibleMaskConfig,
    InsertionConfig,
    Text,
    TextBatch,
)

MODELS: dict[str, type[FillingModel]] = {
    InsertionConfig.model_type: InsertionLM,
    FlexibleMaskConfig.model_type: FlexibleMaskLM,
    FixedMaskConfig.model_type: FixedMaskLM,
}

__all__ = [
    "EncoderConfig", "FillOptions", "FilledText", "FillingModel", "FixedMaskConfig", "FixedMaskLM",
    "FlexibleMaskConfig", "FlexibleMaskLM", "GapRow", "Insertion", "InsertionConfig", "InsertionLM",
    "Losses", "MODELS", "Text", "TextBatch",
]  # fmt: skip
