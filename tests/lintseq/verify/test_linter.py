"""pylint for many texts: rules, real states, crashes, and no trace of the last text."""

from __future__ import annotations

import functools
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pylint.checkers.variables import VariablesChecker

from codegen.lintseq import UnsupportedProgram, prepare, sample_edits
from codegen.lintseq.verify import LintMessage, check_pylint
from codegen.lintseq.verify.linter import MODULE, Linter
from tests.processes import run

FLAGS = ["--disable=C,R", "--unsafe-load-any-extension=y", "--generated-members=cv2.*"]


FLAGS += ["--reports=n", "--score=n", "--persistent=n", f"--rcfile={os.devnull}"]


def oracle(states: Sequence[str], folder: Path) -> list[Counter[LintMessage]]:
    """What a fresh pylint process says of each state, in a directory of its own."""
    paths = [folder / f"case{number}" / f"{MODULE}.py" for number in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        path.parent.mkdir()
        path.write_text(state, encoding="utf-8", newline="\n")
    (folder / "elsewhere").mkdir()
    command = [sys.executable, "-m", "pylint", *FLAGS, "--output-format=json", *paths]
    done = run(*command, env={"PYLINTHOME": str(folder)}, cwd=folder / "elsewhere")
    assert done.returncode < 32, done.stderr
    found: list[Counter[LintMessage]] = [Counter() for _ in states]
    for row in json.loads(done.stdout):
        rule, line, message = row["message-id"], row["line"], row["message"]
        if rule[0] not in "EF" and rule not in {"W0311", "W0231"}:
            continue
        header = re.search(r"on line (\d+)", message)
        if rule == "E0001" and header:
            line = int(header[1])
        number = int(Path(row["path"]).parent.name.removeprefix("case"))
        message = message.replace(str(paths[number]), "state.py").replace(MODULE, "state")
        found[number][LintMessage(line, rule, message)] += 1
    return found


def assert_as_pylint(states: Sequence[str], folder: Path) -> list[Counter[LintMessage]]:
    expected = oracle(states, folder)
    for state, found, right in zip(states, check_pylint(states), expected, strict=True):
        assert Counter(found) == right, state
    return expected


CLASS = "class A:\n    def __init__(self):\n        self.x = 1\n\n\n"
# Each rule that LintSeq heeds, and everything that the short cuts could get wrong.
STATES = [
    "",
    "# only a comment\n",
    '"""Only a docstring."""\n',
    "import os\n\n\ndef f(a):\n    return os.path.join(a, a)\n",
    "print(x)\n",
    "if x:\n",
    "def f():\n    if 1:\n\n    return 2\n",
    "x = (1,\n",
    "x = 'a\n",
    "\x00\n",
    CLASS + "class B(A):\n    def __init__(self):\n        self.y = 1\n",
    CLASS + "A().z\nA().x\nA(1)\nlen(A())\nfor _ in A():\n    pass\n",
    "def f():\n    x\n    x = 1\n\n\ndef g(a):\n    if a:\n        b = 1\n    return b\n",
    "return 1\n",
    "class A:\n    def __init__(self):\n        return 1\n",
    "__all__ = ['a']\nfrom os import nothing\nimport not_there\nfrom . import x\n",
    "reversed(1)\nreversed([1])\nreversed({1})\nexit()\nx = 1\n",
    "print('{}').format(1)\n",
    "import sys\n\n\ndef f(a):\n    if a:\n        b = 1\n    else:\n        sys.exit()\n"
    "    return b\n",
    "'%d %d' % (1,)\n'{} {}'.format(1)\n'%(a)s' % {'b': 1}\n",
    "import logging\nlogging.info('%s %s', 1)\n",
    "for i in []:\n    pass\nprint(i)\n",
    "eval('1')\nexec('1')\nx = 1; y = 2\n",
    # Indentation
    "def f():\n  return 1\n",
    "if 1:\n    if 1:\n      x = 1\n    else:\n        x = 2\n",
    "if 1:\n    x = 1\nelif 2:\n     x = 2\nelse:\n  x = 3\n",
    "try:\n    x = 1\nexcept OSError:\n   x = 2\nelse:\n    x = 1\nfinally:\n     x = 3\n",
    "try:\n    x = 1\nfinally:\n  x = 3\n",
    "while 1:\n    x = 1\nelse:\n  x = 2\n",
    "for i in 'a':\n    x = 1\nelse:\n    if x:\n        y = 1\n    elif i:\n        y = 2\n",
    "class A:\n   '''Docstring.'''\n",
    "class A:\n    '''Docstring.'''\n    @property\n    def f(self): return 1\n",
    "class A:\n  @property\n  def f(self):\n      return 1\n",
    "if 1: x = 1\nelse:\n    y = (1 +\n  2)\n    z = '''\n  a\n'''\n# b\n   # c\n",
    "if 1:\n\tx = 1\n",
    "if 1:\n    x = '\t'\n",
    "match 1:\n    case 1:\n        x = 1\n    case 2:\n      x = 2\n",
    "match 1:\n  case 1:\n    x = 1\n",
    "with open('a') as f:\n    async def g():\n        async with f:\n           pass\n",
    "if 1:\n    (1).bit_length()\n    [1].sort()\n    -1\n    not 1\n",
    "if 1:\n    x = 1; y = '''\n  '''; z = 1\n    \\\n    x\n",
    "f = lambda: (\n  1)\nx = 1 if f else (\n  2)\n",
    "if 1:\n \\\n    x = 1\n",
    # Pragmas, encodings, odd characters
    "print(x)  # pylint: disable=undefined-variable\nprint(y)\n",
    "# pylint: skip-file\nprint(x)\n",
    "# pylint: disable=E\nprint(x)\n",
    "# pylint: disable=nonsense\n# pylint: nonsense=1\nprint(x)\n",
    "def f():\n    # pylint: disable=all\n    print(x)\n",
    "# -*- coding: utf-8 -*-\nprint(x)\n",
    "# -*- coding: latin-1 -*-\nx = 'é'\nx.é\n",
    "# -*- coding: nonsense -*-\nprint(x)\n",
    "x = 'é'\nx.é\nΔ = y\n",
    "x = '\u202e'  # right to left\n",
    "x = '\x08'\nx = '\x1b'\nx = '\u200b'\nx = '\ufeff'\n",
    "x = 1\n\x0c\nprint(y)\n",
    "if 1:\n    x = 1\n\x0c\n    y = z\n",
    "x = 1\n\\\n",
    "x = '\\d'\nassert (1, 2)\nx is 1\n",
]


def test_rules_and_short_cuts(tmp_path: Path) -> None:
    expected = assert_as_pylint(STATES, tmp_path)
    rules = {finding.rule for counts in expected for finding in counts}
    assert rules >= {
        *("E0001", "E0101", "E0119", "E0401", "E0601", "E0602", "E0603", "E0606", "E0611", "E1101"),
        *("E1121", "E1133", "E1206", "E1306", "E2502", "E2510", "W0231", "W0311"),
    }
    assert sum(not counts for counts in expected) > 10


@pytest.mark.long
def test_real_states(human_eval_programs, stdlib_paths, tmp_path: Path) -> None:
    """Sampled with loose rules and lines removed at random, so that many states are dirty."""
    rng = random.Random(4)
    programs = rng.sample(human_eval_programs, 40)
    small = [path for path in stdlib_paths if 1000 < path.stat().st_size < 6000]
    programs += [path.read_text(encoding="utf-8") for path in rng.sample(small, 12)]
    states = []
    for program in programs:
        try:
            sequence = sample_edits(prepare(program, strict=False), rng)
        except UnsupportedProgram:
            continue
        drawn = rng.sample(sequence.states, min(6, len(sequence.edits)))
        for state in drawn[::2]:
            lines = state.splitlines(keepends=True)
            del lines[rng.randrange(len(lines))]
            drawn.append("".join(lines))
        states += drawn
    expected = assert_as_pylint(states, tmp_path)
    assert len(states) > 200
    assert sum(map(bool, expected)) > 40


READS = """\
import argparse
import fractions
import textwrap

print(fractions.Fraction.none_such, fractions.none_such, fractions.Fraction(1).none_such)
print(textwrap.TextWrapper().none_such, argparse.none_such)
print(len.none_such, textwrap.TextWrapper().fill.none_such)
"""
# Each assigns to something that READS has pylint look up; the last asks a library to do it.
WRITES = [
    "import fractions\n\nfractions.Fraction.none_such = 1\n",
    "import fractions\n\nfractions.none_such = 1\n",
    "from fractions import Fraction\n\nx = Fraction(1)\nx.none_such = 1\n",
    "import textwrap\n\ntextwrap.TextWrapper.fill.none_such = 1\n",
    "import argparse\n\n\ndef f():\n    return argparse.Namespace() or argparse\n\n\n"
    "f().none_such = 1\nargparse.none_such += 1\n",
    "len.none_such = print.none_such = 1\n",
    "import builtins\n\nbuiltins.len.none_such = 1\nbuiltins.none_such = 1\n",
    "from textwrap import TextWrapper as N\n\n\nclass A(N):\n    pass\n\n\n"
    "A().none_such = 1\nN.none_such = A\nN.none_such.none_such = N\n",
    "import lintseq_writer\n\nlintseq_writer.x\n",
]


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed module that assigns to another's class, and one that imports it by the way."""
    folder = tmp_path / "installed"
    folder.mkdir()
    text = "import textwrap\n\ntextwrap.TextWrapper.none_such = 1\nx = 1\n"
    (folder / "lintseq_writer.py").write_text(text)
    (folder / "lintseq_user.py").write_text("from lintseq_writer import *\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("writer")
def test_a_state_leaves_no_trace() -> None:
    """What a state, or a library for it, writes into a syntax tree is gone before the next."""
    linter = Linter()
    (first,) = linter.check([READS])
    assert [finding.line for finding in first] == [5, 5, 5, 6, 6, 7]
    assert {finding.rule for finding in first} == {"E1101"}
    for write in WRITES:
        assert linter.check([write, READS])[1] == first, write


def test_crash_of_pylint_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    leave, times = VariablesChecker.leave_module, list[str]()

    @functools.wraps(leave)
    def crash(checker: VariablesChecker, node: Any) -> None:
        leave(checker, node)
        if times:
            raise RuntimeError(times.pop())

    monkeypatch.setattr(VariablesChecker, "leave_module", crash)
    linter = Linter()
    times.append("boom")  # once
    assert [f.rule for f in linter.check(["print(x)\n"])[0]] == ["E0602", "F0002"]
    assert [f.rule for f in linter.check(["print(y)\n"])[0]] == ["E0602"]
