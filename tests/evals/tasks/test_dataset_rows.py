"""Where tasks find their rows."""

from __future__ import annotations

import base64
import gzip
import json
import pickle
import zlib
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import InputError
from codegen.evals import tasks
from codegen.evals.tasks.dataset_rows import DataLocation, read_rows_of

ROWS = [{"id": "a", "prompt": "é\u2028"}, {"id": "b", "prompt": "x"}]


def read(path: Path | str) -> list[Any]:
    return [row for _, row in read_rows_of(str(path), DataLocation("none")).items]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("form", ["lines", "array", "object"])
def test_files_of_every_form(tmp_path: Path, form: str, packed: bool) -> None:
    text = {
        "lines": "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n",
        "array": json.dumps(ROWS),
        "object": json.dumps({row["id"]: row for row in ROWS}),
    }[form]
    path = tmp_path / f"rows.{'jsonl' if form == 'lines' else 'json'}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read(path) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"id": 1}\nnope\n', "a.jsonl:2: not valid JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: expected a JSON object, got list"),
        ("a.jsonl", b"\xff\xfe", "a.jsonl:1: not valid UTF-8"),
        ("a.json", b"\xff\xfe", "is not UTF-8 text or is corrupt"),
        ("a.jsonl.gz", b"\x1f\x8bbroken", "a.jsonl.gz"),
        ("a.json", b"3", "expected an array of rows, got int"),
        ("a.json", b"[" * 100_000, "not valid JSON"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(path)


def test_the_folder_of_data_sets_comes_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = DataLocation("sets/rows.jsonl", "org/set")
    monkeypatch.delenv("CODEGEN_TEST_DATA", raising=False)
    assert home.source() == "hub:org/set"
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(tmp_path))
    assert home.source() == "hub:org/set"
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "rows.jsonl").write_text(json.dumps(ROWS[0]))
    rows = read_rows_of(None, home)
    assert [row for _, row in rows.items] == ROWS[:1]
    assert rows.source == "sets/rows.jsonl"  # no path of this machine in reports
    with pytest.raises(InputError, match="CODEGEN_TEST_DATA"):
        DataLocation("nowhere.jsonl").source()


def test_a_data_set_as_the_hub_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` reads a local folder as it reads a repository of the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    row = {"id": "sample_0", "code": "def f(x):\n    return x", "input": "1", "output": "1"}
    (folder / "data" / "test.jsonl").write_text(json.dumps(row) + "\n")
    task = tasks.load("cruxeval-o", f"hub:{folder}:test")
    assert [problem.id for problem in task.problems()] == ["sample_0"]
    assert task.source == f"hub:{folder}:test"
    with pytest.raises(InputError, match="Cannot open hub:"):
        tasks.load("cruxeval-o", f"hub:{folder}:nope:test")


CONTEST = {"question_content": "q", "question_id": "1", "public_test_cases": "[]"}
CALLED = {**CONTEST, "starter_code": "class Solution: ...", "metadata": '{"func_name": "g"}'}
MBPP = {"task_id": 1, "text": "t", "code": "c", "test_list": ["assert f()"]}
EXERCISE = {"id": "x", "files": {"a.py": ""}, "solution": ["a.py"], "test": [], "example": []}


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(value)))).decode()


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("livecodebench", {**CONTEST, "public_test_cases": "[1, 2]"}),
        ("livecodebench", {**CONTEST, "public_test_cases": '{"inputs": 1, "outputs": 2}'}),
        ("livecodebench", {**CONTEST, "public_test_cases": packed({"other": 1})}),
        ("livecodebench", {**CONTEST, "starter_code": ["x"]}),
        ("livecodebench", {**CALLED, "public_test_cases": '[{"input": "1", "output": "x y"}]'}),
        ("mbpp", {**MBPP, "test_setup_code": ["a"]}),
        ("aider-polyglot", {**EXERCISE, "files": {"a.py": "", ".docs/instructions.md": 5}}),
        ("aider-polyglot", {**EXERCISE, "solution": [["a.py"]]}),
        ("next-edit-scenarios", {"id": "a"}),
        ("next-edit-scenarios", {"id": "a", "log": [{}]}),
    ],
)
def test_a_row_that_is_none_gives_one_line_with_its_place(
    tmp_path: Path, task: str, row: dict[str, Any]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl:1: "):
        loaded = tasks.load(task, str(path))
        loaded.job(loaded.problems()[0], "x = 1")  # tests are read when they are needed
