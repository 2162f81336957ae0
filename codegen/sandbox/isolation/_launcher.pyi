"""The compiled serving loop of a zygote of programs; optional. linux.py, serving.py and program.py
use it, and document their behavior without it.
"""

from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Literal

LAYOUT: int  # value in orders.py at compile time

def syscall(number: int, /, *arguments: int | bytes | None) -> int:
    """Makes a system call; bytes are passed by address. Returns -errno on failure."""

def load_filter(program: bytes, /) -> None:
    """Loads a BPF program as this process's system-call filter, permanently."""

def setup(
    control: int,
    errors: int,
    own_pid_namespace: int,
    uids: bool,
    uid_base: int,
    sets: int,
    directory: str,
    last_filter: bytes,
    make_proc: Callable[[], int],
    show_proc: Callable[[int], None],
    own_bytes: int,
    /,
) -> None:
    """Configures the loop: descriptors of the driver's socket, of error messages and of this PID
    namespace; whether jobs become unprivileged by user ids, and the first id; the number of sets of
    namespaces; a job's working directory; the last part of its filter; the functions of
    :mod:`.namespaces`; and the address space of this process. From here on SIGCHLD is blocked
    except while the loop waits.
    """

def set_namespaces(
    number: int,
    file_mib: int,
    namespaces: Sequence[tuple[int, int]],
    watched: tuple[int, ...],
    rules: int,
    /,
) -> None:
    """Passes a prepared :class:`.namespaces.NamespaceSet`; ``rules`` -1: none."""

def fork_trial(
    number: int, memory_mib: int, file_mib: int, open_files: int, processes: int, cpu_s: float, /
) -> int:
    """Forks like ``os.fork``; the child is confined like a job with these limits."""

def prepare_program(
    namespace: dict[str, Any],
    compile: Callable[..., CodeType],
    loads: Callable[[bytes], Any],
    flush: Callable[[Any], None],
    stdout: Any,
    file_name: str,
    exec: Callable[..., None],
    main: Callable[[bytes, bool], None],
    tell_failed: Callable[[BaseException, bool], None],
    tell_names: Callable[[], None],
    answer_other: Callable[[bytes], None],
    tell_raised: Callable[[BaseException], None],
    reply: Callable[[Any], None],
    /,
) -> None:
    """Passes the objects that a job's process uses, from program.py and the builtins."""

def serve() -> tuple[Literal["namespaces", "look", "closed"], int, int]:
    """Runs jobs until Python must act: make namespaces (the number of their set, and its file size
    in MiB), measure all processes of old jobs, or exit, since the driver has closed its socket. It
    does not return in a job's process.
    """

def refuse(reason: bytes, /) -> None:
    """Reports to the driver that the job that waits for namespaces cannot be started."""

def old_jobs() -> list[tuple[int, int, int]]:
    """Returns the ids, pids and memory limits in MiB of the jobs that have run long enough to
    measure all their processes.
    """

def seen(id: int, cpu_s: float, own_mib: float, /) -> None:
    """Records the total usage of a job's processes; kills it if that exceeds a limit."""

def end_all() -> None:
    """Kills all jobs and waits for them."""
