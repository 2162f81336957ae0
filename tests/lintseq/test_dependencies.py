"""The rules, one small program each: what must be deleted with a given line."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.lintseq import prepare
from codegen.lintseq.program import PreparedProgram
from codegen.lintseq.resampling import Deletion, sample_steps
from tests.lintseq.conftest import Oracle


def deleted_with(program: str, line: int, strict: bool = True) -> set[int]:
    """The lines, from 1, that go when the node of a line does."""
    prepared = prepare(program, strict=strict)
    step = set(Deletion(prepared).delete(prepared.owners[line - 1]))
    return {number for number, owner in enumerate(prepared.owners, 1) if owner in step}


def brute_force_closure(prepared: PreparedProgram, seed: int, dead: set[int]) -> set[int]:
    """The least set that holds the seed and is closed under all edges and groups."""
    members: list[set[int]] = [set() for _ in prepared.group_sizes]
    for node, groups in enumerate(prepared.groups):
        for group in groups:
            members[group].add(node)
    closed = dead | {seed}
    while True:
        more = {d for node in closed for d in prepared.dependents[node]}
        more |= {t for m, t in zip(members, prepared.group_targets, strict=True) if m <= closed}
        if more <= closed:
            return closed - dead
        closed |= more


@pytest.mark.parametrize("strict", [True, False])
def test_closure_is_the_least_fixpoint(human_eval_programs: list[str], strict: bool) -> None:
    for number, program in enumerate(human_eval_programs[::4]):
        prepared = prepare(program, strict=strict)
        dead: set[int] = set()
        for step in sample_steps(prepared, random.Random(number)):
            assert len(set(step)) == len(step)
            assert set(step) == brute_force_closure(prepared, step[0], dead)
            dead |= set(step)
        assert dead >= set(prepared.owners)


graphs = st.integers(2, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.sets(st.integers(1, n - 1)), min_size=n, max_size=n),
        st.lists(
            st.tuples(st.sets(st.integers(1, n - 1), min_size=1), st.integers(1, n - 1)), max_size=4
        ),
    )
)


@settings(deadline=None)
@given(graphs, st.integers(0, 2**32))
def test_closure_of_any_graph(
    graph: tuple[list[set[int]], list[tuple[set[int], int]]], seed: int
) -> None:
    edges, groups = graph
    nodes = range(len(edges))
    prepared = PreparedProgram(
        lines=tuple(map(str, nodes[1:])),
        owners=tuple(nodes[1:]),
        weights=(1.0,) * len(nodes[1:]),
        dependents=tuple(tuple(sorted(targets)) for targets in edges),
        groups=tuple(
            tuple(g for g, (members, _) in enumerate(groups) if node in members) for node in nodes
        ),
        group_sizes=tuple(len(members) for members, _ in groups),
        group_targets=tuple(target for _, target in groups),
    )
    dead: set[int] = set()
    for step in sample_steps(prepared, random.Random(seed)):
        assert set(step) == brute_force_closure(prepared, step[0], dead)
        dead |= set(step)
    assert dead == set(nodes[1:])


STRUCTURE = """\
def f():
    try:
        x()
        y()
    except A:
        z()
    except B:
        z()
    else:
        w()
    match a:
        case 1:
            b()
        case 2:
            c()
    if a:
        d()
    elif b:
        e()
    else:
        g()
