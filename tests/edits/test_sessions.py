"""Sessions and refactorings: moments are states on the way from one text to the other."""

from __future__ import annotations

import ast
import doctest
import json
import random
import re
import subprocess
import symtable
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.records import Change, Edit
from codegen.edits.expected_edits import before as without_history
from codegen.edits.expected_edits import due_lines, is_due, is_predictable
from codegen.edits.formats import window_lines, with_window
from codegen.edits.refactorings import REFACTORINGS, Program, refactored
from codegen.edits.sessions import (
    Session,
    View,
    apply,
    hard_negative,
    lines_of,
    next_edit,
    nothing,
    ordered,
    unfinished,
)
from codegen.edits.sessions import undone as without_last

WIDE = View(10**6, 10**6, 100, 10**6)
TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c = 1\n", "\n", "    d(e, f)\n"]), max_size=9)


def undone(edit: Edit) -> str:
    """The text before the history, by taking its changes back, last first, wherever they are."""
    lines = lines_of(edit.text)
    for change in sorted(edit.history, key=lambda change: -change.line):
        new = lines_of(change.new)
        assert lines[change.line : change.line + len(new)] == new
        lines[change.line : change.line + len(new)] = lines_of(change.old)
    return "".join(lines)


@given(TEXTS, TEXTS, st.randoms(use_true_random=False))
def test_a_moment_leads_back_and_forth(one: list[str], other: list[str], rng: Any) -> None:
    old, new = "".join(one), "".join(other)
    session = ordered("a.py", old, new, rng)
    for done in range(len(session.hunks) + 1):
        moment = session.moment(done, WIDE)
        assert undone(moment) == old
        assert len(moment.history) == done
        assert with_window(moment, moment.target or "") == new  # all that remains is in the window
        assert 0 <= moment.cursor <= len(moment.text)
    if session.hunks:
        assert session.moment(len(session.hunks), WIDE).text == new


@given(TEXTS, TEXTS, st.randoms(use_true_random=False), st.integers(0, 3), st.integers(0, 3))
def test_the_target_is_of_whole_hunks_in_the_window(
    one: list[str], other: list[str], rng: Any, above: int, below: int
) -> None:
    session = ordered("a.py", "".join(one), "".join(other), rng)
    for done in range(1, len(session.hunks)):
        edit = next_edit(session, done, View(above, below))
        top, bottom = edit.window
        line = edit.text.count("\n", 0, edit.cursor)
        assert top <= line <= bottom and bottom - top <= above + below + 1
        start, end = session.next_lines(done)
        changes = edit.target != "".join(window_lines(edit))
        assert changes >= (top <= start and end <= bottom)
        where = {"here": 0, "below": start - line, "above": line - start, "jump": 0}
        assert where[edit.category] >= 0


def test_a_half_typed_edit_is_completed() -> None:
    session = ordered("a.py", "x = 1\ny = 2\n", "x = 1\nfor i in range(9):\n    y = 2\n",
                      random.Random(0))  # fmt: skip
    seen = set()
    for seed in range(20):
        edit = unfinished(session, 1, WIDE, random.Random(seed))
        assert edit
        seen.add(edit.text)
        assert edit.text[: edit.cursor] == "x = 1\nfor i in range(9):\n    y = 2\n"[: edit.cursor]
        assert edit.target == "x = 1\nfor i in range(9):\n    y = 2\n"
        assert undone(edit) == "x = 1\ny = 2\n"
    assert len(seen) > 5


def test_at_the_end_nothing_is_to_change() -> None:
    session = ordered("a.py", "a\nb\nc\nd\n", "A\nb\nC\nd\n", random.Random(1))
    texts = Counter()
    for seed in range(30):
        edit = nothing(session, View(), random.Random(seed))
        assert edit.target == "".join(window_lines(edit))
        texts[edit.text] += 1
    assert set(texts) == {"A\nb\nC\nd\n", "a\nb\nc\nd\n"}  # done, and taken back


