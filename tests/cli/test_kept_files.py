"""What lies where a command writes: a file that no earlier run left there is never lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codegen import sandbox
from codegen.cli import main
from tests.databases import sqlite_file

from .test_evals import PassingSandbox

pytestmark = pytest.mark.usefixtures("inputs")

# OUT is what the user names.
COMMANDS = [
    "data whole rows.jsonl --out OUT --workers 1",
    "data merge shards/0 shards/1 --out OUT",
    "data export made --out OUT",
    "eval score samples.jsonl --task humaneval --out OUT -o reward=lint",
    "eval report scored --out OUT.html",
    "eval import humaneval samples.jsonl --out OUT.jsonl",
    "eval export humaneval samples.jsonl --format evalplus --out OUT.jsonl",
    "eval lm-eval humaneval --out OUT",
    pytest.param("eval kolmogorov sample -n 5 --out OUT.jsonl", marks=pytest.mark.long),
    "sqlnet describe shop.db --out OUT.yaml",
    "sqlnet plans asked.jsonl --databases . --out OUT",
]
FOREIGN = b'{"mine": [1, 2, 3]}\n'


def run(command: str, out: Path) -> object:
    with pytest.raises(SystemExit) as stop:
        main(command.replace("OUT", str(out)).split())
    return stop.value.code or 0


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sandbox, "Sandbox", PassingSandbox)
    sqlite_file(Path("shop.sqlite"), "CREATE TABLE people (name TEXT)")
    shutil.copy("shop.sqlite", "shop.db")
    rows = {
        "rows": {"instruction": "one", "program": "def f():\n    return 1\n"},
        "samples": {"task_id": "HumanEval/0", "completion": "    return None\n"},
        "asked": {"db_id": "shop", "question": "how many?", "query": "SELECT name FROM people"},
    }
    for name, row in rows.items():
        Path(f"{name}.jsonl").write_text(2 * (json.dumps(row) + "\n"))


def prepare(command: str) -> None:
    """What the command reads, of other commands."""
    whole = "data whole rows.jsonl --out OUT --workers 1"
    if "shards" in command:
        for number in range(2):
            assert run(f"{whole} -o shard={number}/2", Path("shards", str(number))) == 0
    elif "made" in command:
        assert run(whole, Path("made")) == 0
    elif "scored" in command:
        score = "eval score samples.jsonl --task humaneval --out OUT"
        assert run(score, Path("scored")) == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_a_foreign_file_is_kept(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(command)
    assert run(command, Path("clean", "out")) == 0, capsys.readouterr().err
    assert run(command, Path("clean", "out")) == 0, "its own files are no obstacle"
    written = [path.relative_to("clean") for path in Path("clean").rglob("*") if path.is_file()]
    shown = [path for path in written if not any(part.startswith(".") for part in path.parts)]
    assert shown
    for number, path in enumerate(shown):
        mine = Path(str(number), path)
        mine.parent.mkdir(parents=True)
        mine.write_bytes(FOREIGN)
        capsys.readouterr()
        code = run(command, Path(str(number), "out"))
        error = capsys.readouterr().err
        assert mine.read_bytes() == FOREIGN, f"{path} is lost"
        assert code == 1 and error.count("Error") == 1 and mine.name in error, error
