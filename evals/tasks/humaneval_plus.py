"""HumanEval+ (Liu et al. 2023, arXiv 2305.01210): HumanEval's problems with 80 times the tests.

The data is EvalPlus's release file (``HumanEvalPlus.jsonl``), or ``hub:evalplus/humanevalplus``. A
sample passes if it passes the base inputs and the new ones. HumanEval/32 is judged by the residual
at the root returned, not by the root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.generation.protocol import function_instruction

from .humaneval import parts_of_prompt
from .plus import PlusProblem, PlusTask, plus_problem, with_inputs
from .rows import Home, make_problems, read_rows_of

HOME = Home("evalplus/HumanEvalPlus.jsonl.gz", "evalplus/humanevalplus")
_ROOT = "HumanEval/32"


class HumanEvalPlus(PlusTask):
    """The task over given problems, asked as HumanEval is."""

    def instruction(self, problem: PlusProblem) -> str:
        """The problem in words, as HumanEvalPack puts it."""
        parts = parts_of_prompt(problem.id, problem.prompt, problem.entry_point)
        return function_instruction(parts.signature, parts.docstring)

    def preamble(self, problem: PlusProblem) -> str:
        """What stands before the function in the prompt."""
        return parts_of_prompt(problem.id, problem.prompt, problem.entry_point).preamble


def humaneval_plus(name: str, description: str, source: str | None = None) -> HumanEvalPlus:
    """All problems."""
    rows = read_rows_of(source, HOME)
    problems = make_problems(rows, _problem, lambda problem: problem.id)
    return HumanEvalPlus(name, description, problems, rows.source)


def _problem(place: str, row: Mapping[str, Any]) -> PlusProblem:
    problem = plus_problem(place, row)
    return with_inputs(problem, problem.inputs, "root" if problem.id == _ROOT else "equal")
