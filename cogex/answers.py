"""Whether two answers are the same: exact match of normalised texts, and equality of values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def normalised(value: Any) -> str:
    """The text by which answers are compared.

    Lower case, one space for any white space, no quotes, commas between items or full stop at the
    end; items of lists are joined by spaces; ``12.0`` and ``1,200`` become ``12`` and ``1200``.
    """
    if isinstance(value, Mapping):
        return " ".join(f"{normalised(key)}: {normalised(item)}" for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return " ".join(sorted(map(normalised, value)))
    if isinstance(value, (list, tuple)):
        return " ".join(map(normalised, value))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", str(value).lower())
    text = " ".join(re.sub(r"[\"'`]|,(?=\s)|,$", "", text).split()).rstrip(".")
    return re.sub(r"(?<![\d.])(-?\d+)\.0+(?!\d)", r"\1", text)


def same_value(one: Any, other: Any) -> bool:
    """Whether two intermediate values are equal; lists and tuples, 1 and 1.0 and True are.

    Texts are compared as they are: an emulation that writes ``'3'`` for ``3`` is wrong.
    """
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return one == other or abs(one - other) <= 1e-9 * max(1.0, abs(one))
    if isinstance(other, float):
        return same_value(other, one)
    return (type(one) is type(other) or _both_numbers(one, other)) and one == other


def _both_numbers(one: Any, other: Any) -> bool:
    return isinstance(one, (int, float)) and isinstance(other, (int, float))
