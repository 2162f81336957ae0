"""The suffix structure against brute force: counts, matches, drafts, removal, eviction."""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import threading
from array import array
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from suffix_oracle import Oracle, Place

from codegen.decoding.suffix import COMPILED, BudgetError, SuffixStore, plain
from tests.processes import python, run

Make = Callable[..., Any]

# Few different tokens, so that texts repeat; runs and periods on purpose.
token = st.integers(0, 3)
text = st.one_of(
    st.lists(token, max_size=12),
    st.builds(lambda t, n: [t] * n, token, st.integers(0, 40)),
    st.builds(
        lambda unit, n: unit * n, st.lists(token, min_size=1, max_size=4), st.integers(0, 12)
    ),
)
operation = st.one_of(
    st.tuples(st.just("start")),
    st.tuples(st.just("append"), st.integers(0, 9), text),
    st.tuples(st.just("finish"), st.integers(0, 9)),
    st.tuples(st.just("remove"), st.integers(0, 9)),
    st.tuples(st.just("add"), text),
)
options = st.fixed_dictionaries(
    {
        "limit": st.integers(0, 12),
        "factor": st.sampled_from([0.0, 0.5, 1.0, 2.5]),
        "offset": st.sampled_from([0.0, -1.0, 2.0]),
        "min_probability": st.sampled_from([0.0, 0.1, 0.4, 1.0]),
        "tree": st.booleans(),
        "sample": st.sampled_from([1, 2, 7, 1000]),
        "min_match": st.integers(1, 3),
        "max_match": st.sampled_from([2, 1024]),
    }
)


def build(make: Make, operations: list[tuple[Any, ...]], budget: int | None = None) -> Any:
    """The same operations on an index and on the oracle, errors compared as they come."""
    index, oracle, known = make(budget), Oracle(budget), []
    for name, *arguments in operations:
        if name == "start":
            if oracle.evict_for(32):
                known.append(index.start())
                oracle.texts[known[-1]] = []
            else:
                with pytest.raises(BudgetError):
                    index.start()
        elif name == "add":
            if oracle.evict_for(32 + len(arguments[0])):
                known.append(index.add(arguments[0]))
                oracle.texts[known[-1]] = arguments[0]
                oracle.finished.append(known[-1])
            else:
                with pytest.raises(BudgetError):
                    index.add(arguments[0])
        elif known:
            _change(index, oracle, name, known[arguments[0] % len(known)], *arguments[1:])
        assert index.sequences() == sorted(oracle.texts)
        assert index.billed == oracle.billed()
        assert index.oldest() == (oracle.finished[0] if oracle.finished else None)
        assert budget is None or index.billed <= budget
    index.check()
    return index, oracle


def _change(index: Any, oracle: Oracle, name: str, id_: int, tokens: Any = None) -> None:
    if id_ not in oracle.texts:
        arguments = (id_,) if tokens is None else (id_, tokens)
        with pytest.raises(KeyError, match="unknown sequence"):
            getattr(index, name)(*arguments)
    elif name == "append" and id_ in oracle.finished:
        with pytest.raises(ValueError, match="finished"):
            index.append(id_, tokens)
    elif name == "append":
        if oracle.evict_for(len(tokens)):
            index.append(id_, tokens)
            oracle.texts[id_] = oracle.texts[id_] + tokens
        else:
            with pytest.raises(BudgetError):
                index.append(id_, tokens)
    elif name == "finish":
        index.finish(id_)
        if id_ not in oracle.finished:
            oracle.finished.append(id_)
    else:
        index.remove(id_)
        del oracle.texts[id_]
        if id_ in oracle.finished:
            oracle.finished.remove(id_)


def same_answers(index: Any, oracle: Oracle, context: list[int], given: dict[str, Any]) -> None:
    """Compares everything one can ask."""
    assert len(index) == sum(map(len, oracle.texts.values()))
    substrings = {tuple(t[i:j]) for t in oracle.texts.values() if len(t) < 14
                  for i in range(len(t)) for j in range(i, len(t) + 1)}  # fmt: skip
    for substring in sorted(substrings)[:150]:
        assert index.count(substring) == oracle.count(substring)
    assert index.count(context) == oracle.count(context)
    for end in range(len(context) + 1):
        assert index.match(context[:end]) == oracle.match(context[:end])
    assert index.draft(context, **given) == oracle.draft(context, **given)
    for id_, stored in oracle.texts.items():
        assert index.text(id_) == stored
        assert index.is_finished(id_) == (id_ in oracle.finished)
        assert index.draft(stored, **given) == oracle.draft(stored, **given)
        own = Place(id_, len(stored) - 1) if stored else None
        assert index.draft_after(id_, **given) == oracle.draft(stored, own=own, **given)


