"""The driver: a thread that sends jobs to pairs of zygotes and collects the results.

A *worker* is a pair of sandboxes: one forks a process for each program, the other forks processes
for their tests, which run one job after another (:mod:`.tests_side.checker`). For each job the
driver makes a socket pair, passes one end to each side, and waits until the program has exited and
the tests have sent their verdict over a socket that only they have. The programs' zygote enforces
the programs' time limits; the driver's own deadline is for unresponsive sandboxes.

A job that was stopped only by the wall-clock limit is rerun once, with twice the time, while no
other jobs run except idle ones; on a pool that is never idle, next to others after
``PendingJob.patience_s``. A job whose sandbox broke is rerun once in a new worker, then becomes
``infra_error``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import marshal
import math
import os
import queue
import secrets
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from codegen.core.errors import SandboxError

from . import launch
from .jobs import (
    SCRIPT_WALL_FACTOR,
    CallResult,
    Job,
    Limits,
    Outcome,
    ScriptJob,
    program_payload,
    tests_payload,
)
from .judge import JudgedStatus, TestsReport, judge, judge_script, parse_report
from .languages.programs import CommandJob
from .launch import memory_file
from .packages import Packages
from .protocol import wire
from .protocol.orders import HEARD, JobEnded, JobRequest, in_order, read_ended

IN_FLIGHT = 3
CHECKER_MEMORY_MIB = 2048
TESTS_GRACE_S = 10.0
TESTER_CPU_S = 86400.0
TESTER_WALL_S = 10 * 86400.0
ANSWER_GRACE_S = 20.0
END_GRACE_S = 1.0
ALONE_WALL_FACTOR = 2  # other processes may load the machine too
RESTING_SHARE = 0.05
MAX_TESTER_PACKET = 1 << 17
MAX_INLINE_BYTES = 60_000  # per order to a test process, which reads 64 KiB at a time
MAX_VERDICT_BYTES = 8 << 20
MAX_RESULTS_HEAD = 1 << 18

Done = Callable[[Outcome | SandboxError], None]


@dataclass(eq=False)
class PendingJob:
    """A job in the pool."""

    job: Job | ScriptJob
    done: Done
    token: str
    tests: bytes  # the test process's payload
    patience_s: float = math.inf  # maximum wait for a rerun without other jobs
    command: CommandJob | None = None  # for a program in another language
    owner: str = ""  # owner of the tests; different owners never share a process
    compile_s: float = 0.0  # CPU seconds of its compiler
    attempts: int = 0
    alone: bool = False
    alone_by: float = math.inf
    rested: bool = False  # the job was mostly idle until the wall-clock limit
    cancelled: bool = False


@dataclass(eq=False)
class _Run:
    """A task in flight in a worker."""

    task: PendingJob
    stdout: int | None
    started: float
    tests_deadline: float
    deadline: float
    program: JobEnded | None = None
    tests: JobEnded | None = None
    report: TestsReport | None = None
    tests_late: bool = False
    stderr: int | None = None
    results: int | None = None  # file that a script's process writes at its end
    end_by: float | None = None  # deadline of a program whose tests are done
    note: int | None = None  # file where the tests' process marks that the program sent data


@dataclass(eq=False)
class _Tester:
    """A process that runs tests, one job at a time."""

    number: int
    memory_mib: int
    owner: str
    control: socket.socket
    job: int | None = None


@dataclass(eq=False)
class _Worker:
    programs: launch.ZygoteProcess
    tests: launch.ZygoteProcess
    core: int | None
    runs: dict[int, _Run] = field(default_factory=dict)
    testers: dict[int, _Tester] = field(default_factory=dict)
    ending: dict[int, int] = field(default_factory=dict)  # exiting testers -> their jobs

    @property
    def zygotes(self) -> tuple[launch.ZygoteProcess, launch.ZygoteProcess]:
        return self.programs, self.tests

    def close(self) -> None:
        """Stops both sandboxes and forgets their jobs."""
        for tester in self.testers.values():
            tester.control.close()
        for zygote in self.zygotes:
            zygote.close()
        for run in self.runs.values():
            _close_files(run)
        self.testers.clear()
        self.ending.clear()
        self.runs.clear()


class Pool:
    """Runs tasks in at most ``workers`` workers, started on demand.

    Args:
        backend: see :mod:`.launch`.
        workers: maximum number of sandbox pairs.
    """

    def __init__(self, backend: str, workers: int, packages: Packages = launch.NO_PACKAGES) -> None:
        self._packages = packages
        self.capacity = workers * IN_FLIGHT
        self._backend = backend
        self._most_workers = workers
        self.workers: list[_Worker] = []
        self._pending: deque[PendingJob] = deque()
        self._later: deque[PendingJob] = deque()  # to rerun alone
        self._inbox: queue.SimpleQueue[PendingJob | None] = queue.SimpleQueue()
        self._wake_read, self._wake_write = socket.socketpair()
        self._woken = False
        self._selector = selectors.DefaultSelector()
        self._next_id = 0
        self._closed = False
        self._closing = threading.Lock()  # prevents new jobs after the inbox's last check
        self._started: Future[launch.ZygoteProcess] = Future()
        # One thread starts all sandboxes: the kernel kills a sandbox when the thread that started
        # it exits.
        self._thread = threading.Thread(target=self._main, name="sandbox", daemon=True)

    def start(self) -> launch.ZygoteProcess:
        """Starts and returns the first sandbox, which has reported its properties.

        Raises:
            SandboxError: if this machine cannot run one.
        """
        self._thread.start()
        try:
            return self._started.result()
        except BaseException:
            self.close()
            raise

    def submit(self, job: Job | ScriptJob, done: Done, owner: str = "") -> PendingJob:
        """Queues a job; ``done`` is called once with its outcome, in the pool's thread unless the
        pool is closed.
        """
        task = self.task(job, done)
        task.owner = owner
        self.enqueue(task)
        return task

    def task(
        self, job: Job | ScriptJob, done: Done, command: CommandJob | None = None
    ) -> PendingJob:
        """Builds a job for :meth:`enqueue`; ``command`` runs a program in another language."""
        is_beside = isinstance(job, Job) and job.mechanism == "in_sandbox"
        token = secrets.token_hex(16) if is_beside else ""
        tests = b"" if isinstance(job, ScriptJob) else tests_payload(job, token)
        return PendingJob(job, done, token, tests, command=command)

    def enqueue(self, task: PendingJob) -> None:
        """Queues a job."""
        with self._closing:
            if not (ended := self._closed):
                self._inbox.put(task)
                self._wake()
        if ended:
            task.done(SandboxError("The sandbox was closed."))

    def close(self) -> None:
        """Stops all workers; unfinished jobs get a :class:`SandboxError`."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
                self._wake()
        self._thread.join()
        self._packages.close()

    def _wake(self) -> None:
        if not self._woken:  # the pool has not checked its inbox since the last wake-up
            self._woken = True
            with contextlib.suppress(OSError):
                self._wake_write.send(b"\0")

    # Methods of the pool's thread.

    def _main(self) -> None:
        error = SandboxError("The sandbox was closed.")
        try:
            try:
                self._cores = sorted(os.sched_getaffinity(0))
                way, programs = launch.choose(self._backend, self._next_core(), self._packages)
            except BaseException as failure:  # noqa: BLE001 - re-raised in start()
                self._started.set_exception(failure)
                return
            self._way = way
            self._selector.register(self._wake_read, selectors.EVENT_READ)
            self._add_worker(programs)
            self._started.set_result(programs)
            self._loop()
        except Exception as failure:  # noqa: BLE001 - delivered to all waiting jobs
            error = SandboxError(
                f"The sandbox's driver failed: {type(failure).__name__}: {failure}"
            )
            if not self._started.done():
                self._started.set_exception(error)
        finally:
            self._shut_down(error)

    def _shut_down(self, error: SandboxError) -> None:
        waiting = [*self._pending, *self._later]
        for worker in self.workers:
            waiting += [run.task for run in worker.runs.values()]
            worker.close()
        self.workers.clear()
        with self._closing:
            self._closed = True
        while not self._inbox.empty():
            if task := self._inbox.get_nowait():
                waiting.append(task)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        for task in waiting:
            task.done(error)

    def _loop(self) -> None:
        while True:
            self._dispatch()
            for key, _ in self._selector.select(self._patience_s()):
                if key.fileobj is self._wake_read:
                    self._wake_read.recv(4096)
                    self._woken = False
                elif key.data[0] in self.workers:
                    self._hear(*key.data)
            if not self._take_inbox():
                return
            self._check_deadlines()

    def _patience_s(self) -> float:
        """Returns the seconds until the next deadline check."""
        ending = any(run.end_by for worker in self.workers for run in worker.runs.values())
        return 0.1 if ending else 1.0

    def _take_inbox(self) -> bool:
        while not self._inbox.empty():  # only this thread takes from it
            if (task := self._inbox.get_nowait()) is None:
                return False
            self._pending.append(task)
        return True

    def _next_core(self) -> int | None:
        """Returns the processor for the next worker; None leaves the choice to the kernel.

        A program and its tests take turns, so sharing a processor costs nothing and keeps shared
        data in its caches (8% less CPU time). Used only if every processor gets the same number of
        workers; otherwise some would share busy processors while others are idle.
        """
        if len(self._cores) == 1 or self._most_workers % len(self._cores):
            return None
        taken = Counter(worker.core for worker in self.workers)
        return min(self._cores, key=lambda core: taken[core])

    def _add_worker(self, programs: launch.ZygoteProcess | None = None) -> _Worker:
        core = self._next_core()
        programs = programs or launch.start(self._way, "program", core, self._packages)
        try:
            tests = launch.start(self._way, "tests", core, self._packages)
            worker = _Worker(programs, tests, core)
        except SandboxError:
            programs.close()
            raise
        for zygote in worker.zygotes:
            self._selector.register(zygote.control, selectors.EVENT_READ, (worker, zygote))
        self.workers.append(worker)
        return worker

    def _discard(self, worker: _Worker, reason: str) -> None:
        """Closes a worker; its jobs are retried elsewhere."""
        if worker not in self.workers:
            return
        tasks = [run.task for run in worker.runs.values()]
        self.workers.remove(worker)
        for heard in (*worker.zygotes, *worker.testers.values()):
            self._selector.unregister(heard.control)
        worker.close()
        for task in tasks:
            self._broken(task, reason)

    def _dispatch(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0].alone_by < now:
            self._pending.appendleft(self._later.popleft())
        while self._pending:
            worker = self._free_worker()
            if worker is None:
                return
            task = self._pending.popleft()
            if not task.cancelled:
                self._send(worker, task)
        if self._later and not any(worker.runs for worker in self.workers):
            self._dispatch_later()

    def _dispatch_later(self) -> None:
        """Starts one job that must run alone, or as many idle jobs as possible, since these do not
        slow each other down.
        """
        tasks = [task for task in self._later if task.rested] or [self._later[0]]
        for task in tasks:
            worker = self._free_worker()
            if worker is None:
                return
            self._later.remove(task)
            if not task.cancelled:
                self._send(worker, task)

    def _free_worker(self) -> _Worker | None:
        """Returns the least busy worker with a free slot, or a new one if all are busy."""
        best = min(self.workers, key=lambda worker: len(worker.runs), default=None)
        if best is None or (best.runs and len(self.workers) < self._most_workers):
            try:
                return self._add_worker()
            except SandboxError as error:
                if best is None:  # no worker is left: fail instead of blocking forever
                    self._fail_pending(f"no sandbox can be started: {error.message}")
                    return None
        if best is not None and len(best.runs) < IN_FLIGHT:
            return best
        return None

    def _fail_pending(self, reason: str) -> None:
        for tasks in (self._pending, self._later):
            while tasks:
                task = tasks.popleft()
                task.done(_infra_outcome(task.job, reason))

    def _send(self, worker: _Worker, task: PendingJob) -> None:
        task.attempts += 1
        self._next_id += 1
        to_close: list[int] = []
        try:
            self._start(worker, task, self._next_id, to_close)
        except OSError as error:  # such as too many open files
            self._broken(task, f"a job cannot be sent: {error.strerror}")
        finally:
            for fd in to_close:
                os.close(fd)

    def _start(self, worker: _Worker, task: PendingJob, number: int, to_close: list[int]) -> None:
        job, limits = task.job, task.job.limits

        def file(data: bytes) -> int:
            to_close.append(memory_file(data))
            return to_close[-1]

        ours, theirs = socket.socketpair()
        to_close += ours.detach(), theirs.detach()
        fds, check = {"channel": to_close[0]}, {"channel": to_close[1]}
        command = task.command
        fds["payload"] = file(
            command.payload(task.token) if command else program_payload(job, task.token)
        )
        if isinstance(job, ScriptJob):
            self._start_script(worker, task, number, fds, to_close)
            return
        if job.mode == "stdio":
            fds["stdin"] = file(job.stdin.encode("utf-8", "surrogatepass"))
        cpu_s = 2 * limits.cpu_s + TESTS_GRACE_S
        inline: bytes | None = task.tests
        if len(task.tests) > MAX_INLINE_BYTES:
            check["payload"], inline = file(task.tests), None
        stdout = None
        if job.compares_output or job.mode == "calls":
            fds["stdout"] = check["stdout"] = stdout = memory_file(b"", append=True)
        check["note"] = note = memory_file(b"")
        packet = marshal.dumps((tuple(check), cpu_s, inline))
        now = time.monotonic()
        wall_s = limits.wall_s * (ALONE_WALL_FACTOR if task.alone else 1)
        # A slow test is not the program's fault, so the tests get more time than the program.
        late = now + wall_s + TESTS_GRACE_S
        worker.runs[number] = _Run(task, stdout, now, late, late + ANSWER_GRACE_S, note=note)
        try:
            output = job.most_output if stdout is not None else 0
            _order(worker.programs, number, limits, wall_s, output, fds, task)
            tester = self._tester(worker, max(CHECKER_MEMORY_MIB, limits.memory_mib), task.owner)
            tester.job = number
            socket.send_fds(tester.control, [packet], list(check.values()))
        except OSError as error:
            self._discard(worker, f"the sandbox is gone: {error.strerror}")

    def _start_script(
        self,
        worker: _Worker,
        task: PendingJob,
        number: int,
        fds: dict[str, int],
        to_close: list[int],
    ) -> None:
        """Starts a script. It has no tests; over its channel the driver sends descriptors for its
        standard error and, if it fetches files, for its results.
        """
        script = task.job
        assert isinstance(script, ScriptJob)
        if script.stdin:
            fds["stdin"] = memory_file(script.stdin.encode("utf-8", "surrogatepass"))
            to_close.append(fds["stdin"])
        fds["stdout"] = stdout = memory_file(b"", append=True)
        factor = ALONE_WALL_FACTOR if task.alone else 1
        now, wall_s = time.monotonic(), factor * SCRIPT_WALL_FACTOR * script.limits.cpu_s
        late = now + wall_s + ANSWER_GRACE_S
        run = _Run(task, stdout, now, late, late, tests=JobEnded(number, "exit"))
        worker.runs[number] = run
        try:
            run.stderr = memory_file(b"", append=True)
            sent = [run.stderr]
            if script.fetch or task.command:
                run.results = memory_file(b"")
                sent.append(run.results)
            with socket.socket(fileno=os.dup(to_close[1])) as channel:
                socket.send_fds(channel, [b"f"], sent)
            most = script.most_output
            _order(worker.programs, number, script.limits, wall_s, most, fds, task)
        except OSError as error:
            self._discard(worker, f"the sandbox is gone: {error.strerror}")

    def _tester(self, worker: _Worker, memory_mib: int, owner: str) -> _Tester:
        """Returns the worker's idle process for the owner's tests; a new one if none is idle."""
        idle = [tester for tester in worker.testers.values() if tester.job is None]
        for tester in idle:
            if (tester.memory_mib, tester.owner) == (memory_mib, owner):
                return tester
        if len(worker.testers) >= IN_FLIGHT:
            self._dismiss(worker, idle[0])
        self._next_id += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        tester = _Tester(self._next_id, memory_mib, owner, ours)
        limits = Limits(cpu_s=TESTER_CPU_S, memory_mib=memory_mib)
        payload = memory_file(b"")
        try:
            fds = {"payload": payload, "channel": theirs.fileno()}
            _order(worker.tests, tester.number, limits, TESTER_WALL_S, 0, fds)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(payload)
        worker.testers[tester.number] = tester
        self._selector.register(ours, selectors.EVENT_READ, (worker, tester))
        return tester

    def _dismiss(self, worker: _Worker, tester: _Tester) -> None:
        """Closes a tester's socket, which stops its process."""
        del worker.testers[tester.number]
        self._selector.unregister(tester.control)
        tester.control.close()

    def _hear(self, worker: _Worker, speaker: launch.ZygoteProcess | _Tester) -> None:
        if isinstance(speaker, _Tester):
            if speaker.number in worker.testers:
                self._hear_tester(worker, speaker)
            return
        try:
            packet = speaker.control.recv(16384)
        except OSError:
            packet = b""
        if not packet:
            self._discard(worker, f"the sandbox exited: {speaker.last_words() or 'no message'}")
            return
        ended = read_ended(packet)
        if ended.reason == "failed":
            text = ended.text.decode("utf-8", "replace")
            self._discard(worker, f"a job cannot be started: {text}")
            return
        if speaker.role == "program":
            if run := worker.runs.get(ended.id):
                run.program = ended
                self._finish_if_done(worker, ended.id)
        else:
            if tester := worker.testers.get(ended.id):
                self._hear_tester(worker, tester)  # its verdict may have arrived before its exit
            number = worker.ending.pop(ended.id, None)
            if number is not None:
                run = worker.runs[number]
                run.tests = ended._replace(reason="wall") if run.tests_late else ended
                self._tests_done(worker, number)

    def _hear_tester(self, worker: _Worker, tester: _Tester) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(tester.control, MAX_TESTER_PACKET, 1)
        except OSError:
            return
        number = tester.job
        if not packet:  # it has exited; its zygote reports the reason
            self._dismiss(worker, tester)
            if number is not None:
                worker.ending[tester.number] = number
            return
        report, cpu_s, again = _read_verdict(packet, fds)
        tester.job = None
        if not again or number is None:
            self._dismiss(worker, tester)
        if report is _NO_VERDICT or number is None:  # the tests wrote to the process's socket
            with contextlib.suppress(OSError):  # errors surface on socket read
                worker.tests.control.send(JobRequest(tester.number, kill=True).pack())
        if number is None:
            return
        run = worker.runs[number]
        run.report = report
        run.tests = JobEnded(number, "exit", 0, cpu_s, time.monotonic() - run.started)
        self._tests_done(worker, number)

    def _tests_done(self, worker: _Worker, number: int) -> None:
        run = worker.runs[number]
        if run.program is not None:
            self._finish_if_done(worker, number)
            return
        # The verdict is known, unless it depends on the program's exit or output. The closed
        # channel tells the program to exit.
        gone = run.report is not None and run.report.status == "gone"
        if gone or run.task.job.compares_output or run.task.job.mode == "calls":
            run.end_by = time.monotonic() + END_GRACE_S
        else:
            self._end_program(worker, number)

    def _end_program(self, worker: _Worker, number: int) -> None:
        worker.runs[number].end_by = None
        try:
            worker.programs.control.send(JobRequest(number, kill=True).pack())
        except OSError as error:
            self._discard(worker, f"the sandbox is gone: {error.strerror}")

    def _finish_if_done(self, worker: _Worker, number: int) -> None:
        run = worker.runs[number]
        if run.program is None or run.tests is None:
            return
        del worker.runs[number]
        stdout, size = run.program.text.decode("utf-8", "replace"), 0
        if run.stdout is not None:
            size = os.fstat(run.stdout).st_size
            data = os.pread(run.stdout, run.task.job.limits.output_bytes, 0)
            stdout = data.decode("utf-8", "replace")
        if isinstance(run.task.job, ScriptJob):
            run.task.done(_script_outcome(run, run.task.job, run.program, stdout, size))
            return
        heard = run.note is not None and os.pread(run.note, 1, 0) == HEARD
        _close_files(run)
        judgement = judge(run.task.job, run.program, run.tests, run.report, size, heard=heard)
        if judgement.message:
            judgement = replace(judgement, message=self._packages.hint(judgement.message))
        if judgement.status == "infra_error":
            self._broken(run.task, judgement.message)
        elif judgement.again and run.task.attempts < 2:
            self._pending.append(run.task)
        elif judgement.wall and not run.task.alone:
            run.task.alone = True
            run.task.alone_by = time.monotonic() + run.task.patience_s
            run.task.rested = run.program.cpu_s < RESTING_SHARE * run.program.wall_s
            self._later.append(run.task)
        else:
            outcome = _outcome(run.task.job, judgement, run.program, run.report, stdout)
            run.task.done(replace(outcome, compile_s=run.task.compile_s))

    def _broken(self, task: PendingJob, reason: str) -> None:
        if task.attempts < 2 + task.alone:
            self._pending.append(task)
        else:
            task.done(_infra_outcome(task.job, reason))

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        for worker in list(self.workers):
            for tester in worker.testers.values():
                run = None if tester.job is None else worker.runs[tester.job]
                if run is not None and run.tests_deadline < now and not run.tests_late:
                    run.tests_late = True
                    with contextlib.suppress(OSError):  # errors surface on socket read
                        worker.tests.control.send(JobRequest(tester.number, kill=True).pack())
            for number, run in list(worker.runs.items()):
                if run.end_by is not None and run.end_by < now and worker in self.workers:
                    self._end_program(worker, number)
            if any(run.deadline < now for run in worker.runs.values()):
                self._discard(worker, "the sandbox does not answer")


