"""The process in a sandbox that forks a child a job, watches it, and tells how it ended.

It is trusted code, but runs with the sandbox's view of the world. It reads no text of a job: the
job's program or tests come in a memory file that only the child opens. The driver speaks over a
SOCK_SEQPACKET socket, one JSON object a packet, with the job's descriptors attached:

    driver: {"op": "run", "id", "limits", "cpu_s", "wall_s", "output_bytes", "fds": [names]}
            | {"op": "kill", "id"}
    zygote: {"op": "ready", "layers", "python"} | {"op": "failed", "message", ["id"]}
            | {"op": "end", "id", "reason", "status", "cpu_s", "wall_s", "rss_mib"}

``reason`` is ``exit`` (the job ended by itself or by a signal of its own), ``cpu``, ``wall`` or
``output`` (the zygote ended it at that limit) or ``order`` (the driver did). When the socket
closes, the zygote ends, and with it, by the kernel, everything in its PID namespace.

Signals go only to pids this process forked and has not waited for yet. It never uses pid -1 or a
process group.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from . import candidate, checker, linux
from .confine import Identity, confine, layers_in_force
from .seccomp import Filter

# What programs and tests import most. Not threading: its work after a fork costs every job 0.3 ms.
PRELOAD = (
    *("abc", "array", "bisect", "calendar", "cmath", "collections", "contextlib", "copy", "csv"),
    *("dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq"),
    *("inspect", "io", "itertools", "json", "math", "numbers", "operator", "random", "re"),
    *("statistics", "string", "struct", "textwrap", "time", "traceback", "types", "typing"),
)
MAX_PACKET = 16384
LONGEST_NAP_S = 0.25
SHORTEST_NAP_S = 0.02


@dataclass
class _Job:
    id: int
    pid: int
    slot: int
    started: float
    cpu_s: float
    wall_s: float
    output_bytes: int
    stdout: int | None
    directory: str | None
    reason: str = "exit"
    cpu_seen: float = 0.0

    def cpu_used(self) -> float:
        """CPU seconds of the job's first process, all threads, so far."""
        clock_of_process = (~self.pid << 3) | 2  # clock_getcpuclockid(3): CPUCLOCK_SCHED of a pid
        try:
            return time.clock_gettime(clock_of_process)
        except OSError:  # it has just ended; wait4 will tell
            return 0.0

    def cpu_used_by_all(self) -> float:
        """CPU seconds of all processes of the job, to the kernel's clock tick."""
        return max(self.cpu_used(), cpu_of_tree(self.pid))

    def exceeded(self, now: float) -> str | None:
        """The limit the job is over, if any."""
        # Looking at all processes costs; a job that has just started can't have used much.
        old = now - self.started > LONGEST_NAP_S
        self.cpu_seen = max(self.cpu_seen, self.cpu_used_by_all() if old else self.cpu_used())
        if self.cpu_seen > self.cpu_s:
            return "cpu"
        if now - self.started > self.wall_s:
            return "wall"
        if self.stdout is not None and os.fstat(self.stdout).st_size > self.output_bytes:
            return "output"
        return None


