"""What a job sees of itself in ``/proc``, if its program may want to look.

A place's ``/proc`` is a directory of the sandbox with a few files about the machine. A job whose
order says so also gets ``/proc/self``: files of its first process, bound one by one from a procfs
of its own PID namespace. Not all of procfs: ``mountinfo`` and the like tell where the sandbox's
mounts lie on the host. ``/dev/stdin`` and its like lead there too.

The place has to be made anew afterwards, so this is only for programs that name these paths.
"""

from __future__ import annotations

import contextlib
import os

from . import linux
from .places import EMPTY, OWN_FILES, WORK

_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_AT_FDCWD, _MOVE_MOUNT_F_EMPTY_PATH = -100, 4


def make() -> int:
    """A procfs of this PID namespace, mounted nowhere yet: a descriptor. To be called while this
    process still has the rights of the sandbox; -1 if the kernel has no such thing.
    """
    try:
        fd = linux.call("fsopen", b"proc", 1)
        # Processes alone: nothing of the kernel's settings.
        linux.call("fsconfig", fd, _FSCONFIG_SET_STRING, b"subset", b"pid", 0)
        linux.call("fsconfig", fd, _FSCONFIG_CMD_CREATE, None, None, 0)
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        mounted = linux.call("fsmount", fd, 1, flags)
    except OSError:  # a kernel older than 5.8
        return -1
    os.close(fd)
    return mounted


def show(fd: int) -> None:
    """Binds the files of process 1 to ``/proc/self``. To be called in the place of the job."""
    if fd < 0:
        return
    linux.call("move_mount", fd, b"", _AT_FDCWD, EMPTY.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(fd)
    for name in OWN_FILES:
        with contextlib.suppress(OSError):  # an older kernel, or one made without it
            linux.mount(f"{EMPTY}/1/{name}", f"/proc/self/{name}", None, linux.MS_BIND)
    linux.umount(EMPTY, linux.MNT_DETACH)
    # Has the place dropped when the job has ended.
    os.mkdir(f"{WORK}/.seen")
    os.rmdir(f"{WORK}/.seen")
