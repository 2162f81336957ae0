"""The linter in a child process, as fresh as that of ``python -m pylint``.

pylint inspects builtins, ``sys`` and C extensions as live objects of its process. In a process that
does other work these differ from what a program would meet: Ray replaces ``print``, tests and
notebooks replace ``sys.stdout``, ``gettext`` adds a builtin ``_``, and earlier imports decide what
is found. So states go, as JSON lines over standard streams, to an interpreter that runs nothing but
pylint. Its hash seed is fixed, so that verdicts do not depend on it.

The process also bounds memory. The syntax trees of libraries stay in it; when they take too much,
the process is ended and another one starts. Python's cyclic garbage collector is off but for the
young objects between two states: walking the trees would take a third of the time.

The process ends when its parent does (its input closes), and when a call is interrupted, for
example by a time limit. If it dies of a state (a C extension that crashes on import), that is a
finding in the state.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import codegen
from codegen.errors import CodegenError, MachineError
from codegen.lintseq.verify.checks import Finding, batches

REMEMBERED = 50_000  # verdicts, of some 100 bytes each
# A process that holds more is ended once it has worked for LEAST_CPU_S: a start costs 0.4 seconds,
# and libraries are parsed again. pylint itself takes about 60 MiB.
MOST_MIB = 192
AUDIT_MIB = 80  # for the few states of an audit
LEAST_CPU_S = 3.0
# The most in one request: an interruption loses that much, and both processes hold it.
_MOST_STATES = 50
_MOST_CHARACTERS = 200_000

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
def shared_linter(most_mib: int = MOST_MIB) -> LinterProcess:
    """The process-wide linter with this limit on its memory."""
    return LinterProcess(most_mib)


class LinterProcess:
    """Lints states in a process that starts at the first call. Calls from threads take turns.

    Args:
        most_mib: memory at which the process is replaced, after some work.
    """

    def __init__(self, most_mib: int = MOST_MIB) -> None:
        self._most_mib = most_mib
        self._verdicts: OrderedDict[bytes, list[Finding]] = OrderedDict()
        self._lock = threading.RLock()
        self._process: _Process | None = None

    def check(self, states: Sequence[str]) -> list[list[Finding]]:
        """The findings in each state, in pylint's order.

        Raises:
            CodegenError: if pylint is not installed, or no process can be started.
        """
        with self._lock:
            keys = [_key(state) for state in states]
            found = {key: self._verdicts[key] for key in keys if key in self._verdicts}
            new = {k: state for k, state in zip(keys, states, strict=True) if k not in found}
            parts = batches(new.items(), lambda item: len(item[1]), _MOST_CHARACTERS, _MOST_STATES)
            for part in parts:
                verdicts = self._lint([state for _, state in part])
                found.update(zip([key for key, _ in part], verdicts, strict=True))
            self._remember({key: found[key] for key in keys})
            return [found[key] for key in keys]

    def _remember(self, found: dict[bytes, list[Finding]]) -> None:
        self._verdicts.update(found)
        for key in found:
            self._verdicts.move_to_end(key)
        while len(self._verdicts) > REMEMBERED:
            self._verdicts.popitem(last=False)

    def _lint(self, states: Sequence[str], *, again: bool = True) -> list[list[Finding]]:
        """The process's findings. If it dies, each state is tried alone, and then once more."""
        process = self._running()
        try:
            verdicts = process.lint(states)
        except EOFError:
            code = self._end()
            if len(states) > 1:
                return [self._lint([state])[0] for state in states]
            if again:  # something else may have killed it
                return self._lint(states, again=False)
            return [[Finding(1, "F0002", f"pylint failed: its process ended with {code}")]]
        except BaseException:
            self._end()
            raise
        if process.resident_mib > self._most_mib and process.cpu_s > LEAST_CPU_S:
            self._end()
        return verdicts

    def _running(self) -> _Process:
        """The process; a new one after a fork, or if ``sys.path`` has changed."""
        path = _module_path()
        process = self._process
        if process is None or process.owner != os.getpid() or process.path != path:
            self.close()
            self._process = process = _Process(path)
        return process

    def _end(self) -> int | None:
        process, self._process = self._process, None
        return process.end() if process else None

    def close(self) -> None:
        """Ends the process, and waits for it. The next call starts another."""
        with self._lock:
            self._end()


