"""The experiments behind docs/evidence.md: their worlds are right, and they run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from codegen.benchmarks.evidence import forms, sequencematch
from codegen.benchmarks.evidence.functions import functions, judge
from codegen.evals.sandbox import Sandbox


def test_the_small_functions_do_what_they_are_said_to() -> None:
    """The expected values come from the parts' effects, not from the programs."""
    drawn = functions(80, seed=3)
    assert [f.program for f in functions(20, seed=3)] == [f.program for f in drawn[:20]]
    with Sandbox(workers=1) as sandbox:
        right = judge(
            sandbox, drawn, [[f.program, f.program + "    return 12345\n"] for f in drawn]
        )
        other = judge(sandbox, drawn[1:], [[f.program] for f in drawn[:-1]])
    assert all(own and dead for own, dead in right)
    assert sum(wrong for (wrong,) in other) < 10  # few programs give what others must


@pytest.mark.slow
def test_each_form_is_trained_asked_and_judged(tmp_path: Path) -> None:
    options = Namespace(functions=40, problems=2, n=2, hidden=32, steps=2)
    for name, form in forms.FORMS.items():
        found = forms.run(tmp_path, name, 0, options)
        assert list(found) == list(form.ask)
        for measures in found.values():
            assert measures["tokens"] > 0
            assert 0 <= measures["pass@1"] <= measures["pass@2"] <= 1
            assert 1 <= measures["distinct"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("world", ["sums", "functions"])
def test_sequencematch_runs_in_both_worlds(tmp_path: Path, world: str) -> None:
    options = Namespace(world=world, questions=64, asked=6, hidden=32, steps=2, eta=0.1)
    for condition in ("likelihood, plain", "SequenceMatch, backspaces"):
        found = sequencematch.run(tmp_path, condition, 0, options)
        assert set(sequencematch.COLUMNS) < set(found)
