"""The job of the program under test: executes it, then answers the calls of the tests' job.

The program can change any object here, so no message from this process is trusted: the other side
determines the verdict. An honest program sends these messages:

    program, once executed:  ["loaded", {name: kind}], but nothing in mode stdio
                             | ["syntax_error"|"error"|"wrong"|"memory"|"exited", type, message]
    tests:                   "m" and marshal's (name, args, kwargs) | ["eval", expression]
                             | requests in :mod:`..tests_side.program_proxy`
    program, after a call:   ["memory"|"exited"|"too_large", type, message] | its answers

``kind`` is ``call``, ``value`` or ``module:NAME``; the C version also sends ``class``.
"""

from __future__ import annotations

import _sitebuiltins
import _thread
import atexit
import builtins
import contextlib
import gc
import io
import json
import marshal
import os
import sys
import types
from collections.abc import Iterator
from typing import Any, NoReturn

from ..isolation import linux
from ..isolation.namespaces import WORK
from ..protocol import suites, wire
from ..protocol.orders import CHANNEL_FD, FOREIGN, PRINTED_BYTES, PRINTED_FD
from . import command_job, reporting

FILE_NAME = "<program>"
# The file of a program in mode stdio, in its working directory, if its source suggests that it
# reads the file.
SCRIPT = "main.py"
_READS_ITSELF = ("__file__", "inspect", "multiprocessing", "concurrent", "runpy", "sys.argv")
# A thread's stack is address space, which is limited: a hundred of 8 MiB would not fit.
THREAD_STACK_BYTES = 2 << 20
MAX_NAMES = 10_000


