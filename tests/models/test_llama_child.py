"""The child ends with its parent, also while it loads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.models import llamacpp
from tests.processes import lives, wait_for

_PARENT = """
import sys, time
from pathlib import Path
from codegen.models.llamacpp import LlamaOptions, LlamaServer
server = LlamaServer(Path(sys.argv[1]), LlamaOptions(slots=1, context=256, threads=1))
print(server.pid, flush=True)
{then}
"""


@pytest.mark.parametrize("death", ["kill", "exit", "exception"])
def test_the_child_ends_with_its_parent(embedded_gguf: Path, death: str) -> None:
    then = {"kill": "time.sleep(600)", "exit": "sys.exit(3)", "exception": "1 / 0"}[death]
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT.format(then=then), str(embedded_gguf)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        if death == "kill":
            assert lives(child)
            parent.kill()
    wait_for(lambda: not lives(child))


def test_the_child_ends_with_its_parent_while_it_loads(embedded_gguf: Path) -> None:
    settings = {"path": str(embedded_gguf), "name": "m", "port": 0, "api_key": "k", "slots": 64}
    settings |= {"context": 4096, "gpu_layers": 0, "threads": 1}
    child = subprocess.Popen(
        [sys.executable, "-P", str(llamacpp.CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with child:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(settings).encode() + b"\n")
        child.stdin.flush()
        maps = Path(f"/proc/{child.pid}/maps")
        wait_for(lambda: embedded_gguf.name in maps.read_text())
        child.stdin.close()
        assert child.stdout.read() == b""  # it never got as far as an address
    assert child.returncode == -signal.SIGIO
