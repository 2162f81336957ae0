"""Records: exact round trips, named errors, atomic files, logs that survive torn lines."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core import records
from codegen.core.errors import InputError
from codegen.core.paths import write_atomic
from codegen.core.records import (
    Change,
    Edit,
    Example,
    Sample,
    Segment,
    TrainingText,
    Verdict,
    from_dict,
    from_json,
    read_json,
    read_jsonl,
    read_rows,
    to_json,
    write_jsonl,
)

texts = st.text(st.characters(codec=None), max_size=20)
metas = st.dictionaries(
    texts, st.one_of(st.integers(), texts, st.none(), st.booleans()), max_size=3
)


@given(id=texts, segments=st.lists(st.tuples(texts, st.booleans()), max_size=4), meta=metas)
def test_training_text_round_trip(id: str, segments: list[Any], meta: dict[str, Any]) -> None:
    record = TrainingText(id, "e", "g", tuple(Segment(*pair) for pair in segments), meta)
    line = to_json(record)
    assert "\n" not in line
    line.encode("utf-8")
    assert from_json(TrainingText, line) == record


@given(instruction=texts, program=texts, meta=metas)
def test_example_round_trip(instruction: str, program: str, meta: dict[str, Any]) -> None:
    record = Example("id", instruction, program, meta=meta)
    assert from_json(Example, to_json(record)) == record


SAMPLE = Sample("t", "p", 0, "q", "c", "eos", {"temperature": 0.5}, 2**63, 3, 4)


def test_sample_and_verdict_round_trip() -> None:
    assert from_json(Sample, to_json(SAMPLE)) == SAMPLE
    verdict = Verdict("p", 1, "memory", "stdio", 1, 2.5, 3.0, "no")
    assert from_json(Verdict, to_json(verdict)) == verdict


SEGMENT = {"text": "t", "train": True}
TEXT = TrainingText("i", "e", "g", (Segment("t", True),))
EDIT = Edit("e", "a.py", "y\n", (Change("a.py", 0, "", "x"),))


@pytest.mark.parametrize(
    ("record", "change", "message"),
    [
        (SAMPLE, {"index": "0"}, r"x:1: index is '0'; it must be a valid integer \(Sample\)"),
        (SAMPLE, {"index": True}, "index is True"),
        (SAMPLE, {"index": 1.0}, "index is 1.0"),
        (SAMPLE, {"index": 10**30}, "index is 1"),
        (SAMPLE, {"finish_reason": "bored"}, "finish_reason is 'bored'; it must be 'eos'"),
        (SAMPLE, {"settings": [1]}, "settings is"),
        (SAMPLE, {"extra": 1}, "'extra' is an unknown field"),
        (SAMPLE, {"prompt": None}, "prompt is None"),
        (TEXT, {"segments": ["text"]}, r"segments\[0\] is 'text'"),
        (TEXT, {"segments": [{"text": "t"}]}, r"segments\[0\]\.train is missing"),
        (TEXT, {"segments": [{**SEGMENT, "text": 1}]}, r"segments\[0\]\.text is 1"),
        (TEXT, {"segments": [{**SEGMENT, "more": 1}]}, r"segments\[0\]\.more' is an unknown field"),
        *(
            (TEXT, {"segments": [{**SEGMENT, "train": train}]}, r"segments\[0\]\.train")
            for train in (-0.1, 1.5, "true", None, float("nan"), [1])
        ),
        *((EDIT, {"window": window}, "window") for window in ([1], [2, 1], [0, 99], None, [0, 3])),
        (EDIT, {"history": 5}, "history is 5"),
        (EDIT, {"history": [{"path": "a", "line": "0", "old": "", "new": ""}]}, "line is '0'"),
        (EDIT, {"history": [{"path": "a", "line": -1, "old": "", "new": ""}]}, "line is -1"),
        (EDIT, {"target": 3}, "target is 3"),
    ],
)
def test_wrong_fields_are_named(record: Any, change: dict[str, Any], message: str) -> None:
    row = {**json.loads(to_json(record)), **change}
    with pytest.raises(InputError, match=f"x:1: .*{message.removeprefix('x:1: ')}"):
        from_json(type(record), json.dumps(row), "x:1")


@pytest.mark.parametrize("train", [True, False, 0, 1, 0.2])
def test_train_is_a_flag_or_a_weight(train: Any) -> None:
    row = {**json.loads(to_json(TEXT)), "segments": [{**SEGMENT, "train": train}]}
    assert from_json(TrainingText, json.dumps(row)).segments == (("t", train),)


@pytest.mark.parametrize("line", ["", "{", "[]", "3", '{"id": 1}', "[" * 100_000])
def test_broken_lines_are_input_errors(line: str) -> None:
    with pytest.raises(InputError, match="f:7"):
        from_json(Example, line, "f:7")


def test_a_moment_round_trip(tmp_path: Path) -> None:
    import datasets

    changes = (Change("a.py", 0, "x\n", ""), Change("b.py", 3, "", "é\n"))
    edit = Edit("e", "a.py", "y\n", changes, (0, 1), 1, "z\n", "here", source="s", license="MIT")
    for one in (edit, Edit("f", "a.py", "")):
        assert from_json(Edit, to_json(one)) == one
    write_jsonl(tmp_path / "rows.jsonl", [edit])
    (row,) = datasets.load_dataset(
        "json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=str(tmp_path)
    )
    assert from_dict(Edit, row) == edit


def test_files_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = to_json(Example("i", "a", "b")).encode()
    path.write_bytes(good + b"\n\n" + b'{"id": "\xff"}\n')
    rows = read_jsonl(Example, path)
    assert next(rows).id == "i"
    with pytest.raises(InputError, match=r"a\.jsonl:3: not valid UTF-8"):
        next(rows)
    with pytest.raises(InputError, match=r"Cannot read .*absent"):
        list(read_jsonl(Example, tmp_path / "absent"))


def test_packed_rows_are_read_and_damage_is_named(tmp_path: Path) -> None:
    lines = "".join(f'{{"number": {number}}}\n\n' for number in range(3000))
    packed = gzip.compress(lines.encode())
    (path := tmp_path / "rows.jsonl.gz").write_bytes(packed)
    rows = list(read_rows(path))
    assert [row for _, row in rows] == [{"number": number} for number in range(3000)]
    assert rows[1][0] == f"{path}:3"
    for damaged in (packed[: len(packed) // 2], packed[:-8] + bytes(8), packed[:400] + b"x" * 400):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="corrupt"):
            list(read_rows(path))
    path.write_bytes(gzip.compress(b"1" * 5000))
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz:1: not valid JSON"):
        list(read_rows(path))


def test_a_file_or_a_line_that_hardly_ends_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_LINE", 2**20)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "packed").write_bytes(gzip.compress(b'{"a": 1}\n' + b"0" * 2**24))
    for name, said in (("pipe", "not a plain file"), ("packed", "packed:2: the line is longer")):
        with pytest.raises(InputError, match=said):
            list(read_rows(tmp_path / name))
    with pytest.raises(InputError, match="not a plain file"):
        list(read_rows("/dev/zero"))
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="not a plain file"):
            read_json(path, 100)


def test_datasets_reads_the_files(tmp_path: Path) -> None:
    from datasets import load_dataset

    records = [TrainingText(str(i), "e", "g", (Segment("a", False),)) for i in range(3)]
    write_jsonl(tmp_path / "d.jsonl", records)
    loaded = load_dataset(
        "json", data_files=str(tmp_path / "d.jsonl"), cache_dir=str(tmp_path / "cache")
    )
    assert loaded["train"][2]["segments"] == [{"text": "a", "train": False}]  # type: ignore[index]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, "old")

    def lines() -> Any:
        yield "new"
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_atomic(path, lines())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".f.999999999.partial").write_text("half")
    (tmp_path / f".f.{os.getpid()}0.other").write_text("not ours")
    write_atomic(tmp_path / "f", "whole")
    assert not list(tmp_path.glob(".f.*.partial"))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="not a regular file"):
        write_atomic(pipe, "x")
    assert pipe.is_fifo()
