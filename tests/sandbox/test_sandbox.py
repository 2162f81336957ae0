"""Starting, refusing, closing and dying: nothing is left, whoever the user and whatever the end."""

from __future__ import annotations

import contextlib
import errno
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
from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Limits, Sandbox, launch, pool, probe
from codegen.sandbox.protocol.orders import JobEnded, JobRequest
from tests.processes import descendants, lives, python, run, wait_for

HONEST = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
ENDLESS = Job("while True: pass\n", limits=Limits(cpu_s=60))
NOBODY = 65534


@pytest.fixture(autouse=True)
def _needs_a_sandbox() -> None:
    try:
        _, zygote = launch.choose("auto")
    except SandboxError as error:
        pytest.skip(str(error))
    zygote.close()


@pytest.mark.parametrize("ending", ["normal", "exception", "interrupt"])
def test_closing_leaves_nothing(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(descendants(os.getpid()))
    descriptors = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    threads = threading.active_count()
    errors: dict[str, type[BaseException]] = {
        "exception": KeyError,
        "interrupt": KeyboardInterrupt,
    }
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


def test_probes_hold_here() -> None:
    probes = probe()
    assert len(probes) == 10
    assert [p for p in probes if not p.ok] == []


def test_probes_hold_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times slower: the limit of CPU time may end each program, but tells nothing."""
    from codegen.sandbox import probes

    monkeypatch.setattr(probes, "LIMITS", Limits(cpu_s=0.05, memory_mib=256))
    assert [p for p in probe() if not p.ok] == []


def test_a_probe_without_a_sandbox_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SandboxError("nothing works")

    monkeypatch.setattr(launch, "start", refuse)
    (only,) = probe()
    assert not only.ok and "bubblewrap" in only.detail


def test_the_terminals_interrupt_does_not_reach_the_sandbox() -> None:
    with Sandbox(workers=1) as sandbox:
        assert os.getsid(0) not in map(os.getsid, sandbox.process_ids)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_driver_without_descriptors_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(HONEST).passed

        def none(*_: object, **__: object) -> int:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(pool, "memory_file", none)
            outcome = sandbox.run(HONEST)
        assert outcome.status == "infra_error" and "Too many open files" in outcome.message
        assert sandbox.run(HONEST).passed


def test_programs_that_only_wait_are_tried_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    order, ended, beside = pool.JobRequest, pool.read_ended, []
    running: set[int] = set()

    def watched(number: int, *rest: Any, **more: Any) -> JobRequest:
        request = order(number, *rest, **more)
        if request.wall_s == pool.ALONE_WALL_FACTOR * wait.wall_s:  # it is run again
            beside.append((request.memory_mib, len(running)))
        if request.memory_mib in (wait.memory_mib, work.memory_mib):
            running.add(number)
        return request

    def heard(packet: bytes) -> JobEnded:
        running.discard(ended(packet).id)
        return ended(packet)

    monkeypatch.setattr(pool, "JobRequest", watched)
    monkeypatch.setattr(pool, "read_ended", heard)
    waits = "import time\ntime.sleep(99)\n"
    works = "import time\nend = time.process_time() + 0.15\n" + (
        f"while time.process_time() < end: pass\n{waits}"
    )
    wait, work = Limits(cpu_s=0.3, memory_mib=256), Limits(cpu_s=0.3, memory_mib=257)
    jobs = [(n, Job(works, limits=work) if n in (1, 3) else Job(waits, limits=wait))
            for n in range(6)]  # fmt: skip
    with Sandbox(workers=1) as sandbox:
        assert {outcome.status for _, outcome in sandbox.map(jobs)} == {"timeout"}
    assert len(beside) == 6
    assert max(number for mib, number in beside if mib == wait.memory_mib) == 2  # three in flight
    assert [number for mib, number in beside if mib == work.memory_mib] == [0, 0]


class _Broken:
    """A socket that sends nothing but what has descriptors: orders to start, not to stop."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def send(self, _: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_sandbox_found_dead_at_two_deadlines_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, programs = launch.start, []

    def started(way: Any, role: Any, *more: Any) -> launch.ZygoteProcess:
        zygote = start(way, role, *more)
        if role == "program":
            programs.append(zygote)
            if len(programs) == 1:
                zygote.control = _Broken(zygote.control)  # type: ignore[assignment]
        return zygote

    monkeypatch.setattr(launch, "start", started)
    monkeypatch.setattr(pool, "END_GRACE_S", 0.3)
    leaves = Job("import os, time\nos.closerange(3, 99)\ntime.sleep(9)\n", test=HONEST.test)
    with Sandbox(workers=1) as sandbox:
        outcomes = dict(sandbox.map([("a", leaves), ("b", leaves)]))
    assert len(programs) == 2
    assert {outcome.status for outcome in outcomes.values()} == {"exited"}
