"""Models: finding, loading and naming them.

:func:`load` takes ``embedded``, ``coder``, a directory or a hub id, and merges a LoRA adapter into
its base. A fine-tuned model's prompt style and decoder are stored next to it in ``codegen.json``.
"""

from codegen.models.loading import (
    LoadedModel,
    LoadOptions,
    ModelCard,
    base_of,
    card_of,
    count_parameters,
    fingerprint_of,
    is_infilling,
    load,
    load_tokenizer,
    pick_dtype,
    read_adapter,
    read_card,
    resolve,
    write_card,
)

__all__ = [
    "LoadedModel", "LoadOptions", "ModelCard", "base_of", "card_of", "count_parameters",
    "fingerprint_of", "is_infilling", "load", "load_tokenizer", "pick_dtype", "read_adapter",
    "read_card", "resolve", "write_card",
]  # fmt: skip
