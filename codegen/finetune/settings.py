"""Typed settings from plain data: dataclasses whose fields say what is allowed.

A field's type decides what fits: texts, numbers, true or false, one of several words, a list of
texts or of whole numbers, a mapping of names to texts, or another such dataclass, which is a
section. Its metadata holds help and the closed range of numbers. An error names where, the key,
what was given and what is allowed.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, Literal

from codegen.errors import ConfigError


def setting(
    default: Any = MISSING, *, about: str, low: float | None = None, high: float | None = None
) -> Any:
    """A field: its default (or a function that makes it), its help, the range of its numbers."""
    metadata = {"about": about, "low": low, "high": high}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def describe(kind: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, type, help) of every key, sections included."""
    hints = typing.get_type_hints(kind)
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            yield from describe(hints[f.name], prefix + f.name + ".")
        else:
            yield prefix + f.name, _allowed(hints[f.name], f.metadata), f.metadata["about"]


def override(row: dict[str, Any], text: str) -> None:
    """Applies ``key=value`` to plain data; dots reach into sections.

    Raises:
        ConfigError: if it is not of that form.
    """
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"The override {text!r} is not of the form key=value.")
    *sections, last = key.strip().split(".")
    target = row
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"The override {text!r}: {section!r} is not a section.")
    try:
        target[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"The override {text!r}: the value is not valid YAML.") from None


def parse(kind: type, row: Any, where: str, prefix: str = "") -> Any:
    """Builds a dataclass.

    Args:
        kind: the dataclass.
        row: a mapping.
        where: what errors name.
        prefix: of the keys in errors.

    Raises:
        ConfigError: naming the key that is unknown, missing, of a wrong type or out of range.
    """
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: {prefix.rstrip('.')!r} must be a section of keys and values.")
    known = {f.name: f for f in fields(kind)}
    for key in row:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {prefix + near[0]!r}?" if near else ""
            raise ConfigError(
                f"{where}: unknown key {prefix + str(key)!r}.",
                f"{hint} Allowed are: {', '.join(known)}.".strip(),
            )
    hints = typing.get_type_hints(kind)
    values = {}
    for name, f in known.items():
        if name in row:
            values[name] = _value(row[name], hints[name], f.metadata, where, prefix + name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(
                f"{where}: the key {prefix + name!r} is missing.",
                f"It is {f.metadata['about']}: {_allowed(hints[name], f.metadata)}.",
            )
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.remedy) from None


def _value(value: Any, hint: Any, metadata: Mapping[str, Any], where: str, key: str) -> Any:
    if is_dataclass(hint):
        return parse(typing.cast(type, hint), value, where, key + ".")
    if isinstance(value, list):
        value = tuple(value)
    if float in _arms(hint):
        value = _as_float(value)
    if not _fits(value, hint) or not _in_range(value, metadata):
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(
            f"{where}: {key} is {shown!r}.", f"Allowed is: {_allowed(hint, metadata)}."
        )
    return value


def _as_float(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):  # YAML 1.1 reads 3e-4, without a dot, as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _arms(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for arm in _arms(hint):
        origin = typing.get_origin(arm)
        if origin is Literal:
            fits = isinstance(value, str) and value in typing.get_args(arm)
        elif origin is tuple:
            (kind, *_) = typing.get_args(arm)
            fits = isinstance(value, tuple) and len(value) > 0
            fits = fits and all(type(item) is kind for item in typing.cast(tuple, value))
        elif origin is dict:
            fits = isinstance(value, dict) and all(
                isinstance(item, str) and item for pair in value.items() for item in pair
            )
        elif arm is int:
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif arm is str:
            fits = isinstance(value, str) and value != ""
        else:
            fits = isinstance(value, arm)
        if fits:
            return True
    return False


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    low, high = metadata["low"], metadata["high"]
    return (low is None or value >= low) and (high is None or value <= high)


def _allowed(hint: Any, metadata: Mapping[str, Any]) -> str:
    names = []
    for arm in _arms(hint):
        if typing.get_origin(arm) is Literal:
            names.append(" or ".join(typing.get_args(arm)))
        elif typing.get_origin(arm) is tuple:
            (kind, *_) = typing.get_args(arm)
            names.append("a list of texts" if kind is str else "a list of whole numbers")
        elif typing.get_origin(arm) is dict:
            names.append("names with texts")
        else:
            kinds = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
            names.append(kinds[arm])
    text = ", or ".join(names)
    if metadata["low"] is not None:
        text += f" from {metadata['low']:g} to {metadata['high']:g}"
    return text
