"""The persistent linter, against ``python -m pylint`` with the published flags as the oracle.

Tests of linting alone do it in this process: :class:`Linter`, where it makes no difference.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pylint.checkers.variables import VariablesChecker

from codegen.core.errors import CodegenError, MachineError
from codegen.lintseq import UnsupportedProgram, prepare, sample_edits
from codegen.lintseq.verify import LintMessage, check_pylint, linter_process
from codegen.lintseq.verify.linter import MODULE, Linter
from codegen.lintseq.verify.linter_process import LinterProcess
from tests.processes import lives, python, run, wait_for

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


def test_verdicts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    linter = LinterProcess()
    checked: list[str] = []
    batches = linter_process.batches

    def watched(new: Any, *limits: Any) -> Any:
        checked.extend(new)
        return batches(new, *limits)

    monkeypatch.setattr(linter_process, "batches", watched)
    first = linter.check(["x\n", "y\n", "x\n"])
    assert checked == ["x\n", "y\n"]
    assert first[0] == first[2] == [LintMessage(1, "E0602", "Undefined variable 'x'")]
    monkeypatch.setattr(linter_process, "MAX_REMEMBERED", 1)
    assert len(linter.check(["a\n", "b\n"])) == 2
    monkeypatch.setattr(linter_process, "MAX_REMEMBERED", 9)
    linter.check(["x\n", "a\n", "b\n"])
    assert checked == ["x\n", "y\n", "a\n", "b\n", "x\n"]  # the first two were forgotten
    linter.close()


def test_a_process_that_is_full_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linter_process, "MIN_CPU_S", 0)
    monkeypatch.setattr(linter_process, "MAX_MIB", 0)
    linter = LinterProcess()
    for name in "ab":
        assert [f.rule for f in linter.check([f"print({name})\n"])[0]] == ["E0602"]
        assert linter.process is None


def test_what_this_process_has_changed_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's driver puts another ``print`` in place; pytest has other streams."""
    monkeypatch.setattr("builtins.print", lambda *args, **options: None)
    monkeypatch.setattr("builtins._", str, raising=False)
    linter = LinterProcess()
    found = linter.check(
        [
            "print('{}').format(1)\n",
            "import sys\n\nsys.stdout.reconfigure(encoding='utf-8')\nsys.stdout.none_such\n",
            "_('a')\n",
        ]
    )
    assert [[finding.rule for finding in findings] for findings in found] == [
        ["E0119"],
        ["E1101"],
        ["E0602"],
    ]
    assert "TextIOWrapper" in found[1][0].message
    linter.close()


