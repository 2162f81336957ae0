"""Starting, refusing, closing and dying: nothing is left, whoever the user and whatever the end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from suites import suite

import codegen
from codegen.sandbox import Job, Limits, Sandbox
from tests.processes import descendants, lives, python, run, wait_for

pytestmark = pytest.mark.usefixtures("needs_a_sandbox")

HONEST = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
ENDLESS = Job("while True: pass\n", limits=Limits(cpu_s=60))
NOBODY = 65534


@pytest.mark.parametrize("ending", ["normal", "exception", "interrupt"])
def test_closing_leaves_nothing(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(descendants(os.getpid()))
    descriptors = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    threads = threading.active_count()
    errors: dict[str, type[BaseException]] = {"exception": KeyError, "interrupt": KeyboardInterrupt}
    during: set[int] = set()
    with contextlib.suppress(KeyError, KeyboardInterrupt), Sandbox(workers=1) as sandbox:
        assert sandbox.run(HONEST).passed
        outcomes = sandbox.map([(n, HONEST) for n in range(3)] + [(9, ENDLESS)])
        assert next(outcomes)[1].passed
        during = set(descendants(os.getpid())) - before
        if ending in errors:
            raise errors[ending]
    assert during
    wait_for(lambda: not any(map(lives, during)))
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == descriptors
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


@pytest.mark.parametrize("backend", ["bwrap", "namespaces"])
def test_killing_the_driver_ends_the_sandbox(backend: str) -> None:
    if backend == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    code = (
        "import sys\n"
        "from codegen.sandbox import Job, Limits, Sandbox\n"
        f"with Sandbox(workers=1, backend={backend!r}) as sandbox:\n"
        "    assert sandbox.run(Job('x = 1\\n', mode='calls')).passed\n"
        "    print('ready', flush=True)\n"
        "    sandbox.run(Job('while True: pass\\n', limits=Limits(cpu_s=60)))\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    with driver.stdout:
        assert driver.stdout.readline() == "ready\n"
        time.sleep(0.3)
        below = set(descendants(driver.pid))
        driver.kill()
        driver.wait()
    assert len(below) >= 3
    wait_for(lambda: not any(map(lives, below)))


def test_a_broken_sandbox_is_replaced_and_the_job_run_again() -> None:
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(HONEST).passed
        [first] = sandbox.process_ids
        outcomes: list[Any] = []
        slow = Job("end = 0.7\nimport time\ntime.sleep(end)\n", mode="calls")
        thread = threading.Thread(target=lambda: outcomes.append(sandbox.run(slow)))
        thread.start()
        time.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        thread.join(20)
        assert outcomes[0].passed
        assert len(sandbox.process_ids) == 1 and first not in sandbox.process_ids
        assert sandbox.run(HONEST).passed


def test_a_sandbox_that_breaks_every_time_gives_infra_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(HONEST).passed
        stop = threading.Event()

        def saboteur() -> None:
            while not stop.wait(0.3):  # the program runs by then
                for pid in sandbox.process_ids:
                    os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=saboteur)
        thread.start()
        try:
            outcome = sandbox.run(Job("import time\ntime.sleep(2)\n", mode="calls"))
        finally:
            stop.set()
            thread.join()
        assert outcome.status == "infra_error"
        assert sandbox.run(HONEST).passed


def test_concurrent_use_by_threads() -> None:
    with Sandbox(workers=1) as sandbox:
        results: list[str] = []

        def work() -> None:
            results.extend(o.status for _, o in sandbox.map((n, HONEST) for n in range(10)))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == ["passed"] * 30


_REFUSED = suite("sandbox_lifecycle")["refused"]


@pytest.mark.skipif(os.uname().machine not in ("x86_64", "aarch64"), reason="no filter here")
def test_without_a_safe_backend_it_refuses_unless_told_otherwise() -> None:
    result = python(_REFUSED, timeout=60)
    assert result.returncode == 0, result.stderr
    refusal, unsafe, status = result.stdout.splitlines()
    assert "No safe way" in refusal and "apt install bubblewrap" in refusal
    assert unsafe == "unsafe_local False"
    assert status == "passed"


def test_unsafe_local_runs_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Sandbox(workers=1, unsafe_local=True, backend="unsafe_local") as sandbox:
        description = sandbox.describe()
        assert description["safe"] is False
        assert "job_pid_namespace" not in description["layers"]
        write = "open('left', 'w').write('x')\nimport os\ndef f():\n    return os.getcwd()\n"
        outcome = sandbox.run(Job(write, mode="calls", calls=[("f", [])]))
        assert outcome.passed and not Path(outcome.values[0]).exists()
        assert sandbox.run(HONEST).passed
        assert sandbox.run(Job("while True: pass\n", limits=Limits(cpu_s=0.3))).status == "timeout"
    assert list(tmp_path.iterdir()) == []


def test_unsafe_local_is_not_taken_where_a_safe_backend_works() -> None:
    with Sandbox(workers=1, unsafe_local=True) as sandbox:
        assert sandbox.describe()["safe"] is True


_AS_NOBODY = suite("sandbox_lifecycle")["as_nobody"]


def _python_for_everybody() -> str:
    """An interpreter that an ordinary user can start; ours may lie below root's home."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [name, "-c", "import sys; assert sys.version_info >= (3, 11)"]
        with contextlib.suppress(OSError):
            done = subprocess.run(
                check,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                check=False,
                capture_output=True,
            )
            if done.returncode == 0:
                return name
    pytest.skip("no Python >= 3.11 that the user nobody may run")


@pytest.mark.skipif(os.geteuid() != 0, reason="already an ordinary user")
@pytest.mark.parametrize("backend", ["bwrap", "namespaces"])
def test_an_ordinary_user_has_the_same_sandbox(backend: str, tmp_path: Path) -> None:
    if backend == "bwrap" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    python = _python_for_everybody()
    root = Path(tempfile.mkdtemp())
    try:
        package = Path(codegen.__file__).parent
        for name in (*(file.name for file in package.glob("*.py")), "core", "sandbox"):
            source, target = package / name, root / "codegen" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        subprocess.run(["chmod", "-R", "a+rX", str(root)], check=True)
        program = [python, "-B", "-c", _AS_NOBODY, str(root), backend]
        nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
        done = run(*program, **nobody, timeout=120)
    finally:
        shutil.rmtree(root)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert all(result.pop("probes").values())
    assert result == {
        "user": NOBODY,
        "identity": "userns",
        "honest": "passed",
        "bomb": "timeout",
        "leave": "passed",
        "look": [[[".shm"], [], []]],
        "write": "error",
        "after": "passed",
    }


def test_the_terminals_interrupt_does_not_reach_the_sandbox() -> None:
    with Sandbox(workers=1) as sandbox:
        assert os.getsid(0) not in map(os.getsid, sandbox.process_ids)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
