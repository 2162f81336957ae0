"""The process of the tests: executes them against a proxy of the program and tells the verdict.

It runs in a sandbox of its own, so the program can reach neither the tests nor the verdict: all it
can do is answer, over the channel, with data. The verdict is one JSON object for the driver:
``status``, ``message`` and, with mode ``calls``, ``values``. Besides the statuses of a
:class:`codegen.records.Verdict` there is ``gone``: the program's job closed the channel, and only
the way it ended, which the driver knows, can tell why; and ``bad_test``: the setup or the test
itself can't be used.

Where a program gets a process of its own, tests share one, one job after another, as long as each
was of a kind that leaves nothing behind (:mod:`.tame`) and ended in good order; a fork a job would
double the cost of a job. The driver speaks over a SOCK_SEQPACKET socket:

    driver: (names of descriptors, CPU seconds, payload), this and in it the payload as
            :mod:`marshal` writes it, with the descriptors ``channel`` and, with modes that have
            one, ``stdout``; a long payload is None, and in the file ``payload``
    tests:  {"again", "cpu_s", "verdict"}, or ``"verdict": null`` and a file that holds it

``again`` says whether the process takes another job.
"""

from __future__ import annotations

import builtins
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
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, NoReturn

from . import wire
from .candidate import CHANNEL_FD
from .tame import PURE_MODULES, TEST_FILE, names_read, tame

MAX_CALLS = 100_000
MAX_PACKET = 65536
# When a process of tests is given up for a fresh one, though all went well.
MAX_JOBS = 1000
MAX_CPU_S = 2.0
MAX_RSS_KIB = 256 << 10
# Of the standard library, what a program may have imported for its tests as well.
MODULES = PURE_MODULES | {
    *("array", "ast", "base64", "binascii", "calendar", "collections.abc", "contextlib", "csv"),
    *("dataclasses", "decimal", "inspect", "io", "json", "keyword", "os", "pathlib", "posixpath"),
    *("pprint", "struct", "sys", "time", "traceback", "types", "unicodedata", "uuid", "warnings"),
}
_MODULE = "module:"
_ANCILLARY_BYTES = socket.CMSG_SPACE(4 * 4)


class _Unanswered(BaseException):
    """A call got no usable answer. Not an Exception, so that tests do not take it for the
    program's.
    """


class _BadTestError(Exception):
    """The setup or the test can't be compiled or executed, whatever the program."""


