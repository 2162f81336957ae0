"""Mutants are valid, distinct, reproducible, and contain every mistake that a brute force makes."""

from __future__ import annotations

import random

import pytest

from codegen.evals.audit.programs import make_mutants

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
