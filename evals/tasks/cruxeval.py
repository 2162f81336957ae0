"""CRUXEval (Gu et al. 2024, arXiv 2401.03065): predict a function's output, or an input for it.

``cruxeval-o`` requests the output of a call, ``cruxeval-i`` an input that yields an output; 800
functions each. The data is the authors' file, or ``hub:cruxeval-org/cruxeval``.

The model's answer is an expression. It is evaluated in the sandbox without access to the expected
value; for ``cruxeval-o`` also without the function, so that an answer cannot call it. Any input for
which the function returns the output is correct.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from codegen.core.generation import cut_at_stop
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import DataLocation, Problem
from codegen.evals.tasks.extraction import Extraction, fenced_blocks, parses, tagged_answers
from codegen.evals.tasks.styles import PromptStyle
from codegen.sandbox import Job

_FUNCTION = "f"
# The task in words, then two solved examples in the question's format.
_OUTPUT_TASK = (
    "Below is a Python function and an assertion with a call of it. Complete the assertion with "
    "what the call returns, as a literal: no expression that is left to compute, no call. Do so "
    "even if the function is wrong. Write the whole assertion between [ANSWER] and [/ANSWER], and "
    "nothing else.\n\n"
)
_INPUT_TASK = (
    "Below is a Python function and what an assertion says that it returns. Find any arguments for "
    "which it returns that. Write the whole assertion between [ANSWER] and [/ANSWER], and nothing "
    "else.\n\n"
)
_EXAMPLES = (
    ("def f(n):\n    return n", "17", "17"),
    ("def f(s):\n    return s + 'a'", "'x9j'", "'x9ja'"),
)


@dataclass(frozen=True, slots=True)
class CruxProblem(Problem):
    """One data row; ``prompt`` is the function."""

    input: str
    output: str


class CruxEval(CodeTask[CruxProblem]):
    """Output prediction; :class:`CruxEvalInputs` is input prediction."""

    home = DataLocation("cruxeval/cruxeval.jsonl.gz", "cruxeval-org/cruxeval")
    problem_type = CruxProblem
    columns: ClassVar = {"id": "id", "prompt": "code"}
    asks = ("instruction", "few_shot", "code")
    whole_programs = True
    passing = "its answer equals the call's result"
    asks_output = True
    _STOP = "[/ANSWER]"

    def _question(self, code: str, given: str, result: str) -> str:
        shown = (given, "??") if self.asks_output else ("??", result)
        return f"[PYTHON]\n{code}\nassert {_FUNCTION}({shown[0]}) == {shown[1]}\n[/PYTHON]\n"

    def instruction(self, problem: CruxProblem) -> str:
        """Returns the paper's direct prompt: the task, two solved examples and the question."""
        examples = "".join(
            f"{self._question(*example)}[ANSWER]\nassert {_FUNCTION}({example[1]}) == {example[2]}"
            "\n[/ANSWER]\n\n"
            for example in _EXAMPLES
        )
        task = _OUTPUT_TASK if self.asks_output else _INPUT_TASK
        question = self._question(problem.prompt, problem.input, problem.output)
        return task + examples + question

    def few_shot(self, problem: CruxProblem) -> str:
        """Returns the ``instruction`` prompt with the beginning of the answer."""
        return self.instruction(problem) + "[ANSWER]\n"

    def code(self, problem: CruxProblem) -> str:
        """Returns the ``few_shot`` prompt with the assertion up to the answer."""
        begun = f"assert {_FUNCTION}("
        return self.few_shot(problem) + (
            f"{begun}{problem.input}) ==" if self.asks_output else begun
        )

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return (self._STOP, "\n") if style.ask == "code" else (self._STOP,)

    def read(self, problem: CruxProblem, style: PromptStyle, answer: str) -> Extraction:
        """Returns a program that assigns the expression in the answer to ``answer``."""
        if style.name == "solution":
            return Extraction(answer)
        if style.read == "append":
            begun = f"assert {_FUNCTION}({problem.input}) ==" if self.asks_output else "f("
            answer = begun + cut_at_stop(answer, self._stops(style))
        answer = find_answer(answer, output=self.asks_output)
        if not answer:
            what = "an output" if self.asks_output else "arguments"
            return Extraction("", f"neither an assertion nor {what} in the answer")
        return Extraction(self._program(problem, answer))

    def _program(self, problem: CruxProblem, answer: str) -> str:
        if self.asks_output:
            return f"def answer():\n    return (\n{answer}\n)\n"
        # Arguments may use other definitions in the function's source.
        return (
            f"{problem.prompt}\n\n\n"
            "def arguments_of(*positional, **named):\n    return positional, named\n\n\n"
            f"def answer():\n    return arguments_of(\n{answer}\n)\n"
        )

    def job(self, problem: CruxProblem, program: str) -> Job:
        """Returns a job that compares the answer with the output, or calls the function with it."""
        if self.asks_output:
            return Job(program, test=f"assert answer() == ({problem.output})", plain=True)
        test = f"positional, named = answer()\nassert {_FUNCTION}(*positional, **named) == " + (
            f"({problem.output})"
        )
        # An argument that is a function cannot leave the sandbox.
        mode = "in_sandbox" if "lambda" in problem.input else "isolated"
        return Job(program, test=test, setup=problem.prompt, mode=mode, plain=True)

    def reference(self, problem: CruxProblem) -> str:
        """Returns the row's output, or its input."""
        return self._program(problem, problem.output if self.asks_output else problem.input)

    def buggy(self, problem: CruxProblem) -> Sequence[str]:
        """Returns a wrong output and a function call; nothing for input prediction."""
        if self.asks_output:
            return (
                self._program(problem, f"[{problem.output}, None]"),
                self._program(problem, f"{_FUNCTION}({problem.input})"),
            )
        return ()


class CruxEvalInputs(CruxEval):
    """Input prediction."""

    passing = "the function returns the output for its arguments"
    asks_output = False


def find_answer(text: str, *, output: bool) -> str:
    """Extracts the expression from an answer: the requested side of an assertion, or all text.

    Searches the last pair of answer tags, else the last fenced block, else the whole answer.
    """
    if tagged := tagged_answers(text):
        text = tagged[-1]
    elif blocks := fenced_blocks(text):
        text = blocks[-1]
    text = text.strip()
    lines = [line.strip() for line in text.splitlines() if "==" in line]
    for candidate in [text, *reversed(lines)]:
        if side := _side(candidate, output=output):
            return side
    if "\n" in text or not parses(text if output else f"{_FUNCTION}({text})"):
        return ""
    return text


def _side(text: str, *, output: bool) -> str:
    """Returns the side of ``assert f(...) == value``, or the arguments of a lone ``f(...)``."""
    code = text.removeprefix("assert").strip()
    try:
        node = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ""
    call: ast.expr = node
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
        if output and _is_call(node.left):
            return ast.get_source_segment(code, node.comparators[0]) or ""
        call = node.left
    if output or not _is_call(call):
        return ""
    segment = ast.get_source_segment(code, call) or ""
    return segment[segment.index("(") + 1 : -1].strip() or "*()"


def _is_call(node: ast.expr) -> bool:
    function = node.func if isinstance(node, ast.Call) else None
    return isinstance(function, ast.Name) and function.id == _FUNCTION
