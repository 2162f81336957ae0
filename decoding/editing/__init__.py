"""Cache editing: the key-value cache of a text that is being edited.

``cache`` follows edits (PIE, arXiv 2407.03157, with repairs) over the cache of all decoding
(``codegen.decoding.cache``); ``plan`` decides which states are reused and finds moved text,
``rotation`` knows what a position does to a key and which models are refused, ``forward`` runs a
pass, and ``step`` one of few tokens. ``lexical`` finds the statement at the cursor, for the tail
that is always encoded again, and edits that change how the text behind them reads.
"""

from codegen.decoding.editing.cache import EditableCache, EditedRow, PassRequest
from codegen.decoding.editing.lexical import (
    LexicalState,
    Reading,
    read,
    reads_otherwise,
    tail_tokens,
)
from codegen.decoding.editing.plan import EditPolicy, EditReport
from codegen.decoding.editing.rotation import find_rotations
from codegen.decoding.editing.step import DecodeStep, can_step, plain_product

__all__ = [
    "DecodeStep",
    "EditPolicy",
    "EditReport",
    "EditableCache",
    "EditedRow",
    "LexicalState",
    "PassRequest",
    "Reading",
    "can_step",
    "find_rotations",
    "plain_product",
    "read",
    "reads_otherwise",
    "tail_tokens",
]
