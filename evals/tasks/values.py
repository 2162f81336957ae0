"""Plain Python values as JSON text: arguments and expected results on their way to the tests' side.

Lists, text and numbers are JSON's own; ``{"t": [...]}`` is a tuple, and so on. The text of a value
is always the same (sets are sorted), since it decides whether a program was judged before. It is
read by :func:`codegen.evals.tasks.oracles.read_value`.
"""

from __future__ import annotations

import json
from typing import Any

_JSON_INT_BITS = 1024  # decimal digits take quadratic time, and Python refuses to read many


def write_value(value: Any) -> str:
    """The text of a value.

    Raises:
        TypeError: for a value that is not plain.
    """
    return json.dumps(_tree(value), separators=(",", ":"))


def _tree(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if value.bit_length() <= _JSON_INT_BITS else {"i": hex(value)}
    if kind is list:
        return [_tree(item) for item in value]
    if kind is tuple:
        return {"t": [_tree(item) for item in value]}
    if kind in (set, frozenset):
        return {"s" if kind is set else "z": sorted((_tree(v) for v in value), key=json.dumps)}
    if isinstance(value, dict):  # a Counter or an OrderedDict equals a dict of its items
        return {"d": [[_tree(key), _tree(item)] for key, item in value.items()]}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    if kind is bytes:
        return {"b": value.hex()}
    if kind is range:
        return {"r": [value.start, value.stop, value.step]}
    raise TypeError(f"a value of type {kind.__name__} is not plain")
