"""The system-call filter: its numbers are the kernel's, and its program decides as meant."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from codegen.sandbox.isolation import linux, seccomp

_HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM = 0x00050000 | errno.EPERM
ENOSYS = 0x00050000 | errno.ENOSYS
NOTHING = 0x00050000  # it succeeds, without effect
TABLES = {**seccomp.REFUSED, **seccomp.ABSENT, **seccomp.NO_OPERATION}


def numbers_of(machine: str) -> dict[str, int]:
    for path in _HEADERS[machine]:
        if Path(path).exists():
            text = Path(path).read_text()
            found = re.findall(r"#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", text)
            return {name: int(number) for name, number in found}
    pytest.skip(f"the kernel's headers for {machine} are not installed")


@pytest.mark.parametrize(("column", "machine"), [(0, "x86_64"), (1, "aarch64")])
def test_numbers_are_the_kernels(column: int, machine: str) -> None:
    known = numbers_of(machine)
    ours = {name: numbers[column] for name, numbers in TABLES.items()} | seccomp.NEWER
    for name in ("clone", "socket", "socketpair", "setsockopt", "ioctl", "fcntl", "prctl"):
        ours[name] = getattr(seccomp, name.upper())[machine]
    checked = {name: number for name, number in ours.items() if name in known}
    assert checked == {name: known[name] for name in checked}
    absent = {name for name, number in ours.items() if number is not None} - set(known)
    # Newer than these headers may be, and those that are written otherwise there.
    newer = {"mseal", "map_shadow_stack", "futex_wake", "futex_wait", "futex_requeue", "fchmodat2"}
    assert absent <= newer | {"memfd_secret", "fadvise64", "kexec_file_load"}, absent


def decide(
    machine: str,
    number: int,
    *arguments: int,
    arch: int | None = None,
    part: seccomp.Part = "whole",
) -> int:
    """Runs the filter's BPF program on one call, as the kernel would."""
    program = seccomp.filter_program(machine, part)
    assert program is not None
    code = list(struct.iter_unpack("=HBBI", program))
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    arch = seccomp.AUDIT_ARCH[machine] if arch is None else arch
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        if operation == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("<I", data, constant)
        elif operation == 0x54:
            accumulator &= constant
        elif operation == 0x06:  # return
            return constant
        else:
            holds = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x35: accumulator >= constant,
                0x45: bool(accumulator & constant),
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("column", "machine"), [(0, "x86_64"), (1, "aarch64")])
def test_decisions(column: int, machine: str) -> None:
    expected = {
        numbers[column]: result
        for table, result in (
            (seccomp.REFUSED, EPERM),
            (seccomp.ABSENT, ENOSYS),
            (seccomp.NO_OPERATION, NOTHING),
        )
        for numbers in table.values()
    }
    by_argument = {
        table[machine]
        for table in (seccomp.CLONE, seccomp.SOCKET, seccomp.SOCKETPAIR, seccomp.SETSOCKOPT)
    } | {table[machine] for table in (seccomp.IOCTL, seccomp.FCNTL, seccomp.PRCTL)}
    newer = set(seccomp.NEWER.values())
    for number in range(1000):
        if number in expected:
            assert decide(machine, number) == expected[number], number
        elif number > seccomp.LAST_OLD[machine]:
            assert decide(machine, number) == (ALLOW if number in newer else ENOSYS), number
        elif number not in by_argument:
            assert decide(machine, number) == ALLOW, number


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_parts_make_the_whole(machine: str) -> None:
    """The kernel takes the strictest of the filters that are loaded."""
    strictness = {ALLOW: 0, NOTHING: 1, KILL: 3}
    for number in range(1000):
        whole = decide(machine, number)
        parts = [decide(machine, number, part=part) for part in ("zygote", "job")]
        assert whole == max(parts, key=lambda result: strictness.get(result, 2)), number
    for name in seccomp.OF_ZYGOTE:
        number = seccomp.REFUSED[name][("x86_64", "aarch64").index(machine)]
        assert number is not None and decide(machine, number, part="zygote") == ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_decisions_by_argument(machine: str) -> None:
    clone, ioctl = seccomp.CLONE[machine], seccomp.IOCTL[machine]
    threads = 0x003D0F00  # the flags the C library gives for a thread
    assert decide(machine, clone, 17) == ALLOW  # fork
    assert decide(machine, clone, threads) == ALLOW
    for flag in (linux.CLONE_NEWUSER, linux.CLONE_NEWNS, linux.CLONE_NEWNET, 0x80):
        assert decide(machine, clone, 17 | flag) == EPERM
    for request in (0x5401, 0x5413, 0x541B, 0x8912):  # TCGETS, TIOCGWINSZ, FIONREAD, SIOCGIFCONF
        assert decide(machine, ioctl, 0, request) == ALLOW
    assert decide(machine, ioctl, 0, seccomp.TIOCSTI) == EPERM
    assert decide(machine, ioctl, 0, seccomp.TIOCSTI | 1 << 32) == EPERM  # the kernel cuts it too
    assert decide(machine, ioctl, 0, seccomp.TIOCLINUX) == EPERM
    for request in (0xC020660B, 0xB701, 0x9412, 0xC0185879):  # of file systems and namespaces
        assert decide(machine, ioctl, 0, request) == 0x00050000 | errno.ENOTTY
    for option, result in ((22, EPERM), (62, EPERM), (1, ALLOW), (15, ALLOW), (4, ALLOW)):
        assert decide(machine, seccomp.PRCTL[machine], option) == result


