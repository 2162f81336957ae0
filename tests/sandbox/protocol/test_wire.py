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
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from suites import suite

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Sandbox
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


RNG = np.random.default_rng(0)


def pack(value: Any) -> Any:
    return wire.pack(value, lambda part: wire.pack_array(part, pack) or wire.opaque(part))


def unpack(tree: Any) -> Any:
    return wire.unpack(tree)


def array_through(value: Any) -> Any:
    return unpack(json.loads(json.dumps(pack(value), allow_nan=False)))


ARRAYS = [
    *(np.arange(6, dtype=kind).reshape(2, 3) for kind in "bBhHiIlLefdFD"),
    np.array([True, False]),
    np.array([np.nan, np.inf, -0.0]),
    np.array(["a", "béé"]),
    np.array([b"a", b"bc"]),
    np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"),
    np.array([1, 2], dtype="timedelta64[ms]"),
    np.array([]),
    np.zeros((0, 3), dtype=np.int8),
    np.array([1, 2, 3], dtype=">i4"),
    RNG.normal(size=(3, 4, 5)),
    RNG.normal(size=(4, 5)).T,
    np.array([None, "x", [1], 2.5], dtype=object),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype}{value.shape}")
def test_arrays(value: np.ndarray) -> None:
    back = array_through(value)
    assert type(back) is np.ndarray
    assert (back.dtype, back.shape) == (value.dtype, value.shape)
    if value.dtype.kind == "O":
        assert back.tolist() == value.tolist()
    else:
        assert back.tobytes() == value.tobytes()
    assert back.flags.writeable


@pytest.mark.parametrize(
    "value",
    [np.float64(1.5), np.int8(-3), np.bool_(True), np.str_("ab"), np.datetime64("2024-01-01")],
    ids=repr,
)
def test_scalars(value: Any) -> None:
    back = array_through([value, {"k": value}])[0]
    assert type(back) is type(value) and back == value


def test_types_and_what_is_left_to_handles() -> None:
    assert array_through(np.dtype("<f4")) == np.dtype("<f4")
    structured = np.zeros(2, dtype=[("a", "i4")])
    masked = np.ma.masked_array([1, 2])
    assert pack(structured) == {"o": "ndarray"} and pack(masked) == {"o": "MaskedArray"}


def frames() -> list[Any]:
    pd = pytest.importorskip("pandas")
    day = pd.to_datetime(["2024-01-01", "2024-01-02"])
    return [
        pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan]}),
        pd.DataFrame({"a": [1, 2]}, index=["p", "q"]),
        pd.DataFrame([[1, 2], [3, 4]], columns=[7, 8], index=day),
        pd.DataFrame(),
        pd.DataFrame({"t": day, "u": day.tz_localize("UTC"), "d": day - day[0]}),
        pd.DataFrame({"k": pd.Categorical(["a", "b"])}),
        pd.DataFrame(
            {"n": pd.array([1, None], dtype="Int64"), "s": pd.array(["a", None], "string")}
        ),
        pd.DataFrame({"a": [1, 1], "b": [2, 3]}).set_index(["a", "b"]).assign(c=1),
        pd.DataFrame([[1, 2]], columns=["x", "x"]),
    ]


@pytest.mark.parametrize("number", range(9))
def test_frames(number: int) -> None:
    pd = pytest.importorskip("pandas")
    frame = frames()[number]
    pd.testing.assert_frame_equal(array_through(frame), frame)


def test_series_and_indexes() -> None:
    pd = pytest.importorskip("pandas")
    for series in (
        pd.Series([1, 2], name="n"),
        pd.Series(["a", "b"], index=[3, 4]),
        pd.Series([], dtype=float),
        pd.Series([True, None], dtype="boolean"),
    ):
        pd.testing.assert_series_equal(array_through(series), series)
    for index in (
        pd.RangeIndex(2, 9, 3, name="r"),
        pd.Index(["a", "b"]),
        pd.DatetimeIndex(["2024-01-01"], name="d"),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"]),
    ):
        pd.testing.assert_index_equal(array_through(index), index)
    for value in (
        pd.Timestamp("2024-01-01 10:00", tz="UTC"),
        pd.Timestamp(datetime.datetime(2024, 1, 1)),
        pd.Timedelta("1 day"),
    ):
        assert array_through(value) == value and type(array_through(value)) is type(value)
    assert array_through(pd.NaT) is pd.NaT and array_through(pd.NA) is pd.NA


MALFORMED = suite("arrays")["malformed"]


@pytest.mark.parametrize("tree", MALFORMED, ids=str)
def test_malformed_arrays_are_refused(tree: Any) -> None:
    pytest.importorskip("pandas")
    with pytest.raises(wire.WireError):
        unpack(tree)


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["<i4", "ns"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(sorted(wire.ARRAY_TAGS)), inner)
    ),
)


@given(st.sampled_from(sorted(wire.ARRAY_TAGS)), TREES)
def test_any_tree_gives_a_value_or_a_wire_error(tag: str, content: Any) -> None:
    pytest.importorskip("pandas")
    try:
        unpack({tag: content})
    except wire.WireError:
        return


IN_THE_SANDBOX = suite("arrays")["sandbox"]


def test_programs_with_numpy_and_pandas() -> None:
    pytest.importorskip("pandas")
    try:
        with Sandbox(workers=1, packages=["numpy", "pandas"]) as sandbox:
            outcomes = [
                (sandbox.run(Job(program, test=test)), passes)
                for program, test, passes in IN_THE_SANDBOX
            ]
    except SandboxError as error:
        pytest.skip(str(error))
    for outcome, passes in outcomes:
        assert outcome.status in (("passed",) if passes else ("wrong", "error")), outcome


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(wire.WireError, match="pandas"):
        wire.unpack_array("pf", None, unpack)
