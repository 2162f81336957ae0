"""The wire format: plain values survive exactly, others are opaque, hostile frames are refused."""

from __future__ import annotations

import collections
import contextlib
import datetime
import enum
import json
import math
import socket
import struct
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.sandbox.protocol import wire


def opaque(value: Any) -> Any:
    if hasattr(value, "__next__"):
        return wire.drained(value, lambda item: wire.pack(item, opaque))
    return {"o": type(value).__name__}


def special(tag: str, content: Any) -> Any:
    if tag == "o":
        return wire.Opaque(content)
    raise wire.WireError(tag)


def through(value: Any) -> Any:
    """The value after a trip over the wire, JSON text included."""
    text = json.dumps(wire.pack(value, opaque), allow_nan=False)
    return wire.unpack(json.loads(text.encode("ascii")), special)


def same(left: Any, right: Any) -> bool:
    """Equality with exact types all the way down; NaN equals NaN and -0.0 is not 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right) or (
            left != left and right != right
        )
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, (list, tuple, collections.deque)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (set, frozenset)):
        return len(left) == len(right) and all(any(same(a, b) for b in right) for a in left)
    return left == right


text = st.text(st.characters(exclude_categories=[]))  # lone surrogates too
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    text,
    st.binary(),
)
scalars = st.one_of(
    hashable_scalars,
    st.floats(),
    st.complex_numbers(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
    st.times(),
    st.uuids(),
    st.timedeltas(),
    st.binary().map(bytearray),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
)
keys = hashable_scalars | st.lists(hashable_scalars, max_size=3).map(tuple)
keys |= st.frozensets(keys, max_size=3)
values: st.SearchStrategy[Any] = st.deferred(lambda: scalars | containers)
_lists = st.lists(values, max_size=4)
_dicts = st.dictionaries(keys, values, max_size=4)
containers = st.one_of(
    _lists,
    _lists.map(tuple),
    _lists.map(collections.deque),
    _dicts,
    _dicts.map(collections.OrderedDict),
    st.sets(keys, max_size=4),
    st.frozensets(keys, max_size=4),
)


@given(values)
def test_plain_values_survive_exactly(value: Any) -> None:
    assert same(through(value), value)


@given(st.lists(hashable_scalars))
def test_counters_and_default_dicts(items: list[Any]) -> None:
    counter = collections.Counter(items)
    assert same(through(counter), counter)
    grouped = collections.defaultdict(list, {item: [1] for item in items})
    assert type(through(grouped)) is collections.defaultdict
    assert through(grouped) == grouped


class _Int(int):
    pass


class _Text(str):
    __slots__ = ()


class _List(list):
    pass


class _Colour(enum.IntEnum):
    RED = 1


_Point = collections.namedtuple("_Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        _Int(3),
        _Text("a"),
        _List([1]),
        _Colour.RED,
        _Point(1, 2),
        object(),
        len,
        type("Local", (), {}),
        Exception("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_are_opaque_and_equal_nothing(value: Any) -> None:
    token = through(value)
    assert isinstance(token, wire.Opaque)
    assert token != value
    assert not token == value  # noqa: SIM201 - both operators are the point
    assert not token == token  # noqa: SIM201
    nested = through([value])
    assert nested != [value]


def test_views_and_iterators() -> None:
    mapping = {"a": 1, "b": [2]}
    assert through(mapping.keys()) == mapping.keys()
    assert list(through(mapping.values())) == [1, [2]]
    assert through({"a": 1}.items()) == {"a": 1}.items()
    result = through(x * x for x in range(4))
    assert iter(result) is result
    assert list(result) == [0, 1, 4, 9]


def test_an_endless_iterator_is_cut() -> None:
    import itertools

    result = through(itertools.count())
    assert next(result) == 0
    assert len(list(result)) == wire.MAX_ITERATOR_ITEMS - 1


def test_caps() -> None:
    deep: list[Any] = []
    for _ in range(wire.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(wire.WireError, match="nested"):
        wire.pack(deep, opaque)
    with pytest.raises(wire.WireError, match="bits"):
        wire.pack(1 << (wire.MAX_INT_BITS + 1), opaque)
    with pytest.raises(wire.WireError, match="bits"):
        wire.unpack({"i": "0x" + "f" * wire.MAX_INT_BITS}, special)
    nested: Any = 1
    for _ in range(wire.MAX_DEPTH + 5):
        nested = [nested]
    with pytest.raises(wire.WireError, match="nested"):
        wire.unpack(nested, special)


_sequence_tags = st.sampled_from(["t", "s", "z", "dq", "dk", "dv", "di", "r", "sl", "g"])
_scalar_tags = st.sampled_from(["b", "ba", "c", "ty", "e", "f", "o", "p", "x"])
_tags = _sequence_tags | _scalar_tags | st.sampled_from(["d", "do", "dc", "dd"])


def _rare(parts: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([*wire.RARE]).map(lambda name: {"x": [name, *parts]})


json_trees: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | _json_nodes
        | st.lists(st.text(max_size=5) | st.integers(), max_size=3).flatmap(_rare)
    )
)
_json_nodes = st.lists(json_trees, max_size=4) | st.dictionaries(_tags, json_trees, max_size=2)


@given(json_trees)
def test_any_tree_gives_a_plain_value_or_a_wire_error(tree: Any) -> None:
    try:
        value = wire.unpack(tree, special)
    except wire.WireError:
        return
    assert _is_plain(value)


def _is_plain(value: Any) -> bool:
    kinds = (type(None), bool, int, float, complex, str, bytes, bytearray, range, type(...))
    if type(value).__name__ in (*wire.RARE, "slice"):
        return True
    if type(value) in kinds or isinstance(value, (wire.Opaque, type)):
        return True
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    views = (type({}.keys()), type({}.values()), type({}.items()))
    containers = (list, tuple, set, frozenset, collections.deque, *views)
    if type(value) in containers:
        return all(map(_is_plain, value))
    return hasattr(value, "__next__")


def _received(data: bytes) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            ours.sendall(data)
            ours.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            return wire.Channel(theirs.fileno()).receive()
        finally:
            thread.join()


@given(st.binary(max_size=64))
def test_hostile_bytes(data: bytes) -> None:
    with contextlib.suppress(wire.WireError, EOFError):  # anything else is a failure
        _received(data)


@pytest.mark.parametrize(
    "body",
    [b"{{{{", b"NaN", b"[Infinity]", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000, b""],
    ids=lambda body: repr(body[:10]),
)
def test_hostile_frames(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        _received(struct.pack(">I", len(body)) + body)


def test_a_frame_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(wire.FrameTooLargeError):
        _received(struct.pack(">I", wire.MAX_FRAME_BYTES + 1))


def test_frames_keep_their_order_and_bounds() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, receiver = wire.Channel(ours.fileno()), wire.Channel(theirs.fileno())
        trees = [[n, "x" * n] for n in range(0, 2000, 37)]
        for tree in trees:
            sender.send(tree)
        assert [receiver.receive() for _ in trees] == trees
        with pytest.raises(wire.FrameTooLargeError):
            sender.send("x" * wire.MAX_FRAME_BYTES)
        ours.close()
        with pytest.raises(EOFError):
            receiver.receive()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("v"), ValueError("v")),
        (KeyError("k"), KeyError("k")),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), RuntimeError()),
        (KeyboardInterrupt(), RuntimeError()),
        (type("Mine", (IndexError,), {})("m"), IndexError("Mine: m")),
        (type("ValueError", (Exception,), {})("fake"), Exception()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_come_back_as_built_in_ones(error: BaseException, expected: Exception) -> None:
    rebuilt = wire.exception_from(*wire.describe_exception(error))
    assert type(rebuilt) is type(expected)
    if expected.args:
        assert rebuilt.args == expected.args


def test_the_message_of_an_exception_is_capped() -> None:
    _, message = wire.describe_exception(ValueError("x" * 10**6))
    assert len(message) == wire.MAX_MESSAGE_CHARS


def test_nan_compares_as_in_python() -> None:
    value = through(float("nan"))
    assert math.isnan(value) and value != value
