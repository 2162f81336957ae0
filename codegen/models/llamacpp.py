"""GGUF files, run by llama.cpp's own server in a child process (xllamacpp, the extra ``gguf``).

:class:`LlamaServer` starts the child, which listens on 127.0.0.1 only and requires a random API
key. The key is sent through the child's standard input, so it is not in an argument list, the
environment or a file. llama.cpp aborts its process on some corrupt files; only the child dies, and
the caller gets a one-line error. The weights stay quantized.

Limits: the child is not a sandbox; a file that exploits llama.cpp gains the user's rights.
Whether the context fits into memory is known only when llama.cpp starts.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO, Any

from codegen.core.config import Config, setting
from codegen.core.errors import ConfigError, ModelError, in_one_line
from codegen.core.optional_deps import missing
from codegen.models.gguf import read_header

CHILD = Path(__file__).with_name("llama_child.py")
_CONTEXT = 4096  # default maximum; memory grows with it
_LEAST_CONTEXT = 256  # llama.cpp rounds up to its multiples
_LOG_TAIL = 65536
_MOMENT_S = 0.2
_REMEDY = "Check that the file is complete and that llama.cpp supports its architecture."
_NO_MEMORY = "Lower -o engine.context or engine.slots (or serve's --context)."
_ERROR = re.compile(r"^[\d.]+ E (?:\w+ +)?[\w~]+: +")  # begins a line of llama.cpp's log
_LOG = re.compile(r"^[\d.]+( [A-Z] |$)")
_FOLDER = re.compile(r"^/\S*/")


class LlamaOptions(Config):
    """Options of llama.cpp."""

    context: int = setting(
        0, f"context length in tokens; 0: the model's, at most {_CONTEXT}", ge=0, le=1 << 24
    )
    threads: int = setting(
        0, "CPU threads; 0: one per physical core that is idle at the start", ge=0, le=1024
    )
    gpu_layers: int = setting(-1, "layers on the GPU; -1: as many as fit", ge=-1)
    slots: int = setting(8, "requests decoded at once", ge=1, le=256)

    def _check(self) -> None:
        if 0 < self.context < _LEAST_CONTEXT:
            raise ConfigError(
                f"context is {self.context}; llama.cpp rounds contexts to multiples of "
                f"{_LEAST_CONTEXT} tokens.",
                f"Pass at least {_LEAST_CONTEXT}; --max-new-tokens limits the completion.",
            )


class LlamaServer:
    """A llama.cpp server with one model, alive until ``close()`` or the end of this process.

    Args:
        port: TCP port; 0 for any.
        api_key: random by default.

    Attributes:
        url: base URL of its routes, without ``/v1``.
        api_key: the bearer token that every route but ``/health`` requires.
        model: the model's name on the server, which is the file name.
        header: the header of the file.

    Raises:
        ConfigError: if the context is longer than the model's.
        InputError: if it is not a GGUF file, or its header is corrupt.
        ModelError: if the binding is missing, or llama.cpp cannot load the model; has its reason.
    """

    def __init__(
        self, path: Path, options: LlamaOptions | None = None, port: int = 0, api_key: str = ""
    ) -> None:
        self.options = options or LlamaOptions()
        self.header = read_header(path)
        trained = self.header.context
        if trained and self.options.context > trained:
            raise ConfigError(
                f"context is {self.options.context}; the model {path.name} was trained with "
                f"{trained} tokens.",
                f"Pass at most {trained}.",
            )
        if importlib.util.find_spec("xllamacpp") is None:
            raise missing("xllamacpp", f"{path} needs llama.cpp, which is not installed.")
        self.path = path
        self.model = path.stem
        self.api_key = api_key or secrets.token_urlsafe(24)
        settings = {
            **self.options.model_dump(),
            "context": self.options.context or min(trained or _CONTEXT, _CONTEXT),
            "threads": self.options.threads or idle_cores(),
            "path": str(path),
            "name": self.model,
            "api_key": self.api_key,
            "port": port,
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(CHILD)],  # -P: no modules from the child's directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.close = weakref.finalize(self, _end, self._child, self._log, os.getpid())
        try:
            self.url = self._start(settings)
        except BaseException:
            self.close()
            raise

    def _start(self, settings: dict[str, Any]) -> str:
        assert self._child.stdin and self._child.stdout
        try:
            self._child.stdin.write(json.dumps(settings).encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # the reason is found below
        address = self._child.stdout.readline().decode().strip()
        if not address:
            self._child.wait()
            reason = self.reason()
            is_memory = "memory" in reason or "SIGKILL" in reason  # out of memory
            remedy = _NO_MEMORY if is_memory else _REMEDY
            raise ModelError(f"{self.path} does not load: {reason}.", remedy)
        return address

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def again(self) -> LlamaServer:
        """Starts a new child, with the same file, options, port and key."""
        port = int(self.url.rpartition(":")[2])
        return LlamaServer(self.path, self.options, port, self.api_key)

    def ended(self) -> bool:
        """Returns True if the child exits within a moment."""
        try:
            self._child.wait(_MOMENT_S)
        except subprocess.TimeoutExpired:
            return False
        return True

    def reason(self) -> str:
        """Explains the child's exit, from its log and exit status."""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_TAIL))
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        errors = [line for line in lines if _ERROR.match(line)]
        others = [line for line in lines if line.strip() and not _LOG.match(line)]
        status = self._child.poll()
        if status is not None and status < 0:
            # The message of an assertion or of C++; errors in the log are from earlier requests.
            words = f"llama.cpp was killed by {signal.Signals(-status).name}"
            words += f" ({_FOLDER.sub('', others[-1])})" if others else ""
        else:
            words = next(iter(errors or others[-1:]), "llama.cpp gave no reason")
        return in_one_line(_ERROR.sub("", words))


def _end(child: subprocess.Popen[bytes], log: IO[bytes], parent: int) -> None:
    if os.getpid() != parent:  # a fork's copy of the object
        return
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, log):
        if stream:
            stream.close()


def idle_cores() -> int:
    """Returns the number of physical cores that are idle during a fifth of a second, at least 1.

    llama.cpp's threads wait for each other many times per token: if one shares its core with
    another process, all become ten times slower.
    """

    def times() -> tuple[int, int]:
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return numbers[3] + numbers[4], sum(numbers)

    cores = physical_cores()
    try:
        idle, total = times()
        time.sleep(_MOMENT_S)
        later_idle, later_total = times()
    except (OSError, ValueError, IndexError):
        return cores
    share = (later_idle - idle) / max(1, later_total - total)
    return max(1, min(cores, round(share * (os.cpu_count() or 1))))


def physical_cores() -> int:
    """Returns the number of physical cores that this process may use."""
    cpus = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    cores = set()
    for cpu in cpus:
        try:
            place = f"/sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list"
            cores.add(Path(place).read_text(encoding="ascii"))
        except OSError:
            cores.add(str(cpu))
    return len(cores)
