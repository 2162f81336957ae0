"""Starts zygotes: selects the machine's backend, the mounts and the command.

Backends, tried in this order unless one is selected:

- ``bwrap``: bubblewrap;
- ``namespaces``: the same layers by plain system calls (:mod:`.isolation.newroot`);
- ``unsafe_local``: no sandbox, only on request.

In both sandboxes, the root has the Python runtime at a world-traversable path and the system's
libraries and tools, all read-only, and nothing else from the host. Directories of
installed Python packages are excluded, since they may contain the datasets' solutions.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from codegen.core.errors import SandboxError

from .isolation.namespaces import EMPTY, INNER_UID, OF_MACHINE, OWN_FILES, PROC
from .packages import Packages

Backend = Literal["bwrap", "namespaces", "unsafe_local"]
Role = Literal["program", "tests"]

START_TIMEOUT_S = 60.0
NO_PACKAGES = Packages()
SLOTS = 8  # simultaneous jobs per zygote, including exiting ones
PYTHON_AT = "/opt/python"
CODE_AT = "/opt/sandbox"
# By the sandbox's role: the packages that run in it, and the module of its jobs. They use only the
# standard library and each other, and are imported as parts of a package codegen_sandbox.
CODE: dict[Role, tuple[str, ...]] = {
    "program": ("isolation", "protocol", "program_side"),
    "tests": ("isolation", "protocol", "tests_side"),
}
JOBS: dict[Role, str] = {"program": "program_side.program", "tests": "tests_side.checker"}
REMEDY = (
    "Install bubblewrap (Debian, Ubuntu: apt install bubblewrap) or allow unprivileged user "
    "namespaces; in Docker see docs/install.md. Or accept the risk with "
    "unsafe_local=True (-o unsafe_local=true), which runs the programs without a sandbox."
)

_HERE = str(Path(__file__).parent)
_SYSTEM = (
    *("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/usr/bin"),
    *("/usr/share/zoneinfo", "/nix/store", "/gnu/store"),
)
_LINKED = ("/bin", "/lib", "/lib32", "/lib64")
_zygote_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class RootDirectory:
    """The content of the sandbox's root directory, and Python's command line in it."""

    binds: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    masks: tuple[str, ...]
    dirs: tuple[str, ...]
    python: str
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class LaunchMode:
    """A way to run zygotes: the backend, and the method that makes its jobs unprivileged (see
    ``isolation.namespaces``).
    """

    backend: Backend
    identity: Literal["uids", "userns", "none"]


class ZygoteProcess:
    """The driver's handle on a running zygote: its process and its control socket."""

    def __init__(
        self, way: LaunchMode, role: Role, process: subprocess.Popen[bytes], errors: Any
    ) -> None:
        self.way = way
        self.role: Role = role
        self.process = process
        self.control: socket.socket
        self.ready: dict[str, Any] = {}
        self._errors = errors

    def last_words(self) -> str:
        """Returns the last line of the zygote's standard error."""
        self._errors.seek(0)
        lines = self._errors.read()[-2000:].decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self, grace_s: float = 2.0) -> None:
        """Stops the zygote and everything in its sandbox."""
        self.control.close()
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._errors.close()


def ways(backend: str) -> Iterator[LaunchMode]:
    """Yields the launch modes to try, best first, for a backend's name or ``auto``.

    Raises:
        SandboxError: for an unknown name.
    """
    if backend not in ("auto", "bwrap", "namespaces", "unsafe_local"):
        raise SandboxError(
            f"Unknown sandbox backend {backend!r}.",
            "Choose one of: auto, bwrap, namespaces, unsafe_local.",
        )
    if backend == "unsafe_local":
        yield LaunchMode("unsafe_local", "none")
        return
    # Root never falls back to a user namespace: its jobs would be the host's uid 0, which has no
    # process limit.
    identity = "uids" if os.geteuid() == 0 and _job_uids() is not None else "userns"
    for name in ("bwrap", "namespaces"):
        if backend in ("auto", name) and (name != "bwrap" or shutil.which("bwrap")):
            yield LaunchMode(name, identity)


def start(
    way: LaunchMode, role: Role, core: int | None = None, packages: Packages = NO_PACKAGES
) -> ZygoteProcess:
    """Starts a zygote and waits until its test job reports the layers in force.

    The calling thread must live as long as the zygote: the kernel kills the sandbox when
    the thread exits. With ``core``, all its processes start on that processor.

    Raises:
        SandboxError: if the zygote does not start; contains the reason.
    """
    config = zygote_settings(way, role)
    uids = range(config["uid_base"], config["uid_base"] + config["slots"])
    layout = _layout(way, role, uids, packages)
    config["modules"] = packages.modules
    config["search_path"] = (
        packages.search_path_without_sandbox()
        if way.backend == "unsafe_local"
        else packages.search_path
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the zygote
    config["control_fd"] = theirs.fileno()
    texts = [memory_file(text.encode()) for _, text in layout.files]
    try:
        with _on(core):
            process = subprocess.Popen(
                _command(way, layout, config, texts),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[theirs.fileno(), *texts],
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), **layout.environment},
                cwd="/",
                start_new_session=True,  # only the driver handles a terminal's Ctrl-C
            )
    except OSError as error:
        ours.close()
        errors.close()
        raise SandboxError(f"{way.backend} cannot be started: {error}.") from None
    finally:
        theirs.close()
        for fd in texts:
            os.close(fd)
    zygote = ZygoteProcess(way, role, process, errors)
    zygote.control = ours
    try:
        ours.settimeout(START_TIMEOUT_S)
        message: dict[str, Any] = json.loads(ours.recv(16384) or b"{}")
        ours.settimeout(None)
    except (OSError, ValueError) as error:
        message = {"message": f"no answer: {error}"}
    missing = [name for name, holds in message.get("layers", {}).items() if not holds]
    if way.identity == "none":
        missing = []
    if "seccomp" in missing and os.uname().machine not in ("x86_64", "aarch64"):
        missing.remove("seccomp")
    if "landlock" in missing and not message.get("landlock_abi"):
        missing.remove("landlock")  # unavailable on some kernels; the mounts suffice
    if message.get("op") != "ready" or missing:
        zygote.process.kill()
        zygote.process.wait()
        reason = message.get("message") or zygote.last_words() or "it exited immediately"
        if missing:
            reason = f"these layers are not in force: {', '.join(missing)}"
        zygote.close()
        raise SandboxError(f"{way.backend} ({way.identity}) does not work here: {reason}")
    zygote.ready = message
    return zygote


def memory_file(data: bytes, *, append: bool = False) -> int:
    """Returns a memory file's descriptor, at the start of ``data``, to send to a sandbox."""
    fd = os.memfd_create("job", os.MFD_CLOEXEC)
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
    if append:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    return fd


