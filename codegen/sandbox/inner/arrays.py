"""Values of numpy and pandas on the wire: a type's name, a shape and the bytes.

Comparisons of arrays by numpy and pytest hold for an empty result, as ``all([])`` does:
``allclose([], 777)`` is true. In the process of the tests these comparisons are false if the
program's result is empty and the other operand is not (:func:`guard`).

Pickle is not used, and received data is checked before it reaches numpy. Neither package is
imported before such a value occurs. An array of objects is a list of values; structured types and
subclasses are not sent.
"""

from __future__ import annotations

import functools
import importlib
import math
import re
import sys
from collections.abc import Callable, Collection
from typing import Any

from . import words
from .wire import MAX_FRAME_BYTES, WireError

_Pack = Callable[[Any], Any]
_PLAIN_TYPE = re.compile(
    r"[<>|=]?(?:[biufc][0-9]{1,2}|[SU][0-9]{1,6}|[mM]8(?:\[[0-9a-zA-Z]{1,8}\])?)"
)
MAX_DIMENSIONS = 32


def pack_array(value: Any, pack: _Pack) -> Any:
    """Returns the tree of a value of numpy or pandas; None for all others.

    Args:
        pack: returns the tree of any value.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    kind = type(value)
    if kind is numpy.ndarray or getattr(kind, "codegen_is_plain", False):
        return _pack_ndarray(value, pack)
    if isinstance(value, numpy.generic):
        plain = _PLAIN_TYPE.fullmatch(value.dtype.str) and kind is value.dtype.type
        return {"ng": [value.dtype.str, value.tobytes().hex()]} if plain else None
    if isinstance(value, numpy.dtype):
        return {"nt": value.str} if _PLAIN_TYPE.fullmatch(value.str) else None
    pandas = sys.modules.get("pandas")
    if pandas is None or not hasattr(pandas, "DataFrame"):
        return None
    if kind is pandas.DataFrame:
        columns = [_pack_column(value.iloc[:, n], pandas, pack) for n in range(value.shape[1])]
        return {"pf": [pack(value.columns), columns, pack(value.index)]}
    if kind is pandas.Series:
        return {"ps": [_pack_column(value, pandas, pack), pack(value.index), pack(value.name)]}
    if kind is pandas.RangeIndex:
        return {"pr": [value.start, value.stop, value.step, pack(value.name)]}
    if kind is pandas.MultiIndex:
        return {"pm": [pack(list(value)), pack(list(value.names))]}
    if isinstance(value, pandas.Index):
        return {"pi": [_pack_column(value.to_series(), pandas, pack), pack(value.name)]}
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _pack_column(pandas.Series(value), pandas, pack)
    if kind is pandas.Timestamp:
        return {"pt": [value.value, value.unit, None if value.tz is None else str(value.tz)]}
    if kind is pandas.Timedelta:
        return {"pd": [value.value, value.unit]}
    if value is pandas.NaT or value is pandas.NA:
        return {"pn": "NaT" if value is pandas.NaT else "NA"}
    return None


def _pack_ndarray(value: Any, pack: _Pack) -> Any:
    shape = list(value.shape)
    if value.dtype.kind == "O":
        return {"no": [shape, [pack(item) for item in value.ravel().tolist()]]}
    if not _PLAIN_TYPE.fullmatch(value.dtype.str):
        return None
    if value.nbytes > MAX_FRAME_BYTES // 2:
        raise WireError(f"an array of {value.nbytes} bytes")
    return {"nd": [value.dtype.str, shape, value.tobytes().hex()]}


def _pack_column(series: Any, pandas: Any, pack: _Pack) -> Any:
    kind = series.dtype
    if isinstance(kind, pandas.CategoricalDtype):
        codes = _pack_ndarray(series.cat.codes.to_numpy(), pack)
        return {"pc": [codes, pack(kind.categories), bool(kind.ordered)]}
    if hasattr(kind, "kind") and hasattr(kind, "itemsize") and hasattr(kind, "fields"):
        return _pack_ndarray(series.to_numpy(), pack)  # one of numpy's types
    items = [None if missing else item for item, missing in zip(series, series.isna(), strict=True)]
    return {"px": [str(kind), [pack(item) for item in items]]}


TAGS = words("nd no ng nt pf ps pr pm pi pt pd pn pc px")


def unpack_array(tag: str, content: object, unpack: Callable[[object], object]) -> object:
    """Returns the value of a :func:`pack_array` tree.

    Raises:
        WireError: if it is malformed, or the package is not installed.
    """
    try:
        return _UNPACK[tag](content, unpack)
    except ImportError as error:
        raise WireError(f"a value of {error.name}, which is not installed here") from None
    except (TypeError, ValueError, KeyError, OverflowError, AttributeError) as error:
        raise WireError(f"a malformed array: {type(error).__name__}") from None


def _numpy() -> Any:
    return importlib.import_module("numpy")


def _pandas() -> Any:
    return importlib.import_module("pandas")


def _type(text: Any) -> Any:
    if type(text) is not str or not _PLAIN_TYPE.fullmatch(text):
        raise ValueError("not a plain type")
    return _numpy().dtype(text)


def _shape(shape: object, most: int) -> tuple[int, ...]:
    if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
        raise ValueError("not a shape")
    if not all(type(n) is int and 0 <= n <= MAX_FRAME_BYTES for n in shape):
        raise ValueError("not a shape")
    if math.prod(shape) > most:
        raise ValueError("too large")
    return tuple(shape)


def _ndarray(content: Any, _: object) -> Any:
    text, shape, data = content
    kind, raw = _type(text), bytes.fromhex(data)
    sizes = _shape(shape, MAX_FRAME_BYTES)
    if math.prod(sizes) * kind.itemsize != len(raw):
        raise ValueError("the bytes do not fit the shape")
    return _numpy().ndarray(sizes, kind, raw).copy()


def _objects(content: Any, unpack: Callable[[Any], Any]) -> Any:
    shape, items = content
    sizes = _shape(shape, len(items))
    if math.prod(sizes) != len(items):
        raise ValueError("the items do not fit the shape")
    made = _numpy().empty(len(items), dtype=object)
    for n, item in enumerate(items):
        made[n] = unpack(item)
    return made.reshape(sizes)


def _generic(content: Any, unpack: Callable[[Any], Any]) -> Any:
    text, data = content
    return _ndarray([text, [], data], unpack)[()]


def _frame(content: Any, unpack: Callable[[object], object]) -> object:
    columns, values, index = content
    names, rows = unpack(columns), unpack(index)
    made = _pandas().DataFrame(
        {n: _series(column, rows, unpack) for n, column in enumerate(values)}, index=rows
    )
    made.columns = names
    return made


def _series(column: Any, index: Any, unpack: Callable[[Any], Any]) -> Any:
    return _pandas().Series(unpack(column), index=index)


def _extension(content: Any, unpack: Callable[[Any], Any]) -> Any:
    name, items = content
    if type(name) is not str or len(name) > 80:
        raise ValueError("not the name of a type")
    return _pandas().array([unpack(item) for item in items], dtype=name)


def _category(content: Any, unpack: Callable[[object], object]) -> Any:
    codes, categories, ordered = content
    return _pandas().Categorical.from_codes(
        unpack(codes), categories=unpack(categories), ordered=ordered is True
    )


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("an integer expected")
    return value


_UNPACK: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "nd": _ndarray,
    "no": _objects,
    "ng": _generic,
    "nt": lambda content, _: _type(content),
    "pf": _frame,
    "ps": lambda c, unpack: _series(c[0], unpack(c[1]), unpack).rename(unpack(c[2])),
    "pr": lambda c, unpack: _pandas().RangeIndex(*map(_whole, c[:3]), name=unpack(c[3])),
    "pm": lambda c, unpack: _pandas().MultiIndex.from_tuples(unpack(c[0]), names=unpack(c[1])),
    "pi": lambda c, unpack: _pandas().Index(unpack(c[0]), name=unpack(c[1])),
    "pt": lambda c, _: _pandas().Timestamp(_whole(c[0]), unit="ns", tz=c[2]).as_unit(str(c[1])),
    "pd": lambda c, _: _pandas().Timedelta(_whole(c[0]), unit="ns").as_unit(str(c[1])),
    "pn": lambda c, _: {"NaT": _pandas().NaT, "NA": _pandas().NA}[c],
    "pc": _category,
    "px": _extension,
}


MAX_RANGE = MAX_FRAME_BYTES  # numbers; a longer list could not be sent
GUARDED = frozenset(("numpy", "pandas", "pytest"))
_TESTING = (
    *("assert_allclose", "assert_array_equal", "assert_equal", "assert_almost_equal"),
    *("assert_array_almost_equal", "assert_array_less", "assert_approx_equal"),
)
_guarded: set[str] = set()


def guard(names: Collection[str]) -> None:
    """Changes the comparisons of the modules that tests import.

    Args:
        names: names that occur in the code of the tests.
    """
    if not _guarded.issuperset(names):
        for name in GUARDED.intersection(names) - _guarded:
            _guarded.add(name)
            try:
                importlib.import_module(name)
            except ImportError:
                continue
            _change_pytest() if name == "pytest" else _change_numpy()


def of_program(value: Any) -> Any:
    """Returns a program's value, with a class whose empty arrays compare as described.

    Raises:
        WireError: for a range that contains nearly all numbers.
    """
    if type(value) is range and len(value) > MAX_RANGE:
        raise WireError(f"a range of {len(value)} numbers")
    array: Any = value
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is getattr(numpy, "ndarray", None) and not array.size:
        return array.view(_empty_array())
    return value


def _differ(*values: Any) -> bool:
    """Returns whether one of two values is empty and the other is not."""
    numpy = sys.modules["numpy"]
    try:
        sizes = [numpy.size(value) for value in values[:2]]
    except Exception:  # noqa: BLE001 - then they are no arrays
        return False
    return len(sizes) == 2 and (sizes[0] == 0) != (sizes[1] == 0)


@functools.cache
def _empty_array() -> type:
    numpy = sys.modules["numpy"]
    compared = {getattr(numpy, f"{name}equal") for name in ("", "not_", "less_", "greater_")} | {
        numpy.less,
        numpy.greater,
    }

    class EmptyArray(numpy.ndarray):  # type: ignore[misc, name-defined]
        codegen_is_plain = True

        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            if ufunc in compared and method == "__call__" and _differ(*inputs):
                return numpy.zeros(1, bool)
            views = [i.view(numpy.ndarray) if isinstance(i, EmptyArray) else i for i in inputs]
            made = getattr(ufunc, method)(*views, **options)
            return of_program(made)

        def __eq__(self, other: object) -> Any:
            expected = getattr(other, "expected", None)
            if type(other).__name__.startswith("Approx") and _differ(self, expected):
                return False
            return super().__eq__(other)

        __hash__ = None  # type: ignore[assignment]

    return EmptyArray


def _change_numpy() -> None:
    numpy = _numpy()

    def changed(function: Callable[..., Any], is_check: bool) -> Callable[..., Any]:
        @functools.wraps(function)
        def compare(*values: Any, **options: Any) -> Any:
            if _differ(*values):
                if is_check:
                    raise AssertionError("an empty array is compared with one that is not")
                return False
            return function(*values, **options)

        return compare

    numpy.allclose = changed(numpy.allclose, False)
    for name in _TESTING:
        setattr(numpy.testing, name, changed(getattr(numpy.testing, name), True))


def _change_pytest() -> None:
    kind: Any = type(importlib.import_module("pytest").approx(1.0))
    before = kind.__eq__

    def equal(self: Any, actual: Any) -> Any:
        numpy = sys.modules.get("numpy")
        is_array = numpy is not None and isinstance(actual, getattr(numpy, "ndarray", ()))
        return not (is_array and not actual.size) and before(self, actual)

    kind.__eq__ = equal
