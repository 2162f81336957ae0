"""The process in a sandbox that forks a child a job, watches it, and tells how it ended.

It is trusted code, but runs with the sandbox's view of the world. It reads no text of a job: the
job's program or tests come in a memory file that only the child opens. The driver speaks over a
SOCK_SEQPACKET socket, one JSON object a packet, with the job's descriptors attached:

    driver: {"op": "run", "id", "limits", "cpu_s", "wall_s", "output_bytes", "fds": [names]}
            | {"op": "kill", "id"}
    zygote: {"op": "ready", "layers", "python"} | {"op": "failed", "message", ["id"]}
            | {"op": "end", "id", "reason", "status", "cpu_s", "wall_s", "rss_mib", "output"}

``reason`` is ``exit`` (the job ended by itself or by a signal of its own), ``cpu``, ``wall``,
``memory`` or ``output`` (the zygote ended it at that limit) or ``order`` (the driver did). When the
socket closes, the zygote ends, and with it, by the kernel, everything in its PID namespace.
``output`` is the beginning of what the program printed, where its standard output is not a file of
the driver's (:func:`.candidate.print_to`).

Signals go only to pids this process forked and has not waited for yet. It never uses pid -1 or a
process group.
"""

from __future__ import annotations

import _signal  # pyright: ignore[reportMissingImports]
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import candidate, checker, landlock, linux
from .confine import Bounds, bounds, confine, layers_in_force
from .places import WORK, Identity, Place
from .seccomp import Filter

