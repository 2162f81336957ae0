"""No hostile program passes, does harm, or leaves anything behind; the next program always runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks.tools import suites as table
from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Sandbox
from tests.processes import descendants, wait_for
from tests.sandbox.conftest import launching

SECRET_VARIABLE = "SANDBOX_TEST_SECRET"
SECRET = "4c2f9d-secret-of-the-host"
HONEST = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
NUISANCES = ("29", "40")  # right programs that misbehave otherwise


@dataclass
class Canary:
    """What must not be touched, and a sandbox to keep it safe from."""

    sandbox: Sandbox
    server: socket.socket
    file: Path
    processes: set[int]
    descriptors: int

    def fill(self, program: str) -> str:
        return (
            program.replace("@PORT@", str(self.server.getsockname()[1]))
            .replace("@FILE@", str(self.file))
            .replace("@SECRET@", SECRET_VARIABLE)
        )

    def assert_alive(self, outcome: Any) -> None:
        with pytest.raises(BlockingIOError):
            self.server.accept()
        assert self.file.read_text() == SECRET
        with Path("/dev/null").open("rb") as null:
            fcntl.flock(null, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert SECRET not in outcome.message + outcome.stdout + repr(outcome.values)
        assert self.sandbox.run(HONEST).status == "passed"
        # A process of tests may be another than before; the killed one ends a moment later.
        wait_for(lambda: len(descendants(os.getpid())) <= len(self.processes))
        assert len(list(Path("/proc/self/fd").iterdir())) <= self.descriptors


def _canary(backend: Any, folder: Path, way: str = "compiled") -> Iterator[Canary]:
    patch = pytest.MonkeyPatch()
    patch.setenv(SECRET_VARIABLE, SECRET)
    file = folder / "host.txt"
    file.write_text(SECRET)
    file.chmod(0o666)
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as stack:
        server.setblocking(False)
        try:
            with launching(way):
                sandbox = stack.enter_context(Sandbox(workers=1, backend=backend))
        except SandboxError as error:
            pytest.skip(str(error))
        sandbox.run(HONEST)
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        yield Canary(sandbox, server, file, set(descendants(os.getpid())), descriptors)
    patch.undo()


@pytest.fixture(scope="module")
def bwrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    yield from _canary("bwrap", tmp_path_factory.mktemp("bwrap"))


@pytest.fixture(scope="module")
def namespaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    yield from _canary("namespaces", tmp_path_factory.mktemp("namespaces"))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    """As where there was no compiler."""
    yield from _canary("auto", tmp_path_factory.mktemp("python"), "python")


def _try(canary: Canary, row: Any) -> None:
    outcome = canary.sandbox.run(table.job_of(row, canary.fill(row.program)))
    assert outcome.status in row.allowed or not table.is_believed(outcome), outcome
    if row.name.split()[0] not in NUISANCES:
        assert not (outcome.passed and table.is_believed(outcome))
    assert len(outcome.message) <= 5000
    canary.assert_alive(outcome)


@pytest.mark.parametrize("row", table.HOSTILE, ids=lambda row: row.name)
def test_hostile_program_in_bwrap(bwrap: Canary, row: Any) -> None:
    _try(bwrap, row)


_CORE_ROWS = [row for row in table.HOSTILE if row.name.split()[0] in table.CORE]


@pytest.mark.parametrize("row", _CORE_ROWS, ids=lambda row: row.name)
def test_hostile_program_in_namespaces(namespaces: Canary, row: Any) -> None:
    _try(namespaces, row)


@pytest.mark.parametrize("row", _CORE_ROWS, ids=lambda row: row.name)
def test_hostile_program_launched_by_python(python: Canary, row: Any) -> None:
    _try(python, row)


def test_the_table_is_complete() -> None:
    names = [row.name for row in table.HOSTILE]
    assert len(names) == len(set(names)) >= 110
    numbered = {name.split()[0] for name in names}
    assert {str(number) for number in range(1, 45)} <= numbered
    right = {name for name in names if "passed" in _row(name).allowed}
    assert {name.split()[0] for name in right} == set(NUISANCES)


def _row(name: str) -> Any:
    return next(row for row in table.HOSTILE if row.name == name)


def test_every_problem_can_be_passed(bwrap: Canary) -> None:
    """The table would be worthless if its tests refused right programs too."""
    right = {"add": table.RIGHT, "near": table.RIGHT, "isclose": table.RIGHT, "not": table.RIGHT}
    right |= dict.fromkeys(("all", "zip", "items", "next"), table.RIGHT)
    right |= dict.fromkeys(("squares", "case", "claims"), table.RIGHT)
    right["with"] = (
        "class Sums:\n    def __enter__(self): return self\n    def __exit__(self, *_): pass\n"
        "    def add(self, a, b): return a + b\n"
    )
    right["called"] = f"{table.RIGHT}def each(f, items):\n    for item in items: f(*item)\n"
    right["except"] = f"{table.RIGHT}class SumError(Exception): pass\n"
    right["raised"] = "class Sum:\n    def add(self, a, b): raise ValueError\n"
    right["printed"] = "print(3)\nprint(12)\n"
    right["plain"] = right["shadow"] = "def add(a, b):\n    return [a + b]\n"
    for name in table.PROBLEMS:
        row = table.Hostile(name, right[name], name, frozenset())
        assert bwrap.sandbox.run(table.job_of(row)).status == "passed", name


_LEAVES = """\
import os, socket, time
def f():
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\\0neighbour")
    port = socket.create_server(("127.0.0.1", 4567))
    abstract.listen()
    for folder in ("/tmp", "/dev/shm"):
        open(folder + "/neighbor", "w").write("x")
    time.sleep(1.5)
"""
_LOOKS = """\
import os, socket, time
def f():
    seen = set()
    places = (socket.AF_UNIX, "\\0neighbour"), (socket.AF_INET, ("127.0.0.1", 4567))
    for _ in range(25):
        for family, address in places:
            with socket.socket(family) as s:
                if s.connect_ex(address) == 0:
                    seen.add(address)
        for folder in ("/tmp", "/dev/shm"):
            seen.update(set(os.listdir(folder)) - {".shm"})
        time.sleep(0.04)
    return sorted(map(str, seen))
"""


@pytest.mark.parametrize("backend", ["bwrap", "namespaces", "python"])
def test_jobs_at_the_same_time_do_not_meet(backend: str, request: pytest.FixtureRequest) -> None:
    sandbox = request.getfixturevalue(backend).sandbox
    jobs = [
        (name, Job(program, mode="calls", calls=[("f", [])]))
        for name, program in (("leaves", _LEAVES), ("looks", _LOOKS))
    ]
    outcomes = dict(sandbox.map(jobs))
    assert outcomes["leaves"].passed
    assert outcomes["looks"].values == ([],)
    after = sandbox.run(_LOOKS, calls=["f()"])
    assert after.values == ([],)
