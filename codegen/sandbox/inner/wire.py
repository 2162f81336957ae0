"""The wire format between a program's job and its tests' job: length-prefixed frames of JSON with
type tags. (A call to the program may be in marshal's format, see :func:`encode_call`; data from the
program never is.)

A value is *plain* if it consists of exact built-in types or a few exact types of the standard
library. JSON scalars and arrays represent ``None``, ``bool``, ``int``, finite ``float``, ``str``
and ``list``; every other type is an object with one key, its tag. Everything else, including
instances of subclasses, is not plain: the caller decides how to represent it. No code from the wire
can run here, and every size is capped, so the reader of a hostile frame gets a
:class:`WireError`.

Identity and aliasing are lost: a list that contains another list twice comes back with two lists.
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
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from . import words

MAX_FRAME_BYTES = 8 << 20
MAX_DEPTH = 100
MAX_INT_BITS = 1 << 22
MAX_ITERATOR_ITEMS = 10_000
MAX_MESSAGE_CHARS = 2000

_LENGTH = struct.Struct(">I")
_READ_BYTES = 16384
_SMALL_INT = 1 << 63
_SCALARS = frozenset({type(None), bool, str})
_KEYS, _VALUES, _ITEMS = type({}.keys()), type({}.values()), type({}.items())


class WireError(Exception):
    """A frame or value breaks the format or one of its caps."""


class FrameTooLargeError(WireError):
    """A frame is longer than :data:`MAX_FRAME_BYTES`."""


class Opaque:
    """Represents a value that is not plain. It equals nothing, including itself."""

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


NotPlain = Callable[[Any], Any]
Special = Callable[[str, Any], Any]


def pack(value: Any, not_plain: NotPlain, depth: int = 0) -> Any:
    """Turns ``value`` into a JSON tree.

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
    if kind is type and _BUILTIN_TYPES.get(value.__name__) is value:
        return {"ty": value.__name__}
    if kind is range or kind is slice:
        return {"r" if kind is range else "sl": items((value.start, value.stop, value.step))}
    if isinstance(value, type):
        place = global_name(value)
        return not_plain(value) if place is None else {"gl": place}
    rare = _RARE_OF_NAME.get(kind.__name__)
    # A process with a value of the type has imported its module.
    if rare is not None and kind is getattr(sys.modules.get(rare.module), rare.name, None):
        parts = rare.to_parts(value)
        if parts is not None:
            return {rare.tag: items(parts)}
    return not_plain(value)


def _pack_int(value: int) -> Any:
    if -_SMALL_INT <= value < _SMALL_INT:
        return value
    if value.bit_length() > MAX_INT_BITS:
        raise WireError(f"an integer has more than {MAX_INT_BITS} bits")
    return {"i": hex(value)}  # hexadecimal takes linear time, decimal does not


def drained(values: Iterator[object], pack_item: Callable[[object], object]) -> object:
    """Returns the tree of an iterator read to its end, at most ``MAX_ITERATOR_ITEMS`` items."""
    read, error = _drain(values)
    return {"g": [[pack_item(item) for item in read], error]}


