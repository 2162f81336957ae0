"""The linter in a child process, as fresh as that of ``python -m pylint``.

pylint inspects builtins, ``sys`` and C extensions as live objects of its process. In a process that
does other work these differ from what a program would meet (Ray replaces ``print``, a notebook
``sys.stdout``). So states go, as JSON lines over standard streams, to an interpreter that runs
nothing but pylint, with a fixed hash seed. A data run has one for each of its workers.

The process ends when its parent does (its input closes), when a call is interrupted, and when the
syntax trees of libraries take too much memory. If it dies of a state (a C extension that crashes on
import), that is a finding in the state.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import codegen
from codegen.errors import CodegenError, MachineError
from codegen.lintseq.verify import Finding, batches

MAX_REMEMBERED = 50_000  # verdicts, of some 200 bytes each
# pylint itself takes about 60 MiB; a start costs 0.4 seconds, and libraries are parsed again.
MAX_MIB = 192
AUDIT_MIB = 80  # for the few states of an audit
MIN_CPU_S = 3.0  # of work before a process is replaced
# In one request: an interruption loses that much, and both processes hold it.
_MAX_STATES, _MAX_CHARACTERS = 50, 200_000

# The path of this package is needed to import it, but not by what states import.
_START = """
import sys
home, *path = sys.argv[1:]
sys.path[:] = [*path, home]
from codegen.lintseq.verify.linter_process import serve
sys.path[:], sys.argv[1:] = path, []
serve()
"""


@cache
def shared_linter(max_mib: int = MAX_MIB) -> LinterProcess:
    """The process-wide linter with this limit on its memory."""
    return LinterProcess(max_mib)


class LinterProcess:
    """Lints states in a process that starts at the first call. Calls from threads take turns.

    Args:
        max_mib: memory at which the process is replaced.
    """

    def __init__(self, max_mib: int = MAX_MIB) -> None:
        self._max_mib = max_mib
        self._verdicts: dict[str, list[Finding]] = {}
        self._lock = threading.RLock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._started: tuple[int, tuple[str, ...]] = (0, ())

    def check(self, states: Sequence[str]) -> list[list[Finding]]:
        """The findings in each state, in pylint's order.

        Raises:
            CodegenError: if pylint is not installed, or no process can be started.
        """
        with self._lock:
            if len(self._verdicts) > MAX_REMEMBERED:
                self._verdicts.clear()
            new = dict.fromkeys(state for state in states if state not in self._verdicts)
            for part in batches(new, len, _MAX_CHARACTERS, _MAX_STATES):
                self._verdicts.update(zip(part, self._lint(part), strict=True))
            return [self._verdicts[state] for state in states]

    def _lint(self, states: Sequence[str], *, retry: bool = True) -> list[list[Finding]]:
        """The process's findings. If it dies, each state is tried alone, and then once more."""
        self._start()
        try:
            answer = self._exchange(states)
        except EOFError:
            code = self.close()
            if len(states) > 1:
                return [self._lint([state])[0] for state in states]
            if retry:  # something else may have killed it
                return self._lint(states, retry=False)
            return [[Finding(1, "F0002", f"pylint failed: its process ended with {code}")]]
        except BaseException:
            self.close()
            raise
        if answer["resident_mib"] > self._max_mib and answer["cpu_s"] > MIN_CPU_S:
            self.close()
        return [[Finding(*finding) for finding in findings] for findings in answer["findings"]]

    def _start(self) -> None:
        """Starts the process; a new one after a fork, or if ``sys.path`` has changed."""
        # The current directory is the user's. An entry that is not a path is for an import hook.
        others = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
        path = tuple(str(Path(e).absolute()) if Path(e).exists() else e for e in others)
        if self._popen is not None and self._started == (os.getpid(), path):
            return
        self.close()
        home = str(Path(codegen.__file__).parent.parent)
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _START, home, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            env={**os.environ, "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
        )
        self._started = (os.getpid(), path)
        self._finalizer = weakref.finalize(self, _end, self._popen, os.getpid())
        try:
            self._exchange(None)
        except EOFError:
            raise MachineError(
                f"The process that runs pylint ended with code {self.close()} before it was ready.",
                "Try: python -m pylint --version",
            ) from None
        except BaseException:
            self.close()
            raise

    def _exchange(self, states: Sequence[str] | None) -> dict[str, Any]:
        """Sends states, if any, and receives an answer."""
        assert self._popen and self._popen.stdin and self._popen.stdout
        if states is not None:
            try:
                self._popen.stdin.write(json.dumps(states).encode("ascii") + b"\n")
                self._popen.stdin.flush()
            except BrokenPipeError:
                raise EOFError from None
        line = self._popen.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        if "error" in answer:
            raise CodegenError(*answer["error"])
        return answer

    def close(self) -> int | None:
        """Ends the process, waits for it, and returns its exit code."""
        with self._lock:
            popen, self._popen = self._popen, None
            return self._finalizer() if popen else None


def _end(popen: subprocess.Popen[bytes], owner: int) -> int | None:
    for stream in (popen.stdin, popen.stdout):
        with contextlib.suppress(BrokenPipeError):
            assert stream
            stream.close()
    if owner != os.getpid():  # a fork's copy
        return None
    popen.terminate()
    try:
        return popen.wait(timeout=2)
    except subprocess.TimeoutExpired:  # in C code
        popen.kill()
        return popen.wait()


def serve() -> None:
    """Answers requests until the input ends; runs in the child process."""
    # Standard input and output, out of reach of the modules that states import.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    warnings.simplefilter("ignore")

    def answer(message: object) -> None:
        answers.write(json.dumps(message).encode("ascii") + b"\n")
        answers.flush()

    with contextlib.suppress(BrokenPipeError):
        try:
            from codegen.lintseq.verify.linter import Linter
        except ImportError as error:
            message = f"pylint, which checks the states, cannot be imported ({error})."
            answer({"error": [message, "Run: pip install 'pylint>=4,<5'"]})
            return
        linter = Linter()
        gc.collect()
        gc.disable()  # walking the trees of libraries would take a third of the time
        answer({})
        for request in requests:
            findings = linter.check(json.loads(request))
            spent = {"resident_mib": _resident_mib(), "cpu_s": time.process_time()}
            answer({"findings": findings, **spent})


def _resident_mib() -> float:
    """Resident memory; 0 on systems without ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
