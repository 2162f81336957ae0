"""The persistent linter, against ``python -m pylint`` with the published flags as the oracle.

Tests of linting alone do it in this process: :class:`Linter`, where it makes no difference.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import CodegenError, MachineError
from codegen.lintseq import prepare, sample_edits
from codegen.lintseq.verify import LintMessage, check_pylint, linter_process
from codegen.lintseq.verify.linter_process import LinterProcess
from tests.processes import lives, python, run, wait_for


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