@contextlib.contextmanager
def _on(core: int | None) -> Iterator[None]:
    """Pins the calling thread, and processes it starts, to a processor; None changes nothing."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # the processor may be offline or unavailable
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)


def choose(
    backend: str, core: int | None = None, packages: Packages = NO_PACKAGES
) -> tuple[LaunchMode, ZygoteProcess]:
    """Returns the first launch mode that works, with a running zygote for programs.

    Raises:
        SandboxError: if none works; contains the reason for each.
    """
    reasons = []
    if backend in ("auto", "bwrap") and not shutil.which("bwrap"):
        reasons.append("bubblewrap (bwrap) is not installed")
    for way in ways(backend):
        try:
            return way, start(way, "program", core, packages)
        except SandboxError as error:
            reasons.append(error.message)
    raise SandboxError(
        f"No safe way to run untrusted programs on this machine: {'; '.join(reasons)}.", REMEDY
    )


def _command(
    way: LaunchMode, layout: RootDirectory, zygote_config: dict[str, Any], texts: Sequence[int]
) -> list[str]:
    code = _HERE if way.backend == "unsafe_local" else CODE_AT
    zygote = [layout.python, *_python_arguments("zygote", code)]
    zygote.append(json.dumps(zygote_config))
    if way.backend == "bwrap":
        bwrap = shutil.which("bwrap") or "bwrap"
        return [bwrap, *_bwrap_options(way, layout, texts), "--", *zygote]
    if way.backend == "unsafe_local":
        return zygote
    config = {
        "identity": way.identity,
        "binds": layout.binds,
        "files": layout.files,
        "links": layout.links,
        "masks": layout.masks,
        "dirs": layout.dirs,
        "command": zygote,
        "env": layout.environment,
        "control_fd": zygote_config["control_fd"],
    }
    arguments = _python_arguments("newroot", _HERE)
    return [_host_python(), *arguments, json.dumps(config)]


def _python_arguments(module: str, path: str) -> list[str]:
    # Like -I, but -I would ignore PYTHONHASHSEED, which makes the order of sets reproducible.
    code = (
        "import sys; made = sys.modules['codegen_sandbox'] = type(sys)('codegen_sandbox'); "
        f"made.__path__ = [{path!r}]; "
        f"from codegen_sandbox.isolation.{module} import main; main(sys.argv[1])"
    )
    return ["-P", "-s", "-S", "-B", "-c", code]


def zygote_settings(way: LaunchMode, role: Role) -> dict[str, Any]:
    """Returns the configuration of a zygote; ``compiled`` selects the compiled launcher."""
    uids = _job_uids() or range(1)
    block = (os.getpid() * 64 + next(_zygote_numbers)) % max(1, len(uids) // SLOTS)
    return {
        "role": role,
        "job": JOBS[role],
        "identity": way.identity,
        "uid_base": uids.start + block * SLOTS,
        "slots": SLOTS,
        "landlock": True,
        "compiled": True,  # if it has been compiled
        "driver_namespaces": {
            name: str(Path(f"/proc/self/ns/{name}").readlink())
            for name in ("pid", "net", "ipc", "mnt", "uts")
        },
    }


def _job_uids() -> range | None:
    """Returns user ids that root can assign to jobs: the upper half of the largest mapped range;
    None if it is too small.
    """
    best = range(0)
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        start, _, length = (int(field) for field in line.split())
        # In a full mapping, avoid the ids that distributions assign to containers and services.
        usable = range(start + length // 2, min(start + length, (1 << 32) - 16))
        if len(usable) > len(best):
            best = usable
    return best if len(best) >= 16 * SLOTS else None


def _bwrap_options(way: LaunchMode, layout: RootDirectory, texts: Sequence[int]) -> list[str]:
    options = [
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--hostname", "sandbox", "--die-with-parent"),
        *("--new-session", "--clearenv", "--cap-drop", "ALL"),
    ]
    capabilities = ["SYS_ADMIN", "SYS_CHROOT", "NET_ADMIN", "KILL"]
    if way.identity == "userns":
        options += ["--unshare-user", "--uid", "0", "--gid", "0"]
        capabilities.append("SETFCAP")  # a job's own user namespace maps this uid 0
    else:
        capabilities += ["SETUID", "SETGID", "MKNOD"]
    for name in capabilities:
        options += ["--cap-add", f"CAP_{name}"]
    for name, value in layout.environment.items():
        options += ["--setenv", name, value]
    for directory in layout.dirs:
        options += ["--perms", "0755", "--dir", directory]
    for source, target in layout.binds:
        options += ["--ro-bind", source, target]
    for (target, _), fd in zip(layout.files, texts, strict=True):
        options += ["--perms", "0644", "--file", str(fd), target]
    for target, text in layout.links:
        options += ["--symlink", text, target]
    for target in layout.masks:
        options += ["--perms", "0755", "--tmpfs", target, "--remount-ro", target]
    options += ["--proc", "/proc", "--dev", "/dev", "--dir", "/tmp", "--chdir", "/"]
    return [*options, "--remount-ro", "/dev", "--remount-ro", "/"]


def _files(uids: range) -> dict[str, str]:
    """Returns files that programs expect, such as host and user names in ``/etc``."""
    users = [(0, "root"), (INNER_UID, "sandbox"), *((uid, "sandbox") for uid in uids)]
    return {
        "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
        "/etc/passwd": "".join(f"{name}:x:{uid}:{uid}::/tmp:/bin/sh\n" for uid, name in users),
        "/etc/group": "".join(f"{name}:x:{uid}:\n" for uid, name in users),
        **{f"{PROC}/self/{name}": "" for name in OWN_FILES[:-1]},
    }


def _layout(way: LaunchMode, role: Role, uids: range, packages: Packages) -> RootDirectory:
    environment = {
        "PATH": f"{PYTHON_AT}/bin:/usr/bin:/bin",
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Each of malloc's arenas reserves 64 MiB of address space, which is limited.
        "MALLOC_ARENA_MAX": "2",
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads would use up a job's CPU time
        **packages.environment,
    }
    if way.backend == "unsafe_local":
        environment["PATH"] = os.environ.get("PATH", "/usr/bin:/bin")
        environment["TMPDIR"] = tempfile.gettempdir()
        return RootDirectory((), (), (), (), (), _host_python(), environment)
    prefix = os.path.realpath(sys.base_prefix)
    binds = [(path, path) for path in _SYSTEM if Path(path).is_dir()]
    links = []
    for path in _LINKED:
        if Path(path).is_symlink():
            links.append((path, str(Path(path).readlink())))
        elif Path(path).is_dir():
            binds.append((path, path))
    python = _host_python()
    if prefix != "/usr":
        # Python may be in a private home directory: mount it where an unprivileged job can reach
        # it.
        for name in ("bin", "lib", "lib64"):
            if Path(prefix, name).is_dir():
                binds.append((f"{prefix}/{name}", f"{PYTHON_AT}/{name}"))
        python = f"{PYTHON_AT}/bin/{Path(python).name}"
        environment["LD_LIBRARY_PATH"] = f"{PYTHON_AT}/lib"
    binds += [(f"{_HERE}/{name}", f"{CODE_AT}/{name}") for name in CODE[role]]
    masks = [mask for source, target in binds for mask in _package_directories(source, target)]
    binds += packages.binds
    files = _files(uids)
    binds += [
        (f"/proc/{name}", f"{PROC}/{name}") for name in OF_MACHINE if Path("/proc", name).exists()
    ]
    links += [(f"{PROC}/1", "self"), (f"{PROC}/thread-self", "self")]
    targets = [PurePosixPath(target) for target in (*(target for _, target in binds), *files)]
    # Lists parents first: bubblewrap would create missing ones with access only for root.
    dirs = sorted(
        {EMPTY, f"{PROC}/self/{OWN_FILES[-1]}"}
        | {str(p) for target in targets for p in target.parents} - {"/"}
    )
    return RootDirectory(
        tuple(binds),
        tuple(files.items()),
        tuple(links),
        tuple(masks),
        tuple(dirs),
        python,
        environment,
    )


def _package_directories(source: str, target: str) -> Iterator[str]:
    """Yields directories of installed packages in a bind mount, by their sandbox paths."""
    if Path(source).name not in ("lib", "lib64"):
        return
    for pattern in ("python*/site-packages", "python*/dist-packages"):
        for path in sorted(Path(source).glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                yield f"{target}/{path.relative_to(source)}"


def _host_python() -> str:
    """Returns the interpreter, not a virtual environment's link to it.

    Raises:
        SandboxError: if it is missing below ``sys.base_prefix``.
    """
    prefix = os.path.realpath(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = (Path(os.path.realpath(sys.executable)).name, version, "python3")
    for name in names:
        path = Path(prefix, "bin", name)
        if path.is_file():
            return str(path.resolve()) if path.resolve().parent == path.parent else str(path)
    raise SandboxError(
        f"No Python interpreter in {prefix}/bin.", "Run codegen with an ordinary installation."
    )
