"""Sources: good rows come out whole, broken ones cost themselves alone, mistakes are named."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Example
from codegen.data import Rejected, open_source
from codegen.data.sources import Item, SourceOptions
from codegen.data.sources import rows as row_sources
from codegen.data.sources.rows import PROBE_ROWS, examples_of_rows, parquet_rows

GOOD = '{"instruction": "do", "program": "x = 1"}'


def summary(items: list[Item]) -> list[tuple[str, str]]:
    return [(i.id, i.reason if isinstance(i, Rejected) else "ok") for i in items]


def examples(items: list[Item]) -> list[Example]:
    return [item for item in items if isinstance(item, Example)]


BAD_LINES = [
    (b'{"instruction": "do", "program": ', "failed", "bad_json"),
    (b'{"instruction": "do", "program": "\xff"}', "failed", "not_utf8"),
    (b"\xc3", "failed", "not_utf8"),
    (b"[1, 2]", "failed", "not_an_object"),
    (b'"text"', "failed", "not_an_object"),
    (b"null", "failed", "not_an_object"),
    (b'{"instruction": "do"}', "failed", "missing_column"),
    (b'{"instruction": "do", "program": null}', "failed", "wrong_type"),
    (b'{"instruction": ["do"], "program": "x"}', "failed", "wrong_type"),
    (b'{"instruction": "do", "program": 5}', "failed", "wrong_type"),
    (b'{"instruction": "do", "program": ""}', "skipped", "empty_program"),
    (b'{"instruction": "do", "program": " \\n\\t"}', "skipped", "empty_program"),
    (b'{"instruction": "", "program": "x"}', "skipped", "empty_instruction"),
    (b'{"instruction": "do", "program": "\\ud800"}', "failed", "not_unicode"),
    (b"[" * 100_000, "failed", "bad_json"),
    (b'{"instruction": ' + b"9" * 5000 + b', "program": "x"}', "failed", "bad_json"),
    (b"\x00\x00", "failed", "bad_json"),
]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_bad_lines_cost_themselves_alone(tmp_path: Path, ending: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [GOOD.encode()]
    for line, _, _ in BAD_LINES:
        lines += [line, b"", GOOD.encode()]  # a blank line is no row
    path.write_bytes(ending.join(lines))
    items = list(open_source(str(path)))
    expected = [("rows.jsonl:1", "ok")]
    for number, (_, _, reason) in enumerate(BAD_LINES):
        expected += [
            (f"rows.jsonl:{3 * number + 2}", reason),
            (f"rows.jsonl:{3 * number + 4}", "ok"),
        ]
    assert summary(items) == expected
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert [item.outcome for item in rejected] == [outcome for _, outcome, _ in BAD_LINES]


def test_ids_licenses_and_named_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"q": "do", "a": "x", "id": "seven", "key": 1, "lic": "MIT"},
        {"q": "do", "a": "y", "id": 8, "key": "two", "lic": None},
        {"q": "do", "a": "z", "id": True, "key": None, "lic": ""},
    ]
    path.write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    columns = partial(open_source, str(path), instruction_column="q", program_column="a")
    found = examples(list(columns(license="0BSD")))
    assert [(e.id, e.program, e.license) for e in found] == [
        ("seven", "x", "0BSD"),
        ("8", "y", "0BSD"),
        ("rows.jsonl:3", "z", "0BSD"),
    ]
    items = list(columns(id_column="key", license_column="lic"))
    assert summary(items) == [("1", "ok"), ("two", "ok"), ("rows.jsonl:3", "wrong_type")]
    assert [e.license for e in examples(items)] == ["MIT", ""]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_languages_and_rows_without_an_instruction(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    languages = ["JavaScript", "c++ ", "two words", "```", "", None, "Python"]
    rows = [{"program": f"x{i}", "lang": name} for i, name in enumerate(languages)]
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    items = list(open_source(str(path), instruction_column="", language_column="lang"))
    assert [reason for _, reason in summary(items)] == [
        "ok", "ok", "bad_language", "bad_language", "empty_language", "wrong_type", "ok",
    ]  # fmt: skip
    assert [e.language for e in examples(items)] == ["javascript", "c++", "python"]
    assert {e.instruction for e in examples(items)} == {""}
    source = open_source(str(path), instruction_column="", language="Rust")
    assert {e.language for e in examples(list(source))} == {"rust"}
    with pytest.raises(ConfigError, match="'a b' is not a language name"):
        open_source(str(path), language="a b")
    with pytest.raises(InputError, match="no column ''"):
        list(open_source(str(path), instruction_column="", program_column=""))


def test_a_language_is_told_of_rows_only(tmp_path: Path) -> None:
    for spec in ("stdlib", "humaneval", "mbpp", "mbpp:test", str(tmp_path)):
        with pytest.raises(ConfigError, match="a language applies only to rows"):
            open_source(spec, language="javascript")
        with pytest.raises(ConfigError, match="a language applies only to rows"):
            open_source(spec, language_column="lang")
        open_source(spec, language="Python")


@pytest.mark.parametrize("rows", [1, 99, 100, 250])
def test_a_column_that_no_row_has(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "do", "code": "x", "lang": "py"}\n' * rows)
    with pytest.raises(InputError) as caught:
        list(open_source(str(path)))
    assert "no column 'program'" in str(caught.value)
    assert "instruction, code, lang" in str(caught.value)
    assert "--program-column" in str(caught.value)


def test_a_column_that_comes_late(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "do"}\n' * 60 + (GOOD + "\n") * 60)
    counts = Counter(reason for _, reason in summary(list(open_source(str(path)))))
    assert counts == {"missing_column": 60, "ok": 60}
    path.write_text("not json\n" * 300)  # rows that are no rows say nothing about columns
    assert len(list(open_source(str(path)))) == 300


def test_rejected_rows_are_not_piled_up() -> None:
    drawn = 0

    def rows() -> Iterator[tuple[str, Rejected]]:
        nonlocal drawn
        for drawn in range(1, 5001):
            yield f"r{drawn}", Rejected(f"r{drawn}", "bad_json")

    items = examples_of_rows(rows(), SourceOptions(), "s", "s")
    for given, item in enumerate(items, 1):
        assert item.id == f"r{given}"
        assert drawn - given < PROBE_ROWS
    assert drawn == 5000


def test_gzip_and_a_cut_gzip(tmp_path: Path) -> None:
    lines = [json.dumps({"instruction": f"do {i}", "program": f"x = {i**5}"}) for i in range(999)]
    whole = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(whole)
    assert [e.instruction for e in examples(list(open_source(str(path))))] == [
        f"do {i}" for i in range(999)
    ]
    for damaged in (whole[: len(whole) // 2], b"no gzip at all", whole[:-8] + b"wrongcrc"):
        path.write_bytes(damaged)
        items = list(open_source(str(path)))
        assert [i.reason for i in items if isinstance(i, Rejected)][-1] == "damaged_archive"


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sources, "MAX_LINE_BYTES", 64)
    path = tmp_path / "rows.jsonl"
    exact = GOOD + " " * (63 - len(GOOD))  # 64 bytes with its end
    path.write_text("\n".join([GOOD, "x" * 64, "y" * 1000, exact, "z" * 65]))
    assert [reason for _, reason in summary(list(open_source(str(path))))] == [
        "ok",
        "line_too_long",
        "line_too_long",
        "ok",
        "line_too_long",
    ]


def test_a_text_that_parquet_rows_share_is_not_multiplied(tmp_path: Path) -> None:
    """A few kilobytes say that each of 4,000 rows holds the same 17 MiB: 66 GiB as Python texts."""
    text = pa.array(["a" * (17 << 20), "short"])
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 3999 + [1], pa.int32()), text)
    nested = pa.ListArray.from_arrays(pa.array(range(4001), pa.int32()), shared)
    for kind, column in (("plain", shared), ("nested", nested)):
        path = tmp_path / f"{kind}.parquet"
        table = pa.table({"program": column, "id": range(4000)})
        pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=1 << 30)
        assert path.stat().st_size < 100_000
        rows = [row for _, row, _ in parquet_rows(path, "it")]
        reasons = {getattr(row, "reason", "") for row in rows[:-1]}
        assert reasons == {"row_too_long"}
        assert rows[-1] == {"program": ["short"] if kind == "nested" else "short", "id": 3999}


def test_parquet_gives_what_arrow_gives(tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.large_string())])
    schema = pa.schema(
        [
            *(("text", pa.string()), ("turns", pa.list_(turn)), ("raw", pa.binary())),
            *(("cost", pa.decimal128(10, 2)), ("map", pa.map_(pa.string(), pa.string()))),
        ]
    )
    rows: list[dict[str, Any]] = [
        {
            "text": "x",
            "turns": [{"role": "user", "content": "é"}],
            "raw": b"\xff",
            "cost": Decimal("1.50"),
            "map": [("key", "value"), ("other", None)],
        },
        {
            "text": None,
            "turns": [{"role": None, "content": ""}],
            "raw": b"",
            "cost": None,
            "map": [],
        },
        {"text": "x", "turns": None, "raw": None, "cost": Decimal(0), "map": None},
    ] * 300
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    assert [row for _, row, _ in parquet_rows(path, "it")] == rows


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    programs = [f"x = {i}" for i in range(1000)] + [None, ""]
    table = pa.table(
        {"instruction": ["do"] * 1002, "program": programs, "other": list(range(1002))}
    )
    pq.write_table(table, path, row_group_size=100)
    source = open_source(str(path))
    items = list(source)
    assert [e.program for e in examples(items)] == programs[:1000]
    assert summary(items)[-2:] == [
        ("rows.parquet:1001", "wrong_type"),
        ("rows.parquet:1002", "empty_program"),
    ]
    assert source.fraction() == 1.0
    with pytest.raises(InputError, match="instruction, program, other"):
        list(open_source(str(path), program_column="code"))
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        list(open_source(str(path)))


def test_hub_by_a_local_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The datasets library takes a local folder for a name, so its own streaming is what runs."""
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    for split, number in (("train", 3), ("test", 2)):
        rows = [{"instruction": f"{split} {i}", "program": "x"} for i in range(number)]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = examples(list(open_source("hub:org/name")))
    assert [(e.id, e.instruction) for e in found] == [
        (f"org/name:train:{i}", f"train {i}") for i in range(3)
    ]
    assert len(list(open_source("hub:org/name:test"))) == 2
    with pytest.raises(InputError, match="Cannot open hub:org/name:nothing"):
        list(open_source("hub:org/name::nothing"))


def test_mbpp_is_the_hub_data_set_with_its_own_columns() -> None:
    source = open_source("mbpp")
    described = source.describe()
    assert described["name"] == "google-research-datasets/mbpp"
    assert (described["config"], described["split"]) == ("full", "train")
    assert described["columns"] == {"instruction": "text", "program": "code", "id": "task_id"}
    assert open_source("mbpp:test").describe()["split"] == "test"


@pytest.mark.parametrize("spec", ["missing.jsonl", "rows.csv", "/dev/null", "stdlibs"])
def test_what_is_no_source(tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"Pass a \.jsonl") as caught:
        open_source(spec)
    assert spec in str(caught.value)
