"""The persistent linter, against ``python -m pylint`` with the published flags as the oracle."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from codegen.errors import CodegenError
from codegen.lintseq import UnsupportedProgram, prepare, sample_edits
from codegen.lintseq.verify import Finding, check_pylint
from codegen.lintseq.verify import linter as linter_module
from codegen.lintseq.verify.linter import MODULE, Linter

FLAGS = ["--disable=C,R", "--unsafe-load-any-extension=y", "--generated-members=cv2.*"]
FLAGS += ["--reports=n", "--score=n", "--persistent=n", f"--rcfile={os.devnull}"]


def oracle(states: Sequence[str], folder: Path) -> list[Counter[Finding]]:
    """What a fresh pylint process says of each state, in a directory of its own."""
    paths = [folder / f"case{number}" / f"{MODULE}.py" for number in range(len(states))]
    for path, state in zip(paths, states, strict=True):
        path.parent.mkdir()
        path.write_text(state, encoding="utf-8", newline="\n")
    (folder / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pylint", *FLAGS, "--output-format=json", *map(str, paths)],
        cwd=folder / "elsewhere",
        env={**os.environ, "PYLINTHOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode < 32, done.stderr
    found: list[Counter[Finding]] = [Counter() for _ in states]
    for row in json.loads(done.stdout):
        rule, line, message = row["message-id"], row["line"], row["message"]
        if rule[0] not in "EF" and rule not in {"W0311", "W0231"}:
            continue
        header = re.search(r"on line (\d+)", message)
        if rule == "E0001" and header:
            line = int(header[1])
        number = int(Path(row["path"]).parent.name.removeprefix("case"))
        message = message.replace(str(paths[number]), "state.py").replace(MODULE, "state")
        found[number][Finding(line, rule, message)] += 1
    return found


def assert_as_pylint(states: Sequence[str], folder: Path) -> list[Counter[Finding]]:
    expected = oracle(states, folder)
    for state, found, right in zip(states, Linter().check(states), expected, strict=True):
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
        *("E0001", "E0101", "E0401", "E0601", "E0602", "E0603", "E0606", "E0611", "E1101"),
        *("E1121", "E1133", "E1206", "E1306", "E2502", "E2510", "W0231", "W0311"),
    }
    assert sum(not counts for counts in expected) > 10


def test_misplaced_format_in_a_fresh_process(tmp_path: Path) -> None:
    """E0119 rests on what ``print`` is inferred to give, which earlier states can still change."""
    state = "print('{}').format(1)\n"
    script = f"from codegen.lintseq.verify import check_pylint\nprint(check_pylint([{state!r}]))\n"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (expected,) = oracle([state], tmp_path)
    assert {finding.rule for finding in expected} == {"E0119"}
    assert done.stdout.strip() == repr([list(expected)])


@pytest.mark.slow
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
        drawn = rng.sample(sequence.states, min(4, len(sequence.edits)))
        for state in drawn[::2]:
            lines = state.splitlines(keepends=True)
            del lines[rng.randrange(len(lines))]
            drawn.append("".join(lines))
        states += drawn
    expected = assert_as_pylint(states, tmp_path)
    assert len(states) > 200
    assert sum(map(bool, expected)) > 40


def test_a_state_leaves_no_trace() -> None:
    """What a state writes into a library's syntax tree is gone before the next."""
    reads = "import fractions\n\nprint(fractions.Fraction.none_such, fractions.none_such)\n"
    writes = [
        "import fractions\n\nfractions.Fraction.none_such = 1\n",
        "import fractions\n\nfractions.none_such = 1\n",
        "from fractions import Fraction\n\nx = Fraction(1)\nx.none_such = 1\n",
        f"import {MODULE}\n\n{MODULE}.x = 1\n",
    ]
    linter = Linter()
    first = linter.check([reads])[0]
    assert [finding.rule for finding in first] == ["E1101", "E1101"]
    for state in writes:
        linter.check([state])
        linter._verdicts.clear()
        assert linter.check([reads])[0] == first


