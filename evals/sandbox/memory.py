"""Files in memory, by which the driver hands data to a sandbox."""

from __future__ import annotations

import fcntl
import os


def memory_file(data: bytes, *, append: bool = False) -> int:
    """An anonymous file in memory that holds ``data``, positioned at its start."""
    fd = os.memfd_create("job", os.MFD_CLOEXEC)
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
    if append:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd
