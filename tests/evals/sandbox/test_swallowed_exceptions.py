"""An exception of the program that Python's own protocols swallow does not end a test early."""

from __future__ import annotations

import pytest

from codegen.evals.sandbox import Job, Sandbox

# Every program is wrong for all but the first items. The oracle is that no test here would pass if
# f returned what it should instead of raising.
STOPS = "def f(*_):\n    raise StopIteration\n"
LATE = "def f(x=0, *_):\n    if x > 1:\n        raise StopIteration\n    return x\n"
INDEX = "def f(x=0, *_):\n    if x > 1:\n        raise IndexError(x)\n    return x\n"
ATTRIBUTE = "def f(*_):\n    raise AttributeError('no')\n"
KEY = "def f(*_):\n    raise KeyError('no')\n"
TYPE = "def f(*_):\n    raise TypeError('no')\n"

ITEMS = "items = [0, 1, 7, 8]\n"
SEQUENCE = "class Seq:\n    def __getitem__(self, i):\n        return f(i)\n"

SWALLOWED = {
    "all": (STOPS, "assert all(map(f, [7, 8]))\n"),
    "not any": (STOPS, "assert not any(map(f, [7, 8]))\n"),
    "all, late": (LATE, "assert all(x is not None for x in map(f, items))\n"),
    "list": (LATE, "assert list(map(f, items)) == items[:2]\n"),
    "tuple": (LATE, "assert tuple(map(f, items)) == (0, 1)\n"),
    "set": (STOPS, "assert set(map(f, items)) == set()\n"),
    "dict": (STOPS, "assert dict(zip(items, map(f, items))) == {}\n"),
    "sum": (LATE, "assert sum(map(f, items)) == 1\n"),
    "max": (LATE, "assert max(map(f, items)) == 1\n"),
    "max default": (STOPS, "assert max(map(f, items), default=3) == 3\n"),
    "sorted": (LATE, "assert sorted(map(f, items)) == [0, 1]\n"),
    "join": (STOPS, "assert ''.join(map(f, items)) == ''\n"),
    "filter": (STOPS, "assert list(filter(f, items)) == []\n"),
    "for": (STOPS, "for got in map(f, items):\n    assert got == 9\nassert f.__name__ == 'f'\n"),
    "for over filter": (LATE, "for got in filter(f, items):\n    assert got == 1\n"),
    "comprehension": (LATE, "assert [x for x in map(f, items)] == [0, 1]\n"),
    "enumerate": (STOPS, "assert not [1 for _ in enumerate(map(f, items))]\n"),
    "zip": (STOPS, "assert all(a == b for a, b in zip(map(f, items), items))\n"),
    "zip second": (STOPS, "assert all(a == b for a, b in zip(items, map(f, items)))\n"),
    "unpack": (LATE, "a, b = map(f, items)\nassert (a, b) == (0, 1)\n"),
    "star": (STOPS, "assert [*map(f, items)] == []\n"),
    "star argument": (STOPS, "def own(*a):\n    return a\nassert own(*map(f, items)) == ()\n"),
    "in": (STOPS, "assert 9 not in map(f, items)\n"),
    "iter with a sentinel": (STOPS, "assert all(x == 5 for x in iter(f, None))\n"),
    "next with a default": (STOPS, "assert next(map(f, items), 'd') == 'd'\n"),
    "next of iter with a default": (STOPS, "assert next(iter(f, 1), 'd') == 'd'\n"),
    "takewhile": (
        STOPS,
        "import itertools\nassert list(itertools.takewhile(f, items)) == []\n",
    ),
    "starmap": (STOPS, "import itertools\nassert not list(itertools.starmap(f, [(1,)]))\n"),
    "accumulate": (
        STOPS,
        "import itertools\nassert list(itertools.accumulate(items, f)) == [0]\n",
    ),
    "chain": (STOPS, "import itertools\nassert not list(itertools.chain(map(f, items)))\n"),
    "groupby": (STOPS, "import itertools\nassert not list(itertools.groupby(items, f))\n"),
    "extend": (STOPS, "got = []\ngot.extend(map(f, items))\nassert got == []\n"),
    "update": (STOPS, "got = set()\ngot.update(map(f, items))\nassert got == set()\n"),
    "reduce": (
        STOPS,
        "import functools\nassert functools.reduce(max, map(f, items), 0) == 0\n",
    ),
    "deque": (STOPS, "import collections\nassert not collections.deque(map(f, items))\n"),
    "fsum": (STOPS, "import math\nassert math.fsum(map(f, items)) == 0\n"),
    "equal iterables": (STOPS, "import operator\nassert operator.countOf(map(f, items), 3) == 0\n"),
    "zip_longest": (
        STOPS,
        "import itertools\nassert list(itertools.zip_longest(map(f, items))) == []\n",
    ),
    "class with __next__": (
        STOPS,
        "class It:\n    def __iter__(self):\n        return self\n    def __next__(self):\n"
        "        return f(1)\nassert list(It()) == []\n",
    ),
    "old-style iteration": (INDEX, f"{SEQUENCE}assert list(Seq()) == [0, 1]\n"),
    "old-style for": (INDEX, f"{SEQUENCE}for x in Seq():\n    assert x < 2\n"),
    "old-style in": (INDEX, f"{SEQUENCE}assert 9 not in Seq()\n"),
    "old-style unpack": (INDEX, f"{SEQUENCE}a, b = Seq()\nassert (a, b) == (0, 1)\n"),
    "the mixin of Sequence": (
        INDEX,
        "from collections.abc import Sequence\nclass Seq(Sequence):\n"
        "    def __getitem__(self, i):\n        return f(i)\n"
        "    def __len__(self):\n        return 4\nassert list(Seq()) == [0, 1]\n",
    ),
    "the mixin of Mapping": (
        KEY,
        "from collections.abc import Mapping\nclass M(Mapping):\n"
        "    def __getitem__(self, i):\n        return f(i)\n"
        "    def __iter__(self):\n        return iter(())\n"
        "    def __len__(self):\n        return 0\n"
        "assert M().get(1, 5) == 5 and 1 not in M()\n",
    ),
    "hasattr": (
        ATTRIBUTE,
        "class C:\n    p = property(lambda self: f(1))\nassert not hasattr(C(), 'p')\n",
    ),
    "getattr with a default": (
        ATTRIBUTE,
        "class C:\n    p = property(lambda self: f(1))\nassert getattr(C(), 'p', 3) == 3\n",
    ),
    "__getattr__": (
        ATTRIBUTE,
        "class C:\n    def __getattr__(self, name):\n        return f(name)\n"
        "assert getattr(C(), 'p', 3) == 3\n",
    ),
    "ChainMap": (
        KEY,
        "import collections\nclass D(dict):\n    def __missing__(self, k):\n        return f(k)\n"
        "assert collections.ChainMap(D(), {1: 2})[1] == 2\n",
    ),
    "__length_hint__": (
        TYPE,
        "class C:\n    def __iter__(self):\n        return iter((1,))\n"
        "    def __length_hint__(self):\n        return f(1)\nassert list(C()) == [1]\n",
    ),
    "a thread": (
        KEY,
        "import threading\nt = threading.Thread(target=f)\nt.start()\nt.join()\nassert f\n",
    ),
}


