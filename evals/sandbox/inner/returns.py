"""The results of a script besides its standard output: standard error, wait status, and files.

A script has no tests, so the driver is at the other end of its channel. It sends descriptors: one
for standard error, and one for the results at the script's end, a line of JSON and the contents of
files (:func:`codegen.evals.sandbox.pool.read_results`).
"""

from __future__ import annotations

import _socket
import contextlib
import json
import os


def receive(channel: int) -> list[int]:
    """Takes the driver's descriptors and closes the channel; the first becomes standard error."""
    driver = _socket.socket(fileno=channel)
    _, ancillary, _, _ = driver.recvmsg(1, _socket.CMSG_SPACE(2 * 4))
    driver.close()
    errors, *others = memoryview(ancillary[0][2]).cast("i").tolist()
    os.dup2(errors, 2)
    os.close(errors)
    return others


def put_files(files: dict[str, bytes]) -> None:
    """Writes files by relative paths, with their directories."""
    for name, content in files.items():
        if "/" in name:
            os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "wb") as file:
            file.write(content)


def tell(fd: int, status: int, names: list[str], most: int) -> None:
    """Writes the script's status and files.

    Args:
        fd: where to.
        status: as from ``os.wait``.
        names: of the files to return; anything but plain files is left out.
        most: bytes of all of them; files that do not fit are reported by name.
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
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]


def _content(name: str, most: int) -> bytes | None:
    """The bytes of a plain file; None if there are more than ``most``.

    Raises:
        OSError: if there is none.
    """
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        about = os.fstat(fd)
        if about.st_mode & 0o170000 != 0o100000:  # S_ISREG
            raise OSError("not a plain file")
        return os.pread(fd, about.st_size, 0) if about.st_size <= most else None
    finally:
        os.close(fd)