class _Printed(io.RawIOBase):
    """A program's standard output: ``PRINTED_BYTES`` go to a pipe, the rest is dropped.

    Descriptor 1 is /dev/null, so direct writes are not kept, and a flood needs no reader.
    """

    name = "<stdout>"
    mode = "wb"
    left = PRINTED_BYTES

    def write(self, data: Any) -> int:
        """Accepts all of ``data``, as /dev/null would."""
        with memoryview(data) as view:
            if self.left > 0:
                first = view[: self.left]
                self.left -= len(first)
                try:
                    os.write(PRINTED_FD, first)
                except OSError:  # filled or closed by the program
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
        payload: the mode, a newline, and the program. With ``in_sandbox`` and ``blinded``, instead
            of the program, JSON with program, setup, test, entry_point, token and ``collected``,
            the names of tests that the test runs itself; with mode ``run`` the order of
            :func:`run_and_return`. For a program in another language ``FOREIGN`` and the order of
            :mod:`.command_job`.
        printed: whether to keep the beginning of its output; otherwise descriptor 1 is its standard
            output.
    """
    if not printed:
        sys.stdout = sys.__stdout__ = _to_descriptor  # type: ignore[misc]
    if payload.startswith(FOREIGN):
        command_job.main(marshal.loads(payload[len(FOREIGN) :]), _channel)
    mode, _, text = payload.decode("utf-8", "surrogatepass").partition("\n")
    if mode == "stdio":
        run_script(text)
    if mode == "run":
        run_and_return(json.loads(text))
    if mode in ("in_sandbox", "blinded"):
        run_tests(json.loads(text), mode == "blinded")
    status = 0
    try:
        report = execute(text, _namespace)
        _flush_printed()
        if report is None:
            _tell_names()
            serve()
        else:
            _channel.send(report)
            status = 1
    except (OSError, EOFError, wire.WireError):
        status = 1  # the tests' job has exited
    finally:
        _flush()
    os._exit(status)


def prepare() -> None:
    """Prepares the zygote for all programs."""
    # The interpreter runs without the site module, which adds these two.
    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")
    sys.stdout = sys.__stdout__ = _stdout
    sys.modules["candidate"] = _candidate
    _namespace["__file__"] = os.path.join(WORK, SCRIPT)
    _thread.stack_size(THREAD_STACK_BYTES)
    if linux.launcher is not None:
        linux.launcher.prepare_program(
            *(_namespace, compile, marshal.loads, io.TextIOWrapper.flush, _stdout, FILE_NAME),
            *(exec, main, _tell_failed, _tell_names, _answer_other, _tell_raised, _reply),
        )


def run_and_return(order: dict[str, Any]) -> NoReturn:
    """Runs a script with other files (mode ``run``); its standard error is kept and files may be
    returned, see :mod:`.command_job`. In that case it runs in a child, so it may exit in any way.

    Args:
        order: ``program``; ``files``, name -> bytes as Latin-1; ``fetch``, names; and
            ``fetch_bytes``, maximum bytes of all returned files.
    """
    fds = command_job.take_descriptors(CHANNEL_FD)
    files = order["files"]
    command_job.put_files({name: content.encode("latin-1") for name, content in files.items()})
    sys.path.insert(0, os.getcwd())
    if not fds:
        run_script(order["program"], looked_at=True)
    child = os.fork()
    if child == 0:
        os.close(fds[0])
        run_script(order["program"], looked_at=True)
    status = os.waitpid(child, 0)[1]
    command_job.send_results(fds[0], status, order["fetch"], order["fetch_bytes"])
    os._exit(0)


def run_script(source: str, looked_at: bool = False) -> NoReturn:
    """Runs a program, and exits, like the interpreter with a script (mode ``stdio``).

    The tests' side compares its output, and the kernel reports its exit status, so a program that
    ran to its end sends nothing over the channel.

    Args:
        source: the program.
        looked_at: True in mode ``run``: an exception is printed to standard error, and the
            channel is unused.
    """
    path = os.path.join(os.getcwd(), SCRIPT)
    if looked_at and os.path.lexists(path):
        path = os.path.join(os.getcwd(), f"_{SCRIPT}")
    if any(word in source for word in _READS_ITSELF):
        with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(source)
    sys.argv[:] = [path]
    namespace = vars(_module("__main__"))
    namespace |= {"__file__": path, "__builtins__": builtins}
    own, status = os.getpid(), 0
    try:
        exec(compile(source, path, "exec", dont_inherit=True), namespace)  # noqa: S102
    except SystemExit as error:
        status = _exit_status(error.code)
        report = _failure(error)
        if looked_at and error.code is not None and not isinstance(error.code, int):
            with contextlib.suppress(BaseException):
                print(error.code, file=sys.stderr)  # noqa: T201
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        status = 1
        raised = error.__traceback__
        report = _failure(error) if raised and raised.tb_next else _compile_failure(error)
        if looked_at:
            _show(error, source, path)
    else:
        report = []
    _end_of_interpreter("__del__" in source)
    if status and not looked_at and os.getpid() == own:  # not a forked child
        with contextlib.suppress(OSError):
            _channel.send(report)
    os._exit(status)


def _show(error: BaseException, source: str, path: str) -> None:
    """Writes an exception to standard error, like the interpreter."""
    linecache = sys.modules.get("linecache")
    with contextlib.suppress(BaseException):  # the program may have changed any of these objects
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, error.__traceback__)
            return
        if linecache is not None:  # the script may be missing on disk
            linecache.cache[path] = len(source), None, source.splitlines(keepends=True), path
        import traceback

        traceback.print_exception(error)


def _exit_status(code: object) -> int:
    return (code or 0) & 0xFF if code is None or isinstance(code, int) else 1


def _end_of_interpreter(has_finalizers: bool) -> None:
    """Exits like the interpreter: waits for threads, runs exit handlers, clears the script's names,
    flushes buffers.
    """
    threads = sys.modules.get("threading")
    forget = vars(sys.modules["__main__"]).clear if has_finalizers else None
    for step in (getattr(threads, "_shutdown", None), atexit._run_exitfuncs, forget):
        with contextlib.suppress(BaseException):  # the interpreter continues, too
            if step is not None:
                step()
    _flush()


def execute(source: str, namespace: dict[str, object]) -> list[object] | None:
    """Compiles and executes a program; returns None or the message that reports the failure."""
    try:
        code = compile(source, FILE_NAME, "exec", dont_inherit=True)
    except BaseException as error:  # noqa: BLE001 - also ValueError (NUL), RecursionError, UnicodeError
        return _compile_failure(error)
    return attempt(lambda: exec(code, namespace))  # noqa: S102 - this file runs in the sandbox


def attempt(action: Any) -> list[object] | None:
    """Runs ``action`` of the program; returns None or the message that reports the failure."""
    try:
        action()
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        return _failure(error)
    return None


def _compile_failure(error: BaseException) -> list[object]:
    if isinstance(error, MemoryError):
        return ["memory", "MemoryError", "the compiler ran out of memory"]
    return ["syntax_error", *wire.describe_exception(error)]


def _failure(error: BaseException) -> list[object]:
    if isinstance(error, SystemExit):
        return ["exited", "SystemExit", str(error.code)[:80]]
    if isinstance(error, MemoryError):
        return ["memory", *wire.describe_exception(error)]
    return ["error", *wire.describe_exception(error)]


def _is_from_program(error: BaseException) -> bool:
    """Returns True if an exception has passed through code of the program."""
    traceback = error.__traceback__
    while traceback and traceback.tb_frame.f_code.co_filename != FILE_NAME:
        traceback = traceback.tb_next
    return traceback is not None


def run_tests(payload: dict[str, Any], is_blinded: bool) -> NoReturn:
    """Runs the program, then its tests in its process (modes ``in_sandbox`` and ``blinded``).

    Blinded tests run in the program's module, as in a single-process harness, and their setup runs
    before the program; the channel's functions are made first.
    """
    sites = reporting.reporting(_channel.send)
    namespace, entry_point = _namespace, payload["entry_point"]
    report = None

    def set_up(names: dict[str, Any]) -> None:
        exec(compile(payload["setup"], "<setup>", "exec", dont_inherit=True), names)  # noqa: S102

    if is_blinded:
        sys.modules["__main__"], name = _candidate, namespace["__name__"]
        namespace["__name__"] = "__main__"
        report = attempt(lambda: set_up(namespace))
        namespace["__name__"] = name
    before = dict(namespace)
    report = report or execute(payload["program"], namespace)

    def run() -> None:
        own = {n: v for n, v in namespace.items() if _is_told(n) and before.get(n, before) is not v}
        if is_blinded:
            for name in [name for name in namespace if type(name) is not str]:
                del namespace[name]
            beside = namespace
            beside.update(sites, __name__="__main__")
        else:
            beside = vars(_module("__main__"))
            set_up(beside)
            beside.update(own)
        if entry_point and entry_point not in own:
            raise NameError(f"name {entry_point!r} is not defined by the program")
        test = compile(payload["test"], suites.TEST_FILE, "exec", dont_inherit=True)
        suites.execute(test, beside, _is_from_program)
        suites.run_collected(beside, payload["collected"], own, entry_point)

    try:
        if report is None:
            _tell_names()
            report = attempt(run)
            if report is not None and report[:2] == ["error", "AssertionError"]:
                report[0] = "wrong"
        _flush_printed()  # the process may be killed after the tests receive the answer
        _channel.send(["done", payload["token"]] if report is None else report)
    except (OSError, wire.WireError):
        pass  # the tests' job has exited
    finally:
        _flush()
    os._exit(0)


def serve() -> None:
    """Processes calls until the other side closes the channel."""
    while True:
        try:
            frame = _channel.receive_bytes()
        except EOFError:
            return
        _answer_other(frame)


def _answer_other(frame: bytes) -> None:
    """Processes a request; the C version handles :func:`wire.encode_call` requests itself."""
    try:
        value = _value(wire.decode_request(frame))
    except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
        _tell_raised(error)
    else:
        _reply(value)


def _named(name: str) -> Any:
    if name not in _namespace:
        raise NameError(f"name {name!r} is not defined")
    return _namespace[name]


def _value(request: list[Any]) -> Any:
    kind, name = request[:2]
    if kind == "eval":
        code = compile(name, "<call>", "eval", dont_inherit=True)
        return eval(code, _namespace)  # noqa: S307 - this file runs in the sandbox
    if kind == "plain":
        return _named(name)(*request[2], **request[3])
    options = {key: wire.unpack(tree) for key, tree in request[3].items()}
    return _named(name)(*map(wire.unpack, request[2]), **options)


def _not_plain(value: Any) -> Any:
    """Returns the tree of a value that is not plain."""
    if isinstance(value, Iterator) and type(value).__module__ in ("builtins", "itertools"):
        return wire.drained(value, _pack)
    return reporting.not_plain(value)


def _pack(value: Any) -> Any:
    return wire.pack(value, _not_plain)


def _reply(value: object) -> None:
    try:
        answer = ["value", _pack(value)]
    except BaseException as error:  # noqa: BLE001 - it consists of the program's objects
        _tell_raised(error)
        return
    _flush_printed()
    try:
        _channel.send(answer)
    except wire.FrameTooLargeError as error:
        _channel.send(["too_large", "", str(error)])
    except (MemoryError, ValueError) as error:
        _channel.send(["raised", type(error).__name__, "the result cannot be sent"])


def _tell_raised(error: BaseException) -> None:
    if isinstance(error, SystemExit):
        answer = ["exited", "SystemExit", str(error.code)[:80]]
    elif type(error) is MemoryError:
        gc.collect()
        answer = ["memory", "MemoryError", ""]
    elif isinstance(error, wire.WireError):
        answer = ["too_large", "", str(error)]
    else:
        answer = ["raised", *wire.describe_exception(error)]
    _flush_printed()
    _channel.send(answer)


def _tell_failed(error: BaseException, compiling: bool) -> None:
    """Reports the program's failure, and exits."""
    _flush_printed()
    _channel.send(_compile_failure(error) if compiling else _failure(error))
    _flush()
    os._exit(1)


def _module(name: str) -> types.ModuleType:
    # A real module, since dataclasses, pickle and typing look their classes' module up by name.
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def _is_told(name: object) -> bool:
    return type(name) is str and (not name.startswith("__") or name in _TOLD)


_TOLD = frozenset({"__version__", "__author__", "__license__", "__all__"})


def _tell_names() -> None:
    names = {}
    for name, value in list(_namespace.items())[:MAX_NAMES]:
        if _is_told(name):
            module = vars(value).get("__name__") if isinstance(value, types.ModuleType) else None
            kind = "call" if callable(value) else "value"
            names[name] = f"module:{module}" if isinstance(module, str) else kind
    _channel.send(["loaded", names])


def _flush_printed() -> None:
    # Uses the initial stream and its type's method, so that the program's code does not run.
    with contextlib.suppress(BaseException):  # the program may have closed or detached it
        io.TextIOWrapper.flush(_stdout)


def _flush() -> None:
    # A program may have replaced, removed or closed its streams; unwritten output is then lost.
    for name in ("stdout", "__stdout__", "stderr"):
        with contextlib.suppress(BaseException):  # streams may be any object
            getattr(sys, name).flush()
