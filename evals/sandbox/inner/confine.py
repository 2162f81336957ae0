"""What a freshly forked job does to itself before it touches untrusted text.

In this order: own session; standard streams; the namespaces of its place (:mod:`.places`), with an
empty ``/tmp`` as its working directory; resource limits; an unprivileged identity; the Landlock
rules of its place; the last part of the system-call filter. Its own PID namespace it got by the
fork, no_new_privs and the rest of the filter from its zygote (:mod:`.zygote`).

How it becomes unprivileged depends on what the sandbox's owner may do (:data:`.places.Identity`):

- ``uids``: root gives each job in flight a user id of its own, so that the kernel counts processes
  per job.
- ``userns``: an ordinary user's job enters a user namespace of its own and drops every capability
  there.
- ``none``: no sandbox (``unsafe_local``): only limits, no_new_privs, the filter, and a working
  directory.

This runs once a job, in memory shared with the zygote until it is written, where each page touched
costs a copy. So all that can be is made before the fork.
"""

from __future__ import annotations

import math
import os
import resource
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import landlock, linux
from .places import EMPTY, WORK, Place
from .seccomp import Filter

HIDDEN = str(Path(EMPTY).parent / "inner")  # readable by its mode, but not by the Landlock rules
NO_CAPABILITIES: frozenset[int] = frozenset()

Bounds = list[tuple[int, tuple[int, int]]]


def bounds(limits: Mapping[str, Any]) -> Bounds:
    """The resource limits for a job: pairs of arguments of ``setrlimit``.

    Args:
        limits: the fields of ``codegen.evals.sandbox.Limits``.
    """
    mebibyte = 1 << 20
    # The kernel counts whole seconds; the zygote watches the exact limit and this one is behind it.
    cpu = math.ceil(limits["cpu_s"]) + 1
    result: Bounds = []
    for name, value in (
        ("AS", limits["memory_mib"] * mebibyte),
        ("CPU", cpu),
        ("FSIZE", limits["file_mib"] * mebibyte),
        ("NOFILE", limits["open_files"]),
        ("NPROC", limits["processes"]),
        ("CORE", 0),
        ("MEMLOCK", 0),
        ("MSGQUEUE", 0),
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
    place: Place,
    limits: Bounds,
    last_filter: Filter,
    stdin: int | None,
    stdout: int | None,
    directory: str = WORK,
) -> None:
    """Confines the calling process for good.

    Args:
        place: where it is to run; prepared.
        limits: see :func:`bounds`.
        last_filter: the part of the system-call filter that the zygote itself can't live with.
        stdin, stdout: descriptors for the standard streams; None leaves them, at /dev/null.
        directory: the working directory.

    Raises:
        OSError: if any layer can't be put in force; the job must not go on then.
    """
    os.setsid()
    if stdin is not None:
        os.dup2(stdin, 0)
    if stdout is not None:
        os.dup2(stdout, 1)
    for fd, kind in place.namespaces:
        linux.setns(fd, kind)
    os.chdir(directory)
    for number, pair in limits:
        resource.setrlimit(number, pair)
    uid = place.uid
    if place.identity == "uids":
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif place.identity == "userns":
        linux.keep_capabilities(NO_CAPABILITIES)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if place.rules is not None:
        landlock.restrict_self(place.rules)
    last_filter.load()


def layers_in_force(place: Place) -> dict[str, bool]:
    """What a process confined in a place finds about itself; asked of a test job when a sandbox
    starts.
    """
    identity = place.identity
    return {
        "job_pid_namespace": os.getpid() == 1,
        "unprivileged_user": identity != "none" and os.geteuid() != 0,
        "no_new_privs": linux.prctl(linux.PR_GET_NO_NEW_PRIVS) == 1,
        "seccomp": linux.prctl(linux.PR_GET_SECCOMP) != 0 and not _can_unshare(),
        "landlock": place.rules is not None and not _can_list(HIDDEN),
        "private_files": identity != "none"
        and not os.access("/", os.W_OK)
        and not any(Path("/proc").iterdir()),
        "python_readable": os.access(os.__file__, os.R_OK),
        "rlimits": resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
    }


def _can_unshare() -> bool:
    try:
        linux.unshare(0)  # changes nothing, and is refused by the filter alone
    except OSError:
        return False
    return True


def _can_list(directory: str) -> bool:
    try:
        os.listdir(directory)  # noqa: PTH208 - no need for paths
    except OSError:
        return False
    return True