def test_order_does_not_matter(human_eval_programs) -> None:
    rng = random.Random(0)
    states = [
        state
        for program in human_eval_programs[::6]
        for state in sample_edits(prepare(program, strict=False), rng).states
    ]
    forward = Linter().check(states)
    assert Linter().check(states[::-1])[::-1] == forward


def test_verdicts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linter_module, "REMEMBERED", 3)
    linter = Linter()
    checked: list[str] = []
    check = linter._core.check
    monkeypatch.setattr(linter._core, "check", lambda state: checked.append(state) or check(state))
    first = linter.check(["x\n", "y\n", "x\n"])
    assert checked == ["x\n", "y\n"]
    assert first[0] == first[2] == [Finding(1, "E0602", "Undefined variable 'x'")]
    linter.check(["x\n", "a\n", "b\n"])  # y, unused for longest, is forgotten
    assert len(linter._verdicts) == 3
    checked.clear()
    linter.check(["x\n", "y\n"])
    assert checked == ["y\n"]


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
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={
            **os.environ,
            "HOME": str(home),
            "PYLINTRC": str(tmp_path / "pylintrc"),
            "PYLINTHOME": str(home / "pylint"),
            "PYTHONPATH": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['E0401', 'E0602']\n"
    assert done.stderr == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_pylint_is_imported_for_its_own_modes_only() -> None:
    program = (
        "import random, sys\n"
        "from codegen.lintseq import LintSeq\n"
        "from codegen.records import Example\n"
        "list(LintSeq(audit=0).generate(Example('a', '', 'x = 1\\ny = 2\\n'), random.Random(0)))\n"
        "assert not {'pylint', 'astroid'} & set(sys.modules)\n"
        "list(LintSeq(audit=1).generate(Example('a', '', 'x = 1\\ny = 2\\n'), random.Random(0)))\n"
        "assert {'pylint', 'astroid'} <= set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_crash_of_pylint_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    linter = Linter()
    lint = linter._core._lint

    def crash(state: str) -> None:
        lint(state)
        print("noise", file=sys.stderr)
        raise RuntimeError("boom")

    monkeypatch.setattr(linter._core, "_lint", crash)
    assert [f.rule for f in linter.check(["print(x)\n"])[0]] == ["E0602", "F0002"]
    monkeypatch.undo()
    assert [f.rule for f in linter.check(["print(y)\n"])[0]] == ["E0602"]
    assert capfd.readouterr() == ("", "")


def test_interrupt_leaves_a_sound_linter(monkeypatch: pytest.MonkeyPatch) -> None:
    linter = Linter()

    def interrupt(module) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(linter._core.walker, "walk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        linter.check(["print(x)\n"])
    monkeypatch.undo()
    assert gc.isenabled()
    assert [f.rule for f in linter.check(["print(x)\n"])[0]] == ["E0602"]


def test_threads_take_turns() -> None:
    states = [f"print(x{i})\n" for i in range(40)]
    results: dict[int, list[list[Finding]]] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: check_pylint(states)}))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [[Finding(1, "E0602", f"Undefined variable 'x{i}'")] for i in range(40)]
    assert list(results.values()) == [expected] * 4


def test_pylint_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylint.lint", None)
    with pytest.raises(CodegenError, match="pip install"):
        Linter()


def test_deep_nesting_ends_with_a_finding() -> None:
    (found,) = Linter().check(["x = " + "-" * 5000 + "1\n"])
    assert found
    assert found[0].rule[0] in "EF"


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_memory_is_flat(human_eval_programs) -> None:
    linter = Linter()
    rng = random.Random(0)
    bases = [
        state
        for program in human_eval_programs[::4]
        for state in sample_edits(prepare(program), rng).states
    ]

    def check(count: int, mark: int) -> None:
        linter.check([f"{rng.choice(bases)}\n_{mark}_{i} = {i}\n" for i in range(count)])

    check(1000, 0)
    before = _resident_mib()
    check(2000, 1)
    assert _resident_mib() - before < 12  # 0.38 MB per call in the published code


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="counts open files in /proc")
def test_linters_clean_up_after_themselves(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    linter = Linter()
    linter.check(["x = 'é'\n"])
    assert len(list(tmp_path.iterdir())) == 1
    del linter
    gc.collect()
    assert list(tmp_path.iterdir()) == []