_NO_VERDICT = TestsReport("bad_test", "the tests sent an invalid verdict", [])


def _read_verdict(packet: bytes, fds: Sequence[int]) -> tuple[TestsReport | None, float, bool]:
    """Reads a test process's message: the verdict, its CPU seconds, and whether it can run another
    job. It is untrusted, since a program may attack its tests. Closes the descriptors.
    """
    try:
        message = json.loads(packet)
        verdict = message["verdict"]
        for fd in fds:
            verdict = json.loads(os.pread(fd, MAX_VERDICT_BYTES, 0))
        if report := parse_report(verdict):
            return report, float(message["cpu_s"]), message["again"] is True
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        pass
    finally:
        for fd in fds:
            os.close(fd)
    return _NO_VERDICT, 0.0, False


def read_results(data: bytes, asked: Sequence[str]) -> tuple[int, dict[str, bytes], list[str]]:
    """Reads the results of a script's process: a line of JSON with the script's wait status,
    [name, size] of files and names of files that are too large, then the files' contents.

    The program controls them, so only requested names are accepted.

    Returns:
        The status, the files, and the names; a failure status if the data is unreadable.
    """
    head, _, rest = data.partition(b"\n")
    try:
        status, sizes, left = json.loads(head[:MAX_RESULTS_HEAD])
        known = set(asked)
        files: dict[str, bytes] = {}
        for name, length in sizes:
            if name in known and 0 <= length <= len(rest):
                files[name], rest = rest[:length], rest[length:]
        os.waitstatus_to_exitcode(status)
        return status, files, [name for name in left if name in known]
    except (ValueError, TypeError, RecursionError, OverflowError):
        return 125 << 8, {}, []


