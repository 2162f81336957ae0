"""Reads the fields of a JSON body: the right type or one clear line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from codegen.errors import InputError

T = TypeVar("T")

Body = Mapping[str, Any]


def parse(data: bytes) -> Body:
    """A JSON object.

    Raises:
        InputError: if it is none.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("The request is not valid JSON.") from None
    if not isinstance(body, dict):
        raise InputError("The request must be a JSON object.")
    return body


def text(body: Body, key: str, default: str = "") -> str:
    """A string; null is the default."""
    return _read(body, key, default, str, "a string")


def flag(body: Body, key: str) -> bool:
    """A truth value, false by default."""
    return _read(body, key, False, bool, "true or false")


def number(body: Body, key: str, default: float, least: float, most: float) -> float:
    """A number in a range."""
    value = body.get(key)
    if value is None:
        return default
    # An integer can have more digits than a float holds, so it is compared as it is.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise InputError(f"{key} must be a number.")
    if not least <= value <= most:
        shown = str(value)
        shown = shown if len(shown) <= 40 else f"{shown[:20]}..."
        raise InputError(f"{key} is {shown}; it must be from {least:g} to {most:g}.")
    return value


def integer(body: Body, key: str, default: int, least: int, most: int) -> int:
    """A whole number in a range."""
    value = number(body, key, default, least, most)
    if value != int(value):
        raise InputError(f"{key} must be a whole number.")
    return int(value)


def strings(body: Body, key: str, most: int = 64) -> tuple[str, ...]:
    """A string or a list of strings that are not empty."""
    value = body.get(key)
    if value is None:
        return ()
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise InputError(f"{key} must be a string or a list of strings.")
    if len(given) > most:
        raise InputError(f"{key} has {len(given)} strings; at most {most} are taken.")
    return tuple(item for item in given if item)


def objects(body: Body, key: str, most: int = 256) -> list[Body]:
    """A list of objects; those beyond ``most`` are left out."""
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{key} must be a list of objects.")
    return value[-most:]


def mapping(body: Body, key: str) -> Body:
    """An object, empty by default."""
    return _read(body, key, {}, dict, "an object")


def _read(body: Body, key: str, default: T, kind: type, words: str) -> T:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise InputError(f"{key} must be {words}.")
    return value
