"""Tables against plain loops over the same rows, and over runs that change while they are read."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.server.run_index import read_run
from codegen.server.viewer import Library, app
from codegen.server.viewer.tables import Lines, RecordTable, Selection, decoded

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


class Reader:
    """An index with all that it was told."""

    def __init__(self, path: Path) -> None:
        self.rows: list[Any] = []
        self.lines = Lines(path, self.rows.append, self.rows.clear)

    def agrees(self, expected: list[Any]) -> bool:
        self.lines.refresh()
        read = [decoded(line) for line in self.lines.read(range(len(self.lines)))]
        return self.rows == expected == read


def write_lines(path: Path, rows: list[Any], mode: str = "a") -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_it_follows_a_file_that_grows_is_cut_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    reader = Reader(path)
    assert reader.agrees([])
    rows = [{"n": n, "text": "x" * (n % 40)} for n in range(200)]
    write_lines(path, rows[:120])
    assert reader.agrees(rows[:120])
    write_lines(path, rows[120:])
    with path.open("a") as file:
        file.write('{"n": 200, "te')  # still being written
    assert reader.agrees(rows)
    with path.open("a") as file:
        file.write('xt": ""}\n')
    assert reader.agrees([*rows, {"n": 200, "text": ""}])
    size = sum(len(json.dumps(row)) + 1 for row in rows[:50])
    os.truncate(path, size)  # a resumed run cuts what it makes again
    write_lines(path, [{"n": "other"}])
    assert reader.agrees([*rows[:50], {"n": "other"}])
    (tmp_path / "new").write_text('{"n": 1}\n')
    (tmp_path / "new").replace(path)
    assert reader.agrees([{"n": 1}])
    path.unlink()
    assert reader.agrees([])


def test_what_is_no_json_is_a_line_without_a_value(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\xff\xfe\n[' + b"[" * 100_000 + b'\n\n{"a": 2}\r\n')
    assert Reader(path).agrees([{"a": 1}, None, None, None, {"a": 2}])


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_plain_files_are_read(tmp_path: Path, kind: str) -> None:
    path, secret = tmp_path / "a.jsonl", tmp_path / "secret"
    secret.write_text('{"secret": 1}\n')
    if kind == "link":
        path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(path)  # reading it would wait for ever
    else:
        path.mkdir()
    assert Reader(path).agrees([])


def test_a_link_that_takes_a_files_place_is_not_followed(tmp_path: Path) -> None:
    path, secret = tmp_path / "a.jsonl", tmp_path / "secret"
    secret.write_text('{"a": "s"}\n')
    write_lines(path, [{"a": "b"}])
    reader = Reader(path)
    reader.lines.refresh()
    path.unlink()
    path.symlink_to(secret)
    assert reader.lines.read([0]) == [b""]
    assert list(reader.lines.search("s")) == []


TEXTS = st.text(st.sampled_from('aAbnrtu\\"/\n\t\r\x00\x1bé\u20ac\U0001f600e19 ,:[]{}.-\ud800'))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["true", "ru", "ull", "nan, ", "1, 2", '": ', "u00e9", "\\u", "e-", "n"])


def strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in strings(one)]


def lowered(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(VALUES, max_size=8),
    wanted=TEXTS.filter(bool) | WORDS,
    ascii=st.booleans(),
    tight=st.booleans(),
    data=st.data(),
)
def test_search_finds_the_rows_whose_strings_contain_the_text(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[Any],
    wanted: str,
    ascii: bool,
    tight: bool,
    data: st.DataObject,
) -> None:
    found = [text for row in rows for text in strings(row) if text]
    if found and data.draw(st.booleans()):
        text = data.draw(st.sampled_from(found))
        start = data.draw(st.integers(0, len(text) - 1))
        wanted = text[start : start + data.draw(st.integers(1, 4))]
    path = tmp_path_factory.mktemp("search") / "a.jsonl"
    lines: list[bytes] = []
    for row in rows:
        separators = (",", ":") if tight else None
        try:
            line = json.dumps(row, ensure_ascii=ascii, separators=separators).encode()
        except UnicodeEncodeError:
            line = json.dumps(row, separators=separators).encode()
        lines.append(line + b"\n")
    path.write_bytes(b"".join(lines))
    index = Lines(path, lambda _: None, lambda: None)
    index.refresh()
    expected = [
        n for n, row in enumerate(rows) if any(lowered(wanted) in lowered(s) for s in strings(row))
    ]
    assert list(index.search(wanted)) == expected


@pytest.mark.parametrize(
    ("text", "wanted", "is_there"),
    [
        ("x\nb", "nb", False),  # in the file: x\\nb
        ("x\\nb", "nb", True),
        ("x\\\nb", "nb", False),
        ("a\tb", "tb", False),
        ("\\\n", "\\n", False),
        ("ends in \\", "in \\", True),
        ('says "hi"', '"HI"', True),
        ("x\x1b[31m", "\x1b[", True),
        ("x\x1b[31m", "001b", False),
    ],
)
def test_search_is_not_misled_by_escapes(
    tmp_path: Path, text: str, wanted: str, is_there: bool
) -> None:
    write_lines(tmp_path / "a.jsonl", [{"key": 1}, {"key": text}])
    index = Lines(tmp_path / "a.jsonl", lambda _: None, lambda: None)
    index.refresh()
    assert list(index.search(wanted)) == ([1] if is_there else [])
