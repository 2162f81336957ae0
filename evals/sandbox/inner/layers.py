"""What a confined process finds about itself: which layers are in force."""

from __future__ import annotations

import os

from . import linux
from .places import EMPTY, Place

HIDDEN = EMPTY.replace("/empty", "/inner")  # readable by its mode, but not by the Landlock rules


def layers_in_force(place: Place) -> dict[str, bool]:
    """What a process confined in a place finds about itself; asked of a test job when a sandbox
    starts.
    """
    import resource  # a library that no other job needs

    identity = place.identity
    return {
        "job_pid_namespace": os.getpid() == 1,
        "unprivileged_user": identity != "none" and os.geteuid() != 0,
        "no_new_privs": linux.prctl(linux.PR_GET_NO_NEW_PRIVS) == 1,
        "seccomp": linux.prctl(linux.PR_GET_SECCOMP) != 0 and not _can_unshare(),
        "landlock": place.rules is not None and not _can_list(HIDDEN),
        "private_files": identity != "none"
        and not os.access("/", os.W_OK)
        and not os.listdir("/proc/self/fd"),
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
        os.listdir(directory)
    except OSError:
        return False
    return True
