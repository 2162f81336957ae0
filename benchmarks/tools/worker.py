"""Workers of peers: scripts that run in another interpreter and import no modules of this project.

A worker reads JSON on standard input and prints JSON. Its interpreter must not find this one's
packages, has one thread, and works in an empty folder, since linters read settings from the working
directory.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_TOOLS = Path(__file__).resolve().parent


def call_worker(
    python: str, script: str, stdin: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs a script of this folder in an interpreter.

    Raises:
        OSError: if the interpreter cannot be started.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _HIDDEN}
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [python, str(_TOOLS / script), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={**environment, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
        )
