"""The job of the program under test: executes it, then answers the calls of the tests' job.

Everything this process says is the program's word: it can change any object here. So the other
side, not this one, decides; the messages below only matter when they are what an honest program
would send.

    program, once executed:  ["loaded", {name: kind}]
                             | ["syntax_error"|"error"|"wrong"|"memory"|"exited", type, message]
    tests:                   ["call", name, [args], {kwargs}] | ["get", name] | ["eval", expression]
                             | "m" and marshal's (name, args, kwargs)
    program, after a call:   ["value", tree]
                             | ["raised"|"memory"|"exited"|"too_large", type, message]

``kind`` is ``call``, ``value`` or ``module:NAME``.
"""

from __future__ import annotations

import _sitebuiltins
import _socket
import builtins
import contextlib
import gc
import io
import json
import marshal
import os
import sys
import types
from typing import Any

from . import linux, suites, wire

FILE_NAME = "<program>"
MAX_NAMES = 10_000
PRINTED_BYTES = 2000
# Where a job finds its channel, and the pipe for the beginning of what it prints.
CHANNEL_FD, PRINTED_FD = 3, 4


class _Printed(io.RawIOBase):
    """Where a program's standard output ends: ``PRINTED_BYTES`` go to a pipe, the rest is dropped.

    Descriptor 1 stays at /dev/null, so what the program writes there directly is not kept, and no
    flood needs a reader.
    """

    name = "<stdout>"
    mode = "wb"
    left = PRINTED_BYTES

    def write(self, data: Any) -> int:
        """Takes all of ``data``, whatever becomes of it, as /dev/null would."""
        with memoryview(data) as view:
            if self.left > 0:
                first = view[: self.left]
                self.left -= len(first)
                try:
                    os.write(PRINTED_FD, first)
                except OSError:  # full or closed by the program's doing
                    self.left = 0
            return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


_candidate = types.ModuleType("candidate")
_namespace = vars(_candidate)
_printed = _Printed()
_to_descriptor = sys.stdout
_stdout = io.TextIOWrapper(io.BufferedWriter(_printed), encoding="utf-8", errors="surrogateescape")
_channel = wire.Channel(CHANNEL_FD)


def main(payload: bytes, printed: bool) -> None:
    """Runs one program.

    Args:
        payload: the mode, a line break, and the program; with mode ``in_sandbox`` instead of the
            program JSON of program, setup, test, entry_point, token and ``collected``, the names of
            tests that the test runs itself.
        printed: whether the beginning of what it prints is to be kept; otherwise descriptor 1 is
            its standard output.
    """
    if not printed:
        sys.stdout = sys.__stdout__ = _to_descriptor  # type: ignore[misc]
    mode, _, text = payload.decode("utf-8", "surrogatepass").partition("\n")
    beside = json.loads(text) if mode == "in_sandbox" else {}
    program = beside["program"] if beside else text
    status = 0
    try:
        namespace = vars(_module("__main__")) if mode == "stdio" else _namespace
        report = execute(program, namespace)
        if report is None and beside:
            report = run_tests(beside, namespace)
        _flush_printed()  # the process may be ended as soon as the tests have their answer
        if report is None:
            _tell_names()
            if mode in ("isolated", "calls"):
                serve()
        else:
            _channel.send(report)
            status = 1
        if beside and report is None:
            _channel.send(["done", beside["token"]])
    except (OSError, EOFError, wire.WireError):
        status = 1  # the tests' job is gone: nobody listens
    finally:
        _flush()
    os._exit(status)


def prepare() -> None:
    """What every program needs, done once by the zygote."""
    # The interpreter runs without the site module, which adds these two.
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")  # type: ignore[assignment]
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")  # type: ignore[assignment]
    sys.stdout = sys.__stdout__ = _stdout  # type: ignore[misc]
    sys.modules["candidate"] = _candidate
    if linux.launcher is not None:
        linux.launcher.prepare_program(
            *(_namespace, compile, marshal.loads, io.TextIOWrapper.flush, _stdout, FILE_NAME),
            *(exec, main, _tell_failed, _tell_names, _answer_other, _tell_raised, _reply),
        )


def rehearse() -> None:
    """Runs a program of ours in this process, as the jobs of :mod:`.loop` run theirs.

    What runs often the interpreter rewrites for speed (PEP 659), and it fills caches on the way.
    Done here, once, no job does it again, in memory that it would have to copy first.
    """
    global _channel, _namespace
    requests = [["call", "f", [[3, 1, 2, 5], "some Words here"], {}]] * 10
    kept = _channel, _namespace
    for _ in range(20):
        ours, theirs = _socket.socketpair()
        for request in requests:
            wire.Channel(ours.fileno()).send(request)
        ours.shutdown(_socket.SHUT_WR)
        _namespace = vars(_module("rehearsal"))
        _channel = wire.Channel(theirs.fileno())
        execute(_REHEARSED, _namespace)
        _tell_names()
        serve()
        ours.close()
        theirs.close()
    _channel, _namespace = kept
    del sys.modules["rehearsal"]


_REHEARSED = '''
from typing import List

def f(numbers: List[int], text: str) -> list:
    """A function."""
    total, counts = 0, {}
    for i, number in enumerate(numbers):
        total += number * i
        counts[number] = counts.get(number, 0) + 1
    words = sorted(word.lower() for word in text.split(" "))
    return [total, len(counts), "".join(words)[::-1], max(numbers, default=0)]
'''