def test_a_hard_negative_calls_for_nothing() -> None:
    """All is done; what was typed last is no change of the program, or a replaced word is left."""
    old = "# Size.\n\ndef size(box):\n    a = box\n    return a\n\n\nprint('box', size(1))\n"
    new = old.replace("(box)", "(bag)").replace("a = box", "a = bag")
    session = ordered("a.py", old, new, random.Random(0))
    kinds: Counter[str] = Counter()
    for seed in range(200):
        edit = hard_negative(session, WIDE, random.Random(seed))
        assert edit is not None and edit.category == "nothing"
        assert edit.text == new and edit.target == "".join(window_lines(edit))
        line = lines_of(new)[new.count("\n", 0, edit.cursor)]
        if len(edit.history) == len(session.hunks):
            assert undone(edit) == old and line == "print('box', size(1))\n"
            kinds["word"] += 1
            continue
        last = edit.history[-1]
        assert undone(replace(edit, history=edit.history[:-1])) == old  # the others, as they were
        earlier = without_last(edit.history, new)
        assert earlier != new and line == last.new
        assert ast.dump(ast.parse(earlier)) == ast.dump(ast.parse(new))
        kind = "comment" if "#" in last.new else "blank" if last.new == "\n" else "trailing"
        kinds[kind] += 1
    assert kinds.keys() == {"word", "comment", "blank", "trailing"} and min(kinds.values()) > 20
    assert hard_negative(Session("a.py", (), ()), WIDE, random.Random(0)) is None


# --- refactorings --------------------------------------------------------------------------------

PROGRAM = '''\
import os
import json
from typing import Any


class Point:
    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y

    def norm(self) -> int:
        return self.x + self.y

    def twice(self) -> int:
        return 2 * self.norm()


def load(path: str, limit: int) -> Any:
    """Load rows.

    Args:
        path: the file.
        limit: at most so many rows.
    """
    with open(path) as file:
        rows = file.readlines()
    if len(rows) > limit:
        rows = rows[:limit]
    print(json.dumps(rows))
    return rows


def main(given: Any) -> int:
    first = load(given.folder.name, 100)
    second = load(given.other, 100)
    print("total", first, "total", 100)
    return len(first) + len(second)


def area(box: Any) -> int:
    inner = box.size.width - 2
    outer = box.size.width + 2
    return inner * outer


def double(n):
    """Twice.

    >>> double(2)
    4
    >>> sorted(double("ab"))
    ['a', 'a', 'b', 'b']
    """
    return 2 * n


def _even(n: int) -> bool:
    """Whether a number is even.

    >>> _even(3)
    False
    """
    return n % 2 == 0
'''
LINT = "F401,F811,F821,F841,E9"


def lint(texts: list[str], folder: Path) -> list[Counter[str]]:
    """ruff's unused and undefined names of each text, by its own command line."""
    for number, text in enumerate(texts):
        (folder / f"p{number}.py").write_text(text, encoding="utf-8", newline="")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", LINT,
               "--output-format", "json", "."]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    found: list[Counter[str]] = [Counter() for _ in texts]
    for row in json.loads(done.stdout):
        found[int(Path(row["filename"]).stem[1:])][row["code"]] += 1
    return found


def shape(text: str) -> list[Any]:
    """A program's scopes as Python's compiler sees them: kinds and uses of names, not names."""
    found: list[Any] = []

    def walk(table: symtable.SymbolTable) -> None:
        uses = [
            (s.is_parameter(), s.is_local(), s.is_global(), s.is_free(), s.is_assigned(),
             s.is_referenced(), s.is_imported(), s.is_namespace())
            for s in table.get_symbols()
        ]  # fmt: skip
        found.append((table.get_type(), sorted(uses)))
        for child in table.get_children():
            walk(child)

    walk(symtable.symtable(text, "<text>", "exec"))
    return found


def check(kind: str, program: Program, seed: int) -> tuple[str, str] | None:
    """The texts before and after, once all that must hold does."""
    made = refactored(program, kind, random.Random(seed))
    if made is None:
        return None
    lines, hunks = made
    assert len(hunks) >= 2
    before, after = "".join(lines), "".join(apply(lines, sorted(hunks)))
    assert before != after
    if kind in ("parameter", "field", "import", "annotation"):
        assert after == program.text
    else:
        assert before == program.text
    if kind in ("rename", "docstring"):
        assert shape(before) == shape(after)
    session = Session("a.py", tuple(lines), tuple(hunks))
    for done in range(1, len(hunks)):
        edit = session.moment(done, WIDE)
        assert undone(edit) == before
        assert with_window(edit, edit.target or "") == after
        assert edit.text not in (before, after)
    return before, after


@pytest.mark.parametrize("kind", REFACTORINGS)
def test_a_refactoring_is_right(kind: str, tmp_path: Path) -> None:
    program = Program(PROGRAM)
    found = {check(kind, program, seed) for seed in range(12)} - {None}
    texts = [text for pair in found if pair for text in pair]
    assert texts, f"no {kind} in a program that has a place for it"
    findings = lint(texts, tmp_path)
    for before, after in zip(findings[::2], findings[1::2], strict=True):
        assert not after - before


