"""The benchmark of next edits, on a few rows: its baselines by hand, its keys with a model."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks import next_edit
from codegen.errors import ConfigError, ModelError
from tests.server.upstream_server import Script, UpstreamServer

OLD = """\
size0 = 1
print(size0)


def area(width, height):
    inner = width - 1
    return inner * height + width


done = True
"""
DIFF = """\
@@ -1,2 +1,2 @@
-size0 = 1
-print(size0)
+width0 = 1
+print(width0)
@@ -10 +10 @@
-done = True
+done = width0
"""


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "next_edit" / "commits_test.jsonl.gz"
    path.parent.mkdir()
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for number in range(8):
            row = {"repository": f"o/r{number % 2}", "path": "m.py", "commit": f"{number:010}"}
            split = "test_repository"
            file.write(json.dumps({**row, "old": OLD, "diff": DIFF, "split": split}) + "\n")
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(tmp_path))


@pytest.mark.usefixtures("rows")
def test_without_a_model() -> None:
    found = next_edit.run()
    assert found["exact"] is None and found["p50_ms"] is None
    assert found["nothing_exact"] == 0 and found["nothing_no_op_right"] == 1
    samples = found["samples"]
    assert isinstance(samples, dict) and samples["nothing_exact"] == 8
    refactored = [key for key in found if key.startswith("refactorings_rename_exact_")]
    assert refactored and "refactorings_rename_exact" in found


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("decoder", ["edit", "server"])
def test_with_a_model(tiny_model_dir: Path, decoder: str) -> None:
    found = next_edit.run(model=str(tiny_model_dir), style="edit-few-shot", limit=2,
                          max_new_tokens=4, decoder=decoder)  # fmt: skip
    for key in ("parse_rate", "exact", "location", "exact_minus_rename", "p50_ms", "p95_ms"):
        assert isinstance(found[key], float), key
        assert isinstance(found[f"refactorings_{key}"], float), key
    assert found["parse_rate"] == 0  # four tokens of a model with random weights
    if decoder == "server":
        assert found["refactorings_jump_exact"] is None  # these files are shorter than a window


@pytest.mark.usefixtures("rows")
def test_jumps_are_measured(tiny_model_dir: Path) -> None:
    """A function and its call are far from one another."""
    gap = "".join(f"print({number})\n" for number in range(40))
    text = f"def area(width, height):\n    return width * height\n{gap}print(area(1, 2))\n"
    path = Path(os.environ["CODEGEN_TEST_DATA"]) / "next_edit" / "commits_test.jsonl.gz"
    diff = "@@ -1 +1 @@\n-def area(width, height):\n+def area(height, width):\n"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for number in range(12):
            row = {"repository": f"o/r{number % 2}", "path": "m.py", "commit": f"{number:010}"}
            row |= {"old": text, "diff": diff, "split": "test_repository"}
            file.write(json.dumps(row) + "\n")
    found = next_edit.run(model=str(tiny_model_dir), style="edit-few-shot", limit=4,
                          max_new_tokens=4, decoder="server")  # fmt: skip
    assert found["refactorings_jump_shown"] == found["refactorings_jump_exact"] == 0.0
    assert isinstance(found["refactorings_jump_p50_ms"], float)


@pytest.mark.usefixtures("rows")
def test_with_a_model_behind_a_server() -> None:
    """The server knows both edits of the change, and makes the one that is left."""
    edits = (("size0 = 1\nprint(size0)\n", "width0 = 1\nprint(width0)\n"),
             ("done = True\n", "done = width0\n"))  # fmt: skip

    def pieces(body: dict[str, Any]) -> list[str]:
        prompt = body["prompt"]  # the edits so far, then the text
        old, new = next(pair for pair in edits if prompt.rfind(pair[0]) > prompt.rfind(pair[1]))
        return [f"<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"]

    server = UpstreamServer(Script(models=["a", "coder"]))
    server.script.pieces = pieces
    try:
        found = next_edit.run(model="coder", upstream=server.url, style="edit-search-replace")
    finally:
        server.stop()
    assert found["exact"] == 1.0 and found["refactorings_exact"] != 1.0
    assert isinstance(found["p50_ms"], float)
    assert {path for path, _ in server.asked} == {"/v1/completions"}
    assert {body["model"] for _, body in server.asked} == {"coder"}


@pytest.mark.usefixtures("rows")
def test_a_server_that_does_not_answer() -> None:
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9"):
        next_edit.run(upstream="http://127.0.0.1:9", style="edit-search-replace")


def test_a_style_of_something_else() -> None:
    with pytest.raises(ConfigError, match="no style of next edits"):
        next_edit.run(style="chat")