def execute(source: str, namespace: dict[str, Any]) -> list[Any] | None:
    """Compiles and executes a program; returns None or the message that says how it failed."""
    try:
        code = compile(source, FILE_NAME, "exec", dont_inherit=True)
    except BaseException as error:  # noqa: BLE001 - also ValueError (NUL), RecursionError, UnicodeError
        return _compile_failure(error)
    return attempt(lambda: exec(code, namespace))  # noqa: S102 - this file runs in the sandbox


def attempt(action: Any) -> list[Any] | None:
    """Runs ``action`` of the program; returns None or the message that says how it failed."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        return _failure(error)
    return None


def _compile_failure(error: BaseException) -> list[Any]:
    if isinstance(error, MemoryError):
        return ["memory", "MemoryError", "the compiler ran out of memory"]
    return ["syntax_error", *wire.describe_exception(error)]


def _failure(error: BaseException) -> list[Any]:
    if isinstance(error, SystemExit):
        return ["exited", "SystemExit", str(error.code)[:80]]
    if isinstance(error, MemoryError):
        return ["memory", *wire.describe_exception(error)]
    return ["error", *wire.describe_exception(error)]


def run_tests(payload: dict[str, Any], namespace: dict[str, Any]) -> list[Any] | None:
    """Mode ``in_sandbox``: the tests beside the program, in a namespace that sees the program's
    names.
    """
    entry_point = payload["entry_point"]
    beside = vars(_module("__main__"))

    def run() -> None:
        setup = compile(payload["setup"], "<setup>", "exec", dont_inherit=True)
        exec(setup, beside)  # noqa: S102
        own = {name: value for name, value in namespace.items() if not name.startswith("__")}
        beside.update(own)
        if entry_point and entry_point not in own:
            raise NameError(f"name {entry_point!r} is not defined by the program")
        test = compile(payload["test"], suites.TEST_FILE, "exec", dont_inherit=True)
        suites.execute(test, beside)
        suites.run_collected(beside, payload["collected"], own, entry_point)

    report = attempt(run)
    if report is not None and report[:2] == ["error", "AssertionError"]:
        report[0] = "wrong"
    return report


def serve() -> None:
    """Answers calls until the other side closes the channel."""
    while True:
        try:
            frame = _channel.receive_bytes()
        except EOFError:
            return
        _answer_other(frame)


def _answer_other(frame: bytes) -> None:
    request = wire.decode_request(frame)
    try:
        value = _value(request)
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        _tell_raised(error)
    else:
        _reply(value)


def _value(request: list[Any]) -> Any:
    def special(tag: str, content: Any) -> Any:
        if tag == "p":  # a function of the program, passed back to it
            return _namespace[content]
        raise wire.WireError(f"unknown tag {tag!r}")

    kind, name = request[:2]
    if kind == "eval":
        code = compile(name, "<call>", "eval", dont_inherit=True)
        return eval(code, _namespace)  # noqa: S307 - this file runs in the sandbox
    if name not in _namespace:
        raise NameError(f"name {name!r} is not defined")
    target = _namespace[name]
    if kind == "get":
        return target
    if kind == "plain":
        return target(*request[2], **request[3])
    arguments = wire.unpack(request[2], special)
    options = {name: wire.unpack(tree, special) for name, tree in request[3].items()}
    return target(*arguments, **options)


def _reply(value: Any) -> None:
    try:
        answer = ["value", wire.pack(value, _opaque)]
    except BaseException as error:  # noqa: BLE001 - an iterator's code is the program's
        _tell_raised(error)
        return
    _flush_printed()
    try:
        _channel.send(answer)
    except wire.FrameTooLargeError as error:
        _channel.send(["too_large", "", str(error)])
    except (MemoryError, ValueError) as error:
        _channel.send(["raised", type(error).__name__, "the result can't be sent"])


def _tell_raised(error: BaseException) -> None:
    if isinstance(error, SystemExit):
        answer = ["exited", "SystemExit", str(error.code)[:80]]
    elif isinstance(error, MemoryError):
        gc.collect()
        answer = ["memory", "MemoryError", ""]
    elif isinstance(error, wire.WireError):
        answer = ["too_large", "", str(error)]
    else:
        answer = ["raised", *wire.describe_exception(error)]
    _flush_printed()
    _channel.send(answer)


def _tell_failed(error: BaseException, compiling: bool) -> None:
    """Tells how the program failed, and ends."""
    _flush_printed()
    _channel.send(_compile_failure(error) if compiling else _failure(error))
    _flush()
    os._exit(1)


def _opaque(value: Any) -> Any:
    return {"o": type(value).__name__[:80]}


def _module(name: str) -> types.ModuleType:
    # A real module, since dataclasses, pickle and typing look their classes' module up by name.
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _tell_names() -> None:
    names = {}
    for name, value in list(_namespace.items())[:MAX_NAMES]:
        if type(name) is str and not name.startswith("__"):
            module = vars(value).get("__name__") if isinstance(value, types.ModuleType) else None
            if isinstance(module, str):
                names[name] = f"module:{module}"
            else:
                names[name] = "call" if callable(value) else "value"
    _channel.send(["loaded", names])


def _flush_printed() -> None:
    # Of the stream that it began with, by its type's method: no code of the program's own.
    with contextlib.suppress(BaseException):  # it may have closed or detached it
        io.TextIOWrapper.flush(_stdout)


def _flush() -> None:
    # A program may have replaced, removed or closed its streams; what it did not write is its loss.
    for name in ("stdout", "__stdout__"):
        with contextlib.suppress(BaseException):  # whatever the program made of it
            getattr(sys, name).flush()
