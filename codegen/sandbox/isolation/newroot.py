"""Creates a sandbox without bubblewrap: the same namespaces and root directory, by plain system
calls.

The driver runs it in a fresh interpreter. It unshares namespaces (for an ordinary user,
first a user namespace), forks the init process of the new PID namespace, builds a root directory in
a tmpfs from read-only bind mounts, pivots into it, drops the capabilities that a zygote does not
need, and executes the zygote.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import stat
from pathlib import Path
from typing import Any, NoReturn

from . import linux
from .namespaces import DEVICES, STREAM_LINKS

# SYS_ADMIN and SYS_CHROOT: to enter a job's namespaces; NET_ADMIN: to bring up their loopback;
# MKNOD: to make their devices; SETFCAP: lets a job's own user namespace map the sandbox's uid 0
# (user_namespaces(7)).
KEPT = frozenset(
    {
        linux.CAP_KILL,
        linux.CAP_SETGID,
        linux.CAP_SETUID,
        linux.CAP_NET_ADMIN,
        linux.CAP_SYS_CHROOT,
        linux.CAP_SYS_ADMIN,
        linux.CAP_MKNOD,
        linux.CAP_SETFCAP,
    }
)
_FIXED_FLAGS = {
    os.ST_NOSUID: linux.MS_NOSUID,
    os.ST_NODEV: linux.MS_NODEV,
    os.ST_NOEXEC: linux.MS_NOEXEC,
    os.ST_NOATIME: linux.MS_NOATIME,
    os.ST_NODIRATIME: linux.MS_NODIRATIME,
    os.ST_RELATIME: linux.MS_RELATIME,
}


def main(config_text: str) -> NoReturn:
    """Runs the zygote in a new root. ``config_text`` is JSON with the keys identity, binds, files,
    links, masks, dirs, command, env and control_fd.
    """
    config = json.loads(config_text)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if config["identity"] == "userns":
        _enter_user_namespace()
    linux.unshare(
        linux.CLONE_NEWNS
        | linux.CLONE_NEWPID
        | linux.CLONE_NEWNET
        | linux.CLONE_NEWIPC
        | linux.CLONE_NEWUTS
    )
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            _become_init(config)
        except BaseException as error:  # noqa: BLE001 - reported before exiting
            os.write(2, f"{type(error).__name__}: {error} (below pid {parent})\n".encode())
        finally:
            os._exit(1)
    os.close(config["control_fd"])
    _, status = os.waitpid(pid, 0)
    os._exit(min(255, os.waitstatus_to_exitcode(status) % 256))


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _become_init(config: dict[str, Any]) -> NoReturn:
    os.setsid()
    os.umask(0o022)
    socket.sethostname("sandbox")
    linux.loopback_up()  # as bubblewrap does
    _pivot_into_new_root(config)
    linux.drop_bounding_set(KEPT)
    linux.keep_capabilities(KEPT)
    os.execve(config["command"][0], config["command"], config["env"])


def _pivot_into_new_root(config: dict[str, Any]) -> None:
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    base = "/tmp"
    # Opens sources first, since the new root may be mounted over them.
    sources = {source: os.open(source, os.O_PATH) for source, _ in config["binds"]}
    devices = {path: os.open(path, os.O_PATH) for path in DEVICES}
    linux.mount("tmpfs", base, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755,size=1m")
    for directory in ("/proc", "/dev", "/tmp", "/old", *config["dirs"]):
        Path(base + directory).mkdir(parents=True, exist_ok=True)
    for source, target in config["binds"]:
        fd = sources[source]
        _bind(f"/proc/self/fd/{fd}", base + target, is_directory=stat.S_ISDIR(os.fstat(fd).st_mode))
        _read_only(base + target)
    for target, text in config["links"]:
        Path(base + target).symlink_to(text)
    for target, text in config["files"]:
        Path(base + target).write_text(text)
    for target in config["masks"]:
        linux.mount("tmpfs", base + target, "tmpfs", linux.MS_RDONLY, "mode=755,size=4k")
    linux.mount("proc", base + "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.mount("tmpfs", base + "/dev", "tmpfs", linux.MS_NOSUID, "mode=755,size=4k,nr_inodes=32")
    Path(base + "/dev/shm").mkdir()
    for path, fd in devices.items():
        _bind(f"/proc/self/fd/{fd}", base + path, is_directory=False)
    for name, text in STREAM_LINKS.items():
        Path(f"{base}/dev/{name}").symlink_to(f"/proc/self/{text}")
    _read_only(base + "/dev", keep_devices=True)
    for fd in (*sources.values(), *devices.values()):
        os.close(fd)
    os.chdir(base)
    linux.pivot_root(".", "old")
    os.chdir("/")
    linux.umount("/old", linux.MNT_DETACH)
    Path("/old").rmdir()
    _remount("/", linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV)


def _bind(source: str, target: str, *, is_directory: bool) -> None:
    if is_directory:
        Path(target).mkdir(parents=True, exist_ok=True)
    else:
        Path(target).touch()
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)


def _read_only(target: str, *, keep_devices: bool = False) -> None:
    """Makes a mount and all mounts below it (from a recursive bind) read-only."""
    added = linux.MS_RDONLY | linux.MS_NOSUID | (0 if keep_devices else linux.MS_NODEV)
    try:
        linux.set_mount_flags(target, added)  # mount(2) and mount_setattr(2) have the same flags
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel older than 5.12
            raise
        for point in mounts_at_or_below(target):
            _remount(point, added)


def mounts_at_or_below(target: str) -> list[str]:
    """Returns the mount points of this namespace at or below a path, parents first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        # Spaces and similar characters are written as a backslash and three octal digits.
        point = re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), line.split(" ")[4])
        if target == "/" or point == target or point.startswith(f"{target}/"):
            found.append(point)
    return found


def _remount(target: str, added: int) -> None:
    flags = linux.MS_REMOUNT | linux.MS_BIND | added
    # In a user namespace a mount's existing flags are locked and must be repeated.
    present = os.statvfs(target).f_flag
    for bit, flag in _FIXED_FLAGS.items():
        if present & bit:
            flags |= flag
    linux.mount("none", target, None, flags)
