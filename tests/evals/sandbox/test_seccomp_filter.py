"""The system-call filter: its numbers are the kernel's, and its program decides as meant."""

from __future__ import annotations

import errno
import re
import struct
from pathlib import Path

import pytest

from codegen.evals.sandbox.inner import linux, seccomp

_HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM = 0x00050000 | errno.EPERM


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
    ours = {name: numbers[column] for name, numbers in seccomp.REFUSED.items()}
    ours |= {"clone": seccomp.CLONE[machine], "socket": seccomp.SOCKET[machine]}
    ours |= {"ioctl": seccomp.IOCTL[machine], "clone3": seccomp.CLONE3}
    checked = {name: number for name, number in ours.items() if name in known}
    assert checked == {name: known[name] for name in checked}
    absent = {name for name, number in ours.items() if number is not None} - set(known)
    assert len(absent) <= 3, absent  # calls newer than these headers


def decide(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Runs the filter's BPF program on one call, as the kernel would."""
    program = seccomp.filter_program(machine)
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
        elif operation == 0x06:  # return
            return constant
        else:
            holds = {
                0x15: accumulator == constant,
                0x35: accumulator >= constant,
                0x45: bool(accumulator & constant),
            }[operation]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("column", "machine"), [(0, "x86_64"), (1, "aarch64")])
def test_decisions(column: int, machine: str) -> None:
    refused = {numbers[column] for numbers in seccomp.REFUSED.values()} - {None}
    special = {seccomp.CLONE[machine], seccomp.SOCKET[machine], seccomp.IOCTL[machine]}
    for number in range(470):
        if number in refused:
            assert decide(machine, number) == EPERM
        elif number == seccomp.CLONE3:
            assert decide(machine, number) == 0x00050000 | errno.ENOSYS
        elif number not in special:
            assert decide(machine, number) == ALLOW


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_decisions_by_argument(machine: str) -> None:
    clone, sock, ioctl = (t[machine] for t in (seccomp.CLONE, seccomp.SOCKET, seccomp.IOCTL))
    threads = 0x003D0F00  # the flags the C library gives for a thread
    assert decide(machine, clone, 17) == ALLOW  # fork
    assert decide(machine, clone, threads) == ALLOW
    for flag in (linux.CLONE_NEWUSER, linux.CLONE_NEWNS, linux.CLONE_NEWNET, 0x80):
        assert decide(machine, clone, 17 | flag) == EPERM
    for family in (1, 2, 10):
        assert decide(machine, sock, family) == ALLOW
    for family in (16, 17, 38, 40):
        assert decide(machine, sock, family) == 0x00050000 | errno.EAFNOSUPPORT
    assert decide(machine, ioctl, 0, 0x5413) == ALLOW
    assert decide(machine, ioctl, 0, seccomp.TIOCSTI) == EPERM
    assert decide(machine, ioctl, 0, seccomp.TIOCSTI | 1 << 32) == EPERM  # the kernel cuts it too
    assert decide(machine, ioctl, 0, seccomp.TIOCLINUX) == EPERM


def test_other_tables_are_fatal() -> None:
    assert decide("x86_64", 1, arch=0x40000003) == KILL  # 32-bit calls
    assert decide("x86_64", 0x40000000 | 1) == KILL  # x32 calls
    assert decide("aarch64", 1, arch=0x40000028) == KILL


def test_unknown_machines_have_no_filter() -> None:
    assert seccomp.filter_program("riscv64") is None
    assert seccomp.Filter("riscv64").program is None
