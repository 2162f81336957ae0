"""Right programs pass: in plain Python, and in the sandbox with their tests out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from codegen.benchmarks.tools.suites import HONEST
from codegen.sandbox import Job, Sandbox

KNOWN = {"returns S()"}  # an object of a class that only has __contains__


# Runs each file of a folder as a script, in a process and a folder of its own.
_RUN_EACH = """\
import os, sys, types
sys.stdin = sys.stdout = sys.stderr = open(os.devnull, "r+")
failed = open(sys.argv[1] + "/failed", "w")
for name in sorted(os.listdir(sys.argv[1])):
    if not name.endswith(".py"):
        continue
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.mkdir(sys.argv[1] + "/" + name[:-3])
            os.chdir(sys.argv[1] + "/" + name[:-3])
            module = types.ModuleType("__main__")
            sys.modules["__main__"] = module
            with open(sys.argv[1] + "/" + name) as file:
                exec(compile(file.read(), name, "exec"), vars(module))
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1]:
        failed.write(name + "\\n")
"""


@pytest.mark.long
def test_they_pass_in_plain_python(tmp_path: Path) -> None:
    for number, row in enumerate(HONEST):
        (tmp_path / f"{number:03d}.py").write_text(f"{row.program}\n{row.test}", "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "MODE"}
    subprocess.run([sys.executable, "-c", _RUN_EACH, tmp_path], check=True, env=environment)
    failed = (tmp_path / "failed").read_text().split()
    assert not [HONEST[int(name[:3])].name for name in failed]


def test_those_of_pytest_pass_by_pytest(tmp_path: Path) -> None:
    rows = [row for row in HONEST if row.name.startswith("pytest: ")]
    for number, row in enumerate(rows):
        (tmp_path / f"test_{number}.py").write_text(f"{row.program}\n{row.test}", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, "."], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and len(rows) > 15, done.stdout[-2000:]


def test_there_are_enough_of_them() -> None:
    names = Counter(row.name for row in HONEST)
    assert len(names) == len(HONEST) >= 350
    assert names.keys() >= KNOWN


def test_they_pass_out_of_the_tests_reach(sandbox: Sandbox) -> None:
    jobs = [(row.name, Job(row.program, test=row.test)) for row in HONEST]
    failed = {name: outcome for name, outcome in sandbox.map(jobs) if not outcome.passed}
    assert failed.keys() == KNOWN, failed.keys() ^ KNOWN