# What programs and tests import most. Each shared library of a module makes every fork dearer, so
# not what few import: hashlib alone brings OpenSSL, 26 mappings.
PRELOAD = (
    *("abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "enum"),
    *("functools", "heapq", "inspect", "io", "itertools", "json", "math", "numbers", "operator"),
    *("random", "re", "string", "struct", "textwrap", "time", "traceback", "types", "typing"),
)
MAX_PACKET = 16384
LONGEST_NAP_S = 0.25
SHORTEST_NAP_S = 0.02
MOST_BOUNDS = 1000
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / (1 << 20)
ANCILLARY_BYTES = socket.CMSG_SPACE(8 * 4)
CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_SIGCHLD = int(signal.SIGCHLD)


@dataclass(slots=True)
class _Job:
    id: int
    pid: int
    place: Place
    started: float
    cpu_s: float
    wall_s: float
    memory_mib: float
    output_bytes: int
    stdout: int | None
    printed: int | None
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

    def output(self) -> str:
        """The beginning of what the job has printed; to be asked once, at its end."""
        if self.printed is None:
            return ""
        try:
            data = os.read(self.printed, candidate.PRINTED_BYTES)
        except BlockingIOError:  # nothing; without a PID namespace a process of it may be left
            return ""
        return data.decode("utf-8", "replace")

    def exceeded(self, now: float) -> str | None:
        """The limit the job is over, if any."""
        used = self.cpu_used()
        # Looking at all processes costs; a job that has just started can't have used much.
        if now - self.started > LONGEST_NAP_S:
            by_all, own_mib = usage_of_tree(self.pid)
            used = max(used, by_all)
            if own_mib > self.memory_mib:
                return "memory"
        self.cpu_seen = max(self.cpu_seen, used)
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
    main: Callable[[int, bytes, dict[str, int]], None]
    own_namespaces: dict[str, bool]
    jobs: dict[int, _Job] = field(default_factory=dict)
    own_pid_namespace: int = -1
    last_filter: Filter = field(default_factory=lambda: Filter(part="job"))
    landlock_abi: int = field(default_factory=landlock.abi)
    errors: int = 2
    look_at: float = 0.0
    free_places: list[Place] = field(default_factory=list)
    bounds_of: dict[tuple[Any, ...], Bounds] = field(default_factory=dict)

    def serve(self, slots: int) -> None:
        """Runs jobs until the driver closes the control socket."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        self.free_places = [Place(self.identity, self.uid_base + n) for n in range(slots)]
        if self.identity != "none":
            self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._tell(self._self_test())
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.register(wake_read, select.POLLIN)
        while True:
            going = True
            for fd, _ in poller.poll(self._nap_ms()):
                if fd == wake_read:
                    os.read(wake_read, 4096)
                    self._reap()
                else:
                    going = self._obey()
            if not going:
                break
            now = time.monotonic()
            if now >= self.look_at:
                self._enforce(now)
                self.look_at = now + SHORTEST_NAP_S
        for job in list(self.jobs.values()):
            os.kill(job.pid, signal.SIGKILL)
            os.waitpid(job.pid, 0)
            self._forget(job)

    def _nap_ms(self) -> int | None:
        if not self.jobs or self.main is checker.main:  # the driver watches the tests
            return None
        now = time.monotonic()
        nap = LONGEST_NAP_S
        for job in self.jobs.values():
            # A job of one thread can't reach its CPU limit sooner than this.
            nap = min(nap, job.cpu_s - job.cpu_seen, job.wall_s - (now - job.started))
        return int(1000 * max(nap, SHORTEST_NAP_S))

    def _obey(self) -> bool:
        packet, ancillary, flags, _ = self.control.recvmsg(MAX_PACKET, ANCILLARY_BYTES)
        if not packet:
            return False
        if flags & CUT:
            raise OSError("a packet of the driver was cut")
        fds = struct.unpack(f"{len(ancillary[0][2]) // 4}i", ancillary[0][2]) if ancillary else ()
        message = json.loads(packet)
        if message["op"] == "run":
            self._run(message, dict(zip(message["fds"], fds, strict=True)))
        elif message["id"] in self.jobs:
            self._kill(self.jobs[message["id"]], "order")
        return True

    def _run(self, message: dict[str, Any], fds: dict[str, int]) -> None:
        watched = fds["stdout"] if message["output_bytes"] else None
        directory = printed = None
        try:
            if self.identity == "none":
                directory = _new_directory()
            if self.main is candidate.main and "stdout" not in fds:
                # A pipe for each job. Nobody reads it before the job ends, so it must not block.
                printed, fds["printed"] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            place = self._place(message["limits"]["file_mib"])
            limits = self._bounds(message["limits"])
            pid = self._fork(lambda: self._become(limits, place, fds, directory or WORK))
        except OSError as error:
            self._tell({"op": "failed", "id": message["id"], "message": str(error)})
            if printed is not None:
                os.close(printed)
            return
        finally:
            for fd in fds.values():
                if fd != watched:
                    os.close(fd)
        self.jobs[message["id"]] = _Job(
            id=message["id"],
            pid=pid,
            place=place,
            started=time.monotonic(),
            cpu_s=message["cpu_s"],
            wall_s=message["wall_s"],
            memory_mib=message["limits"]["memory_mib"],
            output_bytes=message["output_bytes"],
            stdout=watched,
            printed=printed,
            directory=directory,
        )

    def _place(self, file_mib: int) -> Place:
        """A free place, ready for a job; taken off the list. The last used is the likeliest to
        fit.
        """
        while not self.free_places:  # one is about to end
            time.sleep(0.001)
            self._reap()
        place = self.free_places[-1]
        if place.file_mib != file_mib:
            for other in self.free_places:
                if other.file_mib == file_mib:
                    place = other
        place.prepare(file_mib, self.landlock_abi)
        self.free_places.remove(place)
        return place

    def _bounds(self, limits: dict[str, Any]) -> Bounds:
        key = tuple(limits.values())
        if key not in self.bounds_of:
            if len(self.bounds_of) > MOST_BOUNDS:
                self.bounds_of.clear()
            self.bounds_of[key] = bounds(limits)
        return self.bounds_of[key]

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
            status = 125
            try:
                child()
                status = 0
            except BaseException as error:  # noqa: BLE001 - told to the driver
                with contextlib.suppress(OSError):  # closed once the job is confined
                    text = f"job: {type(error).__name__}: {error}\n"
                    os.write(self.errors, text.encode("utf-8", "replace"))
            finally:
                os._exit(status)
        return pid

    def _become(self, limits: Bounds, place: Place, fds: dict[str, int], directory: str) -> None:
        # signal.signal would make enumeration members of its arguments and results first.
        _signal.set_wakeup_fd(-1)
        _signal.signal(_SIGCHLD, _signal.SIG_DFL)
        stdin, stdout = fds.pop("stdin", None), fds.get("stdout")
        if self.main is candidate.main:
            fds.pop("stdout", None)
        else:
            stdout = None  # the tests read the program's output, they do not write it
        confine(place, limits, self.last_filter, stdin, stdout, directory)
        _close_all_but((0, 1, 2, *fds.values()))
        payload_fd = fds.pop("payload")
        payload = os.pread(payload_fd, os.fstat(payload_fd).st_size, 0)
        os.close(payload_fd)
        self.main(fds.pop("channel"), payload, fds)

    def _self_test(self) -> dict[str, Any]:
        """Confines one child as every job will be and asks it which layers hold."""
        read, write = os.pipe()
        limits = {
            "cpu_s": 5.0,
            "memory_mib": 1024,
            "file_mib": 16,  # what most jobs have, so that its place serves the first of them
            "open_files": 64,
            "processes": 16,
        }

        def child() -> None:
            try:
                directory = "/" if self.identity == "none" else WORK
                confine(place, bounds(limits), self.last_filter, None, None, directory)
                report: dict[str, Any] = {
                    "op": "ready",
                    "layers": self.own_namespaces | layers_in_force(place),
                    "landlock_abi": self.landlock_abi,
                    "python": ".".join(map(str, sys.version_info[:3])),
                }
            except OSError as error:
                report = {"op": "failed", "message": f"a job can't be confined: {error}"}
            os.write(write, json.dumps(report).encode())

        try:
            place = self._place(limits["file_mib"])
            self.free_places.append(place)
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

    def _enforce(self, now: float) -> None:
        if self.main is checker.main:
            return
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
            output = job.output()
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
                    "output": output,
                }
            )

    def _forget(self, job: _Job) -> None:
        del self.jobs[job.id]
        self.free_places.append(job.place)
        for fd in (job.stdout, job.printed):
            if fd is not None:
                os.close(fd)
        if job.directory is not None:
            import shutil

            shutil.rmtree(job.directory, ignore_errors=True)

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the loop sees the end next
            self.control.send(json.dumps(message).encode())


def usage_of_tree(root: int) -> tuple[float, float]:
    """CPU seconds used so far by a process, its descendants, and those of them it waited for; and
    the MiB of memory that they have beyond what each got by its fork.

    The kernel's limit on memory is for each process; together they must not have more either.
    """
    stats: dict[int, tuple[int, float]] = {}
    children: dict[int, list[int]] = {}
    inherited_mib = _resident_mib("/proc/self/statm")
    for entry in Path("/proc").iterdir():
        name = entry.name
        if name.isdigit():
            try:
                text = (entry / "stat").read_text("ascii", "replace")
            except OSError:  # ended meanwhile
                continue
            # The command's name, in parentheses, may hold anything.
            fields = text.rpartition(")")[2].split()
            # proc(5), counted from the state: parent, ..., utime, stime, cutime, cstime, ..., rss
            own_mib = int(fields[21]) * _PAGE_MIB - inherited_mib
            stats[int(name)] = sum(map(int, fields[11:15])), max(0.0, own_mib)
            children.setdefault(int(fields[1]), []).append(int(name))
    ticks, memory_mib, stack = 0, 0.0, [root]
    while stack:
        pid = stack.pop()
        more_ticks, more_mib = stats.get(pid, (0, 0.0))
        ticks += more_ticks
        memory_mib += more_mib
        stack += children.get(pid, [])
    return ticks / os.sysconf("SC_CLK_TCK"), memory_mib


def _resident_mib(statm: str) -> float:
    return int(Path(statm).read_text().split()[1]) * _PAGE_MIB


def _new_directory() -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="codegen-job-")


def _close_all_but(kept: tuple[int, ...]) -> None:
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
    errors = _streams()
    os.umask(0o077)
    # Keeps jobs of the same user from looking into this process.
    linux.prctl(linux.PR_SET_DUMPABLE, 0 if config["identity"] == "uids" else 1)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    job_main = {"candidate": candidate.main, "checker": checker.main}[config["role"]]
    zygote = Zygote(control, config["identity"], config["uid_base"], job_main, own, errors=errors)
    if not config["landlock"]:
        zygote.landlock_abi = 0
    Filter(part="zygote").load()
    _import(PRELOAD)
    if config["identity"] != "none":
        os.environ["HOME"] = os.environ["TMPDIR"] = WORK
    if config["role"] == "candidate":
        candidate.prepare()
        candidate.rehearse()
    del sys.path[0], sys.argv[1:]  # what only this process needed
    gc.collect()
    gc.freeze()
    try:
        zygote.serve(config["slots"])
    except BaseException:
        os.write(errors, traceback.format_exc().encode("utf-8", "replace"))
        raise


def _streams() -> int:
    """Puts the sandbox's own /dev/null at descriptors 0 to 2, for the jobs; returns the one for
    this process's error messages.
    """
    errors = os.dup(2)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    os.set_inheritable(errors, False)
    return errors


def _import(names: Iterable[str]) -> None:
    """Imports modules without what they would do in the child after each fork.

    That is to seed ``random`` anew: every job starts with the same state of it, so that a program
    or a test that draws from it gets the same verdict each time.
    """
    register = os.register_at_fork
    os.register_at_fork = lambda **_: None  # type: ignore[assignment]
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        os.register_at_fork = register
    sys.modules["random"].seed(0)
