"""OpenMP's threads sleep while they wait, by the settings that the runtime prints.

GCC's runtime prints its settings when it is loaded if OMP_DISPLAY_ENV asks for it, the number of
turns that a waiting thread spins among them: 0 if it sleeps at once, 300,000 by its default.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from codegen import OPENMP_SETTINGS as SETTINGS

torch = pytest.importorskip("torch")


def run(script: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE", **settings},
    )


def spins(done: subprocess.CompletedProcess[str]) -> int:
    """Of the first runtime that was loaded."""
    found = re.search(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    if not found:
        pytest.skip("torch is not built with GCC's OpenMP here")
    return -1 if found[1] == "INFINITE" else int(found[1])


@pytest.mark.parametrize(
    "module", ["codegen", pytest.param("codegen.kernels.cpu", marks=pytest.mark.long)]
)
def test_whichever_module_is_imported_first_threads_sleep(module: str) -> None:
    assert spins(run(f"import {module}\nimport torch\n")) == 0


def test_without_us_they_spin() -> None:
    """Else the other tests would show nothing."""
    assert spins(run("import torch\n")) > 0


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        pytest.param("OMP_WAIT_POLICY", "ACTIVE", None, marks=pytest.mark.long),
        ("GOMP_SPINCOUNT", "1234", 1234),
    ],
)
def test_the_users_own_setting_is_kept(name: str, value: str, expected: int | None) -> None:
    done = run("import codegen\nimport torch\nprint(codegen.OPENMP)\n", **{name: value})
    assert done.stdout == "own\n"
    assert spins(done) == expected if expected else spins(done) != 0


@pytest.mark.long
def test_where_torch_came_first_the_environment_is_left_alone() -> None:
    script = (
        "import torch, os\nbefore = dict(os.environ)\nimport codegen\n"
        "print(codegen.OPENMP, dict(os.environ) == before)\n"
    )
    assert run(script).stdout == "late True\n"


def test_programs_in_the_sandbox_are_told_too() -> None:
    from codegen.sandbox import Job, Sandbox

    program = "import os\ndef f():\n    return os.environ.get('OMP_WAIT_POLICY')\n"
    with Sandbox(workers=1, unsafe_local=True) as sandbox:
        outcome = sandbox.run(Job(program, test="assert f() == 'PASSIVE'\n"))
    assert outcome.status == "passed", outcome.message
