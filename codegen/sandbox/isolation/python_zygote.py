"""The serving loop of a zygote in Python: for all tests, and for programs if the compiled loop
(:class:`.serving.CompiledZygote`) is not available.

Before a freshly forked job touches untrusted code, :func:`confine` confines it, in this order: a
new session; its namespaces (:mod:`.namespaces`), with an empty ``/tmp`` as its working directory;
its own standard streams; resource limits; an unprivileged identity; the Landlock rules of its set
of namespaces; the last part of the system-call filter. The fork gave it its own PID namespace;
no_new_privs and the rest of the filter are inherited from its zygote (:mod:`.zygote`). This runs
in memory shared with the zygote, where each written page is copied, so as much as possible is
prepared before the fork.
"""

from __future__ import annotations

import _signal  # pyrefly: ignore[missing-import]
import contextlib
import fcntl
import math
import os
import resource
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..protocol.orders import (
    CHANNEL_FD,
    PRINTED_BYTES,
    PRINTED_FD,
    JobEnded,
    JobRequest,
    Reason,
    read_order,
)
from . import linux
from .namespaces import WORK, NamespaceSet, make_own_proc, show_own_proc
from .seccomp import SeccompFilter
from .serving import LONGEST_NAP_S, MAX_PACKET, SHORTEST_NAP_S, TRIAL, Zygote
from .usage import UsageMonitor

_ANCILLARY_BYTES = socket.CMSG_SPACE(8 * 4)
_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_SIGCHLD = int(signal.SIGCHLD)


@dataclass(slots=True)
class _Job:
    order: JobRequest
    pid: int
    namespaces: NamespaceSet
    started: float
    stdout: int | None
    printed: int | None
    directory: str | None
    reason: Reason = "exit"
    cpu_seen: float = 0.0
    look_at: float = 0.0
    watch: UsageMonitor = field(default_factory=UsageMonitor)

    def cpu_used(self) -> float:
        """Returns the CPU seconds that the job's first process, with all threads, has used."""
        clock_of_process = (~self.pid << 3) | 2  # clock_getcpuclockid(3): CPUCLOCK_SCHED of a pid
        try:
            return time.clock_gettime(clock_of_process)
        except OSError:  # it has just exited; wait4 reports it
            return 0.0

    def output(self) -> bytes:
        """Returns the beginning of the job's output; call it once, after the job has exited."""
        if self.printed is None:
            return b""
        try:
            return os.read(self.printed, PRINTED_BYTES)
        except BlockingIOError:  # empty; without a PID namespace a process may still be running
            return b""

    def exceeded(self, now: float) -> Reason | None:
        """Returns the limit that the job exceeds, if any."""
        order = self.order
        used = self.cpu_used()
        # Measuring all processes is slow; a job that has just started cannot have used much.
        if now > max(self.started + LONGEST_NAP_S, self.look_at):
            self.look_at = now + LONGEST_NAP_S
            by_all, own_mib = self.watch.look(self.pid, order.memory_mib)
            used = max(used, by_all)
            if own_mib > order.memory_mib:
                return "memory"
        self.cpu_seen = max(self.cpu_seen, used)
        if self.cpu_seen > order.cpu_s:
            return "cpu"
        if now - self.started > order.wall_s:
            return "wall"
        if self.stdout is not None and os.fstat(self.stdout).st_size > order.output_bytes:
            return "output"
        return None


