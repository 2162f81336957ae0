"""The job of a program in another language: writes its files, runs its commands in order, and
reports their exits.

This process is the first of the job's PID namespace, under the job's limits, and acts as a shell
for its program. Like the whole job it is untrusted. The verdict depends on the data that the other
side compares: the standard output, the answers file, the token.

The order, which the driver writes with :mod:`marshal`, has

- ``files``: name -> bytes, written to the working directory, executable;
- ``commands``: lists of arguments; the last one runs the program, the others prepare it;
- ``environment``: environment of all commands;
- ``keep``: patterns of the files that a build keeps for later jobs; empty if it is not a build;
- ``mode``: mode of a :class:`..jobs.Job`;
- ``token``: in mode ``in_sandbox``, the value that the tests' last statement must return;
- ``fetch``, ``fetch_bytes``: in mode ``run``, names of files to return, and their maximum bytes.

In mode ``stdio`` the program has its standard input and output, in mode ``run`` its standard error
as well: such a script has no tests, so the driver is at the other end of its channel. The driver
sends descriptors, one for standard error and one for the results at the script's end, a line of
JSON and the contents of files (:func:`codegen.sandbox.pool.read_results`). In the other modes
the program's output is dropped and the file :data:`ANSWERS` is used: with ``isolated`` it is sent
as the standard output, with ``in_sandbox`` it must contain the token.
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
import sys
from typing import Any, NoReturn

from ..protocol import wire
from ..protocol.orders import CHANNEL_FD

ANSWERS = ".answers"
TOKEN = "CODEGEN_TOKEN"
_ERRORS = ".stderr"
_MOST_ERRORS = 4000  # maximum characters of a compiler's or a program's error output
_RESET = (signal.SIGPIPE, signal.SIGXFSZ)  # signals that Python ignores


class _FailedError(Exception):
    """A command failed; the arguments are its status and a message."""


def main(order: dict[str, Any], channel: wire.Channel) -> NoReturn:
    """Runs the commands and exits the process."""
    status = 1
    try:
        _run(order, channel)
        status = 0
    except _FailedError as error:
        _tell(channel, [*error.args[:1], "", error.args[1]])
    except OSError as error:
        _tell(channel, ["error", "", f"it cannot be run: {error}"])
    os._exit(status)


def _tell(channel: wire.Channel, message: list[str]) -> None:
    with contextlib.suppress(OSError, wire.WireError):  # the tests' job has exited
        channel.send(message)


def _run(order: dict[str, Any], channel: wire.Channel) -> None:
    put_files(order["files"])
    if order["copy_input_to"]:
        _copy_input(order["copy_input_to"])
    mode, keep = order["mode"], order["keep"]
    if mode == "run":
        _run_script(order)
        return
    environment = dict(order["environment"])
    if mode == "in_sandbox":
        environment[TOKEN] = order["token"]
    *before, last = order["commands"]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for command in before if not keep else order["commands"]:
        _command(command, environment, (null, 2), "compile_error")
    if keep:
        _write(1, json.dumps(_kept(keep)).encode("ascii"))
        return
    direct = mode == "stdio"
    _command(last, environment, (0, 1) if direct else (null, null), "error")
    if mode == "isolated":
        _write(1, _read(ANSWERS))
    elif (
        mode == "in_sandbox" and _read(ANSWERS).decode("utf-8", "replace").strip() == order["token"]
    ):
        channel.send(["loaded", {}])
        channel.send(["done", order["token"]])
    elif mode == "in_sandbox":
        raise _FailedError("exited", "the program exited before its tests finished")


def _copy_input(path: str) -> None:
    """Copies the standard input without moving its position."""
    size = 0
    with contextlib.suppress(OSError), open(path, "wb") as file:  # input larger than the file limit
        while data := os.pread(0, 1 << 20, size):
            size += file.write(data)


def _run_script(order: dict[str, Any]) -> None:
    (results,) = take_descriptors(CHANNEL_FD)
    (command,) = order["commands"]
    os.set_inheritable(results, False)
    try:
        environment = order["environment"]
        child = os.posix_spawn(command[0], command, environment, setsigdef=_RESET)
        status = os.waitpid(child, 0)[1]
    except OSError as error:
        os.write(2, f"it cannot be run: {error}\n".encode())
        status = 126 << 8
    send_results(results, status, order["fetch"], order["fetch_bytes"])


def _command(
    command: list[str], environment: dict[str, str], streams: tuple[int, int], otherwise: str
) -> None:
    """Runs a command to its end; standard output 2 redirects it to standard error's file."""
    with open(_ERRORS, "wb") as errors:
        fd = errors.fileno()
        stdin, stdout = streams
        actions = [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, fd if stdout == 2 else stdout, 1),
            (os.POSIX_SPAWN_DUP2, fd, 2),
        ]
        child = os.posix_spawn(
            command[0], command, environment, file_actions=actions, setsigdef=_RESET
        )
    while True:  # also reaps orphans, which would count against the process limit
        pid, status = os.wait()
        if pid == child:
            break
    if status == 0:
        return
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        names = {int(each): each.name for each in signal.Signals}
        raise _FailedError("crashed", f"{names.get(number, number)} {_complaints()}".strip())
    code = os.WEXITSTATUS(status)
    # A program that fails reports the reason; one that only exits may not.
    text = _complaints()
    raise _FailedError(otherwise if text else "exited", f"exit code {code} {text}".strip())


def _complaints() -> str:
    """Returns the standard error; only the beginning and the end if it is long."""
    data = _read(_ERRORS)
    text = data.decode("utf-8", "replace").strip()
    if len(text) <= _MOST_ERRORS:
        return text
    return f"{text[: _MOST_ERRORS // 2]} ... {text[-_MOST_ERRORS // 2 :]}"


def _read(name: str) -> bytes:
    """Returns the content of a plain file; empty if the program replaced it by something else."""
    with contextlib.suppress(OSError):
        return _content(name, sys.maxsize) or b""
    return b""


def _kept(patterns: list[str]) -> dict[str, str]:
    """Returns the files that a build made: name -> content in base64."""
    kept = {}
    for name in sorted(os.listdir(".")):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            kept[name] = base64.b64encode(_read(name)).decode("ascii")
    if not kept:
        raise _FailedError("compile_error", f"the compiler produced no {' or '.join(patterns)}")
    return kept


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def take_descriptors(channel: int) -> list[int]:
    """Receives the driver's descriptors, closes the channel, and returns all but standard error."""
    driver = _socket.socket(fileno=channel)
    _, ancillary, _, _ = driver.recvmsg(1, _socket.CMSG_SPACE(2 * 4))
    driver.close()
    errors, *others = memoryview(ancillary[0][2]).cast("i").tolist()
    os.dup2(errors, 2)
    os.close(errors)
    return others


def put_files(files: dict[str, bytes]) -> None:
    """Writes executable files at relative paths, and creates their directories."""
    for name, content in files.items():
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o700), "wb") as file:
            file.write(content)


def send_results(fd: int, status: int, names: list[str], most: int) -> None:
    """Writes the script's status and files.

    Args:
        fd: descriptor to write to.
        status: wait status, as from ``os.wait``.
        names: names of the files to return; only plain files are returned.
        most: maximum total bytes; files that do not fit are reported by name.
    """
    found, too_large = [], []
    for name in names:
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


def _content(name: str, most: int) -> bytes | None:
    """Returns the bytes of a plain file; None if there are more than ``most``.

    Raises:
        OSError: if it is missing or not a plain file.
    """
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise OSError("not a plain file")
        return os.pread(fd, about.st_size, 0) if about.st_size <= most else None
    finally:
        os.close(fd)
