"""Sampling: its distribution, and its diffs against difflib and two programs that apply patches."""

from __future__ import annotations

import difflib
import random
import re
import shutil
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from codegen.lintseq import EditSequence, prepare, sample_edits
from codegen.lintseq.resampling import sample_steps, seed_order
from codegen.lintseq.text_format import format_edit


def apply_unified(lines: list[str], diff: str) -> list[str]:
    """Applies a unified diff without context as POSIX says, by the old positions alone."""
    result = list(lines)
    shift = 0
    rows = diff.split("\n")
    while rows:
        start, deleted = map(int, re.findall(r"\d+", rows.pop(0))[:2])
        assert deleted == 0
        while rows and rows[0].startswith("+"):
            result.insert(start + shift, rows.pop(0)[1:])
            shift += 1
    return result


def sequences(programs: list[str]) -> list[tuple[str, EditSequence]]:
    return [
        (program, sample_edits(prepare(program), random.Random(number)))
        for number, program in enumerate(programs)
    ]


def test_same_seed_same_sequence(human_eval_programs: list[str]) -> None:
    prepared = prepare(human_eval_programs[1])
    first, again, other = (sample_edits(prepared, random.Random(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_seeds_are_drawn_by_weight_without_replacement() -> None:
    """Exponential clocks against the enumerated probabilities of drawing one by one."""
    weights = [1.0, 2.0, 0.0, 3.0]
    rng = random.Random(0)
    draws = 20_000
    counts = Counter(tuple(seed_order(weights, rng)) for _ in range(draws))
    expected = {}
    for order in [(a, b, 6 - 2 - a - b) for a in (0, 1, 3) for b in (0, 1, 3) if a != b]:
        probability = 1.0
        left = 6.0
        for line in order:
            probability *= weights[line] / left
            left -= weights[line]
        expected[order] = probability
    assert sum(expected.values()) == pytest.approx(1)
    assert set(counts) == set(expected)
    chi_square = sum((counts[o] - draws * p) ** 2 / (draws * p) for o, p in expected.items())
    assert chi_square < 20.5  # 99.9 % of chi square with 5 degrees of freedom


def test_seeds_after_deletions_are_drawn_by_weight() -> None:
    """The same where a deletion takes other lines along: the first two seeds, by enumeration."""
    prepared = prepare("a = 1\nb = a\nc = 1\nd = c\n")
    rng = random.Random(1)
    draws = 20_000
    firsts = Counter(tuple(s[0] for s in sample_steps(prepared, rng))[:2] for _ in range(draws))
    a, b, c, d = prepared.owners
    expected = {
        (a, c): 1 / 8, (a, d): 1 / 8, (c, a): 1 / 8, (c, b): 1 / 8,
        (b, a): 1 / 12, (b, c): 1 / 12, (b, d): 1 / 12,
        (d, a): 1 / 12, (d, b): 1 / 12, (d, c): 1 / 12,
    }  # fmt: skip
    assert set(firsts) == set(expected)
    chi_square = sum((firsts[o] - draws * p) ** 2 / (draws * p) for o, p in expected.items())
    assert chi_square < 27.9  # 99.9 % of chi square with 9 degrees of freedom


def test_diffs_apply_as_unified_diffs(human_eval_programs: list[str]) -> None:
    for program, sequence in sequences(human_eval_programs):
        lines: list[str] = []
        for edit in sequence.edits:
            lines = apply_unified(lines, format_edit(edit))
        assert "\n".join(lines) + "\n" == program


def test_diffs_are_those_of_difflib_where_there_is_but_one(human_eval_programs: list[str]) -> None:
    """Of states without equal lines there is one smallest diff; difflib's must be ours."""
    compared = 0
    for _, sequence in sequences(human_eval_programs):
        states = ["", *sequence.states]
        for edit, (old, new) in zip(sequence.edits, pairwise(states), strict=True):
            a, b = (state.split("\n")[:-1] for state in (old, new))
            if len(set(b)) < len(b):
                continue
            rows = list(difflib.unified_diff(a, b, n=0, lineterm=""))[2:]
            assert format_edit(edit) == "\n".join(rows)
            compared += 1
    assert compared > 100


@pytest.mark.skipif(shutil.which("patch") is None, reason="GNU patch is not installed")
def test_diffs_apply_with_patch(human_eval_programs: list[str], tmp_path: Path) -> None:
    program, sequence = max(sequences(human_eval_programs), key=lambda pair: len(pair[1].edits))
    file = tmp_path / "program.py"
    file.write_text("")
    for edit, state in zip(sequence.edits, sequence.states, strict=True):
        diff = f"--- program.py\n+++ program.py\n{format_edit(edit)}\n"
        subprocess.run(
            ["patch", "--unified", "--fuzz=0", "--quiet", str(file)],
            input=diff.encode(),
            check=True,
            cwd=tmp_path,
        )
        assert file.read_text() == state
    assert file.read_text() == program
