"""The few Linux calls the sandbox needs and Python 3.11 lacks, by ctypes. Each raises OSError on
failure.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_RELATIME = 1 << 21
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_GET_SECCOMP = 21
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_ADMIN, CAP_SYS_CHROOT = 5, 6, 7, 12, 18
CAP_SYS_ADMIN, CAP_SETFCAP = 21, 31
CAP_LAST = 63
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Moves this process (for CLONE_NEWPID: its next children) into new namespaces."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enters the namespace behind ``fd`` (for CLONE_NEWPID: its next children)."""
    _check(_libc.setns(fd, kind), "setns")


def syscall(number: int, *arguments: object) -> int:
    """A system call the C library has no function for; the kernel's result."""
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), f"system call {number}")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Makes a file system or directory visible at ``target``."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        None if data is None else data.encode(),
    )
    _check(result, f"mount {source} on {target}")


def umount(target: str, flags: int) -> None:
    """Takes the mount at ``target`` away."""
    _check(_libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Makes the mount ``new`` the root and puts the old root at ``old``."""
    _check(_libc.pivot_root(new.encode(), old.encode()), "pivot_root")


def prctl(option: int, *arguments: int) -> int:
    """Calls prctl with up to four integer arguments and returns its result."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(option, *padded), f"prctl {option}")


def loopback_up() -> None:
    """Brings up the interface ``lo`` of this network namespace."""
    siocsifflags, up_and_running = 0x8914, 0x41
    request = struct.pack("16sH22x", b"lo", up_and_running)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, siocsifflags, request)


def keep_capabilities(kept: frozenset[int]) -> None:
    """Gives up all capabilities of this process but ``kept``, in every set but the bounding one."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low = sum(1 << number for number in kept if number < 32)
    high = sum(1 << (number - 32) for number in kept if number >= 32)
    # effective, permitted, inheritable: first the low words, then the high ones
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capset")


def drop_bounding_set(kept: frozenset[int]) -> None:
    """Removes all capabilities but ``kept`` from the bounding set, so that no exec brings them
    back.
    """
    for number in range(CAP_LAST + 1):
        if number not in kept:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                if number <= CAP_SETFCAP:
                    raise
                return  # past the last capability this kernel knows
