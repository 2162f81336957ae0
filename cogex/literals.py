"""Output dictionaries as text: found by their braces, read as literals, never evaluated."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codegen.cogex.errors import Invalid

MOST_CHARACTERS = 100_000
_MOST_DEPTH = 50
_SPECIAL = re.compile(
    r"""('''|\"\"\")(?:[^\\]|\\.)*?\1   # strings, in which braces mean nothing
    | '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*"
    | [{}\[\]()]""",
    re.VERBOSE | re.DOTALL,
)


def parse_output(text: str) -> dict[str, Any]:
    """The first dictionary in a text, as ``{...}``, ``output = {...}`` or JSON.

    What follows it is ignored.

    Raises:
        Invalid: if there is none, it does not end, or it is no literal with text keys.
    """
    text = _braced(text)
    try:
        value = parse_literal(text)
    except Invalid:
        value = _parse_json(text)  # true, false and null are no literals of Python
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Invalid("not_dict", f"keys that are no text in {_short(text)}")
    return value


def _parse_json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid("not_literal", _short(text)) from None
    return parse_literal(repr(value))  # NaN and infinity are none


def parse_literal(text: str) -> Any:
    """The value of a Python literal.

    Raises:
        Invalid: if the text is anything else.
    """
    if len(text) > MOST_CHARACTERS:
        raise Invalid("too_long", f"{len(text)} characters")
    try:
        with quietly():
            return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        detail = f"{_short(text)}: {type(error).__name__}"
        raise Invalid("not_literal", detail) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps the parser's warnings about a stranger's text (a bad escape) to itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _braced(text: str) -> str:
    """From the first opening brace to the one that closes it."""
    start = text.find("{", 0, MOST_CHARACTERS)
    if start < 0:
        raise Invalid("no_output", f"no dictionary in {_short(text)}")
    depth = 0
    for match in _SPECIAL.finditer(text, start, start + MOST_CHARACTERS):
        sign = match.group()
        if sign in "{[(":
            depth += 1
            if depth > _MOST_DEPTH:
                break
        elif sign in "}])":
            depth -= 1
            if depth == 0:
                return text[start : match.end()]
    raise Invalid("unbalanced", f"the dictionary never ends: {_short(text[start:])}")


def _short(text: str, most: int = 80) -> str:
    return repr(text if len(text) <= most else text[: most - 3] + "...")