class Proxy:
    """A function of the program, called over the channel."""

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; see :meth:`Remote.call`."""
        return self._remote.call(self.__name__, args, kwargs)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"


class Remote:
    """The program as the tests see it. The first failure is final: tests can't catch it away."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._calls = 0
        self.failure: tuple[str, str] | None = None
        self.tidy = True  # it has had the tests do nothing that stays
        self.raised: BaseException | None = None

    def load(self) -> dict[str, str]:
        """Waits until the program has been executed; returns its global names and their kinds."""
        kind, *rest = self.receive()
        if kind == "loaded" and len(rest) == 1 and isinstance(rest[0], dict):
            return {name: str(what) for name, what in rest[0].items()}
        return self.fail(*_failure(kind, rest))

    def finish(self) -> Any:
        """Reads to the end of the channel; returns the last message, or None if there was none."""
        last = None
        while True:
            try:
                last = self._channel.receive()
            except EOFError:
                return last
            except wire.WireError as error:
                self.fail("error", f"the program broke the protocol: {error}")

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the program. Raises what it raised, as a built-in exception."""
        frame = wire.encode_call(name, args, kwargs)
        if frame is not None:
            return self._ask(frame)
        packed = [wire.pack(value, self._argument) for value in args]
        options = {key: wire.pack(value, self._argument) for key, value in kwargs.items()}
        return self._ask(["call", name, packed, options])

    def get(self, name: str) -> Any:
        """The value of a global variable of the program."""
        return self._ask(["get", name])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the program's names."""
        return self._ask(["eval", expression])

    def _argument(self, value: Any) -> Any:
        if type(value) is Proxy:
            return {"p": value.__name__}
        raise TypeError(
            f"an argument of type {type(value).__name__} can't be sent to an isolated program; "
            "use mode 'in_sandbox'"
        )

    def _ask(self, request: list[Any] | bytes) -> Any:
        if self.failure is not None:
            raise _Unanswered
        self._calls += 1
        if self._calls > MAX_CALLS:
            self.fail("error", f"the tests make more than {MAX_CALLS} calls")
        try:
            if isinstance(request, bytes):
                self._channel.send_bytes(request)
            else:
                self._channel.send(request)
        except OSError:
            self.fail("gone", "")
        kind, *rest = self.receive()
        if kind == "value" and len(rest) == 1:
            try:
                return wire.unpack(rest[0], self.special)
            except (wire.WireError, MemoryError) as error:
                self.fail("output_limit", f"unusable result: {error}")
        if kind == "raised" and len(rest) == 2:
            try:
                raised = wire.exception_from(*rest)
            except wire.WireError:
                self.fail("error", "the program sent a malformed exception")
            self.raised = raised
            raised.__traceback__ = None
            raise raised
        return self.fail(*_failure(kind, rest))

    def special(self, tag: str, content: Any) -> Any:
        """The opaque token that stands for a result that is not plain."""
        if tag == "o" and isinstance(content, str):
            return wire.Opaque(content[:80])
        raise wire.WireError(f"unknown tag {str(tag)[:20]!r}")

    def receive(self) -> list[Any]:
        """The program's next message: a list whose first item is its kind."""
        if self.failure is not None:
            raise _Unanswered
        message: Any = None
        try:
            message = self._channel.receive()
        except EOFError:
            self.fail("gone", "")
        except wire.FrameTooLargeError as error:
            self.fail("output_limit", str(error))
        except (wire.WireError, MemoryError) as error:
            self.fail("error", f"the program broke the protocol: {error}")
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            self.fail("error", "the program broke the protocol: not a message")
        return message

    def fail(self, status: str, message: str) -> NoReturn:
        """Records the failure of the job, for good, and ends the tests."""
        self.failure = (status, message)
        raise _Unanswered


_STATUS_OF = {
    "syntax_error": "syntax_error",
    "error": "error",
    "wrong": "wrong",
    "memory": "memory",
    "exited": "exited",
    "too_large": "output_limit",
}


def _failure(kind: str, rest: list[Any]) -> tuple[str, str]:
    if kind not in _STATUS_OF or len(rest) != 2 or not all(isinstance(part, str) for part in rest):
        return "error", "the program broke the protocol: an unexpected message"
    name, message = rest[0][:80], rest[1][: wire.MAX_MESSAGE_CHARS]
    return _STATUS_OF[kind], ": ".join(part for part in (name, message) if part)


def main(_: bytes, __: bool) -> None:
    """Runs the tests of one job after another, as the driver's socket brings them."""
    driver = socket.socket(fileno=CHANNEL_FD)
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
        # The kernel ends this process at the limit; what a test computes in C can't delay it.
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


def _receive(driver: socket.socket) -> tuple[bytes, tuple[int, ...]]:
    packet, ancillary, _, _ = driver.recvmsg(MAX_PACKET, _ANCILLARY_BYTES)
    fds = ancillary[0][2] if ancillary else b""
    return packet, struct.unpack(f"{len(fds) // 4}i", fds)


def _tell(driver: socket.socket, verdict: dict[str, Any], again: bool, cpu_s: float) -> None:
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