@pytest.mark.parametrize("name", SWALLOWED)
def test_what_python_swallows_does_not_pass(sandbox: Sandbox, name: str) -> None:
    program, test = SWALLOWED[name]
    outcome = sandbox.run(Job(program, ITEMS + test + "assert f\n"))
    assert outcome.status == "error", outcome
    assert "raised by the program" in outcome.message or "bool" in outcome.message, outcome


@pytest.mark.parametrize("name", SWALLOWED)
def test_nor_where_more_calls_follow(sandbox: Sandbox, name: str) -> None:
    program, test = SWALLOWED[name]
    job = Job(program + "def g():\n    return 1\n", ITEMS + test + "assert g() == 1\n")
    assert sandbox.run(job).status == "error"


CAUGHT = {
    "try": "try:\n    f(3)\nexcept StopIteration:\n    pass\nelse:\n    assert False\n",
    "try around next": (
        "got = []\ntry:\n    got.append(f(0))\n    got.append(f(3))\nexcept StopIteration:\n"
        "    got.append('end')\nassert got == [0, 'end']\n"
    ),
    "in a helper": (
        "def ends(x):\n    try:\n        f(x)\n    except Exception as e:\n        return type(e)\n"
        "assert [ends(0), ends(3)] == [None, StopIteration]\n"
    ),
    "finally below": (
        "def run():\n    try:\n        return f(3)\n    finally:\n        f(0)\n"
        "try:\n    run()\nexcept StopIteration:\n    pass\nelse:\n    assert False\n"
    ),
    "assertRaises": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
        "        with self.assertRaises(StopIteration):\n            f(3)\n"
        "        self.assertRaises(StopIteration, f, 4)\n        self.assertEqual(f(1), 1)\n"
    ),
    "suppress": (
        "import contextlib\ngot = 0\nwith contextlib.suppress(StopIteration):\n    f(3)\n"
        "    got = 1\nassert got == 0 and f(1) == 1\n"
    ),
    "a context manager of the tests": (
        "class Raises:\n    def __enter__(self):\n        return self\n"
        "    def __exit__(self, kind, *_):\n        self.kind = kind\n        return True\n"
        "with Raises() as r:\n    f(3)\nassert r.kind is StopIteration\n"
    ),
    "futures": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(1) as pool:\n    future = pool.submit(f, 3)\n"
        "assert type(future.exception()) is StopIteration\n"
    ),
    "a generator of the tests": (
        "def gen():\n    yield f(0)\n    yield f(3)\n"
        "try:\n    list(gen())\nexcept RuntimeError:\n    pass\nelse:\n    assert False\n"
    ),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_what_tests_catch_may_pass(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(Job(LATE, CAUGHT[name]))
    assert outcome.passed, outcome
    never = sandbox.run(Job("def f(x):\n    return x\n", CAUGHT[name]))
    assert never.status in ("wrong", "error"), never


def test_iterators_of_the_program_end_as_they_should(sandbox: Sandbox) -> None:
    program = (
        "def f(n):\n    yield from range(n)\n"
        "class It:\n    def __init__(self, n):\n        self.n = n\n"
        "    def __iter__(self):\n        return self\n"
        "    def __next__(self):\n        self.n -= 1\n"
        "        if self.n < 0:\n            raise StopIteration\n        return self.n\n"
        "def g(n):\n    return It(n)\n"
    )
    test = (
        "assert list(f(3)) == [0, 1, 2]\nassert next(f(0), 7) == 7\nassert sum(f(4)) == 6\n"
        "assert list(g(3)) == [2, 1, 0]\n"
    )
    outcome = sandbox.run(Job(program, test))
    assert outcome.passed, outcome


# The program's decorators; its add is wrong.
DECORATORS = """
import functools
def add(a, b): return -1
def drops(f): return lambda *_: None
def makes(*_): return drops
def misuses(f):
    def run(*_):
        try: f(1, 2, 3)
        except TypeError: pass
    return run
def same(f): return f
def runs(f):
    @functools.wraps(f)
    def run(*given): return f(*given)
    return run
"""
WRONG = "def test_add():\n    assert add(1, 2) == 3\ntest_add()\n"
IN_A_CLASS = "    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n"
DROPPED = (
    f"@drops\n{WRONG}",
    f"@makes(1)\n{WRONG}",
    f"@runs\n@drops\n{WRONG}",
    f"@misuses\n{WRONG}",
    "@drops\ndef test_add():\n    assert add(1, 2) == 3\n",
    f"import unittest\nclass Tests(unittest.TestCase):\n    @drops\n{IN_A_CLASS}",
)
RUN = (
    f"@same\n{WRONG}".replace("3", "-1"),
    f"@runs\n{WRONG}".replace("3", "-1"),
    "@same\ndef handler(x):\n    assert x == 5\nassert add(1, 2) == -1\n",
    "@drops\ndef helper():\n    pass\nassert add(1, 2) == -1\n",
)


def test_a_decorator_of_the_program_keeps_no_test_from_running(sandbox: Sandbox) -> None:
    jobs = [(test, Job(DECORATORS, test=test)) for test in (*DROPPED, *RUN)]
    assert {test for test, outcome in sandbox.map(jobs) if outcome.passed} == set(RUN)
