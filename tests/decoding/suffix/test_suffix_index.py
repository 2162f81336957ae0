"""The suffix structure's edges: wrong input, budgets, memory, threads, both kinds alike."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from codegen.decoding.suffix import COMPILED, BudgetError, SuffixStore, plain
from tests.processes import python

Make = Callable[..., Any]


@pytest.mark.parametrize("wrong", [-1, 2**31, 2**40, 10**30, -(10**30)])
def test_token_ids_out_of_range(make: Make, wrong: int) -> None:
    index = make()
    id_ = index.start()
    for call in (lambda: index.append(id_, [3, wrong]), lambda: index.add([wrong]),
                 lambda: index.count([wrong]), lambda: index.draft([1, wrong])):  # fmt: skip
        with pytest.raises(ValueError, match=r"is not in 0 \.\. 2147483647"):
            call()
    assert len(index) == 0
    index.append(id_, [0, 2**31 - 1])
    assert index.text(id_) == [0, 2**31 - 1]


def test_arrays_of_both_widths(make: Make) -> None:
    index = make()
    stored = [1, 2, 3, 1, 2]
    for kind in (list, tuple, lambda t: array("i", t), lambda t: np.array(t, np.int32),
                 lambda t: np.array(t, np.int64), lambda t: np.array(t * 2)[:5]):  # fmt: skip
        index.add(kind(stored))
    assert index.count(np.array([1, 2], np.int32)) == 12
    for bad in (np.array([1.0]), np.array([[1, 2]], np.int32), np.array([1], np.int16)):
        with pytest.raises(TypeError, match="one dimension and int32 or int64"):
            index.count(bad)
    with pytest.raises(ValueError, match="token id -4"):
        index.add(np.array([1, -4], np.int32))
    with pytest.raises(ValueError, match="token id -4"):
        index.add(np.array([1, -4], np.int64))


@pytest.mark.parametrize(
    "wrong",
    [{"limit": -1}, {"limit": 2**40}, {"factor": -1.0}, {"factor": float("nan")},
     {"offset": float("inf")}, {"min_probability": 1.5}, {"min_probability": float("nan")},
     {"sample": 0}, {"sample": 2**40}, {"min_match": 0}, {"max_match": 0}],
)  # fmt: skip
def test_options_out_of_range(make: Make, wrong: dict[str, Any]) -> None:
    index = make()
    id_ = index.add([1, 2, 1])
    with pytest.raises(ValueError, match=next(iter(wrong))):
        index.draft([1], **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        index.draft_after(id_, **wrong)
    with pytest.raises(TypeError):
        index.draft([1], unheard_of=3)


def test_budgets(make: Make) -> None:
    for wrong in (0, 32, -5):
        with pytest.raises(ValueError, match="must be above 32"):
            make(wrong)
    index = make(100)
    first = index.add([1] * 20)
    with pytest.raises(BudgetError):
        index.add([2] * 69)
    assert index.sequences() == [first]  # what can't fit drives nothing out
    growing = index.start()
    assert index.sequences() == [first, growing]
    index.append(growing, [3] * 60)
    assert index.sequences() == [growing] and index.billed == 92
    with pytest.raises(BudgetError):
        index.append(growing, [3] * 9)
    assert len(index) == 60  # all or nothing
    index.append(growing, [3] * 8)
    assert index.billed == 100 and index.budget == 100


def test_a_growing_end_is_no_end(make: Make) -> None:
    index = make()
    growing = index.start()
    index.append(growing, [1, 2, 3, 9, 1, 2])
    assert index.draft_after(growing)[0] == [3, 9]
    assert index.draft_after(growing)[2] == [1.0, 1.0]
    index.finish(growing)
    assert index.draft([1, 2])[2] == [0.5, 0.5]  # one of two went on
    assert index.draft([5, 1, 2], factor=9.0)[0] == [3, 9, 1, 2]


def test_ties_go_to_the_most_recent(make: Make) -> None:
    index = make()
    index.add([1, 7])
    index.add([1, 5])
    assert index.draft([1])[0] == [5]
    index.add([1, 7])
    assert index.draft([1])[0] == [7]
    tree = index.draft([1], limit=9, factor=9.0, tree=True, min_probability=0.0)
    assert tree[:2] == ([7, 5], [-1, -1]) and tree[2] == pytest.approx([2 / 3, 1 / 3])


@pytest.mark.skipif(not COMPILED, reason="the compiled core is not built here")
def test_threads_share_an_index() -> None:
    from codegen.decoding.suffix import SuffixIndex

    index = SuffixIndex(30_000)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(150):
                id_ = index.start()
                for _ in range(8):
                    index.append(id_, [rng.randrange(5) for _ in range(rng.randrange(20))])
                    index.draft_after(id_, tree=True)
                with contextlib.suppress(KeyError):  # another thread's eviction was faster
                    index.finish(id_)
                    index.draft(index.text(id_))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(old)
    assert not failures
    index.check()


def test_arguments_that_change_the_index_while_they_are_read(make: Make) -> None:
    """A token may be any object with ``__index__``, which runs Python code."""
    index = make()
    id_ = index.add([1, 2, 3])
    growing = index.start()

    class Sly:
        def __index__(self) -> int:
            index.remove(id_)
            tokens.clear()
            return 1

    tokens: list[Any] = [2, Sly(), 3]
    with contextlib.suppress(RuntimeError, IndexError):
        index.append(growing, tokens)
    index.check()
    assert id_ not in index.sequences()


def test_the_plain_twin_takes_over_where_the_core_is_missing() -> None:
    script = (
        "import sys; sys.modules['codegen.decoding.suffix._core'] = None\n"
        "import codegen.decoding.suffix as s\n"
        "assert not s.COMPILED and s.SuffixIndex.__module__.endswith('plain')\n"
        "store = s.SuffixStore(1000); store.add([1, 2, 3]); print(store.index().draft([1])[0])\n"
    )
    done = python(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[2]"
    assert plain.SuffixIndex is not None


def test_a_store_keeps_tenants_apart() -> None:
    store = SuffixStore(1000)
    store.add([1, 2, 3], "a")
    store.add([1, 2, 4], "b")
    assert store.index("c") is None
    drafts = {}
    for tenant in "ab":
        index = store.index(tenant)
        assert index is not None
        drafts[tenant] = index.draft([1, 2])[0]
    assert drafts == {"a": [3], "b": [4]}


def test_a_store_takes_from_whoever_holds_the_most() -> None:
    store = SuffixStore(400)
    store.add([5] * 40, "quiet")
    for number in range(30):
        store.add([number] * 30, "loud")
        assert store.billed <= 400
    quiet, loud = store.index("quiet"), store.index("loud")
    assert quiet is not None and quiet.count([5]) == 40
    assert loud is not None and loud.count([29]) == 30 and loud.count([0]) == 0
    store.add([1] * 369, "loud")
    assert store.dropped == 1 and loud.count([29]) == 30
    assert store.billed == quiet.billed + loud.billed
    with pytest.raises(ValueError, match="must be above 32"):
        SuffixStore(32)
