"""The benchmark of LintSeq in other languages, on files of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.benchmarks import lintseq_languages
from codegen.errors import InputError
from tests.lintseq.language_programs import PROGRAMS

FIGURES = ("skipped", "ms_a_sequence", "round_trip", "programs", "not_clean", "dirty",
           "strict_ms_a_state")  # fmt: skip


def test_figures(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_javascript")
    own = [program for language, program in PROGRAMS if language == "javascript"]
    for number, program in enumerate([*own, "function (", "return 1\nawait x\n"]):
        (tmp_path / f"p{number}.js").write_text(program, encoding="utf-8")
    (tmp_path / "other.go").write_text("package main\n")
    found = lintseq_languages.run(language="javascript", folder=str(tmp_path))
    assert {f"javascript_{figure}" for figure in FIGURES} <= found.keys()
    assert found["javascript_skipped"] == 1 and found["javascript_round_trip"] == 1.0
    if found["javascript_programs"] is not None:  # else there is no node here
        assert found["javascript_programs"] == len(own) and found["javascript_not_clean"] == 1
        assert found["javascript_dirty"] == 0.0


def test_an_unknown_language() -> None:
    with pytest.raises(InputError, match="typescript; 'python' is none of them"):
        lintseq_languages.run(language="python")
