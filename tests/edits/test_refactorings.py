"""Refactorings: programs stay right, and added tests agree with doctest."""

from __future__ import annotations

import doctest
import json
import random
import re
import subprocess
import symtable
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from codegen.edits.formats import with_window
from codegen.edits.refactorings import REFACTORINGS, Program, refactored
from codegen.edits.sessions import Session, apply
from tests.edits.test_sessions import WIDE, undone

LINT = "F401,F811,F821,F841,E9"

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
        edit = session.state(done, WIDE)
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
