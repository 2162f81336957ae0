"""The linter in a clean child process, as with ``python -m pylint``.

pylint inspects builtins, ``sys`` and C extensions as live objects of its process. A process that
does other work may have changed them (Ray replaces ``print``, a notebook ``sys.stdout``). So states
are sent, as JSON lines over standard streams, to an interpreter that runs only pylint, with a fixed
hash seed. A data run has one per worker.

The process ends when its parent does (its input closes), when a call is interrupted, and when the
syntax trees of libraries take too much memory. A state that kills it (a C extension that crashes on
import) gets a finding.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import codegen
from codegen.core.errors import CodegenError, MachineError
from codegen.lintseq.verify import LintMessage, batches

MAX_REMEMBERED = 50_000  # cached results, about 200 bytes each
# pylint itself takes about 60 MiB; a restart costs 0.4 seconds, and reparses libraries.
MAX_MIB = 192
MIN_CPU_S = 3.0  # minimum CPU time of a process before it is replaced
# Limit per request: an interruption loses this much, and both processes store it.
_MAX_STATES, _MAX_CHARACTERS = 50, 200_000

# The path of this package is needed to import it, but must be hidden from the states.
_START = """
import sys
home, *path = sys.argv[1:]
sys.path[:] = [*path, home]
from codegen.lintseq.verify.linter_process import serve
sys.path[:], sys.argv[1:] = path, []
serve()
"""


@cache
def shared_linter() -> LinterProcess:
    """Returns the process-wide linter."""
    return LinterProcess()


class LinterProcess:
    """Lints states in a process that starts at the first call. Calls from threads take turns.

    Attributes:
        process: the running process, if any.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, list[LintMessage]] = {}
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        atexit.register(self.close)

    def check(self, states: Sequence[str]) -> list[list[LintMessage]]:
        """Returns the findings in each state, in pylint's order.

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

    def _lint(self, states: Sequence[str], *, retry: bool = True) -> list[list[LintMessage]]:
        """Returns the findings; if the process dies, tries each state separately, with a retry."""
        try:
            if self.process is None or self._owner != os.getpid():  # none, or the forked parent's
                self._start()
            answer = self._exchange(states)
        except EOFError:
            code = self.close()
            if len(states) > 1:
                return [self._lint([state])[0] for state in states]
            if retry:  # it may have been killed for another reason
                return self._lint(states, retry=False)
            return [[LintMessage(1, "F0002", f"pylint failed: its process ended with {code}")]]
        except BaseException:
            self.close()
            raise
        if answer["most_mib"] > MAX_MIB and answer["cpu_s"] > MIN_CPU_S:
            self.close()
        return [[LintMessage(*finding) for finding in findings] for findings in answer["findings"]]

    def _start(self) -> None:
        # Omits the user's current directory. Entries that are not paths are for import hooks.
        others = [entry for entry in sys.path if Path(entry).resolve() != Path.cwd()]
        path = [str(Path(e).absolute()) if Path(e).exists() else e for e in others]
        home = str(Path(codegen.__file__).parent.parent)
        self._owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, home, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            env={**os.environ, "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
            process_group=0,  # keeps Ctrl-C from the child
        )
        try:
            self._exchange(None)
        except EOFError:
            raise MachineError(
                f"The process that runs pylint ended with code {self.close()} before it was ready.",
                "Try: python -m pylint --version",
            ) from None

    def _exchange(self, states: Sequence[str] | None) -> dict[str, Any]:
        """Sends states, if any, and receives an answer."""
        assert self.process and self.process.stdin and self.process.stdout
        if states is not None:
            try:
                self.process.stdin.write(json.dumps(states).encode("ascii") + b"\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                raise EOFError from None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        if "error" in answer:
            raise CodegenError(*answer["error"])
        return answer

    def close(self) -> int | None:
        """Stops the process, waits for it, and returns its exit code."""
        process, self.process = self.process, None
        if process is None or self._owner != os.getpid():
            return None
        process.terminate()
        try:
            process.communicate(timeout=2)
        except subprocess.TimeoutExpired:  # stuck in C code
            process.kill()
            process.communicate()
        return process.returncode


def serve() -> None:
    """Processes requests until the input ends; runs in the child process."""
    # Hides standard input and output from the modules that states import.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the linter's folder is removed
    warnings.simplefilter("ignore")

    def answer(**message: object) -> None:
        answers.write(json.dumps(message).encode("ascii") + b"\n")
        answers.flush()

    try:
        from codegen.lintseq.verify.linter import Linter
    except ImportError as error:
        message = f"pylint, which checks the states, cannot be imported ({error})."
        answer(error=[message, "Run: pip install 'pylint>=4,<5'"])
        return
    linter = Linter()
    gc.collect()
    gc.disable()  # collecting the trees of libraries would take a third of the time
    answer()
    for request in requests:
        findings = linter.check(json.loads(request))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        most_mib = peak / (2**20 if sys.platform == "darwin" else 2**10)
        answer(findings=findings, most_mib=most_mib, cpu_s=time.process_time())
