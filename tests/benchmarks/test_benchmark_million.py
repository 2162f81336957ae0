"""The corpus of definitions, and a small run through the engine, cut off and gone on with."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from codegen.benchmarks import million
from codegen.benchmarks.tools.definitions import DefinitionsSource
from codegen.data.sources import Rejected
from codegen.errors import InputError
from codegen.records import Example

MODULE = '''\
import os


@decorated
def first(x):
    """Doc
  string."""
    return x


class Second:
    a = 1

    def third(self):
        b = 2
        return b


def too_short(): pass
'''


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    (root / "inner" / "site-packages").mkdir(parents=True)
    (root / "m.py").write_text(MODULE)
    (root / "bad.py").write_text("def f(:\n")
    (root / "latin.py").write_bytes(b"# \xe9\n")
    (root / "inner" / "windows.py").write_bytes(b"def f():\r\n    x = 1\r\n    return x\r\n")
    (root / "inner" / "site-packages" / "p.py").write_text(MODULE)
    return root


def test_definitions_are_cut_out_whole(corpus: Path) -> None:
    items = list(DefinitionsSource([corpus]))
    programs = {item.id: item.program for item in items if isinstance(item, Example)}
    assert list(programs) == [
        "corpus/inner/windows.py::f@1",
        "corpus/m.py::first@4",
        "corpus/m.py::Second@11",
        "corpus/m.py::third@14",
    ]
    assert programs["corpus/m.py::third@14"] == "def third(self):\n    b = 2\n    return b\n"
    assert programs["corpus/m.py::first@4"].startswith("@decorated\ndef first")
    for program in programs.values():
        ast.parse(program)
    rejected = [item.id for item in items if isinstance(item, Rejected)]
    assert rejected == ["corpus/bad.py", "corpus/latin.py"]


def test_the_description_changes_with_the_files(corpus: Path) -> None:
    source = DefinitionsSource([corpus])
    before = source.describe()
    assert source.describe() == before
    (corpus / "m.py").write_text(MODULE + "\n")
    assert source.describe() != before


@pytest.fixture
def small(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(million, "DefinitionsSource", lambda: DefinitionsSource([corpus]))
    return corpus


@pytest.mark.slow
def test_a_run_reports_what_the_engine_made(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    figures = million.run(sequences=100, out=str(out), workers=1, verify="compile")
    assert figures["sequences"] == 20  # the corpus ends before: 4 programs of 5
    assert figures["samples"]["kept"] == 4  # type: ignore[index]
    assert figures["samples"]["failed"] == {"unparsable": 2}  # type: ignore[index]
    assert figures["disk_mib"] and figures["files"] == 1 and figures["resumed_after"] == 0
    lines = [line for path in out.glob("data-*.jsonl") for line in path.open()]
    assert len(lines) == 20
    with pytest.raises(InputError, match="nothing left to measure"):
        million.run(sequences=100, out=str(out), workers=1, verify="compile")


def test_a_temporary_run_leaves_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    assert million.run(True, sequences=10, workers=1, verify="static")["sequences"] == 10
    assert list((tmp_path / "t").iterdir()) == []


def test_a_disk_that_is_too_small_is_said_before(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fewer sequences"):
        million.run(sequences=10**13, out=str(tmp_path / "a" / "b"))
    assert not (tmp_path / "a").exists()