"""


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        (1, set(range(1, 22))),
        (2, set(range(2, 11))),
        (3, {3}),
        (6, {5, 6}),
        (10, {9, 10}),
        (11, set(range(11, 16))),
        (13, {12, 13}),
        (16, set(range(16, 22))),
        (17, set(range(16, 22))),
        (19, {18, 19}),
        (20, {20, 21}),
    ],
)
def test_structure(line: int, gone: set[int]) -> None:
    assert deleted_with(STRUCTURE, line, strict=False) == gone


def test_last_members_take_their_owner_along() -> None:
    prepared = prepare(STRUCTURE, strict=False)
    deletion = Deletion(prepared)
    line_of = prepared.owners

    def delete(line: int) -> set[int]:
        step = set(deletion.delete(line_of[line - 1]))
        return {number for number, owner in enumerate(line_of, 1) if owner in step}

    assert delete(3) == {3}
    assert delete(6) == {5, 6}
    assert delete(8) == {2, 4, 7, 8, 9, 10}  # the last handler: the whole try
    assert delete(13) == {12, 13}
    assert delete(15) == {11, 14, 15}  # the last case
    assert delete(17) == set(range(1, 2)) | set(range(16, 22))  # the last statement of f


BOTH = (True, False)
STRICT = (True,)
LOOSE = (False,)


@pytest.mark.parametrize(
    ("modes", "program", "line", "gone"),
    [
        # Names
        (BOTH, "x = 1\ny = x\nz = 1\n", 1, {1, 2}),
        (BOTH, "x = 1\ndef f():\n    y = 1\n    return x\n", 1, {1, 4}),
        (BOTH, "def f(x):\n    return x\nx = 1\n", 3, {3}),
        (BOTH, "x = 1\nf = lambda x: x\n", 1, {1}),
        (BOTH, "x = 1\ny = [x for x in 'a']\n", 1, {1}),
        (BOTH, "x = 'a'\ny = [x for x in x]\n", 1, {1, 2}),
        (BOTH, "if a:\n    x = 1\n    z = 1\nelse:\n    x = 2\n    z = 2\ny = x\n", 5, {5, 7}),
        (STRICT, "try:\n    import x\nexcept A:\n    x = 1\n    z = 1\nprint(x)\n", 4, {4, 6}),
        (LOOSE, "try:\n    import x\nexcept A:\n    x = 1\n    z = 1\nprint(x)\n", 4, {4}),
        (STRICT, "x = None\ndef f():\n    global x\n    x = 1\n    y = 1\nz = x\n", 4, {4, 6}),
        (LOOSE, "x = None\ndef f():\n    global x\n    x = 1\n    y = 1\nz = x\n", 4, {4}),
        (BOTH, "def f():\n    global x\n    y = 1\n    x = 1\nf()\nprint(x)\n", 2, {2, 4, 6}),
        (BOTH, "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n"
               "        y = 1\n"
               "    z = 1\n", 2, {2, 4, 5}),
        # Another function's nonlocal binds nothing: the declaration goes with the outer binding.
        (BOTH, "def f():\n    x = 1\n    def g():\n        nonlocal x\n        x = 2\n"
               "        y = 1\n    def h():\n        nonlocal x\n        x = 3\n"
               "        z = 1\n    w = 1\n", 2, {2, 4, 5, 8, 9}),
        (BOTH, "class A:\n    x = 1\n    def f(self):\n        return x\n    y = x\n", 2, {2, 5}),
        (BOTH, "x = 0\nclass A:\n    x = 1\n    def f(self):\n        return x\n"
               "    y = 0\n", 1, {1, 5, 4}),
        (BOTH, "if (n := 1):\n    x = 1\ny = n\n", 1, {1, 2, 3}),
        (BOTH, "x = 1\ny = [m := 1 for _ in 'a']\nz = m\n", 2, {2, 3}),
        (BOTH, "match p:\n    case [a, *b]:\n        x = a\n        y = b\n        z = 1\n"
               "    case _:\n"
               "        x = 1\nprint(b)\n", 2, {2, 3, 4, 5, 8}),
        (BOTH, "try:\n    x = 1\nexcept A as e:\n    print(e)\n    y = 1\nexcept B as e:\n"
               "    print(e)\n    z = 1\n",
         4, {4}),
        (BOTH, "from m import *\nx = 1\ny = unknown\nz = len\n", 1, {1, 3}),
        (BOTH, "def f(a: 'B'):\n    return a\nclass B:\n    x = 1\n", 3, {1, 2, 3, 4}),
        (BOTH, "from __future__ import annotations\ndef f(a: B):\n    return a\nclass B:\n"
               "    x = 1\nx = 1\n", 1,
         {1, 2, 3}),
        (BOTH, "from __future__ import annotations\nclass B:\n    x = 1\ndef f(a: B):\n"
               "    return a\n", 1, {1}),
        (BOTH, "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
               "if TYPE_CHECKING:\n    from a import B\ndef f(a: B):\n    return a\n", 1,
         {1, 5, 6}),
        (BOTH, "import a\nimport a.b\nx = a.b.c\n", 2, {2, 3}),
        (STRICT, "x = 1\nx = f()\ny = x\n", 2, {2, 3}),
        (STRICT, "x = 1\nx = f()\ny = x\n", 1, {1}),
        (LOOSE, "x = 1\nx = f()\ny = x\n", 2, {2}),
        (STRICT, "x = 0\nfor i in y:\n    print(x)\n    x = i\n", 4, {2, 3, 4}),
        (STRICT, "for i in y:\n    x = 0\n    print(x)\n    x = i\n", 4, {4}),
        (STRICT, "if a:\n    x = 1\nelse:\n    y = 1\n    return_ = 1\n    raise A\n"
                 "print(x)\n", 6, {6, 7}),
        (LOOSE, "if a:\n    x = 1\nelse:\n    y = 1\n    raise A\nprint(x)\n", 5, {5, 6}),
        (STRICT, "if a:\n    x = 1\nelse:\n    y = 1\n    sys.exit()\nprint(x)\n", 5, {5, 6}),
        (BOTH, "while a:\n    x = 1\n    if x:\n        y = 1\n        break\n"
               "print(x)\n", 5, {5}),
        # Attributes
        (BOTH, "class A:\n    def f(self):\n        self.x = 1\n        self.z = 1\n"
               "    def g(self):\n"
               "        print(1)\n        return self.x\n", 3, {3, 7}),
        (BOTH, "class A:\n    x = 1\n    z = 0\nclass B:\n    x = 2\n    z = 0\n    def f(self):\n"
               "        y = 1\n        return self.x\n", 2, {2}),
        (BOTH, "class A:\n    x = None\n    y = 1\n    def f(self):\n        self.x = 1\n"
               "        z = 1\n"
               "def g(a):\n    print(1)\n    return a.x\n", 5, {5}),
        (BOTH, "import os\nclass A:\n    path = 1\n    y = 1\nprint(os.path)\n", 3, {3}),
        # Results
        (BOTH, "def f():\n    x = 1\n    return x\nf()\n", 3, {3}),
        (BOTH, "def f():\n    x = 1\n    return x\ny = f()\n", 3, {3, 4}),
        (BOTH, "def f():\n    x = 1\n    yield x\nfor y in f():\n    pass\n", 3, {3, 4, 5}),
        (BOTH, "class A:\n    def f(self):\n        x = 1\n        return x\n"
               "y = A().f()\n", 4, {4, 5}),
        (BOTH, "class A:\n    y = 1\n    @property\n    def f(self):\n        x = 1\n"
               "        return x\n"
               "def g(a):\n    print(1)\n    return a.f\n", 6, {6}),
        (BOTH, "class A:\n    y = 1\n    def __iter__(self):\n        x = 1\n"
               "        return x\n", 5, {3, 4, 5}),
        (BOTH, "class A(B):\n    y = 1\n    def __init__(self):\n        super().__init__()\n"
               "        x = 1\n", 4,
         {3, 4, 5}),
        (BOTH, "x = 1\ny = 1\n__all__ = ['x']\n__all__ += ['y']\n", 1, {1, 3, 4}),
        (BOTH, "x = 1\ny = 1\n__all__ = ['x']\n__all__ += ['y']\n", 2, {2, 4}),
        # Classes, handlers
        (STRICT, "class A:\n    x = 1\n    def __len__(self):\n        return 1\na = A()\n"
                 "b = 1\n", 3, {3, 4, 5}),
        (STRICT, "class A:\n    x = 1\n    def f(self):\n        return 1\na = A()\n", 3, {3, 4}),
        (STRICT, "class A(B):\n    x = 1\n    def f(self):\n        return 1\n"
                 "a = A()\n", 3, {3, 4, 5}),
        (STRICT, "class A:\n    def __getattr__(self, n):\n        print(1)\n        return n\n"
                 "    def f(self):\n        print(1)\n        return self.x\n", 2, {2, 3, 4, 7}),
        (STRICT, "try:\n    import x\nexcept ImportError:\n    y = 1\nexcept OSError:\n"
                 "    y = 2\n", 3,
         {1, 2, 3, 4, 5, 6}),
    ],
)  # fmt: skip
def test_rules(modes: tuple[bool, ...], program: str, line: int, gone: set[int]) -> None:
    for strict in modes:
        assert deleted_with(program, line, strict) == gone, f"strict={strict}"


GLOBAL = "n = 0\n\n\ndef f():\n    global n\n"
DECLARED = {
    "changed": GLOBAL + "    n += 1\n\n\ndef g():\n    return n\n",
    "changed twice": GLOBAL + "    n += 1\n\n\ndef h():\n    global n\n    n += 2\n\n\nf()\nh()\n",
    "set elsewhere": GLOBAL + "    n += 1\n\n\ndef h():\n    global n\n    n = 2\n\n\nprint(n)\n",
    "read, then set": GLOBAL + "    print(n)\n    n = 1\n\n\nf()\n",
    "loop": GLOBAL + "    for n in range(3):\n        print(n)\n    n -= 1\n",
    "deleted": GLOBAL + "    print(n)\n    del n\n",
    "walrus": GLOBAL + "    if (n := n + 1) > 2:\n        return n\n    return 0\n",
    "unpacked": GLOBAL + "    n, m = n + 1, n\n    return m\n",
    "lambda": GLOBAL + "    n += 1\n    return lambda: n\n",
    "branch": "import sys\n\nif sys.argv:\n    n = 0\n\n\n"
    "def f():\n    global n\n    n += 1\n    return n\n",
    "try": "try:\n    import json as n\nexcept ImportError:\n    n = None\n\n\n"
    "def f():\n    global n\n    n = n or 1\n    return n\n",
    "import": "import os\n\n\n"
    "def f():\n    global os\n    os = os.path\n    import os\n    return os\n",
    "class": "n = 0\n\n\nclass A:\n    n = 1\n    n += 1\n\n    def f(self):\n        global n\n"
    "        n += self.n\n        return n\n",
    "inner": "n = 0\n\n\ndef f():\n    def g():\n        global n\n        n += 1\n    return g\n",
    "nonlocal": "def f():\n    n = 0\n    m = 1\n\n    def g():\n        nonlocal n, m\n"
    "        n += 1\n        m -= n\n        del m\n        return n\n\n    return g\n",
}  # fmt: skip


def reachable_states(prepared: PreparedProgram) -> set[str]:
    """The texts of all states that deletions in any order lead to."""
    everything = frozenset(range(len(prepared.dependents)))
    seeds = [prepared.owners[line] for line, weight in enumerate(prepared.weights) if weight]
    found, waiting = {everything}, [everything]
    while waiting:
        alive = waiting.pop()
        for seed in alive.intersection(seeds):
            left = alive - brute_force_closure(prepared, seed, set(everything - alive))
            if left not in found:
                found.add(left)
                waiting.append(left)
    return {
        "".join(f"{text}\n" for text, node in zip(prepared.lines, prepared.owners, strict=True)
                if node in alive)
        for alive in found
    }  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_states_with_declared_names_are_clean(name: str, pylint_findings: Oracle) -> None:
    """All reachable states, by pylint itself."""
    texts = sorted(reachable_states(prepare(DECLARED[name])))
    assert len(texts) > 4
    dirty = [t for t, found in zip(texts, pylint_findings(texts), strict=True) if found]
    assert dirty == []
