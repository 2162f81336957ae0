"""Granularity ``line``: which lines go alone, and that whatever goes, Python compiles the rest."""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.lintseq import UnsupportedProgram, normalize, prepare, sample_edits
from codegen.lintseq.program import PreparedProgram
from codegen.lintseq.resampling import Deletion, sample_steps
from codegen.lintseq.units import cut
from codegen.lintseq.verify import check_compile, check_ruff, new_findings


def pieces_of(program: str) -> list[int]:
    lines = normalize(program).removesuffix("\n").split("\n")
    nodes = cut(ast.parse(normalize(program)), lines, by_line=True).nodes
    return [number for number, node in enumerate(nodes) if node.kind == "line"]


def without(prepared: PreparedProgram, nodes: Iterable[int]) -> str:
    """The program after some nodes are deleted, and what must go with them."""
    deletion = Deletion(prepared)
    for node in nodes:
        if not deletion.dead[node]:
            deletion.delete(node)
    rows = zip(prepared.lines, prepared.owners, strict=True)
    return "".join(line + "\n" for line, owner in rows if not deletion.dead[owner])


def alone(program: str) -> list[list[int]]:
    """The lines, from 1, of each piece."""
    prepared = prepare(program, granularity="line", strict=False)
    return [
        [number for number, owner in enumerate(prepared.owners, 1) if owner == piece]
        for piece in pieces_of(program)
    ]


