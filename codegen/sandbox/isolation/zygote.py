"""The process in a sandbox that forks a child per job, monitors it, and reports its exit.

It is trusted code, but runs with the sandbox's view of the system. It does not read jobs' code: the
job's program or tests are in a memory file that only the child opens. The driver sends orders over
a SOCK_SEQPACKET socket (:mod:`..protocol.orders`), with the job's descriptors attached. When the
socket closes, the zygote exits, and the kernel kills everything in its PID namespace.

Every job inherits the imports of this process and pays for them: a fork copies the page tables, and
each shared library adds five mappings. So this module and its imports for programs avoid much of
the standard library.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from . import linux
from .namespaces import WORK
from .seccomp import SeccompFilter
from .serving import CompiledZygote, Main, Zygote

# The most common imports of programs and tests. Rare ones are omitted, since each shared library
# makes every fork slower: hashlib alone loads OpenSSL, 26 mappings.
PRELOAD = (
    *("abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum"),
    *("functools", "heapq", "inspect", "io", "itertools", "json", "math", "operator"),
    *("random", "re", "string", "struct", "textwrap", "time", "traceback", "types", "typing"),
)


def main(config_text: str) -> None:
    """Serves jobs; ``config_text`` is JSON with the fields below, from the driver's
    ``launch`` module.
    """
    config = json.loads(config_text)
    if not config["compiled"]:
        linux.launcher = None
    _import(PRELOAD)
    sys.path += config["search_path"]
    _import_packages(config)
    os.set_inheritable(config["control_fd"], False)
    own = {
        f"{name}_namespace": os.readlink(f"/proc/self/ns/{name}") != outside
        for name, outside in config["driver_namespaces"].items()
    }
    if config["identity"] != "none" and not own["pid_namespace"]:
        raise SystemExit("refusing to serve: this is the driver's PID namespace")
    errors = _streams()
    os.umask(0o077)
    # Prevents jobs of the same user from reading this process.
    linux.prctl(linux.PR_SET_DUMPABLE, 0 if config["identity"] == "uids" else 1)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    SeccompFilter(part="zygote").load()
    job = importlib.import_module(f"..{config['job']}", __package__)
    zygote = _zygote(config, job.main, own, errors)
    if config["identity"] != "none":
        os.environ["HOME"] = os.environ["TMPDIR"] = WORK
    if hasattr(job, "prepare"):
        job.prepare()
    del sys.argv[1:]  # jobs do not need the arguments
    gc.collect()
    gc.freeze()
    try:
        zygote.serve(config["slots"])
    except BaseException:
        import traceback

        os.write(errors, traceback.format_exc().encode("utf-8", "replace"))
        raise


def _zygote(config: dict[str, object], main: Main, own: dict[str, bool], errors: int) -> Zygote:
    programs = config["role"] == "program"
    fields: dict[str, Any] = {
        "control": config["control_fd"],
        "identity": config["identity"],
        "uid_base": config["uid_base"],
        "main": main,
        "own_namespaces": own,
        "landlock_abi": linux.landlock_abi() if config["landlock"] else 0,
        "errors": errors,
    }
    if programs and linux.launcher is not None and config["identity"] != "none":
        return CompiledZygote(**fields)
    from .python_zygote import PythonZygote

    return PythonZygote(programs=programs, **fields)


def _streams() -> int:
    """Puts the sandbox's own /dev/null at descriptors 0 to 2, for the jobs; returns the descriptor
    for this process's error messages.
    """
    errors = os.dup(2)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
    os.set_inheritable(errors, False)
    return errors


def _import(names: Iterable[str]) -> None:
    """Imports modules without their fork hooks.

    ``random`` would reseed itself after a fork; without it, every job starts with the same state,
    and a program or test that uses random numbers gets the same verdict each time.
    """
    register = os.register_at_fork
    os.register_at_fork = lambda **_: None
    try:
        for name in names:
            importlib.import_module(name)
    finally:
        os.register_at_fork = register
    sys.modules["random"].seed(0)
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random").seed(0)


def _import_packages(config: dict[str, Any]) -> None:
    """Imports the packages that programs may use, to save each program the time.

    A fork does not copy threads. If a package starts threads, or cannot be imported, this process
    restarts without packages, and each program imports them itself.
    """
    try:
        _import(config["modules"])
        fine = len(os.listdir("/proc/self/task")) == 1
    except Exception:  # noqa: BLE001 - a package's code may raise anything
        fine = False
    if not fine and config["modules"]:
        config["modules"] = []
        os.execv(sys.orig_argv[0], [*sys.orig_argv[:-1], json.dumps(config)])