@dataclass
class Zygote:
    """The state of the serving loop."""

    control: socket.socket
    identity: Identity
    uid_base: int
    main: Callable[[int, Any, dict[str, int]], None]
    own_namespaces: dict[str, bool]
    jobs: dict[int, _Job] = field(default_factory=dict)
    own_pid_namespace: int = -1
    call_filter: Filter = field(default_factory=Filter)

    def serve(self, slots: int) -> None:
        """Runs jobs until the driver closes the control socket."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.free_slots = list(range(slots))
        if self.identity != "none":
            self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._tell(self._self_test())
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.register(wake_read, select.POLLIN)
        while True:
            ready = dict(poller.poll(self._nap_ms()))
            if wake_read in ready:
                os.read(wake_read, 4096)
            if self.control.fileno() in ready and not self._obey():
                break
            self._reap()
            self._enforce()
        for job in list(self.jobs.values()):
            os.kill(job.pid, signal.SIGKILL)
            os.waitpid(job.pid, 0)
            self._forget(job)

    def _nap_ms(self) -> int | None:
        if not self.jobs:
            return None
        now = time.monotonic()
        nap = LONGEST_NAP_S
        for job in self.jobs.values():
            # A job of one thread can't reach its CPU limit sooner than this.
            nap = min(nap, job.cpu_s - job.cpu_seen, job.wall_s - (now - job.started))
        return int(1000 * max(nap, SHORTEST_NAP_S))

    def _obey(self) -> bool:
        packet, fds, flags, _ = socket.recv_fds(self.control, MAX_PACKET, 8)
        if not packet:
            return False
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise OSError("a packet of the driver was cut")
        message = json.loads(packet)
        if message["op"] == "run":
            self._run(message, dict(zip(message["fds"], fds, strict=True)))
        elif message["id"] in self.jobs:
            self._kill(self.jobs[message["id"]], "order")
        return True

    def _run(self, message: dict[str, Any], fds: dict[str, int]) -> None:
        watched = fds["stdout"] if message["output_bytes"] else None
        directory = None
        try:
            if self.identity == "none":
                directory = tempfile.mkdtemp(prefix="codegen-job-")
            slot = self.free_slots.pop()
            pid = self._fork(lambda: self._become(message["limits"], slot, fds, directory))
        except OSError as error:
            self._tell({"op": "failed", "id": message["id"], "message": str(error)})
            return
        finally:
            for fd in fds.values():
                if fd != watched:
                    os.close(fd)
        self.jobs[message["id"]] = _Job(
            id=message["id"],
            pid=pid,
            slot=slot,
            started=time.monotonic(),
            cpu_s=message["cpu_s"],
            wall_s=message["wall_s"],
            output_bytes=message["output_bytes"],
            stdout=watched,
            directory=directory,
        )

    def _fork(self, child: Callable[[], None]) -> int:
        """Forks a child, the init of a new PID namespace, that runs ``child`` and ends."""
        if self.identity == "none":
            pid = os.fork()
        else:
            linux.unshare(linux.CLONE_NEWPID)
            pid = -1
            try:
                pid = os.fork()
            finally:
                if pid != 0:
                    linux.setns(self.own_pid_namespace, linux.CLONE_NEWPID)
        if pid == 0:
            status, errors = 125, os.dup(2)
            try:
                child()
                status = 0
            except BaseException as error:  # noqa: BLE001 - told to the driver
                with contextlib.suppress(OSError):  # closed once the job is confined
                    os.write(errors, f"job: {type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(status)
        return pid

    def _become(
        self, limits: dict[str, Any], slot: int, fds: dict[str, int], directory: str | None
    ) -> NoReturn:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        stdin, stdout = fds.pop("stdin", None), fds.get("stdout")
        if self.main is candidate.main:
            fds.pop("stdout", None)
        else:
            stdout = None  # the tests read the program's output, they do not write it
        confine(
            self.identity,
            self.uid_base + slot,
            limits,
            self.call_filter,
            stdin,
            stdout,
            directory,
        )
        _close_all_but({0, 1, 2, *fds.values()})
        payload_fd = fds.pop("payload")
        payload = json.loads(os.pread(payload_fd, os.fstat(payload_fd).st_size, 0))
        os.close(payload_fd)
        self.main(fds.pop("channel"), payload, fds)
        os._exit(0)

    def _self_test(self) -> dict[str, Any]:
        """Confines one child as every job will be and asks it which layers hold."""
        read, write = os.pipe()
        limits = {
            "cpu_s": 5.0,
            "memory_mib": 1024,
            "file_mib": 1,
            "open_files": 64,
            "processes": 16,
        }

        def child() -> None:
            try:
                directory = "/" if self.identity == "none" else None
                confine(
                    self.identity, self.uid_base, limits, self.call_filter, None, None, directory
                )
                report: dict[str, Any] = {
                    "op": "ready",
                    "layers": self.own_namespaces | layers_in_force(self.identity),
                    "python": ".".join(map(str, sys.version_info[:3])),
                }
            except OSError as error:
                report = {"op": "failed", "message": f"a job can't be confined: {error}"}
            os.write(write, json.dumps(report).encode())

        try:
            pid = self._fork(child)
        except OSError as error:
            return {"op": "failed", "message": f"a job can't be forked: {error}"}
        finally:
            os.close(write)
        with os.fdopen(read, "rb") as file:
            report = file.read(MAX_PACKET)
        os.waitpid(pid, 0)
        if not report:
            return {"op": "failed", "message": "the test job died"}
        return json.loads(report)

    def _enforce(self) -> None:
        now = time.monotonic()
        for job in self.jobs.values():
            if job.reason == "exit" and (reason := job.exceeded(now)):
                self._kill(job, reason)

    def _kill(self, job: _Job, reason: str) -> None:
        # The pid is ours: it stays reserved until _reap waits for it. Its namespace dies with it.
        if job.reason == "exit":
            job.reason = reason
        os.kill(job.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for job in list(self.jobs.values()):
            pid, status, usage = os.wait4(job.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._forget(job)
            self._tell(
                {
                    "op": "end",
                    "id": job.id,
                    "reason": job.reason,
                    "status": status,
                    "cpu_s": max(job.cpu_seen, usage.ru_utime + usage.ru_stime),
                    "wall_s": time.monotonic() - job.started,
                    "rss_mib": usage.ru_maxrss / 1024,
                }
            )

    def _forget(self, job: _Job) -> None:
        del self.jobs[job.id]
        self.free_slots.append(job.slot)
        if job.stdout is not None:
            os.close(job.stdout)
        if job.directory is not None:
            shutil.rmtree(job.directory, ignore_errors=True)

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the loop sees the end next
            self.control.send(json.dumps(message).encode())


def cpu_of_tree(root: int) -> float:
    """CPU seconds used so far by a process, its descendants, and those of them it waited for."""
    ticks: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        name = entry.name
        if name.isdigit():
            try:
                text = (entry / "stat").read_text("ascii", "replace")
            except OSError:  # ended meanwhile
                continue
            # The command's name, in parentheses, may hold anything.
            fields = text.rpartition(")")[2].split()
            # proc(5), counted from the state: parent, ..., utime, stime, cutime, cstime
            ticks[int(name)] = sum(map(int, fields[11:15]))
            children.setdefault(int(fields[1]), []).append(int(name))
    total, stack = 0, [root]
    while stack:
        pid = stack.pop()
        total += ticks.get(pid, 0)
        stack += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def _close_all_but(kept: set[int]) -> None:
    start = 0
    for fd in sorted(kept):
        if start < fd:  # Python 3.11 takes an empty range for "all the rest"
            os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, 1 << 20)


def main(config_text: str) -> None:
    """Entry point; ``config_text`` is JSON of the fields below, written by the driver's ``launch``
    module.
    """
    config = json.loads(config_text)
    control = socket.socket(fileno=config["control_fd"])
    control.set_inheritable(False)
    own = {
        f"{name}_namespace": str(Path(f"/proc/self/ns/{name}").readlink()) != outside
        for name, outside in config["driver_namespaces"].items()
    }
    if config["identity"] != "none" and not own["pid_namespace"]:
        raise SystemExit("refusing to serve: this is the driver's PID namespace")
    # Keeps jobs of the same user from looking into this process.
    linux.prctl(linux.PR_SET_DUMPABLE, 0 if config["identity"] == "uids" else 1)
    for name in PRELOAD:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    job_main = {"candidate": candidate.main, "checker": checker.main}[config["role"]]
    zygote = Zygote(control, config["identity"], config["uid_base"], job_main, own)
    del sys.path[0], sys.argv[1:]  # what only this process needed
    zygote.serve(config["slots"])
