"""GGUF files, run by llama.cpp's own server in a child process (xllamacpp, the extra ``gguf``).

:class:`LlamaServer` starts the child, which listens on 127.0.0.1 alone and wants an API key that
is drawn for it. The key goes to the child through its standard input, so it is in no argument list,
environment or file. llama.cpp ends the whole process on some damaged files; here that is the
child, and the caller gets one line. The weights stay quantized as they are in the file.

Limit: what a request costs in memory is known to llama.cpp alone; where the context does not fit,
it refuses to start.
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
import weakref
from pathlib import Path
from typing import IO, Any

from codegen.config import Config, setting
from codegen.errors import ModelError

INSTALL = "Install it with: pip install 'codegen-toolkit[gguf]'."
_CHILD = Path(__file__).with_name("llama_child.py")
_LOG_TAIL = 65536
_REMEDY = "Check that the file is whole and of an architecture that llama.cpp knows."
_PREFIX = re.compile(r"^[\d.]+ [A-Z] (?:\w+ +)?[\w~]+: +")  # of a line of llama.cpp's log


class LlamaOptions(Config):
    """How llama.cpp runs a model."""

    context: int = setting(4096, "tokens of prompt and completion together, per slot", ge=16)
    threads: int = setting(0, "CPU threads; 0: one per physical core", ge=0, le=1024)
    gpu_layers: int = setting(-1, "layers on the GPU; -1: as many as fit", ge=-1)
    slots: int = setting(8, "requests decoded at once", ge=1, le=256)


class LlamaServer:
    """A llama.cpp server with one model, alive until ``close()`` or the end of this process.

    Args:
        port: to listen on; 0: any.
        api_key: by default one is drawn.

    Attributes:
        url: base URL of its routes, without ``/v1``.
        api_key: every route but ``/health`` wants it as a bearer token.
        model: the model's name on the server.

    Raises:
        ModelError: if the binding is missing, or the model does not load; with llama.cpp's reason.
    """

    def __init__(
        self, path: Path, options: LlamaOptions | None = None, port: int = 0, api_key: str = ""
    ) -> None:
        options = options or LlamaOptions()
        if importlib.util.find_spec("xllamacpp") is None:
            raise ModelError(f"{path} needs llama.cpp, which is not installed.", INSTALL)
        self.path = path
        self.model = path.stem
        self.api_key = api_key or secrets.token_urlsafe(24)
        settings = {
            **options.model_dump(),
            "threads": options.threads or physical_cores(),
            "path": str(path),
            "name": self.model,
            "api_key": self.api_key,
            "port": port,
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        self._child = subprocess.Popen(
            [sys.executable, str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.close = weakref.finalize(self, _end, self._child, self._log)
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
            pass  # the reason follows
        address = self._child.stdout.readline().decode().strip()
        if not address:
            self._child.wait()
            raise ModelError(f"{self.path} does not load: {self.reason()}.", _REMEDY)
        return address

    def ended(self) -> bool:
        """Whether the child is gone."""
        return self._child.poll() is not None

    def reason(self) -> str:
        """Why the child ended: its first error, or the signal that ended it."""
        end = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, end - _LOG_TAIL))
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        if cause := next((line for line in lines if _is_cause(line)), ""):
            words = " ".join(_PREFIX.sub("", cause).split()).rstrip(".")
            return words if len(words) <= 300 else words[:297] + "..."
        code = self._child.poll()
        if code is not None and code < 0:
            return f"llama.cpp was ended by {signal.Signals(-code).name}"
        return "llama.cpp gave no reason"


def _end(child: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, log):
        if stream:
            stream.close()


def _is_cause(line: str) -> bool:
    return bool(_PREFIX.match(line)) or "GGML_ASSERT" in line or line.startswith("MemoryError")


def physical_cores() -> int:
    """The physical cores that this process may use; two threads of one core share its units."""
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
