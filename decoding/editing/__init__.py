"""Cache editing: a key-value cache that follows a text's edits.

``cache`` applies edits (PIE, arXiv 2407.03157, with repairs) to a
:class:`~codegen.decoding.cache.KVCache`; ``plan`` selects reusable states and finds moved text;
``rotation`` finds how a position rotates a key and rejects unsupported models; ``forward`` runs
passes, with a fast path for few tokens. ``lexical`` finds the statement at the cursor, which is
always re-encoded, and edits that change the lexical state of the text after them.
"""

from codegen.decoding.editing.cache import EditableCache, EditedRow, PassRequest
from codegen.decoding.editing.forward import DecodeStep, can_step, plain_product
from codegen.decoding.editing.lexical import (
    LexicalPrefix,
    LexicalState,
    read,
    reads_otherwise,
    tail_tokens,
)
from codegen.decoding.editing.plan import EditPolicy, EditReport
from codegen.decoding.editing.rotation import find_rotations

__all__ = [
    "DecodeStep", "EditPolicy", "EditReport", "EditableCache", "EditedRow", "LexicalState",
    "PassRequest", "LexicalPrefix", "can_step", "find_rotations", "plain_product", "read",
    "reads_otherwise", "tail_tokens",
]  # fmt: skip