class PythonZygote(Zygote):
    """Serving process whose loop is in Python.

    Args:
        programs: True if it runs programs, whose limits it enforces; the driver monitors tests.
        **rest: see :class:`Zygote`.
    """

    def __init__(self, *, programs: bool, **rest: Any) -> None:
        super().__init__(**rest)
        self._programs = programs
        self._driver = socket.socket(fileno=self.control)
        self._jobs: dict[int, _Job] = {}
        self._free_sets: list[NamespaceSet] = []
        self._look_at = 0.0

    def prepare(self) -> None:
        """Prepares for the first fork."""
        self._free_sets = list(self.namespace_sets)

    def fork_trial(self, child: Callable[[NamespaceSet], None]) -> int:
        """Forks a child that is confined for ``TRIAL``, then runs ``child`` and exits."""
        namespaces = self._take_namespaces(TRIAL.file_mib)
        self._free_sets.append(namespaces)
        directory = "/" if self.identity == "none" else WORK

        def confined() -> None:
            confine(
                namespaces, bounds(TRIAL, self.own_bytes), self.last_filter, None, None, directory
            )
            child(namespaces)

        return self._fork(confined)

    def loop(self) -> None:
        """Runs jobs until the driver closes the control socket."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        poller = select.poll()
        poller.register(self._driver, select.POLLIN)
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
            if now >= self._look_at:
                self._enforce(now)
                self._look_at = now + SHORTEST_NAP_S
        for job in list(self._jobs.values()):
            os.kill(job.pid, signal.SIGKILL)
            os.waitpid(job.pid, 0)
            self._forget(job)

    def _nap_ms(self) -> int | None:
        if not self._jobs or not self._programs:
            return None
        now = time.monotonic()
        nap = LONGEST_NAP_S
        for job in self._jobs.values():
            # A single-threaded job cannot reach its CPU limit sooner than this.
            order = job.order
            nap = min(nap, order.cpu_s - job.cpu_seen, order.wall_s - (now - job.started))
        return int(1000 * max(nap, SHORTEST_NAP_S))

    def _obey(self) -> bool:
        try:
            packet, ancillary, flags, _ = self._driver.recvmsg(MAX_PACKET, _ANCILLARY_BYTES)
        except ConnectionResetError:
            return False
        if not packet:
            return False
        if flags & _CUT:
            raise OSError("a packet of the driver was cut")
        fds = struct.unpack(f"{len(ancillary[0][2]) // 4}i", ancillary[0][2]) if ancillary else ()
        order = read_order(packet)
        if not order.kill:
            self._run(order, dict(zip(order.fds, fds, strict=True)))
        elif order.id in self._jobs:
            self._kill(self._jobs[order.id], "order")
        return True

    def _run(self, order: JobRequest, fds: dict[str, int]) -> None:
        watched = fds["stdout"] if order.output_bytes else None
        directory = printed = None
        try:
            if self.identity == "none":
                directory = tempfile.mkdtemp(prefix="codegen-job-")
            if self._programs and "stdout" not in fds:
                # A pipe for each job. It is not read before the job ends, so it must not block.
                printed, fds["printed"] = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            namespaces = self._take_namespaces(order.file_mib)
            limits = bounds(order, self.own_bytes)
            own_proc = order.own_proc and self.identity != "none"
            pid = self._fork(self._become, limits, namespaces, fds, directory or WORK, own_proc)
        except OSError as error:
            self._tell(JobEnded(order.id, "failed", text=str(error).encode()))
            if printed is not None:
                os.close(printed)
            return
        finally:
            for fd in fds.values():
                if fd != watched:
                    os.close(fd)
        started = time.monotonic()
        self._jobs[order.id] = _Job(order, pid, namespaces, started, watched, printed, directory)

    def _take_namespaces(self, file_mib: int) -> NamespaceSet:
        """Prepares and returns a free set of namespaces, preferably the last used."""
        while not self._free_sets:  # a set will be freed soon
            time.sleep(0.001)
            self._reap()
        namespaces = self._free_sets[-1]
        if namespaces.file_mib != file_mib:
            for other in self._free_sets:
                if other.file_mib == file_mib:
                    namespaces = other
        namespaces.prepare(file_mib, self.landlock_abi)
        self._free_sets.remove(namespaces)
        return namespaces

    def _fork(self, child: Callable[..., None], *arguments: object) -> int:
        """Forks a child, the init of a new PID namespace, that runs ``child`` and exits."""
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
            self.do_and_end(child, *arguments)
        return pid

    def _become(
        self,
        limits: Bounds,
        namespaces: NamespaceSet,
        fds: dict[str, int],
        directory: str,
        own_proc: bool,
    ) -> None:
        # signal.signal would first convert its arguments and results to enum members.
        _signal.set_wakeup_fd(-1)
        _signal.signal(_SIGCHLD, _signal.SIG_DFL)
        stdin, stdout = fds.pop("stdin", None), fds.pop("stdout", None)
        # Duplicates them above their final numbers, so that neither overwrites the other.
        channel = fcntl.fcntl(fds["channel"], fcntl.F_DUPFD, 10)
        printed = fcntl.fcntl(fds["printed"], fcntl.F_DUPFD, 10) if "printed" in fds else None
        payload = os.pread(fds["payload"], os.fstat(fds["payload"]).st_size, 0)
        confine(namespaces, limits, self.last_filter, stdin, stdout, directory, own_proc)
        # A process that the program executes inherits neither descriptor.
        os.dup2(channel, CHANNEL_FD, inheritable=False)
        if printed is not None:
            os.dup2(printed, PRINTED_FD, inheritable=False)
        os.closerange(PRINTED_FD + (printed is not None), 1 << 20)
        self.errors = -1  # the channel may have its number now
        self.main(payload, printed is not None)

    def _enforce(self, now: float) -> None:
        if not self._programs:
            return
        for job in self._jobs.values():
            if job.reason == "exit" and (reason := job.exceeded(now)):
                self._kill(job, reason)

    def _kill(self, job: _Job, reason: Reason) -> None:
        # The pid stays reserved until _reap waits for it. Its namespace dies with it.
        if job.reason == "exit":
            job.reason = reason
        os.kill(job.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for job in list(self._jobs.values()):
            pid, status, usage = os.wait4(job.pid, os.WNOHANG)
            if pid == 0:
                continue
            output = job.output()
            self._forget(job)
            self._tell(
                JobEnded(
                    job.order.id,
                    job.reason,
                    status,
                    max(job.cpu_seen, usage.ru_utime + usage.ru_stime),
                    time.monotonic() - job.started,
                    usage.ru_maxrss / 1024,
                    output,
                )
            )

    def _forget(self, job: _Job) -> None:
        del self._jobs[job.order.id]
        self._free_sets.append(job.namespaces)
        for fd in (job.stdout, job.printed):
            if fd is not None:
                os.close(fd)
        if job.directory is not None:
            shutil.rmtree(job.directory, ignore_errors=True)

    def _tell(self, ended: JobEnded) -> None:
        # If the driver is gone, the loop notices it next.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._driver.send(ended.pack())


SIGNALS = 1024  # queued signals and timers; each takes kernel memory

Bounds = list[tuple[int, tuple[int, int]]]


def bounds(order: JobRequest, own_bytes: int) -> Bounds:
    """Returns a job's resource limits as argument pairs for ``setrlimit``. ``own_bytes`` is its
    address space after the fork.
    """
    mebibyte = 1 << 20
    # The kernel counts whole seconds. The zygote enforces the exact limit; this one is a backup.
    cpu = math.ceil(order.cpu_s) + 1
    output = order.output_bytes + mebibyte if order.output_bytes else 0
    result: Bounds = []
    for name, value in (
        ("AS", (order.address_mib or order.memory_mib) * mebibyte + own_bytes),
        ("CPU", cpu),
        # The limit applies to the job's standard output, too.
        ("FSIZE", max(order.file_mib * mebibyte, output)),
        ("NOFILE", order.open_files),
        ("NPROC", order.processes),
        ("CORE", 1),  # not 0: hosts would still pipe core dumps to a program
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
        ("SIGPENDING", SIGNALS),
        ("RTPRIO", 0),
        ("NICE", 0),
    ):
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        result.append((number, (value, value)))
    return result


def confine(
    namespaces: NamespaceSet,
    limits: Bounds,
    last_filter: SeccompFilter,
    stdin: int | None,
    stdout: int | None,
    directory: str = WORK,
    own_proc: bool = False,
) -> None:
    """Confines the calling process permanently (``_launcher.c`` does the same in C).

    Args:
        namespaces: prepared namespaces to enter.
        limits: resource limits, see :func:`bounds`.
        last_filter: the part of the system-call filter that would prevent the zygote's own work.
        stdin, stdout: descriptors for the standard streams; None opens /dev/null.
        directory: the working directory.
        own_proc: see :class:`.orders.JobRequest`.

    Raises:
        OSError: if any layer cannot be enforced; the job must exit then.
    """
    os.setsid()
    proc = make_own_proc() if own_proc else -1
    for fd, kind in namespaces.to_enter:
        linux.setns(fd, kind)
    show_own_proc(proc)
    # Opened by this job: locks, flags and signal owners belong to an open file, and would outlive
    # the job if it shared the file with the zygote.
    null = os.open(os.devnull, os.O_RDWR)
    for target, fd in enumerate((stdin, stdout, None)):
        os.dup2(null if fd is None else fd, target)
    os.close(null)
    os.chdir(directory)
    for number, pair in limits:
        resource.setrlimit(number, pair)
    uid = namespaces.uid
    if namespaces.identity == "uids":
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if namespaces.identity != "none":  # the new user id keeps only inheritable capabilities
        linux.keep_capabilities(frozenset())
    if own_proc:
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # lets children read /proc too
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if namespaces.rules is not None:
        linux.landlock_self(namespaces.rules)
    last_filter.load()
