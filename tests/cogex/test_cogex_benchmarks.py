"""The benchmarks of CoGEX, small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.benchmarks.tools.cogex_replay import Outcomes, compare, read_searches
from codegen.cogex.search import SearchLog, Try
from codegen.errors import InputError


def program(name: str) -> str:
    return f"def {name}(x):\n    return {{'answer': x}}"


def test_a_clear_winner_is_the_same_for_both() -> None:
    right = {program(f"f{n}"): [n == 3] * 30 for n in range(6)}
    trial = compare(Outcomes("t", tuple(right), right), 0.2, seed=0)
    assert (trial.full, trial.same, trial.lost) == (180, True, 0.0)
    assert trial.halving <= 36 and trial.within_noise


def test_a_worse_choice_is_seen() -> None:
    """The first item decides for halving, the others speak for the other program."""
    right = {program("a"): [True] + [False] * 99, program("b"): [False] + [True] * 99}
    outcomes = Outcomes("t", tuple(right), right)
    trials = [compare(outcomes, 0.01, seed) for seed in range(300)]
    worse = [trial for trial in trials if not trial.same]
    assert 0 < len(worse) < 20  # about one in 100
    assert all(trial.lost == pytest.approx(0.98) and not trial.within_noise for trial in worse)


def test_recorded_searches_are_read(tmp_path: Path) -> None:
    texts = [program("a"), program("b")]
    settings = {"task": "t", "method": "full"}
    with SearchLog(tmp_path / "t", settings) as log:
        for digest in ("0", "1"):
            for item in range(3 + int(digest)):
                log.add(Try(digest, f"i{item}", "x", item < 2))
    rows = [{"digest": str(n), "program": text, "written": n + 1} for n, text in enumerate(texts)]
    (tmp_path / "t" / "result.json").write_text(json.dumps({"programs": rows}))
    (found,) = read_searches(tmp_path)
    assert found.programs == (texts[0], texts[1], texts[1])
    assert found.right == {text: [True, True, False] for text in texts}
    with pytest.raises(InputError, match="--method full"):
        read_searches(tmp_path / "t")
