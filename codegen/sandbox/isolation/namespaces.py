"""Sets of namespaces prepared in advance, so that a job only has to enter them.

Creating namespaces, mounts and access rules takes longer than entering them, so a zygote keeps a
few sets, one for each job in flight. A set has its own network and IPC namespace (for an ordinary
user also a user namespace), and a mount namespace with an empty ``/tmp``, its working directory,
which is also ``/dev/shm``; its own devices if root can make them; and a minimal ``/proc``.

A set is reused if its ``/tmp`` is unchanged. If a job wrote there, its mount namespace is dropped
with everything in it and a new one is made: there is no cleanup that could miss files.
The change times of the two directories show this; a job cannot reset them. By then the job's
processes have exited with its PID namespace, so its sockets and open files are closed.

``/proc`` of a set is a directory of the sandbox with a few files about the machine. On request
(:class:`..protocol.orders.JobRequest`) a job also gets ``/proc/self``: files of its first process,
bound one by one from a procfs of the job's PID namespace. Other files of procfs are omitted, since
``mountinfo`` and others reveal the sandbox's mounts on the host. ``/dev/stdin`` and similar links
need ``/proc/self``, too. The mount namespace must be remade afterwards, so this is only for
programs that contain these paths.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import stat
import struct
from typing import Any, Literal

from . import linux

# The method that makes a job unprivileged depends on the permissions of the sandbox's owner:
# uids: root assigns each job in flight its own user id, so the kernel counts processes per job.
# userns: an ordinary user's job enters its own user namespace and drops every capability there.
# none: no sandbox (unsafe_local): only limits, no_new_privs, the filter, and a working directory.
Identity = Literal["uids", "userns", "none"]
INNER_UID = 1000  # a job's user id in its user namespace
WORK = "/tmp"
SHARED = "/dev/shm"
EMPTY = "/opt/sandbox/empty"
PROC = "/opt/sandbox/proc"  # mounted as a job's /proc
OF_MACHINE = ("cpuinfo", "loadavg", "meminfo", "stat", "uptime", "version")
# A job's files in /proc about its own processes; the last is a directory.
OWN_FILES = ("cmdline", "comm", "environ", "io", "limits", "maps", "stat", "statm", "status", "fd")
PACKAGES = "/opt/packages"
TOOLCHAINS = "/opt/toolchains"  # compilers and interpreters outside of /usr, and their shared files
READABLE = (
    *("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix", "/gnu", "/opt/python", PACKAGES),
    *("/etc", "/proc", "/var/lib", TOOLCHAINS),
)
_DEVICE_NUMBERS = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}  # minor; major: 1
DEVICES = tuple(f"/dev/{name}" for name in _DEVICE_NUMBERS)
STREAM_LINKS = {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
_AT_FDCWD, _MOVE_MOUNT_F_EMPTY_PATH = -100, 4
_USER, _MOUNT = linux.CLONE_NEWUSER, linux.CLONE_NEWNS


class NamespaceSet:
    """The namespaces of one job in flight.

    Attributes:
        identity: see :data:`Identity`.
        uid: user id of its jobs, with identity ``uids``.
        file_mib: maximum file size in MiB that its ``/tmp`` was made for.
        to_enter: (descriptor, kind) pairs, in entry order.
        rules: descriptor of its Landlock rules; None without Landlock.
        watched: descriptors of the two directories whose change times show writes by a job.
    """

    def __init__(self, identity: Identity, uid: int) -> None:
        self.identity: Identity = identity
        self.uid = uid
        self.file_mib = 0
        self.to_enter: tuple[tuple[int, int], ...] = ()
        self.rules: int | None = None
        self.watched: tuple[int, ...] = ()
        self._untouched: tuple[object, ...] = ()
        self._lasting: dict[int, int] = {}

    def prepare(self, file_mib: int, landlock_abi: int) -> None:
        """Prepares the set for a job that may write files of this size.

        Raises:
            OSError: if namespaces, mounts or rules cannot be made.
        """
        if self.identity == "none" or (
            self.file_mib == file_mib and self._look() == self._untouched
        ):
            return
        self._drop_files()
        user = self.identity == "userns"
        wanted = [_MOUNT] if self._lasting else [*([_USER] if user else []), *_SINGLE, _MOUNT]
        made = _in_child(lambda: self._make(wanted, file_mib, landlock_abi))
        fds: dict[Any, int] = dict(zip([*wanted, "tmp", "shm", "rules"], made, strict=False))
        self._lasting |= {kind: fd for kind, fd in fds.items() if kind in (_USER, *_SINGLE)}
        self.to_enter = (*((fd, kind) for kind, fd in self._lasting.items()), (fds[_MOUNT], _MOUNT))
        self.watched = (fds["tmp"], fds["shm"])
        self.rules = fds.get("rules")
        self.file_mib = file_mib
        self._untouched = self._look()

    def _look(self) -> tuple[object, ...]:
        seen = []
        for fd in self.watched:
            stat = os.fstat(fd)
            seen.append((stat.st_ctime_ns, stat.st_mtime_ns, stat.st_nlink))
        return tuple(seen)

    def _drop_files(self) -> None:
        for fd, kind in self.to_enter:
            if kind == _MOUNT:
                os.close(fd)
        for fd in (*self.watched, *(() if self.rules is None else (self.rules,))):
            os.close(fd)
        self.to_enter, self.watched, self.rules, self.file_mib = (), (), None, 0

    def _make(self, wanted: list[int], file_mib: int, landlock_abi: int) -> list[int]:
        """Makes namespaces in a child process and returns their descriptors."""
        user = self.identity == "userns"
        if _USER in wanted:
            outer_uid, outer_gid = os.geteuid(), os.getegid()
            linux.unshare(_USER)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{INNER_UID} {outer_uid} 1")
            _write("/proc/self/gid_map", f"{INNER_UID} {outer_gid} 1")
        for kind, fd in self._lasting.items():
            linux.setns(fd, kind)
        linux.unshare(sum(kind for kind in wanted if kind != _USER))
        if linux.CLONE_NEWNET in wanted:
            linux.loopback_up()
            _bound_sockets()
        fds = [os.open(f"/proc/self/ns/{_FILE_OF[kind]}", os.O_RDONLY) for kind in wanted]
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOATIME
        size = f"size={4 * file_mib}m,nr_inodes=4096,mode=1777"
        linux.mount("tmpfs", WORK, "tmpfs", flags, size)
        if not user:
            _own_devices()
        shared = f"{WORK}/.shm"
        os.mkdir(shared)
        os.chmod(shared, 0o1777)  # the umask restricts mkdir's mode
        linux.mount(shared, SHARED, None, linux.MS_BIND)
        # Mounted last, since the maps above are written through the old /proc.
        linux.mount(PROC, "/proc", None, linux.MS_BIND | linux.MS_REC)
        fds += [os.open(path, os.O_PATH) for path in (WORK, SHARED)]
        if landlock_abi:
            fds.append(linux.landlock_rules(landlock_abi, READABLE, (WORK, SHARED), DEVICES))
        return fds


_SINGLE = (linux.CLONE_NEWNET, linux.CLONE_NEWIPC)
_FILE_OF = {_USER: "user", _MOUNT: "mnt", linux.CLONE_NEWNET: "net", linux.CLONE_NEWIPC: "ipc"}


def _in_child(make: Any) -> list[int]:
    """Runs ``make`` in a child process and receives the descriptors it returns."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            made = make()
            rights = struct.pack(f"{len(made)}i", *made)
            theirs.sendmsg([b"made"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        except BaseException as error:  # noqa: BLE001 - re-raised in the parent
            theirs.send(f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    theirs.close()
    message, ancillary, _, _ = ours.recvmsg(4096, _socket.CMSG_SPACE(16 * 4))
    ours.close()
    os.waitpid(pid, 0)
    if message != b"made":
        reason = message.decode("utf-8", "replace") or "the child that makes them died"
        raise OSError(f"cannot create the namespaces for a job: {reason}")
    rights = ancillary[0][2]
    return list(struct.unpack(f"{len(rights) // 4}i", rights))


# Settings of a network namespace. By default the kernel reserves a closed connection's port, which
# the next job may need, for a minute, and ten megabytes of buffers per socket, without a limit.
_SOCKET_SETTINGS = {
    "tcp_max_tw_buckets": "0",
    "tcp_rmem": "4096 65536 131072",
    "tcp_wmem": "4096 16384 131072",
}


def _bound_sockets() -> None:
    """Makes this network namespace forget closed connections and use small buffers.

    If an ordinary user made the sandbox with bubblewrap, the kernel's settings are not writable.
    """
    folder = "/proc/sys/net/ipv4"
    with contextlib.suppress(OSError):
        if not os.access(f"{folder}/tcp_rmem", os.W_OK):
            linux.umount("/proc/sys", linux.MNT_DETACH)  # bubblewrap's read-only mount
        for name, value in _SOCKET_SETTINGS.items():
            _write(f"{folder}/{name}", value)


def _own_devices() -> None:
    """Mounts a separate ``/dev``: locks on an inode are visible to all processes that share it,
    and the sandbox shares its inodes with the host.

    If a container may not make devices, the sandbox's devices remain.
    """
    tried = f"{WORK}/.null"
    try:
        os.mknod(tried, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        return
    os.unlink(tried)
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "size=4k,nr_inodes=32,mode=755")
    for name, minor in _DEVICE_NUMBERS.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR, os.makedev(1, minor))
        os.chmod(f"/dev/{name}", 0o666)
    for name, target in STREAM_LINKS.items():
        os.symlink(f"/proc/self/{target}", f"/dev/{name}")
    os.mkdir(SHARED)
    read_only = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID
    linux.mount("none", "/dev", None, read_only)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def make_own_proc() -> int:
    """Returns a descriptor of an unmounted procfs of this PID namespace; -1 if unsupported. Call it
    while this process still has the sandbox's rights.
    """
    try:
        fd = linux.call("fsopen", b"proc", 1)
        # Only processes, without the kernel's settings.
        linux.call("fsconfig", fd, _FSCONFIG_SET_STRING, b"subset", b"pid", 0)
        linux.call("fsconfig", fd, _FSCONFIG_CMD_CREATE, None, None, 0)
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        mounted = linux.call("fsmount", fd, 1, flags)
    except OSError:  # a kernel older than 5.8
        return -1
    os.close(fd)
    return mounted


def show_own_proc(fd: int) -> None:
    """Binds the files of process 1 to ``/proc/self``. Call it in the job's namespaces."""
    if fd < 0:
        return
    linux.call("move_mount", fd, b"", _AT_FDCWD, EMPTY.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(fd)
    for name in OWN_FILES:
        with contextlib.suppress(OSError):  # the kernel may lack the file
            linux.mount(f"{EMPTY}/1/{name}", f"/proc/self/{name}", None, linux.MS_BIND)
    linux.umount(EMPTY, linux.MNT_DETACH)
    # Changes /tmp, so that the mount namespace is remade after the job.
    os.mkdir(f"{WORK}/.seen")
    os.rmdir(f"{WORK}/.seen")