def judge(payload: dict[str, Any], fds: dict[str, int]) -> tuple[dict[str, Any], bool]:
    """Runs the tests of one job; returns its verdict and whether they left nothing behind."""
    remote = Remote(wire.Channel(fds["channel"]))
    sys.setrecursionlimit(5000)
    values: list[Any] = []
    again = True
    try:
        mode = payload["mode"]
        if mode == "isolated":
            run, again = _isolated(remote, payload)
            run()
        elif mode == "stdio":
            _stdio(remote, payload, fds["stdout"])
        elif mode == "in_sandbox":
            _in_sandbox(remote, payload)
        else:
            _calls(remote, payload, values)
        status, message = remote.failure or ("passed", "")
    except BaseException as error:  # noqa: BLE001 - the test's code may raise anything
        tidy = isinstance(error, Exception) and not isinstance(error, (MemoryError, _BadTestError))
        again = again and (tidy or isinstance(error, _Unanswered))
        status, message = remote.failure or _classify(error, remote, payload.get("text", ""))
    sys.modules.pop("tests", None)
    return (
        {"status": status, "message": message[: wire.MAX_MESSAGE_CHARS], "values": values},
        again and remote.tidy,
    )


def _classify(error: BaseException, remote: Remote, test: str) -> tuple[str, str]:
    if isinstance(error, _BadTestError):
        return "bad_test", str(error)
    if isinstance(error, MemoryError):
        return "memory", "MemoryError"
    text = "".join(traceback.format_exception_only(error)).strip()
    line = _test_line(error, test)
    message = f"{text} at {line}" if line else text
    if isinstance(error, AssertionError) and error is not remote.raised:
        return "wrong", message
    return "error", message


def _test_line(error: BaseException, test: str) -> str:
    """The line of the test where the exception passed."""
    lines = test.splitlines()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == TEST_FILE and frame.lineno and frame.lineno <= len(lines):
            return f"line {frame.lineno}: {lines[frame.lineno - 1].strip()[:300]}"
    return ""


def _isolated(remote: Remote, payload: dict[str, Any]) -> tuple[Callable[[], None], bool]:
    """What runs the tests, and whether they leave nothing behind."""
    entry_point = payload["entry_point"]
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    namespace = vars(module)
    try:
        setup = _loaded(payload["setup"], "<setup>")
        code = _loaded(payload["test"], TEST_FILE)
        _start_random()
        _may_use_random(setup.names | code.names)
        exec(setup.code, namespace)  # noqa: S102 - this file runs in the sandbox
    except BaseException as error:  # noqa: BLE001 - the data set's code may raise anything
        raise _BadTestError(f"{type(error).__name__}: {error}") from None

    def run() -> None:
        _run_tests(remote, code, namespace, entry_point)

    return run, setup.tame and code.tame


_random_state = random.getstate()
_random_used = False


def _start_random() -> None:
    """Puts ``random`` into the state every test starts with, if one may have used it since."""
    global _random_used
    if _random_used:
        random.setstate(_random_state)
    _random_used = False


def _may_use_random(names: AbstractSet[str]) -> None:
    global _random_used
    _random_used = _random_used or not names.isdisjoint(("random", "statistics"))


class _Code(NamedTuple):
    """The code of a text, whether it is tame, and the global names it may read."""

    code: types.CodeType
    tame: bool
    names: frozenset[str]


@functools.lru_cache(maxsize=16)
def _loaded(given: str | tuple[bytes, bool, tuple[str, ...]], file_name: str) -> _Code:
    """The code of a text as the driver gives it. Samples of one problem come one after another."""
    if isinstance(given, tuple):
        data, is_tame, names = given
        return _Code(marshal.loads(data), is_tame, frozenset(names))
    code = compile(given, file_name, "exec", dont_inherit=True)
    return _Code(code, tame(code), frozenset(names_read(code)))


def _run_tests(remote: Remote, test: _Code, namespace: dict[str, Any], entry_point: str) -> None:
    names = remote.load()
    if entry_point and entry_point not in names:
        raise NameError(f"name {entry_point!r} is not defined by the program")
    for name in names_to_bind(names, test.names, namespace, entry_point):
        namespace[name] = _bind(remote, name, names[name])
    exec(test.code, namespace)  # noqa: S102
    check = namespace.get("check")
    if entry_point and callable(check) and type(check) is not Proxy:  # a program may define one
        check(_bind(remote, entry_point, names[entry_point]))


