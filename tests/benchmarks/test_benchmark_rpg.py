"""The benchmark of RPG, on small corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks import rpg
from codegen.benchmarks.tools import rpg_generation
from codegen.benchmarks.tools.rpg_generation import make_continuations, read_continuations
from codegen.errors import ConfigError, InputError


@pytest.fixture
def tiny(tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny model, and a library of three files, one of them a loop."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "plain.py").write_text(
        "".join(f"def {a}{b}_f(x):\n    return x + {b}{a}\n" for a in "abcd" for b in "efghijkl")
    )
    (library / "loop.py").write_text("x = g(1)\n" * 100)
    (library / "short.py").write_text("x\n")
    monkeypatch.setattr(rpg.sysconfig, "get_path", lambda _: str(library))
    return str(tiny_model_dir)


def test_line_starts() -> None:
    texts = [
        b"def",
        b" f",
        b"\n",
        b"\n   ",
        b" x",
        b" =",
        b" 1\n",
        b"  ",
        b"\n",
        b"y",
        b";",
        b"\nz",
    ]
    assert [t for t, first in zip(texts, rpg._line_starts(texts), strict=True) if first] == [
        b"def", b" x", b"y",
    ]  # fmt: skip


@pytest.mark.slow
def test_figures_of_a_library_with_a_loop(tiny: str) -> None:
    figures: dict[str, Any] = dict(
        rpg.run(model=tiny, boundaries=200, reference_boundaries=100, seed=3)
    )
    assert figures["samples"]["false_positive_rate"] >= 200
    # Of the loop's lines all but the first few would be hit, of the other file's the headers from
    # the seventh function of one structure on.
    lines = {"loop": 100, "plain": 64}
    hits = 100 - 4
    possible = {hits / lines["loop"], (hits + 24) / sum(lines.values())}
    assert min(abs(figures["false_positive_rate"] - share) for share in possible) < 0.02
    assert figures["paper_false_positive_rate"] > figures["false_positive_rate"]
    assert figures["us_per_token"] > figures["lexer_us_per_token"] > 0
    assert figures["reference_false_positive_rate"] is not None
    assert "coderepeteval" in figures["notes"][0]


@pytest.mark.slow
def test_continuations_go_on_and_are_compared(tiny: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"x = {i}\n" * 5, "samples": ["y"]} for i in range(6)]
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "out" / "continuations.jsonl"
    options: dict[str, Any] = {
        "model": tiny, "boundaries": 100, "reference_boundaries": 100, "prompts": 3,
        "coderepeteval": str(source), "continuations": str(file), "max_new_tokens": 8,
    }  # fmt: skip
    first: dict[str, Any] = dict(rpg.run(**options))
    written = file.read_text()
    assert len(read_continuations(file)) == 3 * len(rpg_generation.METHODS)
    assert {one.number for one in read_continuations(file)} == {3, 4, 5}, "the second half"
    # Cut in the middle of a line: that row and the lost ones are made again.
    file.write_text(written[: len(written) * 2 // 3])
    again = dict(rpg.run(**options))
    for key, value in first.items():
        if key.startswith("repetition_") and "cpu" not in key:
            assert again[key] == value
    ours = first["repetition_ours_tr_n"]
    assert first["repetition_ours_minus_greedy_tr_n"] == pytest.approx(
        ours - first["repetition_greedy_tr_n"], abs=1e-4
    )


def test_the_time_is_kept(tiny: str, tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    found = make_continuations(
        dict.fromkeys(range(4), "x"),
        file,
        model=tiny,
        max_new_tokens=2,
        batch_size=1,
        cpu_minutes=0,
    )
    assert {one.number for one in found} == {0}


def test_wrong_inputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="boundaries is 1"):
        rpg.run(boundaries=1)
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{}\n{}\n")
    with pytest.raises(InputError, match="line 1"):
        read_continuations(broken)
