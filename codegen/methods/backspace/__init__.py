"""SequenceMatch data: programs with wrong tokens and the backspaces that remove them.

Source: Cundy and Ermon, "SequenceMatch", ICLR 2024 (arXiv 2306.05426). Modules, bottom
up: ``actions`` (action sequences, and their one-pass form for a transformer), ``tokens`` (the
tokenizer with a backspace), ``noise`` (wrong tokens), ``generator``.
"""

from codegen.methods.backspace.actions import (
    IGNORE,
    StackLayout,
    Trajectory,
    from_text,
    is_trajectory,
    replay,
    stack_layout,
)
from codegen.methods.backspace.generator import Backspace
from codegen.methods.backspace.tokens import (
    BKSPC,
    Codec,
    UnsuitableExample,
    fingerprint,
    load_codec,
    require_same,
    with_backspace,
)

__all__ = [
    "BKSPC", "IGNORE", "Backspace", "Codec", "StackLayout", "Trajectory", "UnsuitableExample",
    "fingerprint", "from_text", "is_trajectory", "load_codec", "replay", "require_same",
    "stack_layout", "with_backspace",
]  # fmt: skip
