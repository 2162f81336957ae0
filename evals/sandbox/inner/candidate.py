"""The job of the program under test: executes it, then answers the calls of the tests' job.

Everything this process says is the program's word: it can change any object here. So the other
side, not this one, decides; the messages below only matter when they are what an honest program
would send.

    program, once executed:  ["loaded", {name: kind}]
                             | ["syntax_error"|"error"|"wrong"|"memory"|"exited", type, message]
    tests:                   ["call", name, [args], {kwargs}] | ["get", name] | ["eval", expression]
    program, after a call:   ["value", tree]
                             | ["raised"|"memory"|"exited"|"too_large", type, message]

``kind`` is ``call``, ``value`` or ``module:NAME``.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import contextlib
import gc
import io
import json
import os
import socket
import sys
import types
from typing import Any

from . import wire

FILE_NAME = "<program>"
MAX_NAMES = 10_000
PRINTED_BYTES = 2000


class _Printed(io.RawIOBase):
    """Where a program's standard output ends: its first bytes are kept, the rest is dropped."""

    name = "<stdout>"
    mode = "wb"

    def __init__(self) -> None:
        self.fd, self.left = -1, 0

    def write(self, data: Any) -> int:
        """Takes all of ``data``, whatever becomes of it, as /dev/null would."""
        with memoryview(data) as view:
            if self.left > 0:
                first = view[: self.left]
                self.left -= len(first)
                try:
                    os.write(self.fd, first)
                except OSError:  # full or closed by the program's doing
                    self.left = 0
            return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


_printed = _Printed()
_to_null = sys.stdout  # kept, since to free it would cost each job
_stdout = io.TextIOWrapper(io.BufferedWriter(_printed), encoding="utf-8", errors="surrogateescape")


def main(channel_fd: int, payload: bytes, fds: dict[str, int]) -> None:
    """Runs one program. ``payload``: the mode, a line break, and the program; with mode
    ``in_sandbox`` instead of the program JSON of program, setup, test, entry_point and token.
    """
    channel = wire.Channel(channel_fd)
    if "printed" in fds:
        print_to(fds["printed"])
    mode, _, text = payload.decode("utf-8", "surrogatepass").partition("\n")
    beside = json.loads(text) if mode == "in_sandbox" else {}
    program = beside["program"] if beside else text
    status = 0
    try:
        module = _module("__main__" if mode == "stdio" else "candidate")
        namespace = vars(module)
        report = execute(program, namespace)
        if report is None and beside:
            report = run_tests(beside, namespace)
        _flush_printed()  # the process may be ended as soon as the tests have their answer
        if report is None:
            channel.send(["loaded", _names(namespace)])
            if mode in ("isolated", "calls"):
                serve(channel, namespace)
        else:
            channel.send(report)
            status = 1
        if beside and report is None:
            channel.send(["done", beside["token"]])
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


def print_to(fd: int) -> None:
    """Keeps the beginning of what the program prints: ``PRINTED_BYTES`` go to ``fd``, a pipe.

    Descriptor 1 stays at /dev/null, so what the program writes there directly is not kept, and no
    flood needs a reader.
    """
    _printed.fd, _printed.left = fd, PRINTED_BYTES
    sys.stdout = sys.__stdout__ = _stdout  # type: ignore[misc]


def rehearse() -> None:
    """Runs a program of ours as a job would run its own, in this process.

    What runs often the interpreter rewrites for speed (PEP 659), and it fills caches on the way.
    Done here, once, no job does it again, in memory that it would have to copy first.
    """
    requests = [["call", "f", [[3, 1, 2, 5], "some Words here"], {}]] * 10
    for _ in range(20):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for request in requests:
                wire.Channel(ours.fileno()).send(request)
            ours.shutdown(socket.SHUT_WR)
            namespace = vars(_module("candidate"))
            execute(_REHEARSED, namespace)
            channel = wire.Channel(theirs.fileno())
            channel.send(["loaded", _names(namespace)])
            serve(channel, namespace)
    del sys.modules["candidate"]


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
    except MemoryError:
        return ["memory", "MemoryError", "the compiler ran out of memory"]
    except Exception as error:  # noqa: BLE001 - also ValueError (NUL), RecursionError, UnicodeError
        return ["syntax_error", *wire.describe_exception(error)]
    return attempt(lambda: exec(code, namespace))  # noqa: S102 - this file runs in the sandbox