PROGRAMS = {
    "call": (
        "f(\n    1,\n    # why\n    g(\n        2,\n    ),\n    k=3,\n)\n",
        [[2], [3, 4, 6], [5], [7]],
    ),
    "several on a line": ("x = [\n    1, 2,\n    3, 4\n]\n", [[2], [3]]),
    "closed on the same line": ("x = [1,\n     2,\n     3]\n", [[2]]),
    "commas in front": ("x = [\n    1\n    , 2\n    , 3\n]\n", [[2, 3, 4]]),
    "dict": (
        "x = {\n    1: 2,\n    **y,\n    3: [\n        4,\n    ],\n}\n",
        [[2], [3], [4, 6], [5]],
    ),
    "set": ("x = {\n    1,\n    2,\n}\n", [[2], [3]]),
    "tuple": ("x = (\n    1,\n    2\n)\n", [[2], [3]]),
    "tuples side by side": ("x = [(\n    1\n), (\n    2\n)]\n", []),
    "grouping": ("x = (\n    1\n)\n", []),
    "elements in brackets": ("x = [\n    (1 + 2),\n    (3),\n]\n", [[2], [3]]),
    "generator": ("f(\n    x\n    for x, y in z\n    if x\n    if y\n)\n", [[4], [5]]),
    "targets of a generator": ("x = [\n    a for a,\n    b in z\n]\n", []),
    "lambda": ("x = [\n    lambda a,\n    b: a,\n]\n", []),
    "condition": (
        "if (a\n        and b\n        or c\n        and not d):\n    pass\n",
        [[2], [3]],
    ),
    "condition with trailing words": ("x = (\n    a and\n    b or\n    c\n)\n", [[2], [3]]),
    "operands over lines": (
        "x = (a\n     and b\n     + c\n     and d(\n         e,\n     )\n     )\n",
        [[4, 6], [5]],
    ),
    "conditional expression": ("x = (a if b\n     and c else\n     d\n     )\n", []),
    "strings": ("x = ('a'\n     'b'\n     'c'\n     )\n", [[2], [3]]),
    "format strings": ("x = ('a %s'\n     'b'\n     ) % 1\ny = '''\n%s\n''' % 2\n", []),
    "docstring": ('def f():\n    """A\n\n    b {\n    c\n    """\n', [[3, 4], [5]]),
    "f-string": ("x = f'''\n{a}\nb\n{c:>{d}}\n'''\n", [[2], [3], [4]]),
    "f-string with a field over lines": ("x = f'''\n{a +\nb}\nc\n'''\n", []),
    "backslashes": ("x = [\n    1, \\\n    2,\n    3,\n]\n", [[4]]),
    "imports": ("from a import (\n    b,\n    c as d,\n)\n", [[2], [3]]),
    "parameters": (
        "def f(\n    self,\n    a,\n    /,\n    b,\n    *,\n    c,\n    **d,\n): pass\n",
        [],
    ),
    "parameters of a block": (
        "def f(\n    self,\n    a,\n    /,\n    b=1,\n    *,\n    c,\n    **d,\n):\n    pass\n",
        [[3], [5], [7], [8]],
    ),
    "special parameters": ("def __exit__(\n    a,\n    b,\n):\n    pass\n", []),
    "positional behind": ("def f(\n    a=1,\n    *b,\n    c,\n):\n    pass\n", [[2], [4]]),
    "with": ("with (\n    a as b,\n    c,\n):\n    pass\n", [[2], [3]]),
    "decorators": ("@a\n@property\n@b(\n    1,\n)\ndef f():\n    pass\n", [[1], [3, 5], [4]]),
    "decorators of one of several": ("@a\ndef f(): pass\n@b\ndef f(): pass\n", []),
    "needed arguments": ("def f(a, b=1): pass\nf(\n    1,\n    b=2,\n)\n", [[4]]),
    "exact lists": ("class A:\n    __slots__ = (\n        'a',\n        'b',\n    )\n", []),
    "elif": ("if a:\n    pass\nelif (b\n      and c\n      ):\n    pass\n", [[4]]),
    "semicolons": ("x = [\n    1,\n]; y = [\n    2,\n]\n", [[2], [4]]),
    "type parameters": ("def f(\n    a: list[\n        int,\n    ],\n):\n    pass\n", [[2, 3, 4]]),
    "not ascii": ("f('é', [\n    'ü', π,\n    (é),\n], (\n    1,\n))\n", [[2], [3], [5]]),
    "match": ("match (a\n       and b\n       ):\n    case 1:\n        pass\n", [[2]]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_lines_that_go_alone(name: str) -> None:
    program, expected = PROGRAMS[name]
    assert alone(program) == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_any_pieces_can_go(name: str) -> None:
    """All subsets of a program's pieces, with the compiler as the oracle."""
    program, expected = PROGRAMS[name]
    prepared = prepare(program, granularity="line", strict=False)
    pieces = pieces_of(program)
    assert len(pieces) == len(expected)
    subsets = itertools.chain.from_iterable(
        itertools.combinations(pieces, size) for size in range(len(pieces) + 1)
    )
    for subset in subsets:
        state = without(prepared, subset)
        assert check_compile([state]) == [[]], state


def test_what_must_not_be_emptied() -> None:
    def left(program: str, *numbers: int) -> str:
        prepared = prepare(program, granularity="line", strict=False)
        return without(prepared, [pieces_of(program)[number] for number in numbers])

    assert left(PROGRAMS["imports"][0], 0) == "from a import (\n    c as d,\n)\n"
    assert left(PROGRAMS["imports"][0], 0, 1) == ""
    assert left(PROGRAMS["set"][0], 0, 1) == ""  # {} is not a set
    assert left(PROGRAMS["tuple"][0], 0) == "x = (\n)\n"  # (2) is no tuple
    assert left("x = [\n    1,\n]\n", 0) == "x = [\n]\n"
    assert left("def f(\n    *,\n    a,\n    **b,\n):\n    pass\n", 0) == ""
    assert left("f(\n    'a'\n    'b'\n)\n", 1, 2) == "f(\n)\n"


def gone(prepared: PreparedProgram, line: int) -> set[int]:
    """The lines that go with one."""
    step = set(Deletion(prepared).delete(prepared.owners[line - 1]))
    return {number for number, owner in enumerate(prepared.owners, 1) if owner in step}


def test_names_belong_to_the_line_that_has_them() -> None:
    program = (
        "import a\nimport b\nfrom c import (\n    d,\n    e,\n)\n"
        "x = [\n    a,\n    b,\n    f'''\n{d}\n''',\n"
        "    [\n        e\n        for _ in e\n    ],\n]\n"
    )
    prepared = prepare(program, granularity="line")
    assert gone(prepared, 1) == {1, 8}
    assert gone(prepared, 2) == {2, 9}
    assert gone(prepared, 4) == {4, 10, 11, 12}
    assert gone(prepared, 5) == {5, 13, 14, 15, 16}
    assert gone(prepared, 3) == {*range(3, 7), *range(10, 17)}


def test_users_need_parameters_and_decorators() -> None:
    program = (
        "@wrap\ndef f(\n    a,\n    b=1,\n):\n    return a\nf(1, 2)\n"
        "class A:\n    def __init__(\n        self,\n        c,\n    ):\n        pass\nA(1)\n"
    )
    prepared = prepare(program, granularity="line", strict=False)
    assert gone(prepared, 1) == {1, 7}
    assert gone(prepared, 4) == {4, 7}
    assert gone(prepared, 11) == {11, 14}


def check_states(program: str, seed: int, most_states: int | None = None) -> int:
    """One sequence: it writes the program, and its states compile; its number of edits."""
    rng = random.Random(seed)
    prepared = prepare(program, granularity="line")
    sequence = sample_edits(prepared, rng)
    assert sequence.program == normalize(program)
    states: Sequence[str] = sequence.states
    if most_states is not None and len(states) > most_states:
        states = rng.sample(states, most_states)
    assert check_compile(states) == [[]] * len(states)
    return len(sequence.edits)


def test_human_eval(human_eval_programs: list[str]) -> None:
    """More edits than with whole statements; all states compile, and ruff finds no fault."""
    edits = statements = 0
    states: list[str] = []
    for number, program in enumerate(human_eval_programs):
        edits += check_states(program, number)
        whole = prepare(program, granularity="statement")
        statements += len(sample_edits(whole, random.Random(number)).edits)
        sequence = sample_edits(prepare(program, granularity="line"), random.Random(number))
        states += sequence.states
    assert edits > 1.4 * statements
    assert not any(check_ruff(states))


def modules(paths: Sequence[Path], number: int, largest: int) -> list[str]:
    programs = []
    small = [path for path in paths if path.stat().st_size < largest]
    for path in random.Random(2).sample(small, number):
        try:
            programs.append(path.read_bytes().decode("utf-8"))
            prepare(programs[-1])
        except UnicodeDecodeError:
            continue
        except UnsupportedProgram:
            programs.pop()
    return programs


@pytest.mark.slow
def test_pieces_of_the_stdlib_in_any_order(stdlib_paths: list[Path]) -> None:
    """Only pieces are deleted, in random orders: what the weights would seldom draw."""
    pieces = 0
    for program in modules(stdlib_paths, 80, 60_000):
        prepared = prepare(program, granularity="line", strict=False)
        nodes = pieces_of(program)
        pieces += len(nodes)
        for seed in range(2):
            random.Random(seed).shuffle(nodes)
            states = [without(prepared, nodes[: len(nodes) * part // 4]) for part in (1, 2, 3, 4)]
            assert check_compile(states) == [[]] * 4
    assert pieces > 1000


@pytest.mark.slow
def test_ruff_finds_few_faults_in_the_stdlib(stdlib_paths: list[Path]) -> None:
    """Names are tracked by line; a rule that is broken would show in more than 1 % of states."""
    count = dirty = 0
    for number, program in enumerate(modules(stdlib_paths, 60, 30_000)):
        *states, whole = sample_edits(
            prepare(program, granularity="line"), random.Random(number)
        ).states
        states = random.Random(number).sample(states, min(6, len(states)))
        *found, excused = check_ruff([*states, whole])
        count += len(states)
        dirty += sum(1 for findings in found if new_findings(findings, excused))
    assert count > 200
    assert dirty <= 0.01 * count


@st.composite
def expressions(draw: st.DrawFn, depth: int = 2) -> str:
    """An expression with random line breaks, commas and comments where brackets allow them."""
    atoms = ["a", "1", "(b)", "'s'", "f'{a}'", "'''t\n u\n'''", "x.y", "lambda p, q: p", "not c"]
    if depth == 0:
        return draw(st.sampled_from(atoms))
    inner = expressions(depth=depth - 1)
    gap = st.sampled_from(["\n", "\n", " ", "\n# c, d\n", "\n\n", " # (\n", " \\\n"])
    kind = draw(st.sampled_from(["list", "call", "dict", "set", "tuple", "and", "comp", "strings"]))
    parts = draw(st.lists(inner, min_size=1, max_size=4))
    if kind == "and":
        text = parts[0]
        for part in parts[1:]:
            word = draw(st.sampled_from(["and", "or"]))
            text += draw(gap) + " " + word + draw(gap) + " (" + part + ")"
        return "(" + draw(gap) + text + draw(gap) + ")"
    if kind == "strings":
        parts = draw(
            st.lists(st.sampled_from(["'a'", '"b"', "f'{c}'", "'''d\ne\n'''"]), min_size=1)
        )
        return "(" + draw(gap) + "".join(part + draw(gap) for part in parts) + ")"
    if kind == "comp":
        condition = "".join(draw(gap) + " if (" + part + ")" for part in parts[1:])
        return (
            "[" + draw(gap) + parts[0] + draw(gap) + " for i, j in k" + condition + draw(gap) + "]"
        )
    if kind == "dict":
        parts = ["1: " + part for part in parts]
    if kind == "call":
        parts += draw(
            st.lists(st.sampled_from(["*k", "**m", "n=1", "o=[\n2,\n3,\n]"]), unique=True)
        )
        parts.sort(key=lambda part: (part.startswith("**"), part[:2] in ("n=", "o=")))
    opening, closing = {
        "call": ("f(", ")"),
        "list": "[]",
        "dict": "{}",
        "set": "{}",
        "tuple": "()",
    }[kind]
    text = "".join(draw(gap) + part + draw(gap) + "," for part in parts)
    if kind != "tuple" and draw(st.booleans()):
        text = text.removesuffix(",")
    return opening + text + draw(gap) + closing


FRAMES = ["x = {}\n", "if 1:\n    f({})\n", "assert {}; y = 1\n", "def f(p={}, q=2):\n    pass\n"]


@settings(deadline=None, max_examples=250)
@given(expressions(), st.sampled_from(FRAMES), st.randoms(use_true_random=False))
def test_random_expressions(expression: str, frame: str, rng: random.Random) -> None:
    program = frame.format(expression)
    if check_compile([program]) != [[]]:
        return  # a comment or backslash where none may be
    prepared = prepare(program, granularity="line", strict=False)
    pieces = pieces_of(program)
    for _ in range(6):
        subset = [piece for piece in pieces if rng.random() < 0.5]
        state = without(prepared, subset)
        assert check_compile([state]) == [[]], state
    for state in sample_edits(prepared, rng).states:
        assert check_compile([state]) == [[]], state


def test_seeds_have_the_weights_of_the_paper() -> None:
    """A global definition's inner lines and a docstring's blank lines are never drawn."""
    program = (
        'NAMES = [\n    "a",\n    "b",\n]\n\n\ndef f():\n    """A\n\n    b\n    """\n    return 1\n'
    )
    prepared = prepare(program, granularity="line")
    assert prepared.weights == (1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1)
    first = sample_steps(prepared, random.Random(0))
    assert sorted(node for step in first for node in step) == sorted(set(prepared.owners) | {4 + 1})


def test_twenty_thousand_lines() -> None:
    """A long table: in time linear in its length."""
    program = "TABLE = {\n" + "".join(f"    {n}: ['a', {n}],\n" for n in range(20_000)) + "}\n"
    prepared = prepare(program, granularity="line")
    assert len(set(prepared.owners)) == 20_001
    sequence = sample_edits(prepared, random.Random(0))
    assert sequence.program == program
