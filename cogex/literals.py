"""Output dictionaries: found in a text by their braces, parsed as literals, and compared.

Outputs are never evaluated. Answers are compared by their normalized strings, intermediate values
by equality.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import suppress

from codegen.core.errors import Skip
from codegen.core.python_syntax import UNPARSABLE, parse_expression


class Invalid(Skip):
    """Error for a record, program, call or output that breaks a rule of CoGEX.

    The data engine and the search count errors by ``reason``:

    * of the function: ``too_long``, ``syntax_error``, ``newer_python`` (needs a newer Python than
      this one), ``no_function``, ``more_than_function`` (also another function, a class or
      statements), ``no_return``, ``return_no_dict``, ``no_answer_key``;
    * of the call: ``no_call``, ``bad_call`` (not a call with literal arguments), ``wrong_name``,
      ``call_mismatch`` (the function does not take these arguments);
    * of the output: ``no_output``, ``unbalanced`` (the braces never close), ``not_literal``,
      ``not_dict``, ``keys_differ`` (from the keys of every dictionary that the function returns).
    """


MOST_CHARACTERS = 100_000
_MOST_DEPTH = 50
_SPECIAL = re.compile(
    r"""('''|\"\"\")(?:[^\\]|\\.)*?\1   # strings, in which braces mean nothing
    | '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*"
    | [{}\[\]()]""",
    re.VERBOSE | re.DOTALL,
)


def parse_output(text: str) -> dict[str, object]:
    """Parses the first dictionary in a text, as ``{...}``, ``output = {...}`` or JSON.

    Any text after it is ignored.

    Raises:
        Invalid: if it is missing, unclosed, or not a literal with string keys.
    """
    text = _braced(text)
    try:
        value = parse_literal(text)
    except Invalid:
        value = _parse_json(text)  # true, false and null are not Python literals
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise Invalid("not_dict", f"not a dictionary with string keys: {_short(text)}")
    return value


class _JsonNames(ast.NodeTransformer):
    """Converts JSON's names to constants, as in ``{'answer': true}``."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        values = {"true": True, "false": False, "null": None}
        return ast.Constant(values[node.id]) if node.id in values else node


def _parse_json(text: str) -> object:
    with suppress(ValueError, RecursionError):
        return parse_literal(repr(json.loads(text)))  # NaN and infinity are not literals
    with suppress(*UNPARSABLE):
        return parse_literal(ast.unparse(_JsonNames().visit(parse_expression(text))))
    raise Invalid("not_literal", _short(text))


def parse_literal(text: str) -> object:
    """Parses a Python literal.

    Raises:
        Invalid: if the text is anything else.
    """
    if len(text) > MOST_CHARACTERS:
        raise Invalid("too_long", f"{len(text)} characters")
    try:
        return ast.literal_eval(parse_expression(text.strip()))
    except (TypeError, *UNPARSABLE) as error:
        detail = f"{_short(text)}: {type(error).__name__}"
        raise Invalid("not_literal", detail) from None


def _braced(text: str) -> str:
    """Returns the text from the first opening brace to its closing brace."""
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


def normalized(value: object) -> str:
    """Normalizes an answer to a string for comparison.

    It has lower case, single spaces, no quotes, no commas between items, no final full stop; list
    items are joined by spaces; ``12.0`` and ``1,200`` become ``12`` and ``1200``.
    """
    if isinstance(value, Mapping):
        return " ".join(f"{normalized(key)}: {normalized(item)}" for key, item in value.items())
    if isinstance(value, (set, frozenset)):
        return " ".join(sorted(map(normalized, value)))
    if isinstance(value, (list, tuple)):
        return " ".join(map(normalized, value))
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", str(value).lower())
    text = " ".join(re.sub(r"[\"'`]|,(?=\s)|,$", "", text).split()).rstrip(".")
    return re.sub(r"(?<![\d.])(-?\d+)\.0+(?!\d)", r"\1", text)


def same_value(one: object, other: object) -> bool:
    """Returns True if intermediate values are equal; lists equal tuples, 1 equals 1.0 and True.

    Strings must be identical, and ``'3'`` is not ``3``.
    """
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same_value, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_value(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, (int, float)):
        return one == other or abs(one - other) <= 1e-9 * max(1.0, abs(one))
    if isinstance(other, float):
        return same_value(other, one)
    # Floats are compared above, so numbers of two types are an integer and a bool.
    both_numbers = isinstance(one, int) and isinstance(other, int)
    return (type(one) is type(other) or both_numbers) and one == other
