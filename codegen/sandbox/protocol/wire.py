"""The wire format between a program's job and its tests' job: length-prefixed frames of JSON with
type tags. (A call to the program may be in marshal's format, see :func:`encode_call`; data from the
program never is.)

A value is *plain* if it consists of exact built-in types or a few exact types of the standard
library. JSON scalars and arrays represent ``None``, ``bool``, ``int``, finite ``float``, ``str``
and ``list``; every other plain type is an object with one key, its tag. Everything else, including
instances of subclasses, is not plain: the caller decides how to represent it. No code from the wire
can run here, and every size is capped, so the reader of a hostile frame gets a
:class:`WireError`.

Identity and aliasing are lost: a list that contains another list twice is decoded with two copies.
``not_plain`` and ``special`` handle values that are not plain.
"""

from __future__ import annotations

import ast
import builtins
import collections
import importlib
import itertools
import json
import marshal
import math
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MAX_FRAME_BYTES = 8 << 20
MAX_DEPTH = 100
MAX_INT_BITS = 1 << 22
MAX_ITERATOR_ITEMS = 10_000
MAX_MESSAGE_CHARS = 2000
MAX_SEEN = 1000  # maximum number of values that open sites of blinded tests report
MAX_CLASSES = 12  # maximum class names sent for an exception or value

_PLAIN_TYPE = re.compile(
    r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|O|[SU]\d{1,6}|[mM]8(?:\[\w{1,4}\])?)"
)
_LENGTH = struct.Struct(">I")
_READ_BYTES = 16384
_SMALL_INT = 1 << 63
_SCALARS = frozenset({type(None), bool, str})


class WireError(Exception):
    """A frame or value violates the format or exceeds one of its caps."""


class FrameTooLargeError(WireError):
    """A frame is longer than :data:`MAX_FRAME_BYTES`."""


class Opaque:
    """Placeholder for a value that is not plain. It equals nothing, not even itself."""

    __slots__ = ("type_name",)

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<opaque {self.type_name}>"


_MALFORMED = (TypeError, ValueError, ArithmeticError, RecursionError, LookupError, AttributeError)
NotPlain = Callable[[Any], Any]
Special = Callable[[str, Any], Any]


def pack(value: Any, not_plain: NotPlain, depth: int = 0) -> Any:
    """Converts ``value`` to a JSON tree.

    Args:
        value: the value to send.
        not_plain: returns the tree for each part that is not plain.
        depth: nesting depth of the value in another.

    Raises:
        WireError: for nesting deeper than ``MAX_DEPTH`` or an integer beyond ``MAX_INT_BITS``.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        return _pack_int(value)
    if kind is float:
        return value if math.isfinite(value) else {"f": repr(value)}
    if depth >= MAX_DEPTH:
        raise WireError(f"a value is nested deeper than {MAX_DEPTH}")

    def items(values: Any) -> list[Any]:
        return [pack(item, not_plain, depth + 1) for item in values]

    if kind is list:
        return items(value)
    if kind in _TAG_OF_SEQUENCE:
        return {_TAG_OF_SEQUENCE[kind]: items(value)}
    if kind in _TAG_OF_MAPPING:
        return {_TAG_OF_MAPPING[kind]: [items(pair) for pair in value.items()]}
    if kind in _TAG_OF_SCALAR:
        tag, to_json = _TAG_OF_SCALAR[kind]
        return {tag: to_json(value)}
    if kind is range or kind is slice:
        return {"r" if kind is range else "sl": items((value.start, value.stop, value.step))}
    if isinstance(value, type):
        return {"ty": [str(value.__module__), value.__qualname__]}
    module, parts = RARE.get(kind.__name__, ("", tuple))
    # If a value has the type, its module has been imported.
    if module and kind is getattr(sys.modules.get(module), kind.__name__, None):
        return {"x": [kind.__name__, *parts(value)]}
    return not_plain(value)


def _pack_int(value: int) -> Any:
    if -_SMALL_INT <= value < _SMALL_INT:
        return value
    if value.bit_length() > MAX_INT_BITS:
        raise WireError(f"an integer has more than {MAX_INT_BITS} bits")
    return {"i": hex(value)}  # hexadecimal takes linear time, decimal does not


def drained(values: Iterator[object], pack_item: Callable[[object], object]) -> object:
    """Returns the tree of an iterator's first ``MAX_ITERATOR_ITEMS`` items."""
    return {"g": [pack_item(item) for item in itertools.islice(values, MAX_ITERATOR_ITEMS)]}


