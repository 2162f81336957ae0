"""``codegen serve sandbox`` as a process: its start, its end, and workers that are killed."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from codegen.benchmarks.tools import suites
from codegen.sandbox import Job, Sandbox
from codegen.sandbox.client import SandboxClient
from tests.processes import command_of, descendants, lives, run
from tests.selection import some
from tests.server.conftest import Served

CODEGEN = str(Path(sys.executable).with_name("codegen"))
RIGHT_ONES = ("29", "40")  # programs of the hostile suite that are right, but misbehave


@contextmanager
def server(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its URL; its token is in the environment of the clients."""
    token = folder / "token"
    process = subprocess.Popen(
        [CODEGEN, "serve", "sandbox", "--port", "0", "--token-file", str(token), *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        line = process.stderr.readline()
        if "No safe way" in line:
            pytest.skip(line)
        url = line.split()[-1]
        assert url.startswith("http://127.0.0.1:"), line
        assert "The token is in" in process.stderr.readline()
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CODEGEN_SANDBOX_TOKEN", token.read_text().strip())
            yield process, url
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    some(
        [
            (["--host", "0.0.0.0", "--no-token"], 2, "authentication is disabled"),
            (["--packages", "no-such-package-xyz"], 2, "'no-such-package-xyz' is not installed"),
            (["-o", "max_cpu_s=0"], 2, "-o max_cpu_s"),
            (["-o", "requests_per_s=0"], 2, "-o requests_per_s"),
            (["--no-token", "--token-file", "x"], 2, "not both"),
            (["-o", "origin=x"], 2, "is not an origin"),
            (["--log-file", "/no/such/folder/log"], 2, "Cannot write the log"),
        ],
        3,
    ),
)
def test_bad_input_is_one_line(options: list[str], code: int, words: str) -> None:
    done = run(CODEGEN, "serve", "sandbox", "--port", "0", *options, timeout=60)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_it_finishes_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    quick = {"program": "x = 1\n", "test": "assert x == 1\n"}
    slow = {**quick, "program": "import time\ntime.sleep(2)\nx = 1\n", "cache": False}
    with server(tmp_path, "--workers", "1") as (process, url):
        headers = {"authorization": f"Bearer {os.environ['CODEGEN_SANDBOX_TOKEN']}"}

        def judge(job: Mapping[str, object]) -> httpx.Response:
            return httpx.post(f"{url}/v1/judge", json=job, headers=headers, timeout=30)

        assert judge(quick).json()["passed"]
        below = descendants(process.pid)
        with ThreadPoolExecutor(8) as threads:
            # Three run at a time and a fourth is ready; the rest waits.
            running = [threads.submit(judge, {**slow, "setup": f"n = {n}"}) for n in range(4)]
            time.sleep(0.5)
            waiting = [threads.submit(judge, {**quick, "setup": f"n = {n}"}) for n in range(3)]
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            answers = [each.result() for each in waiting]
            assert [each.status_code for each in answers] == [503] * 3
            assert all("stopping" in each.json()["error"]["message"] for each in answers)
            with pytest.raises(httpx.ConnectError):
                judge(quick)
            assert all(each.result().json()["passed"] for each in running)
        assert process.wait(30) == 0
        assert process.stderr and process.stderr.read() == "Stopped.\n"
    assert len(below) > 2 and not [pid for pid in below if lives(pid)]


def _workers(server: int) -> list[int]:
    """The processes of the sandboxes, without those of jobs."""
    found, parents = [], [server]
    while parents:
        for task in Path(f"/proc/{parents.pop()}/task").glob("*"):
            with suppress(OSError):
                for child in map(int, (task / "children").read_text().split()):
                    found.append(child)
                    if "bwrap" in command_of(child).split("\0")[0]:
                        parents.append(child)
    return found


@pytest.mark.parametrize("core", [pytest.param(False, marks=pytest.mark.long), True])
def test_no_hostile_program_is_believed(core: bool, service: Served, tmp_path: Path) -> None:
    secret = tmp_path / "host.txt"
    secret.write_text("of the host")
    secret.chmod(0o666)
    honest = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
    with socket.create_server(("127.0.0.1", 0)) as port, ExitStack() as stack:
        port.setblocking(False)
        jobs = []
        for row in suites.HOSTILE:
            if core and row.name.split()[0] not in suites.CORE:
                continue
            program = row.program.replace("@PORT@", str(port.getsockname()[1]))
            program = program.replace("@FILE@", str(secret)).replace("@SECRET@", "HOME")
            jobs.append((row, suites.job_of(row, program)))
        client = stack.enter_context(SandboxClient(service.url, patience_s=900))
        for row, outcome in client.map(jobs):
            believed = outcome.passed and suites.is_believed(outcome)
            assert not believed or row.name.split()[0] in RIGHT_ONES, (row.name, outcome)
            assert "of the host" not in outcome.message + outcome.stdout
        with pytest.raises(BlockingIOError):
            port.accept()
        assert secret.read_text() == "of the host"
        assert client.run(honest).passed


def test_the_sandbox_is_the_same_over_http(sandbox: Sandbox, client: SandboxClient) -> None:
    """Scoring a run takes either."""
    task_jobs = [(n, Job(f"x = {n}\n", test=f"assert x == {n % 2}\n")) for n in range(4)]
    local = {key: outcome.status for key, outcome in sandbox.map(task_jobs)}
    assert {key: outcome.status for key, outcome in client.map(task_jobs)} == local
