"""Comparisons of arrays by numpy and pytest that hold for an empty result, as ``all([])`` does.

``allclose([], 777)`` is true. In the process of the tests these comparisons are false if what the
program returned is empty and what it is compared with is not.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Collection
from typing import Any

from . import wire

MAX_RANGE = wire.MAX_FRAME_BYTES  # numbers; a list of more could not be sent
NAMES = frozenset(("numpy", "pandas", "pytest"))
_TESTING = (
    *("assert_allclose", "assert_array_equal", "assert_equal", "assert_almost_equal"),
    *("assert_array_almost_equal", "assert_array_less", "assert_approx_equal"),
)
_guarded: set[str] = set()


def guard(names: Collection[str]) -> None:
    """Changes the comparisons of those modules that tests import.

    Args:
        names: names that occur in the code of the tests.
    """
    if not _guarded.issuperset(names):
        for name in NAMES.intersection(names) - _guarded:
            _guarded.add(name)
            try:
                importlib.import_module(name)
            except ImportError:
                continue
            _change_pytest() if name == "pytest" else _change_numpy()


def of_program(value: Any) -> Any:
    """A value of the program, of a class that compares as described if it is an empty array.

    Raises:
        WireError: for a range that contains nearly all numbers.
    """
    if type(value) is range and len(value) > MAX_RANGE:
        raise wire.WireError(f"a range of {len(value)} numbers")
    array: Any = value
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(value) is getattr(numpy, "ndarray", None) and not array.size:
        return array.view(_empty_array())
    return value


def _differ(*values: Any) -> bool:
    """Whether one of two values is empty and the other is not."""
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
    numpy: Any = importlib.import_module("numpy")

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
