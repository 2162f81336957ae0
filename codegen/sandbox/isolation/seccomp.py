"""The system-call filter of a job: a BPF program that allows the calls that programs may need.

The older part of the kernel's call table is closed, so a list of denied calls is complete there.
The newer part (from :data:`FIRST_COMMON` on, with the same numbers on all machines) still grows, so
only the calls of :data:`NEWER` are allowed there, and future calls are denied.

Denied calls get one of three results:

- EPERM: calls for administrators, debuggers and namespaces (:data:`REFUSED`).
- ENOSYS: features of the kernel that keep its memory, reach inodes that other processes share, or
  reveal the host; a C library or Python falls back to another call (:data:`ABSENT`). ``clone3``,
  too, since the filter cannot read its flags, unlike ``clone``'s.
- success, without effect: flushing and hints, which would only reach files of the host
  (:data:`NO_OPERATION`), and the sizes of socket buffers.

Some calls are filtered by argument: sockets are UNIX, TCP or UDP; for ``fcntl``, ``ioctl`` and
``setsockopt``, only common operations are allowed. A call of another architecture's table kills the
process.

A zygote needs a few of the denied calls to make and enter namespaces. So it loads a filter that
denies all others for itself and its jobs, and a job adds a short filter that denies these few.
(Loading a filter takes time, since the kernel evaluates it for every call number.)

Source: seccomp(2), Linux ``include/uapi/linux/{filter,seccomp,audit}.h``, and the kernel's call
tables.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Mapping
from typing import Literal

from . import linux

Numbers = Mapping[str, tuple[int | None, int | None]]
Part = Literal["whole", "zygote", "job"]
Code = list[tuple[int, int, int, int]]

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (number on x86_64, number on aarch64); None if the machine lacks the call.
REFUSED: Numbers = {
    **{name: n for name, n in linux.NUMBERS.items() if name not in ("ioctl", "prctl", "capset")},
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "fspick": (433, 433),
    "seccomp": (317, 277),  # a job's filters would use kernel memory
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
    "fanotify_mark": (301, 263),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Memory files that no limit of a job covers.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    # System V and POSIX message objects outlive the process that makes them.
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
ABSENT: Numbers = {
    # Asynchronous I/O queues: all users of the machine share their maximum number.
    "io_setup": (206, 0),
    "io_destroy": (207, 1),
    "io_getevents": (208, 4),
    "io_submit": (209, 2),
    "io_cancel": (210, 3),
    "io_pgetevents": (333, 292),
    # Instance limits are per user; root files are shared with the host.
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "inotify_rm_watch": (255, 28),
    # Pages in pipes stay when their source memory is freed.
    "splice": (275, 76),
    "tee": (276, 77),
    "vmsplice": (278, 75),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "clone3": (435, 435),
}
NO_OPERATION: Numbers = {
    # A job writes only to memory file systems, where these do nothing; on a file of the root they
    # would make the host write to its disk, or drop its cached data.
    "sync": (162, 81),
    "syncfs": (306, 267),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "sync_file_range": (277, 84),
    "fadvise64": (221, 223),
    "readahead": (187, 213),
}
# Denied only to jobs, since a zygote needs them.
OF_ZYGOTE = frozenset(
    (
        *("mount", "umount2", "unshare", "setns"),
        *("move_mount", "fsopen", "fsconfig", "fsmount"),
        *("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"),
    )
)
# Filtered by their arguments.
CLONE = {"x86_64": 56, "aarch64": 220}
SOCKET = {"x86_64": 41, "aarch64": 198}
SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
SETSOCKOPT = {"x86_64": 54, "aarch64": 208}
IOCTL = {"x86_64": 16, "aarch64": 29}
FCNTL = {"x86_64": 72, "aarch64": 25}
PRCTL = {"x86_64": 157, "aarch64": 167}

# The last call of the older table, and the first of the common table.
LAST_OLD = {"x86_64": 334, "aarch64": 294}
FIRST_COMMON = 424
NEWER = {
    "pidfd_send_signal": 424,
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "faccessat2": 439,
    "epoll_pwait2": 441,
    "futex_waitv": 449,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "mseal": 462,
}

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
# fcntl(2): descriptors, flags, locks of a process, owners of signals, and queries. Excluded: leases
# and notifications (of inodes shared with the host), locks on open file descriptions (which cannot
# be attributed to a process), larger pipes, file lifetime hints.
FCNTL_LAST_OLD = 17  # F_GETOWNER_UIDS
FCNTL_NEWER = (1025, 1027, 1028, 1030, 1032, 1033, 1034)
# setsockopt(2) of SOL_SOCKET
BUFFER_SIZES = (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF, and their _FORCE variants
# SO_ATTACH_FILTER and similar, SO_BUSY_POLL and similar, SO_ZEROCOPY, SO_TXTIME, SO_RESERVE_MEM
SOCKET_REFUSED = (26, 46, 50, 51, 52, 60, 61, 69, 70, 73)
# TCP options, without TCP_ULP (which loads modules), TCP_REPAIR, keys
TCP_LAST_OLD = 13
TCP_NEWER = (18, 23, 25, 30)  # TCP_USER_TIMEOUT, _FASTOPEN, _NOTSENT_LOWAT, _FASTOPEN_CONNECT
_SOL_SOCKET, _IP, _TCP, _UDP, _IPV6 = 1, 0, 6, 17, 41
_FIRST_OF_FIREWALL = 64

_X32_BIT = 0x40000000
_PR_SET_SECCOMP, _PR_SCHED_CORE = 22, 62
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_ABOVE, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x25, 0x35, 0x45
_NUMBER, _ARCH = 0, 4  # offsets in struct seccomp_data
_ALLOW, _KILL = 0x7FFF0000, 0x80000000


def _argument(position: int) -> tuple[int, int, int, int]:
    """Returns the load of an argument's low half; the kernel ignores the rest of these."""
    return (_LOAD, 0, 0, 16 + 8 * position)