def test_nothing_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No module there is imported, no configuration or plug-in read, no file written."""
    boom = "raise SystemExit('this ran')\n"
    for name in ("foo.py", "plugin.py", "argparse.py"):
        (tmp_path / name).write_text(boom)
    (tmp_path / "pylintrc").write_text(
        "[MAIN]\ninit-hook=raise SystemExit('this ran')\nload-plugins=plugin\ndisable=all\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    before = sorted(tmp_path.rglob("*"))
    program = (
        "import sys\n"
        "from codegen.lintseq.verify import check_pylint\n"
        "path = list(sys.path)\n"
        "states = ['import foo\\nimport argparse\\nprint(x, argparse.Namespace)\\n'] * 2\n"
        "print([f.rule for f in check_pylint(states)[1]])\n"
        "assert path == sys.path\n"
    )
    done = python(
        program,
        env={
            "HOME": str(home),
            "PYLINTRC": str(tmp_path / "pylintrc"),
            "PYLINTHOME": str(home / "pylint"),
            "PYTHONPATH": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        cwd=tmp_path,
        check=True,
    )
    assert done.stdout == "['E0401', 'E0602']\n"
    assert done.stderr == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_pylint_is_never_imported_here() -> None:
    program = (
        "import random, sys\n"
        "from codegen.lintseq import LintSeq\n"
        "from codegen.core.records import Example\n"
        "list(LintSeq(audit=0).generate(Example('a', '', 'x = 1\\ny = 2\\n'), random.Random(0)))\n"
        "list(LintSeq(audit=1).generate(Example('a', '', 'x = 1\\ny = 2\\n'), random.Random(0)))\n"
        "assert not {'pylint', 'astroid'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


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


def test_interrupt_ends_the_process() -> None:
    class OutOfTimeError(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise OutOfTimeError

    linter = LinterProcess()
    linter.check(["x = 1\n"])
    assert linter.process
    first = linter.process
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(OutOfTimeError):
            linter.check([f"import numpy, asyncio, email\n\nx{n}\n" * 100 for n in range(200)])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert first.returncode is not None
    assert [f.rule for f in linter.check(["print(x)\n"])[0]] == ["E0602"]
    linter.close()


def test_death_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a state kills is a finding in that state alone; one killed meanwhile is not seen."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ast, os\nparse = ast.parse\n"
        "ast.parse = lambda source, *rest, **more: (\n"
        "    os._exit(3) if str(source).startswith('die') else parse(source, *rest, **more))\n"
    )
    linter = LinterProcess()
    linter.check(["x = 1\n"])
    assert linter.process
    linter.process.kill()
    assert [f.rule for f in linter.check(["print(x)\n"])[0]] == ["E0602"]
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", path)
    linter.close()
    found = linter.check(["print(a)\n", "die\n", "print(b)\n"])
    assert [[f.rule for f in findings] for findings in found] == [["E0602"], ["F0002"], ["E0602"]]
    assert "ended with 3" in found[1][0].message
    linter.close()


@pytest.mark.parametrize("how", ["end", "kill"])
def test_no_process_outlives_this_one(tmp_path: Path, how: str) -> None:
    """Not even if it is killed; nor does its folder stay."""
    script = (
        "import os, sys\n"
        "from codegen.lintseq.verify.linter_process import shared_linter\n"
        "shared_linter().check(['x = 1\\n'])\n"
        "print(shared_linter().process.pid, flush=True)\n"
        "sys.argv[1] == 'kill' and os.kill(os.getpid(), 9)\n"
    )
    done = run(sys.executable, "-W", "error", "-c", script, how, env={"TMPDIR": str(tmp_path)})
    assert done.stderr == ""
    wait_for(lambda: not lives(int(done.stdout)) and not list(tmp_path.iterdir()), 120)


def test_a_fork_has_a_process_of_its_own() -> None:
    # In a new process: a fork of this one waits for ever where a library's thread held a lock.
    script = """
import multiprocessing
from codegen.lintseq.verify import check_pylint
assert check_pylint(["x = 1\\n"]) == [[]]
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.apply(check_pylint, (["print(fork)\\n"],))[0][0].rule == "E0602"
assert check_pylint(["print(no_fork)\\n"])[0][0].rule == "E0602"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_pylint_that_is_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pylint").mkdir()
    (tmp_path / "pylint" / "__init__.py").write_text("raise ImportError('gone')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CodegenError, match="pip install"):
        LinterProcess().check(["x = 1\n"])
    (tmp_path / "pylint" / "__init__.py").write_text("import os\nos._exit(7)\n")
    with pytest.raises(MachineError, match="ended with code 7"):
        LinterProcess().check(["x = 1\n"])


def test_deep_nesting_ends_with_a_finding() -> None:
    (found,) = check_pylint(["x = " + "-" * 5000 + "1\n"])
    assert found
    assert found[0].rule[0] in "EF"


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads memory from /proc")
def test_memory_is_flat(human_eval_programs, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one process that is never replaced."""
    monkeypatch.setattr(linter_process, "MAX_MIB", 10_000)
    linter = LinterProcess()
    rng = random.Random(0)
    bases = [
        state
        for program in human_eval_programs[::4]
        for state in sample_edits(prepare(program), rng).states
    ]

    def check(count: int, mark: int) -> float:
        linter.check([f"{rng.choice(bases)}\n_{mark}_{i} = {i}\n" for i in range(count)])
        assert linter.process
        return _resident_mib(linter.process.pid)

    before = check(1000, 0)
    assert check(2000, 1) - before < 12  # 0.38 MB per call in the published code
    linter.close()
