"""The commands without what macOS lacks (``tests/macos.py``); programs run in a service."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.processes import run
from tests.server.conftest import Served

pytestmark = pytest.mark.slow
MACOS = Path(__file__).parents[2] / "macos.py"
PROGRAM = (
    'def largest(a, b):\n    """Return the larger of two numbers."""\n'
    "    if a > b:\n        return a\n    return b\n"
)


def on_macos(*words: str, url: str = "") -> CompletedProcess[str]:
    environment = {"CODEGEN_SANDBOX_URL": url, "CODEGEN_SANDBOX_TOKEN": ""}
    return run(sys.executable, MACOS, *words, env=environment, timeout=300)


def test_every_module_can_be_imported() -> None:
    done = on_macos("import")
    assert done.returncode == 0, done.stderr


def test_what_runs_no_program_works(tmp_path: Path, tiny_model_dir: Path) -> None:
    (tmp_path / "one.py").write_text(PROGRAM)
    done = on_macos("data", "lintseq", str(tmp_path / "one.py"), "--out", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    model = ("--model", str(tiny_model_dir))
    done = on_macos("generate", "--prompt", "def", "--max-new-tokens", "2", *model)
    assert done.returncode == 0, done.stderr


def test_programs_run_in_the_service(service: Served) -> None:
    check = ("eval", "check", "humaneval-short", "-o", "limit=2")
    done = on_macos(*check)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "The sandbox needs Linux. Run codegen serve sandbox on Linux" in done.stderr
    done = on_macos(*check, url=service.url)
    assert "2 of 2 references pass" in done.stdout, done.stderr