def unpack(tree: Any, special: Special | None = None) -> Any:
    """Converts a JSON tree back to a value; ``special(tag, content)`` handles tags that are not
    plain: by default, arrays and opaque tokens.

    Raises:
        WireError: if the tree is not one that :func:`pack` makes.
    """
    try:
        return _unpack(tree, special or _unpack_other, 0)
    except WireError:
        raise
    except _MALFORMED as error:
        raise WireError(f"a malformed value: {type(error).__name__}") from None


def _unpack(tree: Any, special: Special, depth: int) -> Any:
    kind = type(tree)
    if kind in _SCALARS or kind is int or kind is float:
        return tree
    if depth > MAX_DEPTH:
        raise WireError(f"a value is nested deeper than {MAX_DEPTH}")

    def items(trees: Any) -> list[Any]:
        if type(trees) is not list:
            raise WireError("a malformed value: list expected")
        return [_unpack(item, special, depth + 1) for item in trees]

    if kind is list:
        return items(tree)
    if kind is not dict or len(tree) != 1:
        raise WireError("a malformed value: one tag expected")
    ((tag, content),) = tree.items()
    if tag in _SEQUENCE_OF_TAG:
        return _SEQUENCE_OF_TAG[tag](items(content))
    if tag in _MAPPING_OF_TAG:
        pairs = [(key, value) for key, value in map(items, content)]
        return _MAPPING_OF_TAG[tag](pairs)
    if tag in _SCALAR_OF_TAG:
        return _SCALAR_OF_TAG[tag](content)
    if tag in ("r", "sl"):
        start, stop, step = items(content)
        return range(start, stop, step) if tag == "r" else slice(start, stop, step)
    if tag == "x":
        return _make_rare(content[0], content[1:])
    if tag == "g":
        return iter(items(content))
    return special(tag, content)


def _unpack_other(tag: str, content: Any) -> Any:
    """Returns the value of a tag that is not plain: an array, or an opaque token."""
    if tag in ARRAY_TAGS:
        return unpack_array(tag, content, unpack)
    if tag == "o" and isinstance(content, str):
        return Opaque(content[:80])
    raise WireError(f"unknown tag {str(tag)[:20]!r}")


def opaque(value: object) -> Any:
    """Returns the tree of a value that is not plain."""
    return {"o": getattr(value, "type_name", type(value).__name__)[:80]}


def of_program(value: Any) -> Any:
    """Returns a program's value, unchanged.

    Raises:
        WireError: for a range of too many numbers.
    """
    if type(value) is range and abs(value.stop - value.start) > MAX_FRAME_BYTES * abs(value.step):
        raise WireError("a range has too many numbers")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise WireError("a malformed value: string expected")
    return value


def _int_from_hex(content: Any) -> int:
    if len(_text(content)) > MAX_INT_BITS // 4 + 4:
        raise WireError(f"an integer has more than {MAX_INT_BITS} bits")
    return int(content, 16)


def _counter(pairs: list[tuple[object, object]]) -> collections.Counter[object]:
    return collections.Counter(dict(pairs))


def _default_dict(pairs: list[tuple[object, object]]) -> collections.defaultdict[object, object]:
    return collections.defaultdict(None, pairs)  # the factory is code, which is not sent


# Type, tag, and constructor from the items.
_SEQUENCES: list[tuple[type, str, Callable[[list[Any]], Any]]] = [
    (tuple, "t", tuple),
    (set, "s", set),
    (frozenset, "z", frozenset),
    (collections.deque, "dq", collections.deque),
    (type({}.keys()), "dk", lambda keys: dict.fromkeys(keys).keys()),
    (type({}.values()), "dv", lambda values: dict(enumerate(values)).values()),
    (type({}.items()), "di", lambda pairs: dict(pairs).items()),
]
_MAPPINGS: list[tuple[type, str, Callable[[list[Any]], Any]]] = [
    (dict, "d", dict),
    (collections.OrderedDict, "do", collections.OrderedDict),
    (collections.Counter, "dc", _counter),
    (collections.defaultdict, "dd", _default_dict),
]
_TAG_OF_SEQUENCE = {kind: tag for kind, tag, _ in _SEQUENCES}
_TAG_OF_MAPPING = {kind: tag for kind, tag, _ in _MAPPINGS}
_SEQUENCE_OF_TAG = {tag: make for _, tag, make in _SEQUENCES}
_MAPPING_OF_TAG = {tag: make for _, tag, make in _MAPPINGS}
_TAG_OF_SCALAR: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("b", bytes.hex),
    bytearray: ("ba", bytearray.hex),
    complex: ("c", lambda value: [repr(value.real), repr(value.imag)]),
    type(Ellipsis): ("e", lambda _: None),
}
_SCALAR_OF_TAG: dict[str, Callable[[Any], Any]] = {
    "f": lambda content: _one_nan(float(_text(content))),
    "i": _int_from_hex,
    "b": lambda content: bytes.fromhex(_text(content)),
    "ba": lambda content: bytearray.fromhex(_text(content)),
    "c": lambda content: complex(float(_text(content[0])), float(_text(content[1]))),
    "e": lambda _: Ellipsis,
    "ty": lambda content: _find_type(*map(_text, content)),
}
# Types whose module is imported on demand, as each module slows every fork: module name and
# constructor arguments. _datetime is used because tests may replace the names in datetime.
RARE: dict[str, tuple[str, Callable[[Any], Sequence[str | int]]]] = {
    "Fraction": ("fractions", lambda value: (value.numerator, value.denominator)),
    "timedelta": ("_datetime", lambda value: (value.days, value.seconds, value.microseconds)),
    "timezone": ("_datetime", lambda value: RARE["timedelta"][1](value.utcoffset(None))),
    **dict.fromkeys(("date", "datetime", "time"), ("_datetime", lambda v: (v.isoformat(),))),
    **dict.fromkeys(("PosixPath", "PurePosixPath"), ("pathlib", lambda value: (str(value),))),
    "Decimal": ("decimal", lambda value: (str(value),)),
    "UUID": ("uuid", lambda value: (str(value),)),
    "ZoneInfo": ("zoneinfo", lambda value: (str(value.key),)),
}