EXAMPLES = {
    "order": ">>> f(1)\n    {2, 1}",
    "object": ">>> f(1)\n    <object>",
    "error": ">>> f(1)\n    Traceback (most recent call last):\n    ValueError: no",
    "name": ">>> x = 3\n    >>> f(x)\n    3",
    "printed": '>>> print(f("a"))\n    a',
    "printed list": ">>> print([f(1)])\n    [1]",
    "option": ">>> f(1)  # doctest: +SKIP\n    1",
    "other": ">>> g(1)\n    1",
    "none": ">>> f(1)",
    "rest": ">>> f(1) + 1\n    2",
    "comment": ">>> f(1)  # one\n    1",
    "set": ">>> f(1)\n    {'a'}",
    "hash": ">>> f(1)\n    {[1]: 2}",
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=list(EXAMPLES))
def test_only_examples_with_a_literal_value_become_tests(example: str) -> None:
    text = PROGRAM.replace(">>> _even(3)\n    False", example.replace("f(", "_even("))
    assert text != PROGRAM
    assert refactored(Program(text), "test", random.Random(0)) is None


@pytest.mark.parametrize(
    "function",
    [
        'def double_():\n    """>>> double_()\n    1\n    """\n',  # a test of this name is there
        'def even():\n    """>>> even()\n    1\n    """\n\n\ndef test_even():\n    assert even()\n',
        'def _even(n):\n    """>>> _even(2)\n    True\n    """\n',  # defined twice
        'def one():\n    """>>> one()\n    1\n    """\n    print(1)\n    return None\n',
        'def one():\n    """>>> one()\n    1\n    """\n    return 1\n\n\none = str\n',
        'class A:\n    def __repr__(self):\n        return "1"\n',
        '@fixture\ndef one():\n    """>>> one()\n    1\n    """\n    return 1\n',
    ],
)
def test_each_function_has_one_test_of_its_own(function: str) -> None:
    for seed in range(6):
        if pair := check("test", Program(PROGRAM + "\n\n" + function), seed):
            names = re.findall(r"^def (test_\w+)", pair[1], re.MULTILINE)
            assert len(names) == len(set(names))
            assert "test_one" not in names and (
                "_even(2)" not in function or "test_even" not in names
            )


@pytest.mark.parametrize("is_right", [True, False])
def test_tests_beside_functions_agree_with_doctest(is_right: bool) -> None:
    """The tests pass if Python's doctest finds no failure, and fail if it finds one."""
    text = PROGRAM if is_right else PROGRAM.replace("2 * n", "3 * n").replace("== 0", "== 1")
    pair = check("test", Program(text), 0)
    assert pair
    assert "def test_double():\n    assert double(2) == 4\n    assert sorted(" in pair[1]
    assert "def test_even():\n    assert not _even(3)\n" in pair[1]
    names: dict[str, Any] = {"__name__": "example"}
    exec(pair[1], names)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for name in ("double", "_even"):
        (examples,) = finder.find(names[name], name, module=False, globs=names)
        failed = runner.run(examples, out=lambda _: None).failed
        assert bool(failed) is not is_right
        with nullcontext() if is_right else pytest.raises(AssertionError):
            names[f"test_{name.lstrip('_')}"]()