def _looks_at_itself(job: Job | ScriptJob) -> bool:
    """Returns True if a program may read ``/proc/self``, which is slow to provide
    (``isolation.namespaces``).
    """
    return any(path in job.program for path in ("/proc", "/dev/std", "/dev/fd", "psutil"))


def _order(
    zygote: launch.ZygoteProcess,
    number: int,
    limits: Limits,
    wall_s: float,
    output_bytes: int,
    fds: dict[str, int],
    task: PendingJob | None = None,
) -> None:
    """Requests a process from a zygote, for a program or for tests."""
    names = in_order(fds)
    command = task and task.command
    order = JobRequest(
        number,
        names,
        limits.memory_mib,
        limits.file_mib,
        limits.open_files,
        limits.processes,
        limits.cpu_s,
        wall_s,
        output_bytes,
        own_proc=bool(task and not command and _looks_at_itself(task.job)),
        address_mib=command.address_mib if command else 0,
    )
    socket.send_fds(zygote.control, [order.pack()], [fds[name] for name in names])


def _outcome(
    job: Job, judgement: JudgedStatus, program: JobEnded, report: TestsReport | None, stdout: str
) -> Outcome:
    results: tuple[CallResult, ...] = ()
    if report is not None and job.mode == "calls":

        def special(_: str, content: Any) -> Any:
            return wire.Opaque(str(content))

        def result(ok: bool, content: Any) -> CallResult:
            return (
                CallResult(True, wire.unpack(content, special))
                if ok
                else CallResult(False, None, content)
            )

        try:
            results = tuple(result(*pair) for pair in report.values)
        except wire.WireError as error:
            judgement = JudgedStatus("output_limit", f"unusable result: {error}")
    returned = itertools.takewhile(lambda result: result.ok, results)
    blinded = job.blinded
    return Outcome(
        judgement.status,
        job.trust,
        program.cpu_s,
        program.wall_s,
        program.rss_mib,
        judgement.message,
        stdout,
        tuple(result.value for result in returned),
        results,
        sites=0 if blinded is None else blinded.sites,
        open_sites=() if blinded is None else blinded.open,
        seen=tuple(map(str, report.values)) if blinded and report else (),
    )