def _make_rare(name: Any, parts: Any) -> object:
    """Returns a value of a type in :data:`RARE`."""
    module: Any = importlib.import_module(RARE[name][0])
    if type(parts) is not list or not all(type(part) in (str, int) for part in parts):
        raise WireError("a malformed value: unexpected parts")
    if name == "timezone":
        return module.timezone(module.timedelta(*parts))
    kind = getattr(module, name)
    return getattr(kind, "fromisoformat", kind)(*parts)


def _find_type(module: str, name: str) -> object:
    """Returns a class from a module that is imported here, or a token if not found."""
    found = type(None) if name == "NoneType" else getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else Opaque("type")


def _one_nan(number: float) -> float:
    """Returns the number; NaN becomes ``math.nan``, since containers compare by identity."""
    return number if number == number else math.nan


def class_names(kind: type) -> list[str]:
    """Returns the names of a class and its bases, each with a leading dot if a different built-in
    class has that name.
    """
    return [
        "." * (getattr(builtins, each.__name__, each) is not each) + each.__name__[:80]
        for each in kind.__mro__[:MAX_CLASSES]
    ]


def describe_exception(error: BaseException) -> tuple[str, str]:
    """Returns the name of an exception's nearest built-in class, and the capped message."""
    name = "Exception"
    for base in type(error).__mro__:
        if getattr(builtins, base.__name__, None) is base:
            name = base.__name__
            break
    try:
        message = str(error)[:MAX_MESSAGE_CHARS]
    except BaseException:  # noqa: BLE001 - its __str__ is the program's code
        message = "(the exception's message cannot be formatted)"
    if type(error).__name__ != name:
        message = f"{type(error).__name__[:80]}: {message}"
    return name, message