def test_sockets_are_unix_tcp_and_udp() -> None:
    family, protocol = (0x00050000 | n for n in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT))
    flags = 0o2004000  # SOCK_CLOEXEC and SOCK_NONBLOCK
    for machine in ("x86_64", "aarch64"):
        sock, pair = seccomp.SOCKET[machine], seccomp.SOCKETPAIR[machine]
        for kind in range(1, 11):
            for number in (*range(40), 132, 255, 256, 262, 263):
                for inet in (2, 10):
                    fine = (kind == 1 and number in (0, 6)) or (kind == 2 and number in (0, 17))
                    for more in (0, flags):
                        result = decide(machine, sock, inet, kind | more, number)
                        assert result == (ALLOW if fine else protocol), (inet, kind, number)
            assert decide(machine, sock, 1, kind, 0) == decide(machine, pair, 1, kind, 0) == ALLOW
        for other in (0, *range(3, 10), *range(11, 60)):
            assert decide(machine, sock, other, 1, 0) == family
            assert decide(machine, pair, other, 1, 0) == family


def test_options_of_sockets_and_descriptors() -> None:
    machine = "x86_64"
    option, fcntl = seccomp.SETSOCKOPT[machine], seccomp.FCNTL[machine]
    no_option = 0x00050000 | errno.ENOPROTOOPT
    for level, name, result in (
        *((1, name, ALLOW) for name in (2, 6, 9, 13, 15, 20, 21)),
        *((1, name, NOTHING) for name in (7, 8, 32, 33)),  # the sizes of buffers
        *((1, name, EPERM) for name in (26, 50, 51, 52, 60)),
        *((6, name, ALLOW) for name in (1, 4, 9, 12, 18, 23)),
        *((6, name, no_option) for name in (14, 19, 31, 38)),
        *((0, name, ALLOW) for name in (1, 2, 35)),
        *((0, name, no_option) for name in (64, 96)),
        *((41, name, ALLOW) for name in (26, 67)),
        (41, 64, no_option),
        (17, 1, ALLOW),
        (17, 100, no_option),
        (132, 1, no_option),
        (270, 1, no_option),
    ):
        assert decide(machine, option, 3, level, name) == result, (level, name)
    for command in (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 1030, 1032):
        assert decide(machine, fcntl, 0, command) == ALLOW
    for command in (36, 37, 38, 1024, 1026, 1029, 1031, 1036, 1038, 1040):
        assert decide(machine, fcntl, 0, command) == 0x00050000 | errno.EINVAL


def test_other_tables_are_fatal() -> None:
    assert decide("x86_64", 1, arch=0x40000003) == KILL  # 32-bit calls
    assert decide("x86_64", 0x40000000 | 1) == KILL  # x32 calls
    assert decide("aarch64", 1, arch=0x40000028) == KILL


def test_unknown_machines_have_no_filter() -> None:
    assert seccomp.filter_program("riscv64") is None
    assert seccomp.SeccompFilter("riscv64").program is None
