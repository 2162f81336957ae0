"""Values of numpy and pandas on the wire: a type's name, and the plain values they contain.

Neither package is imported before such a value occurs. Structured types and subclasses are not
sent; indexes and categories of pandas come back as plain ones.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

from . import words
from .wire import MAX_FRAME_BYTES, WireError

_Pack = Callable[[Any], Any]
_PLAIN_TYPE = re.compile(
    r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|O|[SU]\d{1,6}|[mM]8(?:\[\w{1,4}\])?)"
)
TAGS = words("nd nt pf ps pi pm pt px")


def pack_array(value: Any, pack: _Pack) -> Any:
    """Returns the tree of a value of numpy or pandas; None for all others.

    Args:
        pack: returns the tree of any value.
    """
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is None:
        return None
    kind = type(value)
    if kind is numpy.ndarray or (isinstance(value, numpy.generic) and kind is value.dtype.type):
        return _pack_ndarray(value, pack)
    if isinstance(value, numpy.dtype):
        return {"nt": value.str} if _PLAIN_TYPE.fullmatch(value.str) else None
    if pandas is None or not hasattr(pandas, "DataFrame"):
        return None
    if kind is pandas.DataFrame:
        columns = [_pack_column(value.iloc[:, n], pack) for n in range(value.shape[1])]
        return {"pf": [pack(value.columns), columns, pack(value.index)]}
    if kind is pandas.Series:
        return {"ps": [_pack_column(value, pack), pack(value.index), pack(value.name)]}
    if kind is pandas.MultiIndex:
        return {"pm": [pack(list(value)), pack(list(value.names))]}
    if isinstance(value, pandas.Index):
        return {"pi": [_pack_column(value.to_series(), pack), pack(value.name)]}
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _pack_column(pandas.Series(value), pack)
    if kind in (pandas.Timestamp, pandas.Timedelta, type(pandas.NaT), type(pandas.NA)):
        return {"pt": [kind.__name__, str(value)]}
    return None


def _pack_ndarray(value: Any, pack: _Pack) -> Any:
    if not _PLAIN_TYPE.fullmatch(value.dtype.str):
        return None
    if value.nbytes > MAX_FRAME_BYTES // 2:
        raise WireError(f"an array of {value.nbytes} bytes")
    flat = value.astype("i8") if value.dtype.kind in "mM" else value
    return {"nd": [value.dtype.str, list(value.shape), pack(flat.ravel().tolist())]}


def _pack_column(series: Any, pack: _Pack) -> Any:
    kind = series.dtype
    if hasattr(kind, "fields"):
        return _pack_ndarray(series.to_numpy(), pack)  # one of numpy's types
    items = [None if missing else item for item, missing in zip(series, series.isna(), strict=True)]
    return {"px": [str(kind), pack(items)]}


def unpack_array(tag: str, content: Any, unpack: Callable[[Any], Any]) -> object:
    """Returns the value of a :func:`pack_array` tree.

    Raises:
        WireError: if it is malformed, or the package is not installed.
    """
    try:
        package: Any = importlib.import_module("numpy" if tag in ("nd", "nt") else "pandas")
        return _UNPACK[tag](package, content, unpack)
    except ImportError as error:
        raise WireError(f"a value of {error.name}, which is not installed here") from None
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise WireError(f"a malformed array: {type(error).__name__}") from None


def _type(numpy: Any, text: Any, _: object = None) -> Any:
    if type(text) is not str or not _PLAIN_TYPE.fullmatch(text):
        raise ValueError("not a plain type")
    return numpy.dtype(text)


def _ndarray(numpy: Any, content: Any, unpack: Callable[[Any], Any]) -> Any:
    text, shape, items = content[0], content[1], unpack(content[2])
    kind = _type(numpy, text)
    if kind.kind == "O":
        made = numpy.empty(len(items), dtype=object)
        for n, item in enumerate(items):
            made[n] = item
    else:
        made = numpy.array(items, dtype=kind.kind if kind.kind in "SU" else kind)
    if made.ndim != 1 or type(shape) is not list or -1 in shape:
        raise ValueError("not a shape")
    return made.reshape(shape) if shape else made.reshape(())[()]


def _frame(pandas: Any, content: Any, unpack: Callable[[Any], Any]) -> object:
    columns, values, index = content
    names, rows = unpack(columns), unpack(index)
    series = {n: pandas.Series(unpack(each), index=rows) for n, each in enumerate(values)}
    made = pandas.DataFrame(series, index=rows)
    made.columns = names
    return made


def _extension(pandas: Any, content: Any, unpack: Callable[[Any], Any]) -> Any:
    name, items = content
    if type(name) is not str or len(name) > 80:
        raise ValueError("not the name of a type")
    return pandas.array(unpack(items), dtype=name)


def _moment(pandas: Any, content: Any, _: object) -> Any:
    kind, text = content
    if kind == "NAType":
        return pandas.NA
    return (pandas.Timedelta if kind == "Timedelta" else pandas.Timestamp)(text)


_UNPACK: dict[str, Callable[[Any, Any, Callable[[Any], Any]], Any]] = {
    "nd": _ndarray,
    "nt": _type,
    "pf": _frame,
    "ps": lambda pandas, c, unpack: pandas.Series(unpack(c[0]), unpack(c[1]), name=unpack(c[2])),
    "pm": lambda pandas, c, unpack: pandas.MultiIndex.from_tuples(unpack(c[0]), names=unpack(c[1])),
    "pi": lambda pandas, c, unpack: pandas.Index(unpack(c[0]), name=unpack(c[1])),
    "pt": _moment,
    "px": _extension,
}
