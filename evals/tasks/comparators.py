"""Comparison of results. The source of this file is prepended to the tests that use it.

It runs on the tests' side of the sandbox, which a program cannot access. It imports nothing from
this project, and nothing from ``__future__``, which would have to be the tests' first line.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any


def read_value(text: str) -> Any:
    """Returns the value that :func:`write_value` wrote as text."""

    def read(tree: dict[str, object]) -> Any:
        ((tag, content),) = tree.items()
        kinds: dict[str, Any] = {
            "t": tuple,
            "s": set,
            "z": frozenset,
            "d": dict,
            "c": lambda parts: complex(*parts),
            "b": bytes.fromhex,
            "r": lambda parts: range(*parts),
            "i": lambda digits: int(digits, 16),
        }
        return kinds[tag](content)

    return json.loads(text, object_hook=read)


def close(got: Any, expected: Any, atol: float) -> bool:
    """Returns True if results are equal up to rounding: floats by numpy's rule with rtol 1e-7."""
    if type(got) is not type(expected):
        return bool(got == expected)
    if isinstance(expected, float):
        if math.isnan(expected):
            return math.isnan(got)
        return got == expected or _near(got, expected, atol)
    if isinstance(expected, complex):
        return got == expected or _near(got, expected, atol)
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(
            close(a, b, atol) for a, b in zip(got, expected, strict=True)
        )
    if isinstance(expected, dict):
        return got.keys() == expected.keys() and all(
            close(got[key], expected[key], atol) for key in expected
        )
    return bool(got == expected)


def _near(got: complex, expected: complex, atol: float) -> bool:
    # Every number is close to infinity by the relative tolerance.
    return abs(expected) < math.inf and abs(got - expected) <= atol + 1e-7 * abs(expected)


def as_json(value: object) -> object:
    """Returns a value with its tuples turned into lists, as in JSON."""
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return value


def matches(oracle: str, got: Any, expected: Any, arguments: Any, atol: float) -> bool:
    """Returns True if a result is correct.

    Oracles besides ``equal``, all for problems with several correct answers:
        - ``set``: the order and number of the items are ignored.
        - ``not_none``: only whether the result is None (the reference returns a match object).
        - ``root``: a root of the given polynomial (HumanEval/32).
        - ``any``: any result except None (Mbpp/164, whose reference is wrong).
        - ``or_zero``: also zero (Mbpp/295).
        - ``pyramid``: also the area if ``height`` is the pyramid's own (Mbpp/581).
        - ``digits``: also the distance if the shorter number is padded (Mbpp/558).
    """
    tolerance = atol or 1e-6
    if oracle == "set":
        return set(got) == set(expected)
    if oracle == "not_none":
        return expected == (got if isinstance(got, bool) else got is not None)
    if oracle == "root":
        value = sum(c * math.pow(got, power) for power, c in enumerate(arguments[0]))
        return abs(value) <= tolerance
    if oracle == "any":
        return got is not None
    if close(got, expected, tolerance):
        return True
    if oracle == "or_zero":
        return bool(got == 0)
    if oracle == "pyramid":
        edge, height = arguments
        slant = math.sqrt((edge / 2) ** 2 + height**2)
        return abs(got - round(edge**2 + 2 * edge * slant)) <= tolerance
    if oracle == "digits":
        first, second = (str(number) for number in arguments)
        width = max(len(first), len(second))
        pairs = zip(first.zfill(width), second.zfill(width), strict=True)
        return bool(got == sum(abs(int(a) - int(b)) for a, b in pairs))
    return False


def digest(value: object) -> str:
    """Returns a digest that is equal for equal values: a whole float counts as the integer.

    Not for values that contain dictionaries or sets, since it depends on their order.
    """
    made = hashlib.sha256(type(value).__name__.encode())
    for part in value if isinstance(value, (list, tuple)) else [value]:
        made.update(repr(_normal(part)).encode("utf-8", "surrogatepass"))
        made.update(b",")
    return made.hexdigest()


def _normal(part: object) -> object:
    if isinstance(part, (list, tuple)):
        if set(map(type, part)) <= {str, int}:
            return part  # unchanged, for speed
        return type(part)(map(_normal, part))
    return int(part) if isinstance(part, (bool, float)) and part == part // 1 else part


def is_large(value: object, most: int = 1_000_000) -> bool:
    """Returns True if a string, or a nested list, is too large to store: about a megabyte."""
    weight = 0
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            weight += len(part)
        elif isinstance(part, (list, tuple)):
            weight += 8 * len(part)
        if weight > most:
            return True
        if isinstance(part, (list, tuple)):
            waiting.extend(part)
    return False


def is_digest(expected: object) -> bool:
    """Returns True if an expected result is stored as a digest."""
    return type(expected) is tuple and len(expected) == 2 and expected[0] == "digest"


def check_all(
    call: Any,
    digest_call: Any,
    inputs: Any,
    expected: Any,
    base: int,
    oracle: str,
    atol: float,
    name: str,
) -> None:
    """Calls a function on all inputs and raises an AssertionError at the first wrong result.

    Args:
        digest_call: the function with digests as results; only needed if one is expected. It runs
            on the program's side, which cannot compute the correct digest from a wrong result.
        inputs, expected: argument lists and results.
        base: number of base tests, which come first.
        oracle, atol: see :func:`matches`.
    """
    for number, (arguments, result) in enumerate(zip(inputs, expected, strict=True)):
        if is_digest(result):
            got = digest_call(*arguments)
            right = got == result
        else:
            got = call(*arguments)
            try:
                right = matches(oracle, got, result, arguments, atol)
            except (TypeError, ValueError, ArithmeticError):
                right = False  # its type cannot be compared
        if not right:
            kind = f"base test {number + 1}" if number < base else f"plus test {number + 1 - base}"
            called = f"{name}({', '.join(map(repr, arguments))})"[:300]
            raise AssertionError(f"{kind}: {called} is {got!r:.200}, expected {result!r:.200}")


# Read when imported, so that a later change of the file does not change the tests of a run.
SOURCE = Path(__file__).read_text(encoding="utf-8").partition("\n\n\n# Read when")[0]


_DIGESTS = """

def digest_call(*arguments, _source={source!r}):
    space = {{}}
    exec(_source, space)
    return "digest", space["digest"]({name}(*arguments))


def kept_call(*arguments, _source={source!r}):
    space = {{}}
    exec(_source, space)
    value = {name}(*arguments)
    return ("digest", space["digest"](value)) if space["is_large"](value) else ("value", value)
"""


def with_digests(program: str, name: str) -> str:
    """Adds two functions to a program with the function ``name``.

    ``digest_call`` returns the digest of a result; ``kept_call`` returns "digest" and the digest of
    a large result, or "value" and the result.
    """
    return f"{program}\n{_DIGESTS.format(source=SOURCE, name=name)}"


_JSON_INT_BITS = 1024  # decimal digits take quadratic time, and Python rejects long ones


def write_value(value: object) -> str:
    """Returns a value as JSON: lists and scalars unchanged, a tuple as ``{"t": [...]}``, ...

    Equal values yield equal strings (sets are sorted), since the string is part of a verdict's key.

    Raises:
        TypeError: if a value's type is not supported.
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
    raise TypeError(f"a value of type {kind.__name__} cannot be compared")
