"""``codegen doctor`` and ``codegen plugins``: this machine, and parts that load no model."""

from __future__ import annotations

import json

import pytest

from codegen.core.optional_deps import EXTRAS
from tests import processes
from tests.cli.test_command_line import run


def test_the_table_of_parts_loads_no_model_library() -> None:
    script = (
        "import sys\n"
        "from codegen.cli import cli\n"
        "cli.main(['plugins', '--json'], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    done = processes.python(script)
    assert done.returncode == 0 and '"transformers"' in done.stdout, done.stderr


@pytest.mark.slow
def test_doctor_finds_this_machine_fit() -> None:
    done = run("doctor", "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == (0 if summary["ok"] else 1)
    names = {check["name"] for check in summary["checks"]}
    assert {"torch", "sandbox", "model embedded"} <= names
    assert {f"[{extra}]" for extra, _ in EXTRAS.values()} <= names  # one line each
    assert not [name for name in names if name in EXTRAS and name != "torch"]
    assert all(check["remedy"] for check in summary["checks"] if check["ok"] is False)
