"""What ``codegen data inspect`` shows: steps, records, mistakes, and no control characters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.core.records import Segment, TrainingText, write_jsonl
from codegen.core.terminal import visible
from codegen.data import read_texts
from codegen.data.view import step_name
from codegen.lintseq import resolve
from tests.cli.test_data import GOOD, codegen


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = codegen("lintseq", "humaneval", "--out", "out", "--limit", 5, "--workers", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_inspect_prints_the_steps(made: Path) -> None:
    done = codegen("inspect", made, "-n", 2, "--step", cwd=made)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout  # not a terminal: no colors
    assert "kept     5" in done.stdout and "── HumanEval/1#" in done.stdout
    assert "HumanEval/2#" not in done.stdout
    first = next(read_texts(made))
    shown = done.stdout.split("── ")[1]
    blocks = shown.split("\nedit ")[1:]
    states = resolve(first.text.removeprefix(first.prompt)).states
    assert len(blocks) == len(states)
    before: list[str] = []
    for block, state in zip(blocks, states, strict=True):
        lines = block.rstrip("\n").split("\n")[1:]
        assert [line[2:] for line in lines] == state.rstrip("\n").split("\n")
        assert [line[2:] for line in lines if not line.startswith("+ ")] == before
        before = [line[2:] for line in lines]


def test_inspect_by_id_and_json(made: Path, tmp_path: Path) -> None:
    done = codegen("inspect", made, "--id", "HumanEval/3", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert [text["example_id"] for text in found["texts"]] == ["HumanEval/3"]
    assert found["manifest"]["counts"]["kept"] == 5
    missing = codegen("inspect", made, "--id", "HumanEval/9", cwd=tmp_path)
    assert missing.returncode == 1 and "No record 'HumanEval/9'" in missing.stderr
    (tmp_path / "rows.jsonl").write_text(GOOD + '{"id": "odd", "instruction": "a"}\n')
    codegen("whole", "rows.jsonl", "--out", "out", "--workers", 1, cwd=tmp_path)
    rejected = codegen("inspect", "out", "--id", "odd", cwd=tmp_path)
    assert rejected.returncode == 1
    assert "rejected in out (failed, missing_column: no column 'program'" in rejected.stderr
    whole = codegen("inspect", "out/data-00000.jsonl", cwd=tmp_path)
    assert whole.returncode == 0 and "def f(x):" in whole.stdout


def test_inspect_shows_control_characters(tmp_path: Path) -> None:
    segments = (
        Segment("do\n", False),
        Segment("x = '\x1b[31mred\x1b]0;title\x07'\r\u202e\n", True),
    )
    write_jsonl(tmp_path / "t.jsonl", [TrainingText("a\x1b[2J", "a", "whole", segments)])
    done = codegen("inspect", "t.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert r"x = '\x1b[31mred\x1b]0;title\x07'\r\u202e" in done.stdout
    assert not set(done.stdout) & set("\x1b\x07\r\u202e")
    assert visible("a\tb\nc\x00é") == "a\tb\nc\\x00é"


@pytest.fixture(scope="module")
def mistakes(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text with mistakes taken back."""
    tmp_path = tmp_path_factory.mktemp("mistakes")
    (tmp_path / "rows.jsonl").write_text(GOOD)
    args = ["backspace", "rows.jsonl", "--out", "out", "--model", tiny_model_dir, "--eta", "0.5"]
    done = codegen(*args, "--workers", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / "out"


@pytest.mark.slow
def test_mistakes_that_are_taken_back_are_shown(mistakes: Path) -> None:
    shown = codegen("inspect", "out", cwd=mistakes.parent).stdout
    noised = next(read_texts(mistakes)).meta["noised"]
    assert noised > 0 and shown.count("⌫") == noised
    steps = codegen("inspect", "out", "--step", cwd=mistakes.parent).stdout
    assert steps.count("→ backspace") == noised


@pytest.mark.slow
def test_mistakes_without_their_tokenizer(mistakes: Path, tmp_path: Path) -> None:
    (tmp_path / "moved.jsonl").write_text(
        (mistakes / "data-00000.jsonl").read_text().replace("tiny-model", "gone-model")
    )
    done = codegen("inspect", "moved.jsonl", cwd=tmp_path)
    assert done.returncode == 0
    assert "return y" in done.stdout and "The mistakes cannot be shown" in done.stdout


def test_steps_of_other_pairs_are_named() -> None:
    segments = (Segment("", False), Segment("x", True))
    for meta in ({}, {"pair": 1}, {"pair": "x", "pairs": 2}, {"pair": 0, "pairs": None}):
        text = TrainingText("t", "e", "lintseq", segments, meta)
        assert step_name(text, 0, 3) == "edit 1 of 3"
