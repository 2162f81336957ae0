"""The process that runs llama.cpp's server; started by :mod:`codegen.models.llamacpp`.

It runs as a file and does not import codegen. Its standard input contains one line, a JSON object
with the settings, and then stays open until the parent exits for any reason, which terminates this
process. Its standard output is one line, the server's address. llama.cpp writes errors to standard
error.
"""

import fcntl
import importlib
import json
import os
import select
import signal
import sys
from typing import Any


def main() -> None:
    """Serves until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    output = os.dup(1)
    os.dup2(2, 1)  # other output goes to stderr
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: must not read ahead
        byte = os.read(0, 1)
        if not byte:
            return
        line += byte
    settings = json.loads(line)
    # When the pipe closes, the kernel sends SIGIO, which terminates the process. A thread could not
    # watch it, since the binding holds the GIL while it loads a model.
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # the pipe is already closed
        return

    os.environ["GGML_NO_BACKTRACE"] = "1"  # a failed assertion would start a debugger
    # As in codegen: spinning threads next to a busy process take twenty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    binding: Any = importlib.import_module("xllamacpp")  # a compiled module without types
    params = binding.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = settings["port"]
    params.api_keys = [settings["api_key"]]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    # A canceled stream keeps its thread until the server checks for its client, up to a second.
    params.n_threads_http = 4 * settings["slots"] + 16
    params.n_gpu_layers = settings["gpu_layers"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.cache_ram_mib = 0
    params.ui = False
    params.verbosity = 1  # errors
    try:
        server = binding.Server(params)
    except RuntimeError:  # llama.cpp has written the reason to standard error
        sys.exit(1)
    os.write(output, server.listening_address.encode() + b"\n")
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