def _script_outcome(
    run: _Run, script: ScriptJob, program: JobEnded, stdout: str, size: int
) -> Outcome:
    assert run.stderr is not None
    stderr = os.pread(run.stderr, script.limits.output_bytes, 0).decode("utf-8", "replace")
    left: list[str] = []
    files: dict[str, bytes] = {}
    if run.results is not None and program.reason == "exit" and program.status == 0:
        data = os.pread(run.results, os.fstat(run.results).st_size, 0)
        status, files, left = read_results(data, script.fetch)
        program = program._replace(status=status)
    _close_files(run)
    judgement = judge_script(script, program, size)
    ended_itself = judgement.status in ("passed", "exited", "crashed")
    message = judgement.message
    if left:
        message = f"{message}; too large to be fetched: {', '.join(left)}".removeprefix("; ")
    return Outcome(
        judgement.status,
        script.trust,
        program.cpu_s,
        program.wall_s,
        program.rss_mib,
        message,
        stdout,
        stderr=stderr,
        exit_code=os.waitstatus_to_exitcode(program.status) if ended_itself else None,
        files=files,
        compile_s=run.task.compile_s,
    )


def _infra_outcome(job: Job | ScriptJob, reason: str) -> Outcome:
    return Outcome("infra_error", job.trust, message=reason)


def _close_files(run: _Run) -> None:
    for fd in (run.stdout, run.stderr, run.results, run.note):
        if fd is not None:
            os.close(fd)
