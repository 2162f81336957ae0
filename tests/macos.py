"""Runs ``codegen`` without features that macOS lacks; not on a Mac, so it finds only our errors.

Compiled parts are absent, as in a pure wheel, and so are /proc and /sys for our modules.
"""

import os
import pkgutil
import select
import signal
import socket
import sys
import sysconfig
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LACKING: dict[Any, tuple[str, ...]] = {
    os: ("sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "O_TMPFILE",
         "posix_fadvise", "posix_fallocate", "eventfd", "copy_file_range", "pipe2", "O_PATH"),
    select: ("epoll",),
    signal: ("sigtimedwait", "sigwaitinfo", "pidfd_send_signal", "SIGPOLL"),
    socket: ("AF_NETLINK", "AF_PACKET", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED"),
}  # fmt: skip
STDLIB = sysconfig.get_path("stdlib")
ROOT = Path(__file__).parts[:-2]


class NothingCompiled(MetaPathFinder):
    """Finds none of our compiled modules."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """Raises ModuleNotFoundError for them."""
        if fullname.startswith("codegen.") and fullname.endswith(("._core", "._launcher")):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def no_proc(event: str, arguments: tuple[Any, ...]) -> None:
    """Fails if our code opens a file of Linux's file systems."""
    if event != "open" or not str(arguments[0]).startswith(("/proc/", "/sys/")):
        return
    frame: Any = sys._getframe(1)
    while frame and frame.f_code.co_filename.startswith((STDLIB, "<")):
        frame = frame.f_back
    if (
        frame
        and Path(frame.f_code.co_filename).parts[: len(ROOT)] == ROOT
        and ".venv" not in frame.f_code.co_filename
    ):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def pretend() -> None:
    """Takes away what macOS lacks, after other libraries have been loaded for the real platform."""
    for library in ("accelerate", "datasets", "peft", "psutil", "transformers", "uvicorn"):
        if find_spec(library):
            __import__(library)
    sysconfig.get_config_vars()
    for module, names in LACKING.items():
        for name in names:
            vars(module).pop(name, None)
    sys.meta_path.insert(0, NothingCompiled())
    sys.addaudithook(no_proc)
    sys.platform = "darwin"


if __name__ == "__main__":
    pretend()
    if sys.argv[1:] == ["import"]:
        import codegen

        for found in pkgutil.walk_packages(codegen.__path__, "codegen."):
            try:
                if not found.name.endswith(("__main__", "._core", "._launcher")):
                    __import__(found.name)
            except ModuleNotFoundError as error:  # a peer that is not installed
                if (error.name or "codegen").startswith("codegen"):
                    raise
    else:
        from codegen.cli import main

        main()
