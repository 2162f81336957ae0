"""Landlock: the kernel's list of the only files that a job may open.

A second layer behind the mount namespace. A job may read the sandbox's root except the harness's
own files, and write below its ``/tmp`` and to harmless devices, even if a fault of the sandbox left
other mounts in reach. On newer kernels it also confines signals and abstract sockets to the job and
denies device controls.

A ruleset is created once for each set of namespaces; a job enters it with one call.

Source: landlock(7), Linux ``include/uapi/linux/landlock.h``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from . import linux

_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
IOCTL_DEV = 1 << 15
_SCOPES = 0b11  # abstract UNIX sockets, signals

# How many file rights each version of the interface knows (they are numbered without gaps).
_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_SCOPES_SINCE_ABI = 6

READ = EXECUTE | READ_FILE | READ_DIR
# The kernel refuses a rule for a file that has rights of directories.
DEVICE = READ_FILE | WRITE_FILE


def abi() -> int:
    """The version of Landlock this kernel offers; 0 if none."""
    try:
        return linux.call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def _rights(version: int) -> int:
    """All file rights of a version of the interface."""
    return (1 << _RIGHTS_OF_ABI.get(version, 16)) - 1


def ruleset(
    version: int, readable: Sequence[str], writable: Sequence[str], devices: Sequence[str]
) -> int:
    """A descriptor of a set of rules.

    Args:
        version: as :func:`abi` says, at least 1.
        readable: directories whose files may be read and executed.
        writable: directories where everything but creating devices is allowed.
        devices: files that may be read and written.

    Paths that do not exist are left out.

    Raises:
        OSError: if the kernel refuses.
    """
    handled = _rights(version)
    attributes = struct.pack("@QQQ", handled, 0, _SCOPES if version >= _SCOPES_SINCE_ABI else 0)
    # Older kernels know a shorter structure, and take a longer one only if the rest is zero.
    fd = linux.call("landlock_create_ruleset", attributes, len(attributes), 0)
    make_char, make_block = 1 << 6, 1 << 11
    everything = handled & ~(make_char | make_block | IOCTL_DEV)
    try:
        for paths, rights in ((readable, READ), (writable, everything), (devices, DEVICE)):
            for path in paths:
                _allow(fd, path, rights & handled)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _allow(ruleset_fd: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = struct.pack("=Qi", rights, fd)
        linux.call("landlock_add_rule", ruleset_fd, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def restrict_self(ruleset_fd: int) -> None:
    """Puts the rules in force for this process, for good. Needs no_new_privs."""
    linux.call("landlock_restrict_self", ruleset_fd, 0)
