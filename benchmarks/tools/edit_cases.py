"""Texts before and after an edit, up to a cursor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codegen.decoding.editing import read, tail_tokens


@dataclass(frozen=True, slots=True)
class EditCase:
    """A context before and after an edit.

    Attributes:
        name: where it is from.
        before, after: token ids up to the cursor.
        tail: tokens to encode again at the end of ``after``.
    """

    name: str
    before: list[int]
    after: list[int]
    tail: int


def make_case(tokenizer: Any, name: str, before: str, after: str) -> EditCase:
    """A case made of two texts that end at the cursor."""
    old = tokenizer.backend_tokenizer.encode(before, add_special_tokens=False)
    new = tokenizer.backend_tokenizer.encode(after, add_special_tokens=False)
    ends = [end for _, end in new.offsets]
    return EditCase(name, old.ids, new.ids, tail_tokens(ends, read(after).statement))
