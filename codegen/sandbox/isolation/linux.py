"""Linux calls that the sandbox needs and Python 3.11 lacks. Each raises OSError on failure.

They use the ``syscall`` of ``_launcher`` if it is compiled, otherwise ctypes, whose two libraries
make each fork slower.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

from ..protocol.orders import LAYOUT

launcher: Any
try:
    from . import _launcher as launcher

    if launcher.LAYOUT != LAYOUT:  # built from older sources
        launcher = None
except ImportError:  # not compiled
    launcher = None

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
CAP_SYS_ADMIN, CAP_MKNOD, CAP_SETFCAP = 21, 27, 31
CAP_LAST = 63
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_MODE_FILTER = 2

# name: (number on x86_64, number in the generic table of newer architectures)
NUMBERS = {
    "ioctl": (16, 29),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "unshare": (272, 97),
    "setns": (308, 268),
    "prctl": (157, 167),
    "capset": (126, 91),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
_COLUMN = 0 if os.uname().machine == "x86_64" else 1


def call(name: str, *arguments: int | bytes | None) -> int:
    """Makes a system call from ``NUMBERS`` and returns its result; bytes are passed by address."""
    number = NUMBERS[name][_COLUMN]
    if launcher is not None:
        result = launcher.syscall(number, *arguments)
    else:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
        result = libc.syscall(ctypes.c_long(number), *converted)
        if result < 0:
            result = -ctypes.get_errno()
    if result < 0:
        raise OSError(-result, f"{name}: {os.strerror(-result)}")
    return result


def unshare(flags: int) -> None:
    """Moves this process into new namespaces (for CLONE_NEWPID: its next children)."""
    call("unshare", flags)


def setns(fd: int, kind: int) -> None:
    """Enters the namespace of ``fd`` (for CLONE_NEWPID: its next children do)."""
    call("setns", fd, kind)


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mounts a file system or directory at ``target``."""
    texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
    try:
        call("mount", *texts[:3], flags, texts[3])
    except OSError as error:
        raise OSError(error.errno, f"mount {source} on {target}: {error.strerror}") from None


def set_mount_flags(target: str, flags: int) -> None:
    """Sets flags (``MS_RDONLY``, ``MS_NOSUID``, ``MS_NODEV``) of a mount and its submounts."""
    at_cwd, recursive = -100, 0x8000
    attributes = struct.pack("=4Q", flags, 0, 0, 0)  # to set, to clear, propagation, userns
    call("mount_setattr", at_cwd, target.encode(), recursive, attributes, len(attributes))


def umount(target: str, flags: int) -> None:
    """Removes the mount at ``target``."""
    call("umount2", target.encode(), flags)


def pivot_root(new: str, old: str) -> None:
    """Makes the mount ``new`` the root, and moves the old root to ``old``."""
    call("pivot_root", new.encode(), old.encode())


def prctl(option: int, *arguments: int) -> int:
    """Calls prctl with up to four integer arguments and returns its result."""
    return call("prctl", option, *(*arguments, 0, 0, 0, 0)[:4])


def load_filter(program: bytes) -> None:
    """Loads a BPF program as this process's system-call filter, permanently."""
    if launcher is not None:
        launcher.load_filter(program)
        return
    import ctypes

    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    call("prctl", PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0)


def loopback_up() -> None:
    """Brings up the interface ``lo`` of this network namespace."""
    import _socket

    siocsifflags, up_and_running = 0x8914, 0x41
    request = struct.pack("16sH22x", b"lo", up_and_running)
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        call("ioctl", sock.fileno(), siocsifflags, request)
    finally:
        sock.close()


def keep_capabilities(kept: frozenset[int]) -> None:
    """Drops this process's capabilities except ``kept``, in all sets but the bounding set."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low = sum(1 << number for number in kept if number < 32)
    high = sum(1 << (number - 32) for number in kept if number >= 32)
    # effective, permitted, inheritable: first the low words, then the high ones
    call("capset", header, struct.pack("=6I", low, low, 0, high, high, 0))


def drop_bounding_set(kept: frozenset[int]) -> None:
    """Removes all capabilities but ``kept`` from the bounding set, so no exec restores them."""
    for number in range(CAP_LAST + 1):
        if number not in kept:
            try:
                prctl(PR_CAPBSET_DROP, number)
            except OSError:
                if number <= CAP_SETFCAP:
                    raise
                return  # beyond this kernel's last capability


# Landlock: an allowlist of the files that a job may open, a second layer after the mount namespace.
# A job may read the sandbox's root except the harness's own files, and write below its /tmp and to
# harmless devices, even if a sandbox bug left other mounts reachable. On newer kernels it
# also confines signals and abstract sockets to the job and denies device controls. A ruleset is
# created once for each set of namespaces; a job enters it with one call. Source: landlock(7), Linux
# include/uapi/linux/landlock.h.

_LANDLOCK_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
IOCTL_DEV = 1 << 15
_SCOPES = 0b11  # abstract UNIX sockets, signals

# Number of file rights in each version of the interface (they are numbered without gaps).
_RIGHTS_OF_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_SCOPES_SINCE_ABI = 6

READ = EXECUTE | READ_FILE | READ_DIR
# The kernel rejects rules that grant directory rights on files.
DEVICE = READ_FILE | WRITE_FILE


def landlock_abi() -> int:
    """Returns this kernel's Landlock version; 0 if unsupported."""
    try:
        return call("landlock_create_ruleset", None, 0, _LANDLOCK_VERSION)
    except OSError:
        return 0


def landlock_rules(
    version: int, readable: Sequence[str], writable: Sequence[str], devices: Sequence[str]
) -> int:
    """Returns a descriptor of a ruleset.

    Args:
        version: version from :func:`landlock_abi`, at least 1.
        readable: directories whose files may be read and executed.
        writable: directories where everything but creating devices is allowed.
        devices: files that may be read and written.

    Paths that do not exist are skipped.

    Raises:
        OSError: if the kernel rejects a rule.
    """
    handled = (1 << _RIGHTS_OF_ABI.get(version, 16)) - 1  # all file rights
    attributes = struct.pack("@QQQ", handled, 0, _SCOPES if version >= _SCOPES_SINCE_ABI else 0)
    # Older kernels have a shorter structure, and accept a longer one only if the rest is zero.
    fd = call("landlock_create_ruleset", attributes, len(attributes), 0)
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
        call("landlock_add_rule", ruleset_fd, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)


def landlock_self(ruleset_fd: int) -> None:
    """Enforces the rules for this process, permanently. Needs no_new_privs."""
    call("landlock_restrict_self", ruleset_fd, 0)
