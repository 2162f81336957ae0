"""Values of numpy and pandas survive the wire exactly; malformed ones are refused."""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from suites import suite

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Sandbox
from codegen.sandbox.protocol import wire

RNG = np.random.default_rng(0)


def pack(value: Any) -> Any:
    return wire.pack(value, lambda part: wire.pack_array(part, pack) or wire.opaque(part))


def unpack(tree: Any) -> Any:
    return wire.unpack(tree)


def through(value: Any) -> Any:
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
    back = through(value)
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
    back = through([value, {"k": value}])[0]
    assert type(back) is type(value) and back == value


def test_types_and_what_is_left_to_handles() -> None:
    assert through(np.dtype("<f4")) == np.dtype("<f4")
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
    pd.testing.assert_frame_equal(through(frame), frame)


def test_series_and_indexes() -> None:
    pd = pytest.importorskip("pandas")
    for series in (
        pd.Series([1, 2], name="n"),
        pd.Series(["a", "b"], index=[3, 4]),
        pd.Series([], dtype=float),
        pd.Series([True, None], dtype="boolean"),
    ):
        pd.testing.assert_series_equal(through(series), series)
    for index in (
        pd.RangeIndex(2, 9, 3, name="r"),
        pd.Index(["a", "b"]),
        pd.DatetimeIndex(["2024-01-01"], name="d"),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"]),
    ):
        pd.testing.assert_index_equal(through(index), index)
    for value in (
        pd.Timestamp("2024-01-01 10:00", tz="UTC"),
        pd.Timestamp(datetime.datetime(2024, 1, 1)),
        pd.Timedelta("1 day"),
    ):
        assert through(value) == value and type(through(value)) is type(value)
    assert through(pd.NaT) is pd.NaT and through(pd.NA) is pd.NA


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