def _error(number: int) -> int:
    return 0x00050000 | number


def _end(result: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, result)


def _when(condition: int, value: int, then: Code) -> Code:
    """Returns ``then``, which must end with a return, under a condition on the loaded value."""
    return [(condition, 0, len(then), value), *then]


def _among(values: Collection[int], result: int) -> Code:
    return [line for value in values for line in _when(_IF_EQUAL, value, [_end(result)])]


def filter_program(machine: str, part: Part = "whole") -> bytes | None:
    """Returns the BPF program for a machine; None for an unknown machine.

    Args:
        machine: name from ``os.uname().machine``.
        part: all rules; all but those on the calls that a zygote needs; or only those, for jobs.
    """
    if machine not in AUDIT_ARCH:
        return None
    code: Code = [
        (_LOAD, 0, 0, _ARCH),
        (_IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        _end(_KILL),
        (_LOAD, 0, 0, _NUMBER),
        *_when(_IF_AT_LEAST, _X32_BIT, [_end(_KILL)]),
    ]
    column = ("x86_64", "aarch64").index(machine)
    refused = [(errno.EPERM, REFUSED), (errno.ENOSYS, ABSENT), (0, NO_OPERATION)]
    denied = {
        number: _error(how)
        for how, table in refused
        for name, numbers in table.items()
        if part == "whole" or (name in OF_ZYGOTE) == (part == "job")
        if (number := numbers[column]) is not None
    }
    if part != "job":
        code += _by_argument(machine)
    options = {"zygote": [_PR_SCHED_CORE], "job": [_PR_SET_SECCOMP]}
    prctl = [*options.get(part, [_PR_SCHED_CORE, _PR_SET_SECCOMP])]
    code += _when(
        _IF_EQUAL, PRCTL[machine], [_argument(0), *_among(prctl, _error(errno.EPERM)), _end(_ALLOW)]
    )
    code += _ranges(denied)
    if part != "job":
        code += _unknown(machine, [n[column] for name in OF_ZYGOTE if (n := REFUSED[name])])
    code.append(_end(_ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _ranges(results: Mapping[int, int]) -> Code:
    """Returns code that maps call numbers to results."""
    code: Code = []
    numbers = sorted(results)
    while numbers:
        first = last = numbers.pop(0)
        while numbers and numbers[0] == last + 1 and results[last + 1] == results[first]:
            last = numbers.pop(0)
        end = _end(results[first])
        if first == last:
            code += _when(_IF_EQUAL, first, [end])
        else:
            code += [(_IF_AT_LEAST, 0, 2, first), (_IF_ABOVE, 1, 0, last), end]
    return code


def _unknown(machine: str, of_zygote: Collection[int | None]) -> Code:
    """Returns code that fails unknown calls, and calls missing from :data:`NEWER`, with ENOSYS."""
    known = {number for number in (*NEWER.values(), *of_zygote) if number is not None}
    newer = _among(sorted(n for n in known if n >= FIRST_COMMON), _ALLOW)
    return [
        *_when(_IF_AT_LEAST, FIRST_COMMON, [*newer, _end(_error(errno.ENOSYS))]),
        *_when(_IF_ABOVE, LAST_OLD[machine], [_end(_error(errno.ENOSYS))]),
    ]


def _by_argument(machine: str) -> Code:
    allowed = _end(_ALLOW)
    inet = [
        _argument(1),
        (_AND, 0, 0, 0xF),  # the other bits are flags
        *_when(_IF_EQUAL, 1, [_argument(2), *_among((0, _TCP), _ALLOW), _NO_PROTOCOL]),
        *_when(_IF_EQUAL, 2, [_argument(2), *_among((0, _UDP), _ALLOW), _NO_PROTOCOL]),
        _NO_PROTOCOL,
    ]
    sock = [
        _argument(0),
        *_when(_IF_EQUAL, AF_UNIX, [allowed]),
        *_when(_IF_EQUAL, AF_INET, inet),
        *_when(_IF_EQUAL, AF_INET6, inet),
        _NO_FAMILY,
    ]
    no_option = _end(_error(errno.ENOPROTOOPT))
    options = {
        _SOL_SOCKET: [
            *_among(BUFFER_SIZES, _error(0)),
            *_among(SOCKET_REFUSED, _error(errno.EPERM)),
            allowed,
        ],
        _TCP: [*_when(_IF_ABOVE, TCP_LAST_OLD, [*_among(TCP_NEWER, _ALLOW), no_option]), allowed],
        _UDP: [*_among((1,), _ALLOW), no_option],  # UDP_CORK
        _IP: [*_when(_IF_AT_LEAST, _FIRST_OF_FIREWALL, [no_option]), allowed],
        _IPV6: [
            *_among((_FIRST_OF_FIREWALL, _FIRST_OF_FIREWALL + 1), _error(errno.ENOPROTOOPT)),
            allowed,
        ],
    }
    setsockopt = [
        line
        for level, decide in options.items()
        for line in (_argument(1), *_when(_IF_EQUAL, level, [_argument(2), *decide]))
    ]
    ioctl = [
        _argument(1),
        *_among((TIOCSTI, TIOCLINUX), _error(errno.EPERM)),
        (_AND, 0, 0, 0xFFFFFF00),
        *_among((0x5400, 0x8900), _ALLOW),  # for terminals and descriptors, and for sockets
        _end(_error(errno.ENOTTY)),
    ]
    fcntl = [
        _argument(1),
        *_when(
            _IF_ABOVE, FCNTL_LAST_OLD, [*_among(FCNTL_NEWER, _ALLOW), _end(_error(errno.EINVAL))]
        ),
        allowed,
    ]
    clone = [
        _argument(0),
        *_when(_IF_ANY_BIT, NEW_NAMESPACES, [_end(_error(errno.EPERM))]),
        allowed,
    ]
    pair = [_argument(0), *_when(_IF_EQUAL, AF_UNIX, [allowed]), _NO_FAMILY]
    return [
        *_when(_IF_EQUAL, FCNTL[machine], fcntl),
        *_when(_IF_EQUAL, IOCTL[machine], ioctl),
        *_when(_IF_EQUAL, CLONE[machine], clone),
        *_when(_IF_EQUAL, SOCKET[machine], sock),
        *_when(_IF_EQUAL, SOCKETPAIR[machine], pair),
        *_when(_IF_EQUAL, SETSOCKOPT[machine], [*setsockopt, no_option]),
    ]


_NO_FAMILY = _end(_error(errno.EAFNOSUPPORT))
_NO_PROTOCOL = _end(_error(errno.EPROTONOSUPPORT))


class SeccompFilter:
    """A filter prepared once, so that a forked job only has to load it.

    Args:
        machine: machine name; by default this machine's.
        part: part of the filter, see :func:`filter_program`.

    Attributes:
        program: the BPF program; None for an unknown machine.
    """

    def __init__(self, machine: str | None = None, part: Part = "whole") -> None:
        self.program = filter_program(machine or os.uname().machine, part)

    def load(self) -> None:
        """Loads the filter into this process, permanently. Needs no_new_privs."""
        if self.program is not None:
            linux.load_filter(self.program)