def global_name(value: object) -> list[str] | None:
    """Returns the module and qualified name of a class in the standard library's pure modules."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if type(module) is not str or type(name) is not str or module not in GLOBAL_MODULES:
        return None
    return [module, name] if find_global(module, name) is value else None


def find_global(module: str, name: str) -> Any:
    """Returns the object that :func:`global_name` named; None if it is missing here."""
    found = sys.modules.get(module)
    for part in name.split("."):
        found = None if part.startswith("_") else getattr(found, part, None)
    return found


def _drain(values: Iterator[object]) -> tuple[list[object], list[str] | None]:
    read: list[Any] = []
    try:
        for item in itertools.islice(values, MAX_ITERATOR_ITEMS + 1):
            read.append(item)
    except Exception as error:  # noqa: BLE001 - it is data: the reader meets it where it was raised
        return read, list(describe_exception(error))
    if len(read) > MAX_ITERATOR_ITEMS:
        read.pop()
        return read, ["RuntimeError", f"the iterator was cut after {MAX_ITERATOR_ITEMS} items"]
    return read, None


def unpack(tree: Any, special: Special) -> Any:
    """Turns a JSON tree back into a value; ``special(tag, content)`` handles tags that are not
    plain.

    Raises:
        WireError: if the tree is not one that :func:`pack` makes.
    """
    try:
        return _unpack(tree, special, 0)
    except WireError:
        raise
    except (TypeError, ValueError, ArithmeticError, RecursionError, LookupError) as error:
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
    if tag in _RARE:
        rare = _RARE[tag]
        parts = items(content)
        if len(parts) != len(rare.types) or not all(map(_is_of, parts, rare.types)):
            raise WireError("a malformed value: other parts expected")
        module: Any = importlib.import_module(rare.module)
        return rare.make(module, parts)
    if tag == "gl":
        module, name = map(_text, content)
        if module not in GLOBAL_MODULES:
            raise WireError("a malformed value: an unknown module")
        importlib.import_module(module)
        found = find_global(module, name)
        if not isinstance(found, type):
            raise WireError("a malformed value: an unknown name")
        return found
    if tag == "g":
        read, error = content
        return _replay(items(read), None if error is None else exception_from(*error))
    return special(tag, content)


def _replay(read: list[object], error: Exception | None) -> Iterator[object]:
    yield from read
    if error is not None:
        raise error


def _text(value: Any) -> str:
    if type(value) is not str:
        raise WireError("a malformed value: text expected")
    return value


def _int_from_hex(content: Any) -> int:
    if len(_text(content)) > MAX_INT_BITS // 4 + 4:
        raise WireError(f"an integer has more than {MAX_INT_BITS} bits")
    return int(content, 16)


def _counter(pairs: list[tuple[object, object]]) -> collections.Counter[object]:
    return collections.Counter(dict(pairs))


def _default_dict(pairs: list[tuple[object, object]]) -> collections.defaultdict[object, object]:
    return collections.defaultdict(None, pairs)  # the factory is code and is not sent


_TAG_OF_SEQUENCE: dict[type, str] = {
    tuple: "t",
    set: "s",
    frozenset: "z",
    collections.deque: "dq",
    _KEYS: "dk",
    _VALUES: "dv",
    _ITEMS: "di",
}
_SEQUENCE_OF_TAG: dict[str, Callable[[list[Any]], Any]] = {
    "t": tuple,
    "s": set,
    "z": frozenset,
    "dq": collections.deque,
    "dk": lambda keys: dict.fromkeys(keys).keys(),
    "dv": lambda values: dict(enumerate(values)).values(),
    "di": lambda pairs: dict(pairs).items(),
}
_TAG_OF_MAPPING: dict[type, str] = {
    dict: "d",
    collections.OrderedDict: "do",
    collections.Counter: "dc",
    collections.defaultdict: "dd",
}
_MAPPING_OF_TAG: dict[str, Callable[[list[tuple[object, object]]], object]] = {
    "d": dict,
    "do": collections.OrderedDict,
    "dc": _counter,
    "dd": _default_dict,
}
_TAG_OF_SCALAR: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("b", bytes.hex),
    bytearray: ("ba", bytearray.hex),
    complex: ("c", lambda value: [repr(value.real), repr(value.imag)]),
    type(Ellipsis): ("e", lambda _: None),
    type(NotImplemented): ("ni", lambda _: None),
}


class _Rare(NamedTuple):
    """A type whose module is imported on demand, since each module makes every fork slower.

    Attributes:
        types: the type of each part: one, or several alternatives.
        to_parts: returns the parts of a value; None if a part cannot be sent.
        make: makes a value from the module and the parts.
    """

    tag: str
    module: str
    name: str
    types: tuple[Any, ...]
    to_parts: Callable[[Any], Sequence[object] | None]
    make: Callable[[Any, list[Any]], object]


def _is_of(part: object, expected: object) -> bool:
    if expected is _ZONE:
        zones = (
            getattr(sys.modules.get(_DATETIME), "timezone", None),
            getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None),
        )
        return part is None or type(part) in zones
    return type(part) is expected


_ZONE = object()
_DATETIME = "_datetime"  # datetime imports its names from there, and tests replace datetime's


def _by_text(tag: str, module: str, name: str) -> _Rare:
    """Returns a type whose value is made from its text."""
    return _Rare(
        *(tag, module, name, (str,)),
        to_parts=lambda value: (str(value),),
        make=lambda found, parts: getattr(found, name)(*parts),
    )


def _zoned(value: Any, *names: str) -> Sequence[Any] | None:
    return (*[getattr(value, name) for name in names], value.tzinfo, value.fold)


def _of_seven(found: Any, parts: list[Any]) -> Any:
    return found.datetime(*parts[:8], fold=parts[8])


def _array(found: Any, parts: list[Any]) -> object:
    made = found.array(parts[0])
    made.frombytes(parts[1])
    return made


_TIME = ("hour", "minute", "second", "microsecond")
_RARE: dict[str, _Rare] = {
    rare.tag: rare
    for rare in (
        _Rare(
            *("q", "fractions", "Fraction", (int, int)),
            to_parts=lambda value: (value.numerator, value.denominator),
            make=lambda found, parts: found.Fraction(*parts),
        ),
        _by_text("n", "decimal", "Decimal"),
        _Rare(
            *("td", _DATETIME, "date", (str,)),
            to_parts=lambda value: (value.isoformat(),),
            make=lambda found, parts: found.date.fromisoformat(*parts),
        ),
        _Rare(
            *("tl", _DATETIME, "timedelta", (int, int, int)),
            to_parts=lambda value: (value.days, value.seconds, value.microseconds),
            make=lambda found, parts: found.timedelta(*parts),
        ),
        _Rare(
            *("dt", _DATETIME, "datetime", (*[int] * 7, _ZONE, int)),
            to_parts=lambda value: _zoned(value, "year", "month", "day", *_TIME),
            make=_of_seven,
        ),
        _Rare(
            *("ti", _DATETIME, "time", (*[int] * 4, _ZONE, int)),
            to_parts=lambda value: _zoned(value, *_TIME),
            make=lambda found, parts: found.time(*parts[:5], fold=parts[5]),
        ),
        _Rare(
            *("tz", _DATETIME, "timezone", (int, int, int, str)),
            to_parts=lambda value: (
                *(value.utcoffset(None).days, value.utcoffset(None).seconds),
                *(value.utcoffset(None).microseconds, value.tzname(None)),
            ),
            make=lambda found, parts: (
                found.timezone.utc
                if parts == [0, 0, 0, "UTC"]
                else found.timezone(found.timedelta(*parts[:3]), parts[3])
                if not parts[3].startswith("UTC")
                else found.timezone(found.timedelta(*parts[:3]))
            ),
        ),
        _Rare(
            *("zi", "zoneinfo", "ZoneInfo", (str,)),
            to_parts=lambda value: None if value.key is None else (value.key,),
            make=lambda found, parts: found.ZoneInfo(*parts),
        ),
        _by_text("pa", "pathlib", "PosixPath"),
        _by_text("pp", "pathlib", "PurePosixPath"),
        _by_text("pw", "pathlib", "PureWindowsPath"),
        _by_text("uu", "uuid", "UUID"),
        *(
            _by_text(f"i{number}", "ipaddress", f"{kind}")
            for number, kind in enumerate(
                (
                    *("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network"),
                    *("IPv4Interface", "IPv6Interface"),
                )
            )
        ),
        _Rare(
            *("ar", "array", "array", (str, bytes)),
            to_parts=lambda value: (value.typecode, value.tobytes()),
            make=_array,
        ),
        _Rare(
            *("ns", "types", "SimpleNamespace", (dict,)),
            to_parts=lambda value: (dict(vars(value)),),
            make=lambda found, parts: found.SimpleNamespace(**parts[0]),
        ),
        _Rare(
            *("mp", "types", "MappingProxyType", (dict,)),
            to_parts=lambda value: (dict(value),),
            make=lambda found, parts: found.MappingProxyType(*parts),
        ),
        _Rare(
            *("cm", "collections", "ChainMap", (list,)),
            to_parts=lambda value: (list(value.maps),),
            make=lambda found, parts: found.ChainMap(*parts[0]),
        ),
        _Rare(
            *("mv", "builtins", "memoryview", (bytes,)),
            to_parts=lambda value: (bytes(value),),
            make=lambda _, parts: memoryview(*parts),
        ),
        _Rare(
            *("st", "time", "struct_time", (int,) * 9),
            to_parts=lambda value: tuple(value),
            make=lambda found, parts: found.struct_time(parts),
        ),
        _Rare(
            *("rp", "re", "Pattern", (str, int)),
            to_parts=lambda value: (
                (value.pattern, value.flags) if type(value.pattern) is str else None
            ),
            make=lambda found, parts: found.compile(*parts),
        ),
    )
}
_RARE_OF_NAME = {rare.name: rare for rare in _RARE.values()}
_RARE_OF_NAME["mappingproxy"] = _RARE["mp"]
# Modules whose classes are the same on either side: importing them only defines names.
GLOBAL_MODULES = words(
    "array builtins collections collections.abc datetime decimal enum fractions functools "
    "itertools ipaddress math numbers operator pathlib re sqlite3 string types typing uuid abc"
)
_BUILTIN_TYPES = {name: value for name, value in vars(builtins).items() if type(value) is type} | {
    kind.__name__: kind for kind in (type(None), type(...), type(NotImplemented))
}
_SCALAR_OF_TAG: dict[str, Callable[[Any], Any]] = {
    "ty": lambda content: _BUILTIN_TYPES[_text(content)],
    "f": lambda content: _one_nan(float(_text(content))),
    "i": _int_from_hex,
    "b": lambda content: bytes.fromhex(_text(content)),
    "ba": lambda content: bytearray.fromhex(_text(content)),
    "c": lambda content: complex(float(_text(content[0])), float(_text(content[1]))),
    "e": lambda _: Ellipsis,
    "ni": lambda _: NotImplemented,
}


def _one_nan(number: float) -> float:
    """Returns the number; for NaN a single object, as containers compare items by identity."""
    return number if number == number else math.nan


def describe_exception(error: BaseException) -> tuple[str, str]:
    """Returns the name of the nearest built-in class of an exception, and its capped message."""
    name = "Exception"
    for base in type(error).__mro__:
        if getattr(builtins, base.__name__, None) is base:
            name = base.__name__
            break
    try:
        message = str(error)[:MAX_MESSAGE_CHARS]
    except BaseException:  # noqa: BLE001 - its __str__ is the program's code
        message = "(the exception's text can't be made)"
    if type(error).__name__ != name:
        message = f"{type(error).__name__[:80]}: {message}"
    return name, message


def exception_from(name: Any, message: object) -> Exception:
    """Rebuilds a built-in exception from its description; ``RuntimeError`` for names that are not
    one.
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
        self._ahead = b""  # received, but not part of a frame returned yet

    def send(self, tree: Any) -> None:
        """Sends one frame.

        Raises:
            FrameTooLargeError: if it is longer than the cap; then it is not sent.
            OSError: if the other side is gone.
        """
        self.send_bytes(_encoder.encode(tree).encode("ascii"))

    def send_bytes(self, frame: bytes) -> None:
        """Sends one frame, made by the caller; raises the same errors as :meth:`send`."""
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
    """Returns whether a value has only exact types that marshal writes unchanged."""
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
