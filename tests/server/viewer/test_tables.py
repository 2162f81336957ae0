"""Tables against plain loops over the same rows, and over runs that change while they are read."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codegen.core.errors import InputError
from codegen.server.run_index import read_run
from codegen.server.viewer import Library, app
from codegen.server.viewer.tables import RecordTable, Selection

STATUSES = ["passed", "wrong", "error", "timeout"]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def sample(problem: int, index: int, rng: random.Random) -> dict[str, Any]:
    return {
        "task": "toy",
        "problem_id": f"Toy/{problem}",
        "index": index,
        "prompt": "def f():\n",
        "completion": rng.choice(["    return 1\n", "    return two\n", "    pass\n"]),
        "finish_reason": rng.choice(["eos", "length"]),
        "settings": {"model": "m"},
        "seed": 0,
        "prompt_tokens": 3,
        "completion_tokens": rng.randrange(40),
    }


def verdict(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    status = rng.choice(STATUSES)
    return {
        "problem_id": row["problem_id"],
        "index": row["index"],
        "status": status,
        "trust": "isolated",
        "cpu_s": round(rng.random(), 3),
        "message": "NameError: two" if status == "error" else "",
        "output": "",
    }


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, list[dict[str, Any]], dict[Any, dict[str, Any]]]:
    rng = random.Random(1)
    rows = [sample(problem, index, rng) for problem in range(20) for index in range(5)]
    verdicts = [verdict(row, rng) for row in rows[:-7]]  # the last ones are not judged yet
    rng.shuffle(verdicts)
    write(tmp_path / "samples.jsonl", rows)
    write(tmp_path / "verdicts.jsonl", verdicts)
    return tmp_path, rows, {(v["problem_id"], v["index"]): v for v in verdicts}


def table_of(folder: Path) -> RecordTable:
    table = RecordTable(
        "samples", "Samples", lambda: [folder / "samples.jsonl"], folder / "verdicts.jsonl"
    )
    table.refresh()
    return table


@pytest.mark.parametrize("sort", ["", "tokens", "-tokens", "-CPU s"])
@pytest.mark.parametrize("text", ["", "two", "nameerror", "nowhere"])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"status": "wrong"},
        {"ended by": "eos", "problem": "Toy/3"},
        {"status": "none"},
        {"unknown": "x"},
    ],
)
def test_rows_are_filtered_searched_and_sorted(
    scored: Any, filters: dict[str, str], text: str, sort: str
) -> None:
    folder, rows, verdicts = scored
    expected = []
    for number, row in enumerate(rows):
        judged = verdicts.get((row["problem_id"], row["index"]), {})
        known = {"status": judged.get("status"), "ended by": row["finish_reason"],
                 "problem": row["problem_id"]}  # fmt: skip
        said = (json.dumps(row["completion"]) + str(judged.get("message", ""))).lower()
        if all(known.get(name) == value for name, value in filters.items()) and text in said:
            seconds = judged.get("cpu_s")
            expected.append((number, row["completion_tokens"], seconds))
    if sort.endswith("tokens"):
        expected.sort(key=lambda row: row[1] if sort[0] != "-" else -row[1])
    elif sort:  # those that are not judged come last
        expected.sort(key=lambda row: (row[2] is None, -(row[2] or 0)))
    chosen = table_of(folder).select(Selection(tuple(filters.items()), text, sort))
    assert chosen.tolist() == [number for number, _, _ in expected]


def test_rows_come_with_their_verdicts_and_links_name_them(scored: Any) -> None:
    folder, rows, verdicts = scored
    table = table_of(folder)
    for number, row in enumerate(table.rows(range(len(rows)))):
        assert row.value == rows[number]
        key = rows[number]["problem_id"], rows[number]["index"]
        assert row.verdict == verdicts.get(key, {})
        assert table.number_of(row.key) == number
    for key in ("", "-1", "100", "1.0", "x", "0.0.0", "٣", "9" * 30):
        assert table.number_of(key) is None
    counts = table.facets()["status"]
    assert counts == {s: sum(v["status"] == s for v in verdicts.values()) for s in STATUSES}


def test_verdicts_that_come_later_are_joined(scored: Any) -> None:
    folder, _, verdicts = scored
    table = table_of(folder)
    write(folder / "new", [{**v, "status": "passed"} for v in verdicts.values()])
    (folder / "new").replace(folder / "verdicts.jsonl")
    table.refresh()
    assert table.facets()["status"] == {"passed": len(verdicts)}
    assert len(table.select(Selection((("status", "passed"),)))) == len(verdicts)


def test_shards_that_grow_keep_the_rows_links(tmp_path: Path) -> None:
    table = RecordTable("rollouts", "", lambda: sorted(tmp_path.glob("rollouts*.jsonl")))
    rows = [{"step": n // 4, "problem_id": "p", "completion": str(n), "rewards": {},
             "reward": n / 7, "status": STATUSES[n % 4]} for n in range(40)]  # fmt: skip
    write(tmp_path / "rollouts.jsonl", rows[:20])
    write(tmp_path / "rollouts-1.jsonl", rows[20:30])
    table.refresh()
    keys = {row.value["completion"]: row.key for row in table.rows(range(len(table)))}
    assert len(keys) == 30
    for name, more in (("rollouts-1.jsonl", rows[30:35]), ("rollouts.jsonl", rows[35:])):
        with (tmp_path / name).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in more)
        table.refresh()
    for completion, key in keys.items():
        number = table.number_of(key)
        assert number is not None
        assert table.rows([number])[0].value["completion"] == completion


def test_a_library_finds_runs_and_files_and_keeps_their_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "base"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps({"settings": {"task": "toy", "model": "m", "n": 1}})
    )
    rng = random.Random(2)
    write(folder / "samples.partial.jsonl", [sample(0, 0, rng)])
    (tmp_path / "loose").mkdir()
    write(tmp_path / "loose" / "a.jsonl", [{"text": "one"}])
    library = Library([tmp_path / "runs", tmp_path / "loose"])
    (run, loose) = sorted(library.sources().values(), key=lambda source: source.run is None)
    assert run.run == read_run(folder)
    samples = run.tables["samples"]
    samples.refresh()
    assert len(samples) == 1
    assert list(loose.tables) == ["a.jsonl"]
    write(folder / "samples.jsonl", [sample(0, index, rng) for index in range(3)])
    (folder / "samples.partial.jsonl").unlink()  # the run ends
    later = time.monotonic() + 3600
    monkeypatch.setattr(app, "time", SimpleNamespace(monotonic=lambda: later))
    assert library.sources()[run.name].tables["samples"] is samples
    samples.refresh()
    assert len(samples) == 3
    with pytest.raises(InputError, match="not found"):
        Library([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="No dataset"):
        Library([tmp_path / "empty"])
