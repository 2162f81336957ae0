"""What a freshly forked job does to itself before it touches untrusted text.

In this order: own session; own mount namespace with an empty ``/tmp`` (its working directory, which
vanishes with the job) and no view of ``/proc``; resource limits; standard streams; an unprivileged
identity; no_new_privs; the system-call filter. Its own PID namespace it got by the fork (see
:mod:`.zygote`).

How it becomes unprivileged depends on what the sandbox's owner may do (:data:`Identity`):

- ``uids``: root gives each job in flight a user id of its own, so that the kernel counts processes
  per job.
- ``userns``: an ordinary user's job enters a user namespace of its own and drops every capability
  there.
- ``none``: no sandbox (``unsafe_local``): only limits, no_new_privs, the filter, and a working
  directory.
"""

from __future__ import annotations

import math
import os
import resource
import signal
from pathlib import Path
from typing import Any, Literal

from . import linux
from .seccomp import Filter

Identity = Literal["uids", "userns", "none"]
INNER_UID = 1000  # what a job in a user namespace of its own sees as its user id
EMPTY = "/opt/sandbox/empty"
NULL = "/dev/null"


def confine(
    identity: Identity,
    uid: int,
    limits: dict[str, Any],
    call_filter: Filter,
    stdin: int | None,
    stdout: int | None,
    directory: str | None = None,
) -> None:
    """Confines the calling process for good.

    Args:
        identity: how to become unprivileged.
        uid: the user and group id to take; used by ``uids`` alone.
        limits: the fields of ``codegen.evals.sandbox.Limits``.
        call_filter: the system-call filter to load at the end.
        stdin, stdout: descriptors for the standard streams; None is /dev/null.
        directory: the working directory with identity ``none``; the others make their own.

    Raises:
        OSError: if any layer can't be put in force; the job must not go on then.
    """
    os.setsid()
    os.umask(0o077)
    _streams(stdin, stdout)
    if identity != "none":
        _own_files(identity, limits)
        directory = "/tmp"
    if directory is not None:
        os.chdir(directory)
        os.environ["HOME"] = os.environ["TMPDIR"] = directory
    _resource_limits(limits)
    if identity == "uids":
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    elif identity == "userns":
        linux.keep_capabilities(frozenset())
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    call_filter.load()


def layers_in_force(identity: Identity) -> dict[str, bool]:
    """What a confined process finds about itself; asked of a test job when a sandbox starts."""
    return {
        "job_pid_namespace": os.getpid() == 1,
        "unprivileged_user": identity != "none" and os.geteuid() != 0,
        "no_new_privs": linux.prctl(linux.PR_GET_NO_NEW_PRIVS) == 1,
        "seccomp": linux.prctl(linux.PR_GET_SECCOMP) != 0,
        "private_files": identity != "none"
        and not _can_write("/")
        and not any(Path("/proc").iterdir()),
        "python_readable": os.access(os.__file__, os.R_OK),
        "rlimits": resource.getrlimit(resource.RLIMIT_CORE) == (0, 0),
    }


def _can_write(directory: str) -> bool:
    return os.access(directory, os.W_OK)


def _streams(stdin: int | None, stdout: int | None) -> None:
    null = os.open(NULL, os.O_RDWR)
    for fd, source in ((0, stdin), (1, stdout), (2, None)):
        os.dup2(null if source is None else source, fd)
    os.close(null)


def _own_files(identity: Identity, limits: dict[str, Any]) -> None:
    if identity == "userns":
        outer_uid, outer_gid = os.geteuid(), os.getegid()
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{INNER_UID} {outer_uid} 1")
        Path("/proc/self/gid_map").write_text(f"{INNER_UID} {outer_gid} 1")
    else:
        linux.unshare(linux.CLONE_NEWNS)
    size = 4 * limits["file_mib"]
    flags = linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("tmpfs", "/tmp", "tmpfs", flags, f"size={size}m,nr_inodes=4096,mode=1777")
    shared = Path("/tmp/.shm")
    shared.mkdir()
    shared.chmod(0o1777)  # the umask cuts the mode that mkdir gives
    linux.mount("/tmp/.shm", "/dev/shm", None, linux.MS_BIND)
    # Hidden last: the maps above are written through it. Covering it costs less than a new proc.
    linux.mount(EMPTY, "/proc", None, linux.MS_BIND)


def _resource_limits(limits: dict[str, Any]) -> None:
    mebibyte = 1 << 20
    # The kernel counts whole seconds; the zygote watches the exact limit and this one is behind it.
    cpu = math.ceil(limits["cpu_s"]) + 1
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
        resource.setrlimit(number, (value, value))
