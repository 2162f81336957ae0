"""PyPI's ``arctic-inference`` (suffix decoding) as a peer in its own interpreter.

It is distributed as source and built against a specific torch version, so it needs a separate
environment: it runs in the interpreter that ``CODEGEN_ARCTIC_PYTHON`` names or, without that
variable, in this one if it has the package.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegen.benchmarks.tools.worker import call_worker
from codegen.core.errors import ConfigError

VARIABLE = "CODEGEN_ARCTIC_PYTHON"
INSTALL = (
    "python3 -m venv ~/.venvs/arctic && ~/.venvs/arctic/bin/pip install numpy && "
    'CMAKE_ARGS="-DPython_EXECUTABLE=$HOME/.venvs/arctic/bin/python" '
    "~/.venvs/arctic/bin/pip install arctic-inference && "
    f"export {VARIABLE}=~/.venvs/arctic/bin/python"
)


@dataclass(frozen=True, slots=True)
class Arctic:
    """An interpreter that has the package, and the installed versions."""

    python: str
    versions: Mapping[str, str]

    def measure(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Returns times and memory; see the worker."""
        return _call(self.python, job)


def find_arctic() -> Arctic | None:
    """Returns the peer, or None if no interpreter has it.

    Raises:
        ConfigError: if the variable names an interpreter that cannot import the package.
    """
    named = os.environ.get(VARIABLE)
    python = named or sys.executable
    try:
        return Arctic(python, _call(python, {"versions": True}))
    except (OSError, ConfigError) as error:
        if named:
            raise ConfigError(
                f"{python!r} ({VARIABLE}) cannot import arctic-inference: {error}.", INSTALL
            ) from None
        return None


def _call(python: str, job: Mapping[str, Any]) -> dict[str, Any]:
    done = call_worker(python, "arctic_worker.py", json.dumps(job))
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise ConfigError(words[-1] if words else f"it ended with code {done.returncode}")
    return json.loads(done.stdout)
