"""Problems whose faults are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CLAMP = "def clamp(x, low, high):\n    return max(low, min(x, high))\n"
WEAK = "assert clamp(5, 1, 3) == 3\nassert clamp(2, 1, 9) == 2\nassert clamp(1, 2, 3) == 2"
ROWS: list[dict[str, Any]] = [
    {"id": "strong", "entry_point": "double", "solution": "def double(x):\n    return 2 * x\n",
     "tests": "assert double(3) == 6\nassert double(0) == 0\nassert double(-4) == -8"},
    {"id": "weak", "entry_point": "signs", "tests": "assert signs([3, -2]) == 1",
     "solution": "def signs(items):\n    return len([i for i in items if i > 0])\n"},
    {"id": "dead", "entry_point": "clamp", "solution": CLAMP,
     "tests": f"{WEAK}\nassert clamp\nassert clamp(1, 2, 3) == 9 or True"},
    {"id": "no reference", "entry_point": "f", "tests": "assert f(1) == 1"},
    {"id": "fails", "entry_point": "f", "tests": "assert f(1) == 1",
     "solution": "def f(x):\n    return 2\n"},
    {"id": "endless", "entry_point": "f", "tests": "assert f(1) == 1", "cpu_s": 0.5,
     "solution": "def f(x):\n    while True:\n        pass\n"},
    {"id": "javascript", "entry_point": "f", "tests": "assert f(1) == 1",
     "solution": "function f(x) { return x; }"},
    {"id": "huge", "entry_point": "f", "tests": "assert f(1) == 1",
     "solution": "def f(x):\n    return x\n" + "#" * (1 << 18)},
    {"id": "nothing", "entry_point": "f", "tests": "f(1)", "solution": "def f(x):\n    return x\n"},
    {"id": "open bracket", "entry_point": "f", "tests": "assert f(1 ==",
     "solution": "def f(x):\n    return x\n"},
    {"id": "flaky", "entry_point": "f", "tests": "assert f(1) > 0.5",
     "solution": "import random\ndef f(x):\n    return random.random() ** 9 * 2 + (id(x) < 0)\n"},
]  # fmt: skip


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    """The problems, one row without tests among them."""
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": "Write it.", **row} for row in ROWS]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "No tests."}]))
    return path
