"""The protocol between the driver and a zygote: packets of a fixed layout, with descriptors.

The driver orders a job to run or to stop; the zygote reports how a job ended. (Only its first
packet is JSON: "ready" or the reason for a failed start.) The compiled zygote (``_launcher.c``)
reads and writes the same layouts, in the machine's byte order.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import Literal, NamedTuple

HEARD = b"h"
"""Mark in the file that a test process and the driver share: the program sent data."""

CHANNEL_FD = 3  # the job's channel
PRINTED_FD = 4  # pipe for the beginning of a program's output
PRINTED_BYTES = 2000
# Descriptors that may be attached to an order, in their order of attachment.
FDS = ("payload", "channel", "stdin", "stdout")
# Reasons why a job ended: its own exit or signal ("exit"); a limit that the zygote enforced ("cpu"
# to "output"); the driver's order; or a failed start ("failed").
Reason = Literal["exit", "cpu", "wall", "memory", "output", "order", "failed"]
REASONS: tuple[Reason, ...] = ("exit", "cpu", "wall", "memory", "output", "order", "failed")

# The prefix of the payload of a program in another language; see :mod:`..program_side.command_job`.
FOREIGN = b"foreign\n"
# Version of these layouts and of the functions in _launcher.
LAYOUT = 5
_RUN, _KILL = 1, 2
# operation, id, descriptors, MiB of memory, MiB of a file, open files, processes, its own /proc,
# MiB of address space, unused; CPU seconds, wall-clock seconds; bytes of output to watch for
_ORDER = struct.Struct("=9I4x2dQ")
# id, reason, wait status, unused; CPU seconds, wall-clock seconds, maximum resident MiB; the job's
# output, or the reason it was not started
_END = struct.Struct("=2Ii4x3d")
_KINDS = {kind: 1 << number for number, kind in enumerate(FDS)}


class JobRequest(NamedTuple):
    """A job to run (or, with ``kill``, to stop): its limits, and its descriptors.

    Attributes:
        id: the driver's job number.
        fds: names from ``FDS``.
        wall_s: wall-clock limit in seconds.
        output_bytes: maximum bytes in the file ``stdout``; 0 for no limit.
        own_proc: whether the job has ``/proc/self``; see :mod:`..isolation.namespaces`.
        address_mib: address space of each process beyond the interpreter's; 0 for ``memory_mib``.
    """

    id: int
    fds: tuple[str, ...] = ()
    memory_mib: int = 0
    file_mib: int = 0
    open_files: int = 0
    processes: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    output_bytes: int = 0
    own_proc: bool = False
    kill: bool = False
    address_mib: int = 0

    def pack(self) -> bytes:
        """Returns the packet."""
        return _ORDER.pack(
            _KILL if self.kill else _RUN,
            self.id,
            sum([_KINDS[name] for name in self.fds]),
            self.memory_mib,
            self.file_mib,
            self.open_files,
            self.processes,
            self.own_proc,
            self.address_mib,
            self.cpu_s,
            self.wall_s,
            self.output_bytes,
        )


def read_order(packet: bytes) -> JobRequest:
    """Parses an order from the driver's packet."""
    operation, number, mask, memory, size, files, processes, own_proc, address, *rest = (
        _ORDER.unpack(packet)
    )
    cpu_s, wall_s, output = rest
    fds = tuple([name for name in FDS if mask & _KINDS[name]])
    return JobRequest(
        *(number, fds, memory, size, files, processes, cpu_s, wall_s, output),
        own_proc=bool(own_proc),
        kill=operation == _KILL,
        address_mib=address,
    )


class JobEnded(NamedTuple):
    """A finished job.

    Attributes:
        id: the driver's job number.
        status: wait status, as from ``os.wait``.
        text: the beginning of its printed output; with reason ``failed``, why it did not start.
    """

    id: int
    reason: Reason
    status: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    rss_mib: float = 0.0
    text: bytes = b""

    @property
    def signal(self) -> int:
        """Signal that killed the job, or 0."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def exit_code(self) -> int:
        """Exit code of the job; 0 if a signal killed it."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else 0

    def pack(self) -> bytes:
        """Returns the packet."""
        reason = REASONS.index(self.reason)
        figures = (self.cpu_s, self.wall_s, self.rss_mib)
        return _END.pack(self.id, reason, self.status, *figures) + self.text


def read_ended(packet: bytes) -> JobEnded:
    """Parses a finished job from a zygote's packet."""
    number, reason, status, cpu_s, wall_s, rss_mib = _END.unpack_from(packet)
    return JobEnded(number, REASONS[reason], status, cpu_s, wall_s, rss_mib, packet[_END.size :])


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Returns descriptor names in attachment order."""
    return tuple(sorted(names, key=FDS.index))
