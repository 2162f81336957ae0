"""Which lines an unfinished change still has to reach, and when it is finished."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from codegen.core.records import Change, Edit
from codegen.edits.expected_edits import before as without_history
from codegen.edits.expected_edits import due_lines, is_due, is_predictable
from codegen.edits.refactorings import REFACTORINGS, Program, refactored
from codegen.edits.sessions import Session, ordered
from tests.edits.test_refactorings import PROGRAM
from tests.edits.test_sessions import WIDE


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
        edit = session.state(1, WIDE)
        if kind == "signature" and "def load(" in edit.text and "def area(" in edit.text:
            continue  # two parameters changed places: the calls look right
        assert without_history(edit) == "".join(lines)
        assert is_due(edit), made
        assert not is_due(session.state(len(hunks), WIDE)), made
        assert not is_due(session.state(0, WIDE))
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
    assert not is_due(session.state(len(session.hunks), WIDE))


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
    edit = session.state(len(session.hunks), WIDE)
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
