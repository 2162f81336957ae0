"""The system-call filter of a job: a hand-made BPF program that refuses what no program under test
needs.

It is a deny list (evals specification §3.4) on top of namespaces, an unprivileged user and
no_new_privs, and meant to shrink the kernel's attack surface. Refused calls fail with EPERM,
``clone3`` with ENOSYS (the C library then falls back to ``clone``, whose flags can be read),
address families but UNIX and INET with EAFNOSUPPORT. A call of another architecture's table kills
the process.

A zygote needs a few of these calls to make and enter namespaces. So it loads a filter of all others
for itself and its jobs, and a job loads the rest, a short filter: the kernel works through a filter
once for every call number when it is loaded.

Source: seccomp(2), Linux ``include/uapi/linux/{filter,seccomp,audit}.h``, and the kernel's call
tables.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection
from typing import Literal

from . import linux

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (number on x86_64, number on aarch64); None where that machine has no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "vhangup": (153, 58),
    "personality": (135, 92),
    "fanotify_init": (300, 262),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Files in memory that no limit of a job counts.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # System V and POSIX message objects outlive the process that makes them.
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
}
# What a zygote needs itself, so that only its jobs are refused it.
OF_ZYGOTE = frozenset({"mount", "umount2", "unshare", "setns"})
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3 = 435
SOCKET = {"x86_64": 41, "aarch64": 198}
IOCTL = {"x86_64": 16, "aarch64": 29}

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
NEW_NAMESPACES = (
    0x00000080  # CLONE_NEWTIME
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWCGROUP
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUSER
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
)

_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24  # offsets in struct seccomp_data
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def _error(number: int) -> int:
    return 0x00050000 | number


def filter_program(
    machine: str, names: Collection[str] = tuple(REFUSED), *, arguments: bool = True
) -> bytes | None:
    """The BPF program for a machine; None where it is not one we know.

    Args:
        machine: as ``os.uname().machine`` says.
        names: the calls to refuse, keys of :data:`REFUSED`.
        arguments: whether to look at the arguments of ``clone``, ``socket`` and ``ioctl`` too.
    """
    if machine not in AUDIT_ARCH:
        return None
    column = ("x86_64", "aarch64").index(machine)
    refused = [REFUSED[name][column] for name in names]
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_ABOVE, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
    ]
    for number in refused:
        if number is not None:
            code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _error(errno.EPERM))]
    code += _by_argument(machine) if arguments else [(_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _by_argument(machine: str) -> list[tuple[int, int, int, int]]:
    return [
        (_JUMP_EQUAL, 0, 1, CLONE3),
        (_RETURN, 0, 0, _error(errno.ENOSYS)),
        (_JUMP_EQUAL, 0, 4, CLONE[machine]),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_JUMP_ANY_BIT, 0, 1, NEW_NAMESPACES),
        (_RETURN, 0, 0, _error(errno.EPERM)),
        (_RETURN, 0, 0, _ALLOW),
        (_JUMP_EQUAL, 0, 6, SOCKET[machine]),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_JUMP_EQUAL, 3, 0, AF_UNIX),
        (_JUMP_EQUAL, 2, 0, AF_INET),
        (_JUMP_EQUAL, 1, 0, AF_INET6),
        (_RETURN, 0, 0, _error(errno.EAFNOSUPPORT)),
        (_RETURN, 0, 0, _ALLOW),
        (_JUMP_EQUAL, 0, 4, IOCTL[machine]),
        (_LOAD, 0, 0, _ARGUMENT_1),
        (_JUMP_EQUAL, 1, 0, TIOCSTI),
        (_JUMP_EQUAL, 0, 1, TIOCLINUX),
        (_RETURN, 0, 0, _error(errno.EPERM)),
        (_RETURN, 0, 0, _ALLOW),
    ]


class Filter:
    """A filter made ready once, so that a forked job has only to load it.

    Args:
        machine: by default this one.
        part: ``whole``, or what a zygote or a job adds of it.

    Attributes:
        program: the BPF program; None where the machine is not one we know.
    """

    def __init__(
        self, machine: str | None = None, part: Literal["whole", "zygote", "job"] = "whole"
    ) -> None:
        names = {
            "whole": REFUSED.keys(),
            "zygote": [name for name in REFUSED if name not in OF_ZYGOTE],
            "job": OF_ZYGOTE,
        }[part]
        machine = machine or os.uname().machine
        self.program = filter_program(machine, names, arguments=part != "job")

    def load(self) -> None:
        """Loads the filter into this process, for good. Needs no_new_privs."""
        if self.program is not None:
            linux.load_filter(self.program)
