"""How a freshly forked job confines itself before it touches untrusted text.

In this order: a new session; its namespaces (:mod:`.namespaces`), with an empty ``/tmp`` as its
working directory; its own standard streams; resource limits; an unprivileged identity; the Landlock
rules of its set of namespaces; the last part of the system-call filter. The fork gave it its own
PID namespace; no_new_privs and the rest of the filter are inherited from its zygote
(:mod:`.zygote`).

How it becomes unprivileged depends on what the sandbox's owner may do
(:data:`.namespaces.Identity`):

- ``uids``: root gives each job in flight a user id of its own, so that the kernel counts processes
  per job.
- ``userns``: an ordinary user's job enters a user namespace of its own and drops every capability
  there.
- ``none``: no sandbox (``unsafe_local``): only limits, no_new_privs, the filter, and a working
  directory.

This runs once per job in memory shared with the zygote, where each page written costs a copy. So
everything possible is prepared before the fork.
"""

from __future__ import annotations

import math
import os
import resource
import signal

from . import linux
from .namespaces import WORK, NamespaceSet, make_own_proc, show_own_proc
from .orders import Order
from .seccomp import Filter

SIGNALS = 1024  # queued signals and timers; the kernel holds memory for each

Bounds = list[tuple[int, tuple[int, int]]]


def bounds(order: Order, own_bytes: int) -> Bounds:
    """The resource limits for a job: pairs of arguments of ``setrlimit``. ``own_bytes`` of address
    space it has by its fork.
    """
    mebibyte = 1 << 20
    # The kernel counts whole seconds; the zygote watches the exact limit and this one is behind it.
    cpu = math.ceil(order.cpu_s) + 1
    output = order.output_bytes + mebibyte if order.output_bytes else 0
    result: Bounds = []
    for name, value in (
        ("AS", (order.address_mib or order.memory_mib) * mebibyte + own_bytes),
        ("CPU", cpu),
        # What it writes to its standard output counts as a file too.
        ("FSIZE", max(order.file_mib * mebibyte, output)),
        ("NOFILE", order.open_files),
        ("NPROC", order.processes),
        ("CORE", 1),  # not 0, by which a host that pipes cores to a program runs that all the same
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
        ("SIGPENDING", SIGNALS),
        ("RTPRIO", 0),
        ("NICE", 0),
    ):
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:
            continue
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        result.append((number, (value, value)))
    return result


def confine(
    namespaces: NamespaceSet,
    limits: Bounds,
    last_filter: Filter,
    stdin: int | None,
    stdout: int | None,
    directory: str = WORK,
    own_proc: bool = False,
) -> None:
    """Confines the calling process for good (``_launcher.c`` has the same in C).

    Args:
        namespaces: to enter; prepared.
        limits: see :func:`bounds`.
        last_filter: the part of the system-call filter that would prevent the zygote's own work.
        stdin, stdout: descriptors for the standard streams; None opens /dev/null.
        directory: the working directory.
        own_proc: see :class:`.orders.Order`.

    Raises:
        OSError: if any layer can't be put in force; the job must end then.
    """
    os.setsid()
    proc = make_own_proc() if own_proc else -1
    for fd, kind in namespaces.to_enter:
        linux.setns(fd, kind)
    show_own_proc(proc)
    # Opened by this job: locks, flags and owners of signals are those of an open file, and would
    # outlive it in one that it shares with the zygote.
    null = os.open(os.devnull, os.O_RDWR)
    for target, fd in enumerate((stdin, stdout, None)):
        os.dup2(null if fd is None else fd, target)
    os.close(null)
    os.chdir(directory)
    for number, pair in limits:
        resource.setrlimit(number, pair)
    uid = namespaces.uid
    if namespaces.identity == "uids":
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if namespaces.identity != "none":  # after another user id only the inheritable ones are left
        linux.keep_capabilities(frozenset())
    if own_proc:
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # its children may look at it too
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if namespaces.rules is not None:
        linux.landlock_self(namespaces.rules)
    last_filter.load()
