"""The index of a file's lines, against a plain reading of the file after every change."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.server.viewer.tables import Lines, decoded


class Reader:
    """An index with all that it was told."""

    def __init__(self, path: Path) -> None:
        self.rows: list[Any] = []
        self.lines = Lines(path, self.rows.append, self.rows.clear)

    def agrees(self, expected: list[Any]) -> bool:
        self.lines.refresh()
        read = [decoded(line) for line in self.lines.read(range(len(self.lines)))]
        return self.rows == expected == read


def write(path: Path, rows: list[Any], mode: str = "a") -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_it_follows_a_file_that_grows_is_cut_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    reader = Reader(path)
    assert reader.agrees([])
    rows = [{"n": n, "text": "x" * (n % 40)} for n in range(200)]
    write(path, rows[:120])
    assert reader.agrees(rows[:120])
    write(path, rows[120:])
    with path.open("a") as file:
        file.write('{"n": 200, "te')  # still being written
    assert reader.agrees(rows)
    with path.open("a") as file:
        file.write('xt": ""}\n')
    assert reader.agrees([*rows, {"n": 200, "text": ""}])
    size = sum(len(json.dumps(row)) + 1 for row in rows[:50])
    os.truncate(path, size)  # a resumed run cuts what it makes again
    write(path, [{"n": "other"}])
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
    write(path, [{"a": "b"}])
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
    write(tmp_path / "a.jsonl", [{"key": 1}, {"key": text}])
    index = Lines(tmp_path / "a.jsonl", lambda _: None, lambda: None)
    index.refresh()
    assert list(index.search(wanted)) == ([1] if is_there else [])
