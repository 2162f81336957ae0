"""Units are whole statements; lines that are inert change no verdict."""

from __future__ import annotations

import ast
import dataclasses
import random
import re
from collections import Counter
from collections.abc import Callable

import pytest

from codegen.lintseq import prepare, resampling
from codegen.lintseq.units import cut
from codegen.lintseq.verify import check_pylint, check_ruff


def test_units_are_whole_statements() -> None:
    program = (
        "@decorate\ndef f(\n    a,\n):\n"
        '    """Two\n    lines."""\n\n'
        "    # about x\n    x = [\n        a,\n    ]; y = 2\n"
        "    if x: y = 3\n    else:\n        # why\n        y = 4\n        # so\n\n    return y\n"
    )
    owners = prepare(program, granularity="statement").owners
    pieces: dict[int, list[int]] = {}
    for line, owner in enumerate(owners, 1):
        pieces.setdefault(owner, []).append(line)
    assert sorted(pieces.values()) == [
        [1, 2, 3, 4],  # def
        [5, 6],  # docstring
        [7, 8, 9, 10, 11],  # blank, comment, two statements
        [12],  # if
        [13],  # else
        [14, 15, 16],  # its block, with the comment that is deeper than what follows
        [17, 18],  # blank, return
    ]


def _same_verdicts(programs: list[str], check: Callable, granularity: str) -> tuple[int, int]:
    """Compares the verdict on each state with that on its text without inert lines.

    All dependencies but those of parts on their wholes are left out, so that there is much to find.
    """
    seen = faulty = 0
    for number, program in enumerate(programs):
        whole = prepare(program, granularity=granularity)  # type: ignore[arg-type]
        nodes = cut(ast.parse(whole.program), whole.lines, by_line=granularity == "line").nodes
        free = dataclasses.replace(
            whole,
            dependents=tuple(tuple(node.children) for node in nodes),
            groups=tuple(() for _ in whole.groups),
            faulty=(),
        )
        attempt = resampling.sample_attempt(free, random.Random(number))
        states = list(attempt.sequence.states)
        assert len(states) == len(attempt.texts)
        for full, short in zip(check(states), check(list(attempt.texts)), strict=True):
            rules = Counter(finding.rule for finding in full)
            assert rules == Counter(finding.rule for finding in short)
            seen += 1
            faulty += bool(rules)
    return seen, faulty


@pytest.mark.parametrize("granularity", ["line", "statement"])
def test_inert_lines_change_no_verdict_of_ruff(
    human_eval_programs: list[str], granularity: str
) -> None:
    commented = [
        re.sub(r"(?m)^( +)return", r"\1# about it\n\1return", program)
        for program in human_eval_programs
    ]
    seen, faulty = _same_verdicts(commented[::4], check_ruff, granularity)
    assert seen > 200 and faulty > 50


@pytest.mark.slow
def test_inert_lines_change_no_verdict_of_pylint(human_eval_programs: list[str]) -> None:
    seen, faulty = _same_verdicts(human_eval_programs[::12], check_pylint, "line")
    assert seen > 50 and faulty > 15


def test_orders_to_checkers_are_not_inert() -> None:
    prepared = prepare("# coding: utf-8\n# why\nx = y  # pylint: disable=E\n# pylint: skip-file\n")
    assert prepared.inert == {1}
