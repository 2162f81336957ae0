"""Real programs: HumanEval and the standard library, with the compiler and pylint as oracles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from codegen.lintseq import (
    UnsupportedProgram,
    edit_sequence,
    format_edits,
    normalize,
    prepare,
    resolve,
    sample_edits,
)
from codegen.lintseq.verify import check_compile


def check_round_trip(program: str, seed: int, most_states: int | None = None) -> None:
    """One sequence: exact round trip, and its states (or a sample of them) compile."""
    rng = random.Random(seed)
    sequence = sample_edits(prepare(program), rng)
    resolution = resolve(format_edits(sequence.edits))
    assert resolution.program == normalize(program)
    assert resolution.edits == sequence.edits
    assert resolution.complete
    assert not resolution.malformed
    assert resolution.stray_lines == 0
    states = sequence.states
    if most_states is not None and len(states) > most_states:
        states = rng.sample(states, most_states)
    assert check_compile(states) == [[]] * len(states)


def test_human_eval_round_trip(human_eval_programs: list[str]) -> None:
    assert len(human_eval_programs) == 164
    for number, program in enumerate(human_eval_programs):
        check_round_trip(program, number)


def stdlib_sample(paths: Sequence[Path], others: int) -> list[Path]:
    biggest = sorted(paths, key=lambda path: path.stat().st_size)[-10:]
    return biggest + random.Random(0).sample([p for p in paths if p not in biggest], others)


def check_module(path: Path) -> bool:
    """Checks a module, or that there is a reason to skip it; whether it was kept."""
    try:
        program = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    try:
        check_round_trip(program, seed=len(program), most_states=4)
    except UnsupportedProgram as error:
        if error.reason == "syntax_error":
            assert check_compile([program]) != [[]], path
        elif error.reason in {"empty", "comments_only"}:
            lines = map(str.strip, program.splitlines())
            assert all(not line or line.startswith("#") for line in lines), path
        else:
            raise
        return False
    except AssertionError as error:
        raise AssertionError(f"{path}: {error}") from error
    return True


@pytest.mark.long
def test_stdlib_sample_round_trip(stdlib_paths: list[Path]) -> None:
    kept = sum(map(check_module, stdlib_sample(stdlib_paths, others=150)))
    assert kept >= 140


@pytest.mark.long
def test_stdlib_round_trip(stdlib_paths: list[Path]) -> None:
    kept = sum(map(check_module, stdlib_paths))
    assert kept >= 0.95 * len(stdlib_paths)


def dirty_states(oracle, program: str, seed: int, most_states: int) -> tuple[int, list[str]]:
    """How many states pylint looked at, and what it has against them but not the whole."""
    rng = random.Random(seed)
    *states, whole = edit_sequence(program, rng).states
    states = rng.sample(states, min(len(states), most_states))
    *counts, excused = oracle([*states, whole])
    dirty = [str(new) for count in counts if (new := count - excused)]
    return len(states), dirty


@pytest.mark.slow
def test_pylint_finds_no_dirty_state_in_human_eval(human_eval_programs, pylint_findings) -> None:
    results = [
        dirty_states(pylint_findings, program, number, most_states=3)
        for number, program in enumerate(human_eval_programs[::3])
    ]
    assert sum(count for count, _ in results) > 90
    assert not [dirty for _, found in results for dirty in found]


@pytest.mark.long
def test_pylint_finds_few_dirty_states_in_the_stdlib(stdlib_paths, pylint_findings) -> None:
    """The rules infer no types, so some states slip through; 3 % would mean that one is broken."""
    paths = [p for p in stdlib_paths if p.stat().st_size < 30_000 and "test" not in str(p)]
    count = dirty = 0
    for number, path in enumerate(random.Random(1).sample(paths, 60)):
        program = path.read_text(encoding="utf-8")
        try:
            some, found = dirty_states(pylint_findings, program, number, most_states=6)
        except UnsupportedProgram:
            continue  # an empty __init__
        count += some
        dirty += len(found)
    assert count > 200
    assert dirty <= 0.03 * count


def test_oracle_sees_dirty_states(pylint_findings) -> None:
    """The oracle itself: it reports what LintSeq heeds, and nothing else."""
    texts = [
        "import os\nx = 1\n",
        "print(x)\n",
        "if x:\n",
        "class A:\n    def __init__(self):\n        self.x = 1\n\n\nclass B(A):\n"
        "    def __init__(self):\n        self.y = 1\n",
        "def f():\n  return 1\n",
    ]
    found = [{rule for rule, _ in counts} for counts in pylint_findings(texts)]
    assert found == [set(), {"E0602"}, {"E0001"}, {"W0231"}, {"W0311"}]
