"""Confines a freshly forked job before it touches untrusted code.

In this order: a new session; its namespaces (:mod:`.namespaces`), with an empty ``/tmp`` as its
working directory; its own standard streams; resource limits; an unprivileged identity; the Landlock
rules of its set of namespaces; the last part of the system-call filter. The fork gave it its own
PID namespace; no_new_privs and the rest of the filter are inherited from its zygote
(:mod:`.zygote`).

The method to make it unprivileged depends on the permissions of the sandbox's owner
(:data:`.namespaces.Identity`):

- ``uids``: root assigns each job in flight its own user id, so that the kernel counts processes
  per job.
- ``userns``: an ordinary user's job enters its own user namespace and drops every capability
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

SIGNALS = 1024  # queued signals and timers; each takes kernel memory

Bounds = list[tuple[int, tuple[int, int]]]


def bounds(order: Order, own_bytes: int) -> Bounds:
    """Returns a job's resource limits: pairs of arguments of ``setrlimit``. ``own_bytes`` is its
    address space after the fork.
    """
    mebibyte = 1 << 20
    # The kernel counts whole seconds; the zygote enforces the exact limit and this one is a backup.
    cpu = math.ceil(order.cpu_s) + 1
    output = order.output_bytes + mebibyte if order.output_bytes else 0
    result: Bounds = []
    for name, value in (
        ("AS", (order.address_mib or order.memory_mib) * mebibyte + own_bytes),
        ("CPU", cpu),
        # Its standard output counts as a file too.
        ("FSIZE", max(order.file_mib * mebibyte, output)),
        ("NOFILE", order.open_files),
        ("NPROC", order.processes),
        ("CORE", 1),  # not 0: hosts that pipe cores to a program would run it anyway
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
    """Confines the calling process permanently (``_launcher.c`` has the same in C).

    Args:
        namespaces: prepared namespaces to enter.
        limits: resource limits, see :func:`bounds`.
        last_filter: the part of the system-call filter that would prevent the zygote's own work.
        stdin, stdout: descriptors for the standard streams; None opens /dev/null.
        directory: the working directory.
        own_proc: see :class:`.orders.Order`.

    Raises:
        OSError: if any layer cannot be enforced; the job must exit then.
    """
    os.setsid()
    proc = make_own_proc() if own_proc else -1
    for fd, kind in namespaces.to_enter:
        linux.setns(fd, kind)
    show_own_proc(proc)
    # Opened by this job: locks, flags and owners of signals belong to an open file, and would
    # outlive the job in one that it shares with the zygote.
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
    if namespaces.identity != "none":  # a change of user id keeps only the inheritable ones
        linux.keep_capabilities(frozenset())
    if own_proc:
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # its children may read it too
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if namespaces.rules is not None:
        linux.landlock_self(namespaces.rules)
    last_filter.load()
