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
from codegen.sandbox.pool import Pool
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
        pool: Pool = sandbox._pool  # type: ignore[assignment]
        first = pool._workers[0].programs.process
        outcomes: list[Any] = []
        slow = Job("end = 0.7\nimport time\ntime.sleep(end)\n", mode="calls")
        thread = threading.Thread(target=lambda: outcomes.append(sandbox.run(slow)))
        thread.start()
        time.sleep(0.3)
        first.kill()
        thread.join(20)
        assert outcomes[0].passed
        assert pool._workers[0].programs.process is not first
        assert sandbox.run(HONEST).passed


def test_a_sandbox_that_breaks_every_time_gives_infra_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Sandbox(workers=1) as sandbox:
        assert sandbox.run(HONEST).passed
        pool: Pool = sandbox._pool  # type: ignore[assignment]
        stop = threading.Event()

        def saboteur() -> None:
            while not stop.is_set():
                for worker in list(pool._workers):
                    if worker.runs:
                        worker.programs.process.kill()
                time.sleep(0.02)

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
        pool: Pool = sandbox._pool  # type: ignore[assignment]
        zygote = pool._workers[0].programs.process
        assert os.getsid(zygote.pid) != os.getsid(0)
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


def test_a_job_to_be_run_alone_waits_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    free_worker, refused = Pool._free_worker, []

    def busy_once(self: Pool) -> object:
        if self._later and not refused:
            refused.append(True)
            return None
        return free_worker(self)

    monkeypatch.setattr(Pool, "_free_worker", busy_once)
    with Sandbox(workers=1) as sandbox:
        job = Job("import time\ntime.sleep(99)\n", limits=Limits(cpu_s=0.1))
        assert sandbox.run(job).status == "timeout"
    assert refused


def test_programs_that_only_wait_are_tried_again_together(monkeypatch: pytest.MonkeyPatch) -> None:
    send, beside = Pool._send, []

    def watched(self: Pool, worker: Any, task: Any) -> None:
        if task.alone:
            beside.append((task.job.program, sum(len(w.runs) for w in self._workers)))
        send(self, worker, task)

    monkeypatch.setattr(Pool, "_send", watched)
    waits = "import time\ntime.sleep(99)\n"
    works = "import time\nend = time.process_time() + 0.15\n" + (
        f"while time.process_time() < end: pass\n{waits}"
    )
    limits = Limits(cpu_s=0.3, memory_mib=256)
    jobs = [(n, Job(works if n in (1, 3) else waits, limits=limits)) for n in range(6)]
    with Sandbox(workers=1) as sandbox:
        assert {outcome.status for _, outcome in sandbox.map(jobs)} == {"timeout"}
    assert len(beside) == 6
    assert max(number for program, number in beside if program == waits) == 2  # three in flight
    assert [number for program, number in beside if program == works] == [0, 0]


class _Broken:
    """A socket whose other side is gone."""

    def __init__(self, socket: Any) -> None:
        self.fileno, self.recv, self.close = socket.fileno, socket.recv, socket.close

    def send(self, _: bytes) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_sandbox_found_dead_at_two_deadlines_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look, broken = Pool._check_deadlines, []

    def overdue(self: Pool) -> None:
        for worker in self._workers:
            if len(worker.runs) > 1 and not broken:
                broken.append(worker.programs)
                worker.programs.control = _Broken(worker.programs.control)  # type: ignore[assignment]
                for run in worker.runs.values():
                    run.end_by = 1.0
        look(self)

    monkeypatch.setattr(Pool, "_check_deadlines", overdue)
    monkeypatch.setattr(Pool, "_patience_s", lambda _: 0.02)  # it looks while both are running
    with Sandbox(workers=1) as sandbox:
        waits = Job(f"import time\ntime.sleep(0.3)\n{HONEST.program}", test=HONEST.test)
        outcomes = dict(sandbox.map([("a", waits), ("b", waits)]))
        assert broken
        assert {outcome.status for outcome in outcomes.values()} == {"passed"}
