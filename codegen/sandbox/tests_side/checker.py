"""The tests' process: runs them against a proxy of the program and sends the verdict.

It runs in its own sandbox, so the program can reach neither the tests nor the verdict: it can only
answer with data over the channel. The verdict is one JSON object for the driver: ``status``,
``message`` and ``values``: with mode ``calls`` the returned values, with ``blinded`` the values
that open sites read. Besides the statuses of a :class:`codegen.core.records.Verdict` there is
``gone``: the program's job closed the channel, and the driver knows how it exited; and
``bad_test``: the setup or the test is unusable.

Each program has its own process, but the tests of successive jobs share one as long as each was
free of side effects (:mod:`.analysis`) and ended normally; a fork per job would double its cost.
Messages over the driver's SOCK_SEQPACKET socket:

    driver: (descriptor names, CPU seconds, payload), written by :mod:`marshal` like the payload
            in it, with the descriptors ``channel``, ``note`` and, in modes that have one,
            ``stdout``; a long payload is in the file ``payload``, and None here
    tests:  {"again", "cpu_s", "verdict"}, or ``"verdict": null`` and a file that contains it

``again`` says whether the process accepts another job.
"""

from __future__ import annotations

import _signal  # pyrefly: ignore[missing-import]
import builtins
import contextlib
import functools
import importlib
import json
import marshal
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from ..protocol import suites, wire
from ..protocol.orders import CHANNEL_FD, HEARD
from ..protocol.suites import TEST_FILE, BadTestError
from .analysis import (
    PURE_MODULES,
    GivenCode,
    asserts_nothing,
    collected_names,
    names_read,
    side_effect_free,
    why_idle,
)
from .program_proxy import ProgramProxy, ProxyCallFailed, ReportedSites, failure_of

MAX_PACKET = 65536
# A test process is replaced at these limits.
MAX_JOBS = 1000
MAX_CPU_S = 2.0
MAX_RSS_KIB = 256 << 10
MAX_DISCERNING = 10_000
STUB_S = 1.0
_MODULE = "module:"
_ANCILLARY_BYTES = socket.CMSG_SPACE(4 * 4)
_main = sys.modules["__main__"]
_SIGALRM = int(signal.SIGALRM)


def main(_: bytes, __: bool) -> None:
    """Runs the tests of one job after another, as they arrive on the driver's socket."""
    driver = socket.socket(fileno=CHANNEL_FD)
    os._exit = functools.partial(_exit, os.getpid())  # type: ignore[assignment]
    builtin_names = dict(vars(builtins))
    streams = sys.stdin, sys.stdout, sys.stderr
    for number in range(1, MAX_JOBS + 1):
        packet, received = _receive(driver)
        if not packet:
            return
        names, cpu_s, data = marshal.loads(packet)
        fds = dict(zip(names, received, strict=True))
        if data is None:
            data = os.pread(fds["payload"], os.fstat(fds["payload"]).st_size, 0)
        payload = marshal.loads(data)
        start = time.process_time()
        # The kernel kills this process at the limit, even during a test's C code.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        verdict, again = judge(payload, fds)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for fd in received:
            os.close(fd)
        spent = time.process_time() - start
        again = (
            again
            and number < MAX_JOBS
            and spent < MAX_CPU_S
            and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MAX_RSS_KIB
            and vars(builtins) == builtin_names
            and (sys.stdin, sys.stdout, sys.stderr) == streams
        )
        _tell(driver, verdict, again, spent)
        if not again:
            return


_end_process = os._exit


def _exit(own_pid: int, status: int) -> None:
    """Replaces the tests' ``os._exit``, which would leave their job without a verdict."""
    if os.getpid() != own_pid:  # a forked child
        _end_process(status)
    raise BadTestError("the tests call os._exit, which exits before they are scored")


