"""The serving process of a sandbox: it starts the requested jobs, monitors them, and reports their
exits.

The loop exists twice, since it determines the cost of a job: a fork shares the interpreter's
memory, and each page that either side writes afterwards is copied.
:class:`.python_zygote.PythonZygote` is the readable version and runs on any platform.
:class:`CompiledZygote`, for programs in namespaces, is in C (``_launcher.c``): it writes to a few
dozen pages where Python writes to hundreds.

Signals go only to pids that this process forked and has not waited for yet. They never go to
pid -1 or a process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable

from ..protocol.orders import JobRequest
from . import linux
from .namespaces import EMPTY, WORK, Identity, NamespaceSet, make_own_proc, show_own_proc
from .seccomp import SeccompFilter
from .usage import UsageMonitor, own_pages

MAX_PACKET = 4096
LONGEST_NAP_S = 0.05
SHORTEST_NAP_S = 0.02
# A test job, confined like all others, to check the layers in force. Its file size is the most
# common one, so the first job can reuse its namespaces.
TRIAL = JobRequest(0, memory_mib=1024, file_mib=16, open_files=64, processes=16, cpu_s=5.0)

# Main function of a confined job. Arguments: its payload, and whether there is a pipe for the
# beginning of its output. Its channel and that pipe are at the descriptors of protocol/orders.py.
Main = Callable[[bytes, bool], None]


HIDDEN = EMPTY.replace("/empty", "/protocol")  # readable by its mode, but denied by Landlock


def layers_in_force(namespaces: NamespaceSet) -> dict[str, bool]:
    """Returns whether each layer is in force; runs in the test job of a starting sandbox."""
    import resource  # other jobs do not need this library

    identity = namespaces.identity
    return {
        "job_pid_namespace": os.getpid() == 1,
        "unprivileged_user": identity != "none" and os.geteuid() != 0,
        "no_new_privs": linux.prctl(linux.PR_GET_NO_NEW_PRIVS) == 1,
        "seccomp": linux.prctl(linux.PR_GET_SECCOMP) != 0 and not _can_unshare(),
        "landlock": namespaces.rules is not None and not _can_list(HIDDEN),
        "private_files": identity != "none"
        and not os.access("/", os.W_OK)
        and not os.listdir("/proc/self/fd"),
        "python_readable": os.access(os.__file__, os.R_OK),
        "rlimits": resource.getrlimit(resource.RLIMIT_CORE)[1] in (0, 1),
    }


def _can_unshare() -> bool:
    try:
        linux.unshare(0)  # no-op unless the filter rejects it
    except OSError:
        return False
    return True


def _can_list(directory: str) -> bool:
    try:
        os.listdir(directory)
    except OSError:
        return False
    return True


class Zygote:
    """The serving process.

    Args:
        control: the driver's socket.
        identity: method that makes jobs unprivileged.
        uid_base: the first user id of jobs.
        main: function that a confined job runs.
        own_namespaces: name -> True if only this process and its jobs use the namespace.
        landlock_abi: the version of Landlock to use; 0 for none.
        errors: the descriptor for error messages.
    """

    compiled = False

    def __init__(
        self,
        control: int,
        identity: Identity,
        uid_base: int,
        main: Main,
        own_namespaces: dict[str, bool],
        landlock_abi: int,
        errors: int,
    ) -> None:
        self.control = control
        self.identity: Identity = identity
        self.uid_base = uid_base
        self.main = main
        self.own_namespaces = own_namespaces
        self.landlock_abi = landlock_abi
        self.errors = errors
        self.last_filter = SeccompFilter(part="job")
        self.namespace_sets: list[NamespaceSet] = []
        self.own_pid_namespace = -1
        self.own_bytes = 0

    def serve(self, slots: int) -> None:
        """Runs jobs, at most ``slots`` at a time, until the driver closes the control socket."""
        # A job's limit counts only memory it allocates itself.
        self.own_bytes = own_pages(0) * os.sysconf("SC_PAGE_SIZE")
        self.namespace_sets = [NamespaceSet(self.identity, self.uid_base + n) for n in range(slots)]
        if self.identity != "none":
            self.own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.prepare()
        os.write(self.control, json.dumps(self._self_test()).encode())
        self.loop()

    def prepare(self) -> None:
        """Prepares for the first fork."""
        raise NotImplementedError

    def fork_trial(self, child: Callable[[NamespaceSet], None]) -> int:
        """Forks a child that is confined for ``TRIAL``, then runs ``child`` and exits."""
        raise NotImplementedError

    def loop(self) -> None:
        """Runs jobs until the driver closes the control socket."""
        raise NotImplementedError

    def do_and_end(self, child: Callable[..., None], *arguments: object) -> None:
        """Runs ``child`` in this process, and exits."""
        status = 125
        try:
            child(*arguments)
            status = 0
        except BaseException as error:  # noqa: BLE001 - reported to the driver
            with contextlib.suppress(OSError):  # a confined job cannot report errors
                text = f"job: {type(error).__name__}: {error}\n"
                os.write(self.errors, text.encode("utf-8", "replace"))
        finally:
            os._exit(status)

    def _self_test(self) -> dict[str, object]:
        """Confines one child like every job and returns the layers in force."""
        read, write = os.pipe()

        def child(namespaces: NamespaceSet) -> None:
            report = {
                "op": "ready",
                "layers": self.own_namespaces | layers_in_force(namespaces),
                "landlock_abi": self.landlock_abi,
                "compiled": self.compiled,
                "python": ".".join(map(str, sys.version_info[:3])),
            }
            os.write(write, json.dumps(report).encode())

        try:
            pid = self.fork_trial(child)
        except OSError as error:
            return {"op": "failed", "message": f"a job cannot be started: {error}"}
        finally:
            os.close(write)
        with os.fdopen(read, "rb") as file:
            report = file.read(MAX_PACKET)
        os.waitpid(pid, 0)
        if not report:
            return {"op": "failed", "message": "the test job died"}
        return json.loads(report)


class CompiledZygote(Zygote):
    """Serving process for programs in namespaces, with its loop in C.

    It calls Python for rare work: making namespaces, and measuring all processes of a long job. In
    a job's own process the loop does not return, but continues in ``_program.c``.
    """

    compiled = True

    def prepare(self) -> None:
        """Passes the settings to the loop."""
        linux.launcher.setup(
            self.control,
            self.errors,
            self.own_pid_namespace,
            self.identity == "uids",
            self.uid_base,
            len(self.namespace_sets),
            WORK,
            self.last_filter.program or b"",
            make_own_proc,
            show_own_proc,
            self.own_bytes,
        )

    def fork_trial(self, child: Callable[[NamespaceSet], None]) -> int:
        """Forks a child that is confined for ``TRIAL``, then runs ``child`` and exits."""
        self._make_namespaces(0, TRIAL.file_mib)
        pid = linux.launcher.fork_trial(
            0, TRIAL.memory_mib, TRIAL.file_mib, TRIAL.open_files, TRIAL.processes, TRIAL.cpu_s
        )
        if pid == 0:
            self.do_and_end(child, self.namespace_sets[0])
        return pid

    def loop(self) -> None:
        """Runs jobs until the driver closes the control socket."""
        watches: dict[int, UsageMonitor] = {}
        while True:
            event, number, file_mib = linux.launcher.serve()
            if event == "namespaces":
                try:
                    self._make_namespaces(number, file_mib)
                except OSError as error:
                    linux.launcher.refuse(str(error).encode())
            elif event == "look":
                old = linux.launcher.old_jobs()
                watches = {number: watches.get(number) or UsageMonitor() for number, *_ in old}
                for number, pid, memory_mib in old:
                    linux.launcher.seen(number, *watches[number].look(pid, memory_mib))
            else:
                linux.launcher.end_all()
                return

    def _make_namespaces(self, number: int, file_mib: int) -> None:
        made = self.namespace_sets[number]
        made.prepare(file_mib, self.landlock_abi)
        rules = -1 if made.rules is None else made.rules
        linux.launcher.set_namespaces(number, file_mib, made.to_enter, made.watched, rules)