def names_to_bind(
    names: Mapping[str, str], read: AbstractSet[str], defined: Mapping[str, Any], entry_point: str
) -> list[str]:
    """Which of the program's names the test sees.

    The entry point, and each name the test reads that neither setup nor the test's builtins define;
    of modules those of the standard library whose import does no more than define something
    (``MODULES``), since the tests get their own, and which one is the program's word.

    A name of the program hides a builtin only when it must be what is tested: it is the entry
    point, or there is no entry point and the test reads nothing of the program but modules
    (Mbpp/126 defines ``sum``). Otherwise a program could pass by defining its own ``abs`` or
    ``set``, or by claiming that its function is a value.
    """
    wanted = [name for name in names if name in read and name not in defined]
    plain = [name for name in wanted if not hasattr(builtins, name)]
    shadows = [name for name in wanted if hasattr(builtins, name) and names[name] == "call"]
    modules = {name for name in plain if names[name].startswith(_MODULE)}
    bound = {
        name for name in plain if name not in modules or names[name][len(_MODULE) :] in MODULES
    }
    if not entry_point and len(plain) == len(modules) and len(shadows) == 1:
        bound.update(shadows)
    if entry_point and entry_point in names:
        bound.add(entry_point)
    return sorted(bound)


def _bind(remote: Remote, name: str, kind: str) -> Any:
    module = kind.removeprefix(_MODULE)
    if module in MODULES and module != kind:
        # The tests' own copy of a module that only the program imported.
        _may_use_random({module})
        remote.tidy = remote.tidy and module in PURE_MODULES
        return importlib.import_module(module)
    return remote.get(name) if kind == "value" else Proxy(remote, name)


def _calls(remote: Remote, payload: dict[str, Any], results: list[Any]) -> None:
    """Makes the calls; adds ``[true, tree]`` or ``[false, error]`` to ``results`` for each."""
    remote.load()
    size, first_error = 0, None
    for call in payload["calls"]:
        try:
            value = _make_call(remote, call)
        except Exception as error:  # noqa: BLE001 - the program's, rebuilt here
            first_error = first_error or error
            text = "".join(traceback.format_exception_only(error)).strip()
            results.append([False, text[: wire.MAX_MESSAGE_CHARS]])
        else:
            # Packed anew, so that the driver unpacks only what this process wrote.
            tree = wire.pack(value, lambda part: {"o": getattr(part, "type_name", "object")})
            results.append([True, tree])
        size += len(json.dumps(results[-1]))
        if size > payload["output_bytes"]:
            results.pop()
            remote.fail("output_limit", f"the values exceed {payload['output_bytes']} bytes")
    if first_error is not None:
        raise first_error


def _make_call(remote: Remote, call: list[Any]) -> Any:
    name, arguments, options = call
    if arguments is False:
        return remote.evaluate(name)
    if arguments is None:
        return remote.get(name)
    values = wire.unpack(arguments, remote.special)
    named = {key: wire.unpack(tree, remote.special) for key, tree in options.items()}
    return remote.call(name, tuple(values), named)


def _stdio(remote: Remote, payload: dict[str, Any], stdout: int) -> None:
    last = remote.finish()  # nothing, if it has run to its end
    if isinstance(last, list) and last:
        remote.fail(*_failure(str(last[0]), last[1:]))
    written = os.pread(stdout, payload["most_output"], 0).decode("utf-8", "replace")
    if normalise(written) != normalise(payload["expected_stdout"]):
        raise AssertionError(first_difference(written, payload["expected_stdout"]))


def normalise(text: str) -> list[str]:
    """The lines of an output without white space at their ends and blank lines at its end."""
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def first_difference(written: str, expected: str) -> str:
    """Says where an output first differs from the expected one."""
    ours, theirs = normalise(written), normalise(expected)
    for number, (got, want) in enumerate(zip(ours, theirs, strict=False), 1):
        if got != want:
            return f"output line {number} is {got[:200]!r}, expected {want[:200]!r}"
    return f"the output has {len(ours)} lines, expected {len(theirs)}"


def _in_sandbox(remote: Remote, payload: dict[str, Any]) -> None:
    remote.load()
    message = remote.receive()
    if message != ["done", payload["token"]]:
        remote.fail("exited", "the program ended before its tests did")