def exception_from(name: Any, message: object) -> Exception:
    """Rebuilds a built-in exception from its description; ``RuntimeError`` for other
    names.
    """
    text = _text(message)[:MAX_MESSAGE_CHARS]
    kind = getattr(builtins, _text(name), None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(_key_in(text)) if kind is KeyError else kind(text)
        except TypeError:  # UnicodeDecodeError and others take other arguments
            pass
    return RuntimeError(f"{name[:80]}: {text}")


def _key_in(text: str) -> object:
    """Returns the key of a KeyError from its text, the key's representation; else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


class Channel:
    """Sends and receives frames over a stream socket: four bytes of length, then the frame.

    Args:
        fd: the socket's descriptor; the caller closes it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._ahead = b""  # received, but not yet returned in a frame

    def send(self, tree: Any) -> None:
        """Sends one frame.

        Raises:
            FrameTooLargeError: if it is longer than the cap; it is not sent.
            OSError: if the other side is gone.
        """
        self.send_bytes(_encoder.encode(tree).encode("ascii"))

    def send_bytes(self, frame: bytes) -> None:
        """Sends one encoded frame; raises the same errors as :meth:`send`."""
        if len(frame) > MAX_FRAME_BYTES:
            raise FrameTooLargeError(f"{len(frame)} bytes in one message")
        data = _LENGTH.pack(len(frame)) + frame
        sent = os.write(self._fd, data)
        while sent < len(data):
            sent += os.write(self._fd, memoryview(data)[sent:])

    def receive(self) -> object:
        """Receives one frame.

        Raises:
            EOFError: if the other side is gone.
            WireError: for a frame that is too large or not JSON.
        """
        try:
            return _decoder.decode(self.receive_bytes().decode("ascii"))
        except (ValueError, RecursionError) as error:
            raise WireError(f"not a frame: {type(error).__name__}") from None

    def receive_bytes(self) -> bytes:
        """Receives one frame, undecoded.

        Raises:
            EOFError: if the other side is gone.
            FrameTooLargeError: for a frame that is too large.
        """
        data = self._ahead
        while len(data) < _LENGTH.size:
            data += self._more(_READ_BYTES)
        (length,) = _LENGTH.unpack_from(data)
        if length > MAX_FRAME_BYTES:
            raise FrameTooLargeError(f"{length} bytes in one message")
        end = _LENGTH.size + length
        if len(data) < end:
            parts, missing = [data], end - len(data)
            while missing > 0:
                part = self._more(max(missing, _READ_BYTES))
                parts.append(part)
                missing -= len(part)
            data = b"".join(parts)
        self._ahead = data[end:]
        return data[_LENGTH.size : end]

    def _more(self, most: int) -> bytes:
        try:
            part = os.read(self._fd, most)
        except ConnectionError:
            part = b""
        if not part:
            raise EOFError
        return part


def encode_call(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> bytes | None:
    """Returns the frame of a call whose arguments have common built-in types; None for others.

    Frames to the program come from the trusted side, so they need not be JSON: marshal's format is
    faster.
    """
    if not (_is_common(arguments, 0) and _is_common(options, 0)):
        return None
    return b"m" + marshal.dumps((name, arguments, options))


def _is_common(value: Any, depth: int) -> bool:
    """Returns True if a value has only exact types that marshal writes unchanged."""
    kind = type(value)
    if kind in _COMMON_SCALARS:
        return True
    if depth >= MAX_DEPTH:
        return False
    if kind is dict:
        return _are_common(value, depth) and _are_common(value.values(), depth)
    return kind in _COMMON_SEQUENCES and _are_common(value, depth)


def _are_common(values: Any, depth: int) -> bool:
    if _COMMON_SCALARS.issuperset(map(type, values)):
        return True
    return all(_is_common(value, depth + 1) for value in values)


_COMMON_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes))
_COMMON_SEQUENCES = frozenset((tuple, list, set, frozenset))


def decode_request(frame: bytes) -> list[Any]:
    """Decodes a request to the program. It comes from the trusted side, so it is not checked."""
    if frame[:1] == b"m":
        return ["plain", *marshal.loads(frame[1:])]
    return _decoder.decode(frame.decode("ascii"))


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_encoder = json.JSONEncoder(allow_nan=False, check_circular=False)  # pack has bounded the depth


# Values of numpy and pandas: a type's name and its plain values. Neither package is imported before
# such a value occurs. Structured types and subclasses are not sent; indexes and categories of
# pandas are decoded as plain values.


def pack_array(value: Any, pack: Callable[[Any], Any]) -> Any:
    """Returns the tree of a numpy or pandas value; None for other values.

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


def _pack_ndarray(value: Any, pack: Callable[[Any], Any]) -> Any:
    if not _PLAIN_TYPE.fullmatch(value.dtype.str):
        return None
    if value.nbytes > MAX_FRAME_BYTES // 2:
        raise WireError(f"an array of {value.nbytes} bytes is too large")
    flat = value.astype("i8") if value.dtype.kind in "mM" else value
    return {"nd": [value.dtype.str, list(value.shape), pack(flat.ravel().tolist())]}


def _pack_column(series: Any, pack: Callable[[Any], Any]) -> Any:
    kind = series.dtype
    if hasattr(kind, "fields"):
        return _pack_ndarray(series.to_numpy(), pack)  # a numpy type
    items = [None if missing else item for item, missing in zip(series, series.isna(), strict=True)]
    return {"px": [str(kind), pack(items)]}


def unpack_array(tag: str, content: Any, unpack: Callable[[Any], Any]) -> object:
    """Returns the value of a :func:`pack_array` tree.

    Raises:
        WireError: if it is malformed, or the package is not installed.
    """
    try:
        package: Any = importlib.import_module("numpy" if tag in ("nd", "nt") else "pandas")
        if package.__name__ == "pandas":
            package.api.extensions.ExtensionArray.__bool__ = _no_truth
        return _UNPACK[tag](package, content, unpack)
    except ImportError as error:
        raise WireError(f"the value needs {error.name}, which is not installed") from None
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise WireError(f"a malformed array: {type(error).__name__}") from None


def _no_truth(_: object) -> bool:
    """Replaces the truth value of pandas arrays: an array of comparison results would be true."""
    raise ValueError("the truth value of an array is ambiguous")


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
        raise ValueError("not an array shape")
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
        raise ValueError("not a type name")
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
ARRAY_TAGS = frozenset(_UNPACK)
