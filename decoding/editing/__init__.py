"""Cache editing: the key-value cache of a text that is being edited.

``cache`` follows edits (PIE, arXiv 2407.03157, with repairs), ``report`` is what it is told and
tells; ``plan`` decides which states are reused, ``spans`` finds moved text, ``cells`` holds the
states, ``rotation`` knows what a position does to a key, ``support`` which models are refused.
``lexical`` finds the statement at the cursor, for the tail that is always encoded again, and edits
that change how the text behind them reads.
"""

from codegen.decoding.editing.cache import EditableCache, Passes, PassRequest, run_alone
from codegen.decoding.editing.lexical import (
    LexicalState,
    Reading,
    read,
    reads_otherwise,
    tail_tokens,
)
from codegen.decoding.editing.report import EditPolicy, EditReport
from codegen.decoding.editing.rotation import Rotation, find_rotations
from codegen.decoding.editing.step import DecodeStep, can_step, plain_product

__all__ = [
    "DecodeStep",
    "EditPolicy",
    "EditReport",
    "EditableCache",
    "LexicalState",
    "PassRequest",
    "Passes",
    "Reading",
    "Rotation",
    "can_step",
    "find_rotations",
    "plain_product",
    "read",
    "reads_otherwise",
    "run_alone",
    "tail_tokens",
]
