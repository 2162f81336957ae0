"""SequenceMatch data: programs with wrong tokens and the backspaces that take them back.

Source: Cundy and Ermon, "SequenceMatch", ICLR 2024 (arXiv 2306.05426). From the bottom: ``actions``
(what a sequence of actions means), ``layout`` (its one-pass form for a transformer), ``tokens``
(the tokenizer with its backspace), ``noise`` and ``syntax`` (wrong tokens), ``generator``,
``view``.
"""

from codegen.backspace.actions import (
    IGNORE,
    Noised,
    Trajectory,
    add_noise,
    demonstrator_labels,
    from_text,
    is_trajectory,
    replay,
)
from codegen.backspace.errors import UnsuitableExample
from codegen.backspace.generator import Backspace
from codegen.backspace.layout import StackLayout, stack_layout
from codegen.backspace.tokens import (
    BKSPC,
    Codec,
    codec_of_text,
    fingerprint,
    load_codec,
    require_same,
    with_backspace,
)

__all__ = [
    "BKSPC",
    "IGNORE",
    "Backspace",
    "Codec",
    "Noised",
    "StackLayout",
    "Trajectory",
    "UnsuitableExample",
    "add_noise",
    "codec_of_text",
    "demonstrator_labels",
    "fingerprint",
    "from_text",
    "is_trajectory",
    "load_codec",
    "replay",
    "require_same",
    "stack_layout",
    "with_backspace",
]
