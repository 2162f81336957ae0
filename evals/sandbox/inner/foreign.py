"""The job of a program in another language: writes its files, runs the commands of its language one
after another, and tells how they ended.

This process is the first of the job's PID namespace, under the job's limits, and does with its
program what a shell would do. Like all of a job it is untrusted: what it says is the program's
word. What decides is what the other side compares: the standard output, the file of answers, the
token.

The order, which the driver writes with :mod:`marshal`, has

- ``files``: name -> bytes, written to the working directory, executable;
- ``commands``: lists of arguments; the last one runs the program, those before prepare it;
- ``environment``: of all of them;
- ``keep``: patterns of the files that a build leaves for later jobs; empty if it is no build;
- ``mode``: as that of a :class:`..jobs.Job`;
- ``token``: in mode ``in_sandbox``, what the last statement of the tests has to give back.

Modes: ``stdio`` gives the program its standard input and output. ``run``, that of a
:class:`..jobs.Script`, gives it its standard error too; the order then has ``fetch`` and
``fetch_bytes``. In the others what it prints is dropped, and it is the file :data:`ANSWERS` that
counts: with ``isolated`` it is sent as the standard output, with ``in_sandbox`` it must hold the
token.
"""

from __future__ import annotations

import _socket
import base64
import contextlib
import fnmatch
import json
import os
import signal
import stat
from typing import Any, NoReturn

from . import wire
from .orders import CHANNEL_FD

ANSWERS = ".answers"
TOKEN = "CODEGEN_TOKEN"
_ERRORS = ".stderr"
_MOST_ERRORS = 4000  # characters of a compiler's or a program's complaints
_RESET = (signal.SIGPIPE, signal.SIGXFSZ)  # which Python ignores


class _FailedError(Exception):
    """A command failed: its status and a message."""


def main(order: dict[str, Any], channel: wire.Channel) -> NoReturn:
    """Runs the commands; ends the process."""
    status = 1
    try:
        _run(order, channel)
        status = 0
    except _FailedError as error:
        _tell(channel, [*error.args[:1], "", error.args[1]])
    except OSError as error:
        _tell(channel, ["error", "", f"it can't be run: {error}"])
    os._exit(status)


def _tell(channel: wire.Channel, message: list[str]) -> None:
    with contextlib.suppress(OSError, wire.WireError):  # the tests' job is gone: nobody listens
        channel.send(message)


def _run(order: dict[str, Any], channel: wire.Channel) -> None:
    mode, token = order["mode"], order["token"]
    fds = receive_streams(CHANNEL_FD) if mode == "run" else []
    for name, content in order["files"].items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o700), "wb") as file:
            file.write(content)
    environment = dict(order["environment"])
    if mode == "in_sandbox":
        environment[TOKEN] = token
    *before, last = order["commands"]
    for command in before:
        _fine(_command(command, environment, None, None), "compile_error")
    if order["keep"]:
        _fine(_command(last, environment, None, None), "compile_error")
        _write(1, json.dumps(_kept(order["keep"])).encode("ascii"))
    elif mode == "run":
        status = _command(last, environment, 0, 1, 2)
        write_results(fds[1], status, order["fetch"], order["fetch_bytes"])
    elif mode == "stdio":
        _fine(_command(last, environment, 0, 1), "error")
    else:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        _fine(_command(last, environment, null, null), "error")
        answers = _read(ANSWERS)
        if mode == "isolated":
            _write(1, answers)
        elif answers.strip() == token.encode("ascii"):
            channel.send(["loaded", {}])
            channel.send(["done", token])
        else:
            raise _FailedError("exited", "the program ended before its tests did")


def _command(
    command: list[str],
    environment: dict[str, str],
    stdin: int | None,
    stdout: int | None,
    stderr: int | None = None,
) -> int:
    """Runs one to its end; its wait status. Where no stream is given, it reads nothing, and what it
    writes is kept in a file.
    """
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    kept = os.open(_ERRORS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    streams = [null, kept, kept]
    for target, given in enumerate((stdin, stdout, stderr)):
        streams[target] = streams[target] if given is None else given
    actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(streams)]
    child = os.posix_spawn(command[0], command, environment, file_actions=actions, setsigdef=_RESET)
    os.close(null)
    os.close(kept)
    while True:  # also what it has left behind, which would count as its processes
        pid, status = os.wait()
        if pid == child:
            return status


def _fine(status: int, otherwise: str) -> None:
    """Raises ``_FailedError`` if a command has failed: a compiler, or a program with a fault."""
    if status == 0:
        return
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {int(each): each.name for each in signal.Signals}
        raise _FailedError("crashed", f"{names.get(number, number)} {_complaints()}".strip())
    # A program may end itself without a word; one that fails says why.
    text = _complaints()
    code = os.WEXITSTATUS(status)
    raise _FailedError(otherwise if text else "exited", f"exit code {code} {text}".strip())


def _complaints() -> str:
    """What was written to standard error: its beginning, and its end if it is long."""
    data = _read(_ERRORS)
    text = data.decode("utf-8", "replace").strip()
    if len(text) <= _MOST_ERRORS:
        return text
    return f"{text[: _MOST_ERRORS // 2]} ... {text[-_MOST_ERRORS // 2 :]}"


def _read(name: str) -> bytes:
    """The content of a plain file; nothing if the program has made something else of it."""
    try:
        return _content(name) or b""
    except OSError:
        return b""


def _content(name: str, most: int | None = None) -> bytes | None:
    """The bytes of a plain file; None if there are more than ``most``.

    Raises:
        OSError: if there is none.
    """
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("not a plain file")
        fits = most is None or about.st_size <= most
        return os.pread(fd, about.st_size, 0) if fits else None
    finally:
        os.close(fd)


def receive_streams(channel: int) -> list[int]:
    """Mode ``run``: takes descriptors from the driver, at the other end of the channel. The first
    becomes the standard error; the others are returned behind it.
    """
    driver = _socket.socket(fileno=channel)
    _, ancillary, _, _ = driver.recvmsg(1, _socket.CMSG_SPACE(2 * 4))
    fds = memoryview(ancillary[0][2]).cast("i").tolist()
    driver.close()
    os.dup2(fds[0], 2)
    os.close(fds[0])
    return fds


def write_results(fd: int, status: int, fetch: list[str], most: int) -> None:
    """Mode ``run``: writes how a script has ended and the files to fetch, for
    :func:`codegen.evals.sandbox.pool.read_results`.

    Args:
        fd: where to.
        status: as of ``os.wait``.
        fetch: names of files; those that are not there are left out.
        most: bytes of all files.
    """
    found, too_large = [], []
    for name in fetch:
        with contextlib.suppress(OSError):
            content = _content(name, most)
            if content is None:
                too_large.append(name)
            else:
                found.append((name, content))
                most -= len(content)
    head = [status, [[name, len(content)] for name, content in found], too_large]
    for part in (json.dumps(head).encode() + b"\n", *[content for _, content in found]):
        _write(fd, part)


def _kept(patterns: list[str]) -> dict[str, str]:
    """What a build has made: name -> content in base64."""
    kept = {}
    for name in sorted(os.listdir(".")):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            kept[name] = base64.b64encode(_read(name)).decode("ascii")
    if not kept:
        raise _FailedError("compile_error", f"the compiler left no {' or '.join(patterns)}")
    return kept


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