@given(st.lists(operation, max_size=14), st.sampled_from([None, 90, 200]), text, options)
@settings(max_examples=200, deadline=None)
def test_everything_against_brute_force(
    make: Make, operations: list[Any], budget: int | None, context: list[int], given: dict[str, Any]
) -> None:
    index, oracle = build(make, operations, budget)
    same_answers(index, oracle, context, given)


@given(st.lists(text, min_size=1, max_size=6), st.data(), text, options)
@settings(max_examples=100, deadline=None)
@example([[1, 1, 1]], None, [1, 1], {"limit": 3})
def test_removal_equals_never_seen(
    make: Make, texts: list[list[int]], data: Any, context: list[int], given: dict[str, Any]
) -> None:
    gone = data.draw(st.sets(st.integers(0, len(texts) - 1))) if data else {0}
    index, fresh = make(), make()
    ids = [index.add(t) for t in texts]
    for number in gone:
        index.remove(ids[number])
    for number, stored in enumerate(texts):
        if number not in gone:
            fresh.add(stored)
    index.check()
    assert index.draft(context, **given) == fresh.draft(context, **given)
    assert index.match(context) == fresh.match(context)
    assert len(index) == len(fresh) and index.billed == fresh.billed
    for size in range(len(context)):
        assert index.count(context[:size]) == fresh.count(context[:size])


def test_eviction_equals_removal_of_the_oldest(make: Make) -> None:
    rng = random.Random(5)
    index, other = make(400), make()
    kept: list[int] = []
    for _ in range(40):
        tokens = [rng.randrange(4) for _ in range(rng.randrange(60))]
        index.add(tokens)
        kept.append(other.add(tokens))
        while other.billed > 400:
            other.remove(kept.pop(0))
        assert index.sequences() == other.sequences()
        context = [rng.randrange(4) for _ in range(12)]
        assert index.draft(context) == other.draft(context)
        assert index.count(context[-2:]) == other.count(context[-2:])


@pytest.mark.parametrize("kind", ["equal", "random", "periodic", "few"])
def test_many_leaves_and_groups(make: Make, kind: str) -> None:
    """Enough text for every level of the core to split and merge, in each kind of order."""
    compiled = make.__module__.endswith("_core")
    rng = random.Random(kind)
    tokens = {
        "equal": lambda n: [7] * n,
        "random": lambda n: [rng.randrange(30000) for _ in range(n)],
        "periodic": lambda n: [i % 11 for i in range(n)],
        "few": lambda n: [rng.randrange(2) for _ in range(n)],
    }[kind]
    index, oracle = make(), Oracle()
    for step in range(40 if compiled else 12):
        id_ = index.start()
        oracle.texts[id_] = tokens(rng.randrange(900 if compiled else 60))
        index.append(id_, oracle.texts[id_])
        if rng.random() < 0.4:
            victim = rng.choice(sorted(oracle.texts))
            index.remove(victim)
            del oracle.texts[victim]
        if step % 10 == 9:
            index.check()
    for stored in list(oracle.texts.values())[:6]:
        for size in (1, 2, 5, 60):
            if len(stored) >= size:
                start = rng.randrange(len(stored) - size + 1)
                part = stored[start : start + size]
                assert index.count(part) == sum(
                    _occurrences(t, part) for t in oracle.texts.values()
                )
    for id_ in list(oracle.texts):
        index.remove(id_)
        if id_ % 8 == 0:
            index.check()
    assert len(index) == index.billed == 0
    assert index.draft([7, 7]) == ([], [], [], 0.0, 0)


def _occurrences(text: list[int], part: list[int]) -> int:
    return sum(text[i : i + len(part)] == part for i in range(len(text) - len(part) + 1))


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


ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the build needs, and no compiled core."""
    # Not imported: it refuses to load after another package has loaded distutils.
    if find_spec("setuptools") is None:
        pytest.skip("install setuptools to run this test")
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT / "decoding", tree / "decoding", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (tree / "codegen").mkdir()
    (tree / "codegen" / "decoding").symlink_to(Path("..", "decoding"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def _build(tree: Path, **environment: str) -> list[Path]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "out"]
    done = run(*command, env=environment, cwd=tree)
    assert done.returncode == 0, done.stderr[-2000:]
    return list((tree / "out").rglob("_core*"))


@pytest.mark.slow
def test_without_a_compiler(tree: Path) -> None:
    assert _build(tree, CC="/bin/false", CXX="/bin/false") == []


@pytest.mark.slow
def test_with_a_compiler(tree: Path) -> None:
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("install a C++ compiler to run this test")
    (built,) = _build(tree)
    assert ".abi3." in built.name  # one build for all later versions of Python
