"""The kernels' numerics (``gpu/``) in Triton's interpreter, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from codegen.kernels.backend import triton_installed
from tests.processes import run

FOLDER = Path(__file__).parent / "gpu"


@pytest.mark.skipif(
    not triton_installed(), reason="Triton is not installed (Linux: pip install triton)"
)
@pytest.mark.parametrize(
    "which",
    [
        pytest.param("not long and not slow", marks=pytest.mark.slow),
        pytest.param("long or slow", marks=pytest.mark.long),
    ],
)
def test_numerics(which: str) -> None:
    """One process for all files: most of the time is Triton's start."""
    quiet = ["-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", str(FOLDER), "-m", which, *quiet]
    done = run(
        *command,
        env={"TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""},
        cwd=Path(__file__).parents[2],
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
