"""The serving loop of a zygote of programs, compiled; optional. Used by linux.py, serving.py and
program.py, each of which says what it does without it.
"""

from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any, Literal

LAYOUT: int  # of orders.py, when it was compiled

def syscall(number: int, /, *arguments: int | bytes | None) -> int:
    """A system call; bytes are passed by their address. A negated error number if it fails."""

def load_filter(program: bytes, /) -> None:
    """Loads a BPF program as system-call filter into this process, for good."""

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
    """Tells the loop what it works with: descriptors of the driver's socket, of error messages and
    of this PID namespace; whether jobs become unprivileged by user ids, and the first of these; how
    many sets of namespaces there are; a job's working directory; the last part of its filter; the
    functions of :mod:`.namespaces`; and the address space of this process. From here on SIGCHLD is
    blocked but while the loop waits.
    """

def set_namespaces(
    number: int,
    file_mib: int,
    namespaces: Sequence[tuple[int, int]],
    watched: tuple[int, ...],
    rules: int,
    /,
) -> None:
    """Gives namespaces that have been made, as a :class:`.namespaces.NamespaceSet` has them;
    ``rules`` -1: none.
    """

def fork_trial(
    number: int, memory_mib: int, file_mib: int, open_files: int, processes: int, cpu_s: float, /
) -> int:
    """Forks as ``os.fork``; the child is confined as a job with these limits is."""

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
    """Gives what a job's process works with: objects of program.py and the builtins."""

def serve() -> tuple[Literal["namespaces", "look", "closed"], int, int]:
    """Runs jobs until something is to be done: make namespaces (the number of their set, and the
    MiB of a file that they are for), look at all processes of old jobs, or end, since the driver
    has closed its socket. It does not return in a job's process.
    """

def refuse(reason: bytes, /) -> None:
    """Tells the driver that the job that waits for namespaces can't be started."""

def old_jobs() -> list[tuple[int, int, int]]:
    """The ids, pids and limits of memory, in MiB, of the jobs that have run long enough for a look
    at all their processes.
    """

def seen(id: int, cpu_s: float, own_mib: float, /) -> None:
    """What the processes of a job have used together; ends it if that is over a limit."""

def end_all() -> None:
    """Ends all jobs and waits for them."""