def _receive(driver: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    packet, ancillary, _, _ = driver.recvmsg(MAX_PACKET, _ANCILLARY_BYTES)
    fds = ancillary[0][2] if ancillary else b""
    return packet, struct.unpack(f"{len(fds) // 4}i", fds)


def _tell(driver: socket.socket, verdict: dict[str, object], again: bool, cpu_s: float) -> None:
    text = json.dumps({"again": again, "cpu_s": cpu_s, "verdict": verdict})
    if len(text) <= MAX_PACKET:
        driver.send(text.encode("ascii"))
        return
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    data = memoryview(json.dumps(verdict).encode("ascii"))
    while data:
        data = data[os.write(fd, data) :]
    packet = json.dumps({"again": again, "cpu_s": cpu_s, "verdict": None}).encode("ascii")
    socket.send_fds(driver, [packet], [fd])
    os.close(fd)


class _NotedChannel(wire.Channel):
    """Channel that records in the driver's file whether the program sent data. If a signal kills
    this process afterwards, the program has failed.
    """

    def __init__(self, fd: int, note: int) -> None:
        super().__init__(fd)
        self._note = note
        self._is_heard = False

    def receive_bytes(self) -> bytes:
        """Receives one frame; records it before decoding."""
        data = super().receive_bytes()
        self.note(True)
        return data

    def note(self, is_heard: bool) -> None:
        """Records whether the program could cause the following events."""
        if is_heard != self._is_heard:
            self._is_heard = is_heard
            os.pwrite(self._note, HEARD if is_heard else b"-", 0)


def judge(payload: dict[str, Any], fds: dict[str, int]) -> tuple[dict[str, object], bool]:
    """Runs the tests of one job; returns its verdict and whether the process can be reused."""
    channel = _NotedChannel(fds["channel"], fds["note"])
    remote = ProgramProxy(channel)
    sys.setrecursionlimit(5000)
    values: list[Any] = []
    again = True
    try:
        mode = payload["mode"]
        if mode == "isolated" and not payload["foreign"]:
            tests = _Tests(remote, payload)
            again = tests.side_effect_free
            tests.set_up()
            tests.load()
            channel.note(False)  # an exit before the first call is the tests' fault
            tests.run()
            channel.note(False)
            if remote.failure is None and tests.key not in _discerning:
                _check_discernment(remote, tests)
        elif mode in ("stdio", "isolated"):
            _stdio(remote, payload, fds["stdout"])
        elif mode in ("blinded", "in_sandbox"):
            tests = _Tests(remote, payload)
            again = tests.side_effect_free
            _blinded(remote, payload, tests, values)
        else:
            _calls(remote, payload, values)
        status, message = remote.failure or ("passed", "")
    except BaseException as error:  # noqa: BLE001 - the test's code may raise anything
        tidy = isinstance(error, Exception) and not isinstance(error, (MemoryError, BadTestError))
        again = again and (tidy or isinstance(error, ProxyCallFailed))
        status, message = remote.failure or _classify(error, remote, payload.get("text", ""))
    sys.modules["__main__"] = _main
    return (
        {"status": status, "message": message[: wire.MAX_MESSAGE_CHARS], "values": values},
        again and remote.tidy and "pytest" not in sys.modules,
    )


class _Yes:
    """Object that equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


# Stand-ins for a program's results. Tests that pass with all of them are vacuous.
_STUBS = (None, wire.Opaque("object"), _Yes())
_discerning: set[int] = set()  # keys of tests known to distinguish the stand-ins


def _check_discernment(remote: ProgramProxy, tests: _Tests, in_child: bool = False) -> None:
    """Checks that passed tests do not pass for any result of a program.

    Args:
        in_child: whether to run them in another process, because of their side effects.

    Raises:
        BadTestError: if the tests pass for any result.
    """
    is_idle = asserts_nothing(tests.codes, tests.text)
    if not is_idle:
        passes = functools.partial(_passes_with_all, remote, tests.run_again)
        is_idle = _in_child(passes) if in_child else passes()
        remote.stand_in_ends()
    if is_idle:
        raise BadTestError(why_idle(tests.text, tests.entry_point))
    if len(_discerning) < MAX_DISCERNING:
        _discerning.add(tests.key)


def _in_child(check: Callable[[], bool]) -> bool:
    """Returns the result of ``check`` in a child process; False if the child dies."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.setitimer(signal.ITIMER_PROF, len(_STUBS) * STUB_S)
            status = 0 if check() else 1
        finally:
            _end_process(status)
    return os.waitpid(pid, 0)[1] == 0


def _passes_with_all(source: ProgramProxy | ReportedSites, run: Callable[[], None]) -> bool:
    """Returns True if tests pass with each stand-in for the program's results."""
    return all(_passes_with(source, run, stub) for stub in _STUBS)


def _passes_with(
    source: ProgramProxy | ReportedSites, run: Callable[[], None], stub: object
) -> bool:
    def ring(*_: object) -> None:
        raise ProxyCallFailed

    source.stand_in(stub)
    before = _signal.signal(_SIGALRM, ring)
    try:
        # A timeout while waiting for the program counts as a detected difference.
        _signal.setitimer(_signal.ITIMER_REAL, STUB_S)
        run()
        return True
    except BaseException:  # noqa: BLE001 - any exception shows a difference
        return False
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
        _signal.signal(_SIGALRM, before)


def _classify(error: BaseException, remote: ProgramProxy, test: str) -> tuple[str, str]:
    if isinstance(error, BadTestError):
        return "bad_test", str(error)
    if isinstance(error, MemoryError):
        return "memory", "MemoryError"
    if isinstance(error, ModuleNotFoundError) and error is not remote.raised:
        return "bad_test", (
            f"the tests import {error.name}, which the sandbox does not have. Pass it with "
            "--packages if it is installed; the program's names need no import"
        )
    text = "".join(traceback.format_exception_only(error)).strip()
    line = _test_line(error, test)
    message = f"{text} at {line}" if line else text
    if isinstance(error, AssertionError) and error is not remote.raised:
        return "wrong", message
    return "error", message


def _test_line(error: BaseException, test: str) -> str:
    """Returns the line of the test that raised the exception."""
    lines = test.splitlines()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == TEST_FILE and frame.lineno and frame.lineno <= len(lines):
            return f"line {frame.lineno}: {lines[frame.lineno - 1].strip()[:300]}"
    return ""


class _Tests:
    """The tests of one job, ready to be run."""

    def __init__(self, remote: ProgramProxy, payload: dict[str, Any]) -> None:
        self._remote = remote
        self._setup = _loaded(payload["setup"], "<setup>")
        self._test = _loaded(payload["test"], TEST_FILE)
        self.entry_point: str = payload["entry_point"]
        self.text: str = payload["text"]
        self.side_effect_free = self._setup.side_effect_free and self._test.side_effect_free
        self.key = hash((payload["setup"], payload["test"], self.entry_point))
        self._names: dict[str, str] = {}
        self._values: set[str] = set()
        self._namespace: dict[str, object] = {}
        self._bound: dict[str, object] = {}

    def set_up(self) -> None:
        """Executes the setup."""
        module = types.ModuleType("__main__")  # like a script
        sys.modules["__main__"] = module
        self._namespace = vars(module)
        try:
            random.seed(self.text)  # reproducible, but unknown to the program
            exec(self._setup.code, self._namespace)  # noqa: S102 - this file runs in the sandbox
        except BaseException as error:  # noqa: BLE001 - the dataset's code may raise anything
            raise BadTestError(f"{type(error).__name__}: {error}") from None

    def load(self) -> None:
        """Waits until the program has been executed."""
        self._names = self._remote.load()

    def run(self) -> None:
        """Runs the tests on the program."""
        if self.entry_point and self.entry_point not in self._names:
            raise NameError(f"name {self.entry_point!r} is not defined by the program")
        self._execute()

    def run_outside(self, names: dict[str, Any]) -> None:
        """Runs the outside part of blinded tests; its sites call the functions in ``names``."""
        self.set_up()
        self._namespace.update(names)
        suites.execute(self._test.code, self._namespace)
        entry = {self.entry_point: None} if self.entry_point else {}
        suites.run_collected(self._namespace, self._test.collected, entry, self.entry_point)

    def expect(self, names: dict[str, str]) -> None:
        """Sets the program's names for :meth:`run_again`; the stand-in replaces variables, too.

        Isolated tests only call functions, so a program cannot replace these with variables.
        """
        self._names, self._values = names, {n for n, kind in names.items() if kind == "value"}

    @property
    def codes(self) -> list[types.CodeType]:
        """The code of the setup and of the tests."""
        return [self._setup.code, self._test.code]

    def run_again(self) -> None:
        """Runs the tests once more, on the program or its stand-in."""
        self.set_up()
        self._execute()

    def _execute(self) -> None:
        read = self._test.names
        names = names_to_bind(self._names, read, self._namespace, self.entry_point)
        self._bound = {name: _bind(self._remote, name, self._names[name]) for name in names}
        self._bound |= dict.fromkeys(self._values.intersection(names), self._remote.stub)
        self._namespace.update(self._bound)
        suites.execute(self._test.code, self._namespace, lambda error: error is self._remote.raised)
        suites.run_collected(self._namespace, self._test.collected, self._bound, self.entry_point)


class _Code(NamedTuple):
    """Compiled code of setup or tests.

    Attributes:
        side_effect_free: see :mod:`.analysis`.
        names: the global names it may read.
        collected: the test names that it reads.
    """

    code: types.CodeType
    side_effect_free: bool
    names: frozenset[str]
    collected: frozenset[str]


@functools.lru_cache(maxsize=16)
def _loaded(given: str | GivenCode, file_name: str) -> _Code:
    """Loads code from the driver. Cached, since samples of one problem arrive consecutively.

    Raises:
        BadTestError: if it cannot be compiled.
    """
    if isinstance(given, tuple):
        data, is_free, names, collected = given
        code = marshal.loads(data)
        return _Code(code, is_free, frozenset(names), frozenset(collected))
    try:
        code = compile(given, file_name, "exec", dont_inherit=True)
    except Exception as error:  # noqa: BLE001 - SyntaxError, ValueError, RecursionError, MemoryError
        raise BadTestError(f"{type(error).__name__}: {error}") from None
    names = names_read(code)
    return _Code(
        code, side_effect_free(code), frozenset(names), frozenset(collected_names(code, names))
    )


def names_to_bind(
    names: Mapping[str, str],
    read: AbstractSet[str],
    defined: Mapping[str, object],
    entry_point: str,
) -> list[str]:
    """Returns the program's names that are visible to the test.

    These are the entry point, and names that the test reads but neither its setup nor builtins
    define. Modules are limited to pure ones of the standard library; the tests import their own
    copy of a module that the program names.

    A name of the program hides a builtin only if it must be the tested name: it is the entry point,
    or there is no entry point and the test reads only modules of the program otherwise (Mbpp/126
    defines ``sum``). Otherwise a program could pass by defining its own ``abs`` or ``set``, or by
    claiming that its function is a value.
    """
    wanted = [name for name in names if name in read and name not in defined]
    plain = [name for name in wanted if not hasattr(builtins, name)]
    shadows = [n for n in wanted if hasattr(builtins, n) and names[n] == "call"]
    modules = {name for name in plain if names[name].startswith(_MODULE)}
    bound = {name for name in plain if name not in modules or _is_importable(names[name])}
    if not entry_point and len(plain) == len(modules) and len(shadows) == 1:
        bound.update(shadows)
    if entry_point and entry_point in names:
        bound.add(entry_point)
    return sorted(bound)


def _is_importable(kind: str) -> bool:
    return kind.startswith(_MODULE) and kind.removeprefix(_MODULE) in PURE_MODULES


def _bind(remote: ProgramProxy, name: str, kind: str) -> object:
    if _is_importable(kind):
        # The tests' copy of a module that only the program imported.
        return importlib.import_module(kind.removeprefix(_MODULE))
    return remote.function(name)


def _calls(remote: ProgramProxy, payload: dict[str, Any], results: list[object]) -> None:
    """Evaluates the calls; adds ``[true, tree]`` or ``[false, error]`` to ``results`` for each."""
    remote.load()
    size, first_error = 0, None
    for call in payload["calls"]:
        try:
            value = _make_call(remote, call)
        except Exception as error:  # noqa: BLE001 - the program's error, rebuilt here
            first_error = first_error or error
            text = "".join(traceback.format_exception_only(error)).strip()
            results.append([False, text[: wire.MAX_MESSAGE_CHARS]])
        else:
            # Repacked, so that the driver unpacks only this process's data.
            results.append([True, wire.pack(value, _for_driver)])
        size += len(json.dumps(results[-1]))
        if size > payload["output_bytes"]:
            results.pop()
            remote.fail("output_limit", f"the values exceed {payload['output_bytes']} bytes")
    if first_error is not None:
        raise first_error


def _for_driver(value: object) -> object:
    """Returns the tree of a result's part that is not plain."""
    if isinstance(value, Iterator):
        return wire.drained(value, lambda item: wire.pack(item, _for_driver))
    return wire.opaque(value)


def _make_call(remote: ProgramProxy, call: list[Any]) -> Any:
    name, arguments, options = call
    if not isinstance(arguments, list):
        return remote.evaluate(name)
    named = {key: wire.unpack(tree) for key, tree in options.items()}
    return remote.call(name, tuple(wire.unpack(arguments)), named)


def _stdio(remote: ProgramProxy, payload: dict[str, Any], stdout: int) -> None:
    last = remote.finish()  # None if the program has run to its end
    if isinstance(last, list) and last:
        remote.fail(*failure_of(str(last[0]), last[1:]))
    if payload["expected_stdout"] is None:
        return
    written = os.pread(stdout, payload["most_output"], 0).decode("utf-8", "replace")
    if normalize(written) != normalize(payload["expected_stdout"]):
        raise AssertionError(first_difference(written, payload["expected_stdout"]))


def normalize(text: str) -> list[str]:
    """Returns an output's lines without trailing whitespace, and without blank lines at the end."""
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def first_difference(written: str, expected: str) -> str:
    """Describes the first difference between an output and the expected one."""
    ours, theirs = normalize(written), normalize(expected)
    for number, (got, want) in enumerate(zip(ours, theirs, strict=False), 1):
        if got != want:
            return f"output line {number} is {got[:200]!r}, expected {want[:200]!r}"
    return f"the output has {len(ours)} lines, expected {len(theirs)}"


def _blinded(
    remote: ProgramProxy, payload: dict[str, Any], tests: _Tests, values: list[Any]
) -> None:
    """Runs the outside part of tests on the reports from the program's process. Without closed
    sites, as in mode ``in_sandbox``, that part does nothing.
    """
    given = _Tests(remote, payload | payload["given"])
    reports = ReportedSites(remote.receive, remote.fail)
    with _told_if_unusable(remote, given):
        reports.own = names = remote.load()
        tests.run_outside(reports.names())
        kind, rest = reports.message()
        if (kind, rest) != ("done", [payload["token"]]):
            reports.end(kind, rest)
        values += reports.seen()
    if payload["foreign"] or given.key in _discerning:
        return
    if payload["closed"] == 0:
        given.expect(names)
        _check_discernment(remote, given, in_child=not given.side_effect_free)
    elif payload["open"] == 0 and _passes_with_all(
        reports, lambda: tests.run_outside(reports.names())
    ):
        raise BadTestError(why_idle(given.text, given.entry_point))
    _discerning.add(given.key)


_UNUSABLE = (BadTestError.__name__, ModuleNotFoundError.__name__)


@contextlib.contextmanager
def _told_if_unusable(remote: ProgramProxy, tests: _Tests) -> Iterator[None]:
    """Raises the BadTestError that the program's side reports, after reproducing it here."""
    try:
        yield
    except ProxyCallFailed:
        failure = remote.failure
        if failure is None or not any(name in failure[1] for name in _UNUSABLE):
            raise
        remote.failure = None
        remote.tidy = remote.tidy and tests.side_effect_free
        remote.stand_in(None)
        tests.expect({tests.entry_point: "call"})
        try:
            tests.run_again()
        except (BadTestError, ModuleNotFoundError):
            raise
        except BaseException:  # noqa: BLE001 - the tests are usable
            pass
        remote.failure = failure
        raise