class _Process:
    """A process that lints.

    Attributes:
        owner: the id of the process that started it.
        path: its ``sys.path``.
        resident_mib: its memory after the last request.
        cpu_s: its CPU time so far.
    """

    def __init__(self, path: tuple[str, ...]) -> None:
        self.owner = os.getpid()
        self.path = path
        self.resident_mib = 0.0
        self.cpu_s = 0.0
        home = str(Path(codegen.__file__).parent.parent)
        self._popen = popen = subprocess.Popen(
            [sys.executable, "-c", _START, home, *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=os.sep,
            env={**os.environ, "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"},
        )
        # Called when this process ends at the latest.
        self._end = weakref.finalize(self, _end, popen, self.owner)
        try:
            self._receive()
        except EOFError:
            raise MachineError(
                f"The process that runs pylint ended with code {self.end()} before it was ready.",
                "Try: python -m pylint --version",
            ) from None
        except BaseException:
            self.end()
            raise

    def lint(self, states: Sequence[str]) -> list[list[Finding]]:
        """The findings in each state.

        Raises:
            EOFError: if the process died.
        """
        try:
            _send(_stream(self._popen.stdin), states)
        except BrokenPipeError:
            raise EOFError from None
        answer = self._receive()
        self.resident_mib, self.cpu_s = answer["resident_mib"], answer["cpu_s"]
        return [[Finding(*finding) for finding in findings] for findings in answer["findings"]]

    def _receive(self) -> dict[str, Any]:
        line = _stream(self._popen.stdout).readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        if "error" in answer:
            raise CodegenError(*answer["error"])
        return answer

    def end(self) -> int | None:
        """Ends the process if this one started it; returns its exit code."""
        return self._end()


def _end(popen: subprocess.Popen[bytes], owner: int) -> int | None:
    for stream in (popen.stdin, popen.stdout):
        with contextlib.suppress(BrokenPipeError):
            _stream(stream).close()
    if owner != os.getpid():
        return None
    popen.terminate()
    try:
        return popen.wait(timeout=2)
    except subprocess.TimeoutExpired:  # in C code
        popen.kill()
        return popen.wait()


def serve() -> None:
    """Answers requests until the input ends; runs in the child process."""
    requests, answers = _own_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    warnings.simplefilter("ignore")
    with contextlib.suppress(BrokenPipeError):
        try:
            from codegen.lintseq.verify.linter import Linter
        except ImportError as error:
            message = f"pylint, which checks the states, can't be imported ({error})."
            _send(answers, {"error": [message, "Run: pip install 'pylint>=4,<5'"]})
            return
        linter = Linter()
        gc.collect()
        gc.disable()
        _send(answers, {})
        for request in requests:
            findings = linter.check(json.loads(request))
            spent = {"resident_mib": _resident_mib(), "cpu_s": time.process_time()}
            _send(answers, {"findings": findings, **spent})


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Standard input and output, out of reach of the modules that states import."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    os.close(nothing)
    return requests, answers


def _send(stream: IO[bytes], message: object) -> None:
    stream.write(json.dumps(message).encode("ascii") + b"\n")
    stream.flush()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise EOFError
    return stream


def _key(state: str) -> bytes:
    return hashlib.blake2b(state.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _module_path() -> tuple[str, ...]:
    """``sys.path`` without the current directory, which is the user's."""
    here = Path.cwd()
    others = [entry for entry in sys.path if Path(entry).resolve() != here]
    # An entry that is not a path is meant for an import hook.
    return tuple(str(Path(e).absolute()) if Path(e).exists() else e for e in others)


def _resident_mib() -> float:
    """Resident memory; the highest so far on systems without ``/proc``."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError):
        import resource

        unit = 1 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