def attempt(action: Any) -> list[Any] | None:
    """Runs ``action`` of the program; returns None or the message that says how it failed."""
    try:
        action()
    except SystemExit as error:
        return ["exited", "SystemExit", str(error.code)[:80]]
    except MemoryError as error:
        return ["memory", *wire.describe_exception(error)]
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        return ["error", *wire.describe_exception(error)]
    return None


def run_tests(payload: dict[str, Any], namespace: dict[str, Any]) -> list[Any] | None:
    """Mode ``in_sandbox``: the tests beside the program, in a namespace that sees the program's
    names.
    """
    entry_point = payload["entry_point"]
    beside = vars(_module("tests"))

    def run() -> None:
        setup = compile(payload["setup"], "<setup>", "exec", dont_inherit=True)
        exec(setup, beside)  # noqa: S102
        own = {name: value for name, value in namespace.items() if not name.startswith("__")}
        beside.update(own)
        if entry_point and entry_point not in own:
            raise NameError(f"name {entry_point!r} is not defined by the program")
        test = compile(payload["test"], "<test>", "exec", dont_inherit=True)
        exec(test, beside)  # noqa: S102
        if entry_point and callable(beside.get("check")):
            beside["check"](own[entry_point])

    report = attempt(run)
    if report is not None and report[:2] == ["error", "AssertionError"]:
        report[0] = "wrong"
    return report


def serve(channel: wire.Channel, namespace: dict[str, Any]) -> None:
    """Answers calls until the other side closes the channel."""
    while True:
        try:
            request = channel.receive()
        except EOFError:
            return
        answer = _answer(request, namespace)
        _flush_printed()
        try:
            channel.send(answer)
        except wire.FrameTooLargeError as error:
            channel.send(["too_large", "", str(error)])
        except (MemoryError, ValueError) as error:
            channel.send(["raised", type(error).__name__, "the result can't be sent"])


def _answer(request: list[Any], namespace: dict[str, Any]) -> list[Any]:
    def special(tag: str, content: Any) -> Any:
        if tag == "p":  # a function of the program, passed back to it
            return namespace[content]
        raise wire.WireError(f"unknown tag {tag!r}")

    try:
        if request[0] == "eval":
            code = compile(request[1], "<call>", "eval", dont_inherit=True)
            value = eval(code, namespace)  # noqa: S307 - this file runs in the sandbox
            return ["value", wire.pack(value, _opaque)]
        target = namespace[request[1]] if request[1] in namespace else _missing(request[1])
        if request[0] == "get":
            value = target
        else:
            arguments = wire.unpack(request[2], special)
            options = {name: wire.unpack(tree, special) for name, tree in request[3].items()}
            value = target(*arguments, **options)
        return ["value", wire.pack(value, _opaque)]
    except SystemExit as error:
        return ["exited", "SystemExit", str(error.code)[:80]]
    except MemoryError:
        gc.collect()
        return ["memory", "MemoryError", ""]
    except wire.WireError as error:
        return ["too_large", "", str(error)]
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        return ["raised", *wire.describe_exception(error)]


def _missing(name: str) -> Any:
    raise NameError(f"name {name!r} is not defined")


def _opaque(value: Any) -> Any:
    return {"o": type(value).__name__[:80]}


def _module(name: str) -> types.ModuleType:
    # A real module, since dataclasses, pickle and typing look their classes' module up by name.
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _names(namespace: dict[str, Any]) -> dict[str, str]:
    names = {}
    for name, value in list(namespace.items())[:MAX_NAMES]:
        if not name.startswith("__"):
            if isinstance(value, types.ModuleType):
                names[name] = f"module:{value.__name__}"
            else:
                names[name] = "call" if callable(value) else "value"
    return names


def _flush_printed() -> None:
    # Of the stream that it began with, by its type's method: no code of the program's own.
    with contextlib.suppress(BaseException):  # it may have closed or detached it
        io.TextIOWrapper.flush(_stdout)


def _flush() -> None:
    # A program may have replaced, removed or closed its streams; what it did not write is its loss.
    for name in ("stdout", "__stdout__"):
        with contextlib.suppress(BaseException):  # whatever the program made of it
            getattr(sys, name).flush()