@pytest.mark.parametrize("kind", sorted(set(REFACTORINGS) - {"annotation", "test"}))
def test_a_refactoring_is_due_until_it_is_done(kind: str) -> None:
    """After its first edit the program shows it, and after the last or without any it does not."""
    program = Program(PROGRAM)
    seen = 0
    for seed in range(12):
        if not (made := refactored(program, kind, random.Random(seed))):
            continue
        lines, hunks = made
        session = Session("a.py", tuple(lines), tuple(hunks))
        edit = session.moment(1, WIDE)
        if kind == "signature" and "def load(" in edit.text and "def area(" in edit.text:
            continue  # two parameters changed places: the calls look right
        assert without_history(edit) == "".join(lines)
        assert is_due(edit), made
        assert not is_due(session.moment(len(hunks), WIDE)), made
        assert not is_due(session.moment(0, WIDE))
        broken = replace(edit, text=edit.text + "def (\n")
        assert not is_due(broken) and not is_due(replace(edit, language="go"))
        elsewhere = replace(edit, window=(0, 0))
        assert not is_due(elsewhere)
        seen += 1
    assert seen


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1\n", "x = 2\n"),  # outside of functions
        ("def f(a):\n    return a + 1\n", "def f(a):\n    return a + 5\n"),  # once
        ("def f(a):\n    g(a, 7)\n    g(7)\n", "def f(a):\n    g(a, 7)\n    g(7, 7)\n"),  # added
        ("def f(a, c):\n    b = a\n    a = 2\n    return b, c, a\n",
         "def f(a, c):\n    b = c.a\n    a = 2\n    return b, c, a\n"),
        ("from m import *\nf()\n", "from m import *\ng()\nprint(g)\n"),  # anything is defined
        ("def f(a):\n    use(a)\n", "def f(a):\n    return use(a)\n"),  # undefined before, too
        ("def f(a):\n    a.b\n", "def f(a):\n    a.c\n    a.b\n"),  # an attribute
        ("def f(a, b):\n    pass\nf(1)\n", "def f(a, b):\n    return a\nf(1)\n"),
        ("def f(a):\n    pass\nf(*b)\n", "def f(a, c):\n    return a + c\nf(*b)\n"),
    ],
)  # fmt: skip
def test_what_shows_that_nothing_is_due(old: str, new: str) -> None:
    session = ordered("a.py", old, new, random.Random(0))
    assert not is_due(session.moment(len(session.hunks), WIDE))


GAP = "# -\n" * 30


@pytest.mark.parametrize(
    ("old", "new", "due"),
    [
        (f"def load(a):\n    return a\n{GAP}load(1)\nx = 2\nload(\n    2)\n",
         f"def read(a):\n    return a\n{GAP}load(1)\nx = 2\nload(\n    2)\n", [32, 34]),
        (f"import os\nimport re\n{GAP}os.getcwd()\n",
         f"import os\nimport re\n{GAP}os.getcwd(json)\n", [1]),  # an import is missing
        (f"import os\nimport re\n{GAP}os.f(re.x)\n", f"import os\nimport re\n{GAP}os.f()\n", [1]),
        (f"def f(a):\n    return a\n{GAP}f(1)\nf(a=1)\nf(*c)\n",
         f"def f(a, b):\n    return a + b\n{GAP}f(1)\nf(a=1)\nf(*c)\n", [32]),
        (f"def f():\n    x = 5000\n{GAP}    y = 5000\n",
         f"def f():\n    x = 6000\n{GAP}    y = 5000\n", [32]),
        (f"class A:\n    def f(self):\n        self.n = 1\n{GAP}a = A()\na.f()\na.n\n",
         f"class A:\n    def g(self):\n        self.n = 1\n{GAP}a = A()\na.f()\na.n\n", [34]),
        (f"class A:\n    n = 1\n{GAP}A.n\n", f"class A:\n    m = 1\n{GAP}A.n\n", [32]),
        (f"class A:\n    f = 1\nclass B:\n    f = 2\n{GAP}b.f\n",
         f"class A:\n    g = 1\nclass B:\n    f = 2\n{GAP}b.f\n", []),  # another class has it
        (f"def f(a, b):\n    pass\n{GAP}f(1)\n", f"def f(a, b):\n    return 1\n{GAP}f(1)\n", []),
    ],
)  # fmt: skip
def test_lines_that_the_program_shows_to_be_due(old: str, new: str, due: list[int]) -> None:
    session = ordered("a.py", old, new, random.Random(0))
    edit = session.moment(len(session.hunks), WIDE)
    assert due_lines(edit) == due
    assert due_lines(replace(edit, language="go")) == []
    assert due_lines(replace(edit, text=edit.text + "def (\n")) == []
    far = replace(edit, cursor=len(edit.text))
    assert due_lines(far) == sorted(due, reverse=True)  # the nearest first


@pytest.mark.parametrize(
    ("old", "new", "target", "is_predictable_"),
    [
        ("f(a)\n", "f(b)\n", "g(b)\n", True),  # continues the replacement
        ("f(a)\n", "f(b)\n", "g(c)\n", False),  # a new word
        ("f(b)\n", "f(a)\n", "", True),  # removes a word that the history inserted
        ("x = 1\n", "x = 2\n", "g(x)\n", False),  # nothing of the history's
        ("f(a)\n", "f(b)\n", "return g(b)\n", True),  # a keyword
    ],
)
def test_predictable_edits(old: str, new: str, target: str, is_predictable_: bool) -> None:
    history = (Change("a.js", 0, old, new),)
    edit = Edit("e", "a.js", f"{new}g(a)\n", history, (1, 2), 0, target)
    assert is_predictable(edit) == is_predictable_
