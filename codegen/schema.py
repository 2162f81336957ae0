"""Decoded JSON as a dataclass: every name and type is checked, at any depth.

What is read from a file that somebody else may have written goes through :func:`conform`, so that
the code behind it can rely on the annotations of its dataclasses.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from codegen.paths import refuse_endless

_DEEPEST = 32  # levels of lists and objects below a field of type Any
_LARGEST = 2**63 - 1

T = TypeVar("T")


def read_json(path: Path, most_bytes: int) -> object:
    """A file's JSON value.

    Raises:
        InputError: if it is a pipe or a device.
        OSError: if it can't be read.
        ValueError: if it is larger than ``most_bytes``, or not JSON in UTF-8.
    """
    refuse_endless(path)
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes:,} bytes")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def conform(kind: type[T], value: Any, place: str = "") -> T:
    """``value`` (decoded JSON, or instances of dataclasses in it) as a ``kind``.

    Understands dataclasses, typed dictionaries, mappings (keys of ``int`` from their text),
    sequences, unions, literals, ``Any``, and JSON's own types. Integers have at most 63 bits,
    floats are finite. Missing fields get their defaults.

    Raises:
        ValueError: naming the field, as ``problems[3].n``, and what is wrong with it.
    """
    return _value(kind, value, place)


def _value(hint: Any, value: Any, place: str) -> Any:
    if hint in (Any, object):
        return _any(value, place, 0)
    if dataclasses.is_dataclass(hint):
        return _fields(hint, value, place)
    if typing.is_typeddict(hint):
        return _object(_hints(hint), hint.__required_keys__, value, place)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(inner, value, place)
    if origin is Literal:
        if not any(value == known and type(value) is type(known) for known in inner):
            raise _wrong(place, value, f"one of {', '.join(map(str, inner))}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(inner, value, place)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(origin, inner, value, place)
    return _scalar(hint, value, place)


def _scalar(hint: Any, value: Any, place: str) -> object:
    if hint is None or hint is type(None):
        if value is not None:
            raise _wrong(place, value, "null")
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(place, value, "a number")
        if (isinstance(value, int) and abs(value) > _LARGEST) or not math.isfinite(value):
            raise _wrong(place, value, "a finite number")
    elif hint is int:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
            raise _wrong(place, value, "a whole number of at most 63 bits")
    elif not isinstance(value, hint):
        raise _wrong(place, value, "text" if hint is str else f"of type {hint.__name__}")
    return value


def _union(arms: Sequence[object], value: object, place: str) -> object:
    error: ValueError | None = None
    for arm in arms:
        try:
            return _value(arm, value, place)
        except ValueError as wrong:
            # What an object lacks is said of its own kind, not of the null it might have been.
            error = wrong if error is None or arm not in (None, type(None)) else error
    assert error is not None
    raise error


def _fields(kind: Any, value: Any, place: str) -> Any:
    if isinstance(value, kind):  # its class reads JSON itself; check the fields
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(kind)}
    needed = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    return kind(**_object(_hints(kind), needed, value, place))


def _object(
    hints: Mapping[str, object], needed: typing.Collection[str], value: object, place: str
) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    prefix = f"{place}." if place else ""
    if unknown := sorted(map(str, value.keys() - hints.keys())):
        raise ValueError(f"{prefix}{_short(unknown[0])} is an unknown field")
    if missing := [name for name in hints if name in needed and name not in value]:
        raise ValueError(f"{prefix}{missing[0]} is missing")
    return {name: _value(hints[name], item, f"{prefix}{name}") for name, item in value.items()}


def _mapping(inner: tuple[object, ...], value: object, place: str) -> dict[object, object]:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    found = {}
    for key, item in value.items():
        where = f"{place}[{_short(key)}]"
        if inner[0] is int and isinstance(key, str):
            if not (key.isascii() and key.isdigit() and len(key) < 19):
                raise ValueError(f"{where}: its name is not a whole number")
            key = int(key)
        found[_value(inner[0], key, where)] = _value(inner[1], item, where)
    return found


def _sequence(origin: type, inner: tuple[object, ...], value: object, place: str) -> object:
    if not isinstance(value, (list, tuple)):
        raise _wrong(place, value, "a list")
    if origin is tuple and not (len(inner) == 2 and inner[1] is ...):
        if len(value) != len(inner):
            raise _wrong(place, value, f"a list of {len(inner)}")
        hints = inner
    else:
        hints = [inner[0]] * len(value)
    pairs = enumerate(zip(hints, value, strict=True))
    found = [_value(hint, item, f"{place}[{number}]") for number, (hint, item) in pairs]
    return found if origin is list else tuple(found)


def _any(value: object, place: str, depth: int) -> object:
    if depth > _DEEPEST:
        raise ValueError(f"{place} is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        for item in value.values():
            _any(item, place, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _any(item, place, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _wrong(place, value, "a finite number")
    return value


def _wrong(place: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{place or 'the file'} is {_short(value)}; it must be {expected}")


def _short(value: object) -> str:
    text = ascii(value) if isinstance(value, (str, int, float, bool, type(None))) else ""
    text = text or f"a {'list' if isinstance(value, (list, tuple)) else 'object'}"
    return text if len(text) <= 60 else text[:57] + "..."


@cache
def _hints(kind: object) -> dict[str, object]:
    return typing.get_type_hints(kind)
