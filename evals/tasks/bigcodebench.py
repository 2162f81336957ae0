"""BigCodeBench (Zhuo et al. 2024, arXiv 2406.15877): functions that use many libraries.

``bigcodebench`` has 1140 problems, ``bigcodebench-hard`` the 148 hardest. The data is a file with
the authors' columns (``bigcodebench_hard.json``), or ``hub:bigcode/bigcodebench:default:v0.1.4``
and ``hub:bigcode/bigcodebench-hard:default:v0.1.4``. The style ``continue`` shows the code with its
docstring ("complete"), ``chat`` the instruction ("instruct").

The tests are ``unittest`` classes that need the program's own objects, so they run blinded; in most
problems a program could forge some assertions (``trust`` is ``partly_blinded``). Programs may
import the installed packages in ``--packages`` (``auto``: all that the problems import), and have
no network. A problem with other requirements is skipped with the reason; then the score is
incomplete and not comparable with published scores. A header that an answer lacks is prepended, as
in the authors' "calibrated" scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from codegen.core.records import Verdict
from codegen.evals.tasks.base import CodeTask, modules_of
from codegen.evals.tasks.dataset_rows import DataLocation, Problem
from codegen.sandbox import Job, Limits, SandboxProtocol

# Other requirements that the sandbox does not meet.
_NEEDS: Mapping[str, str] = {"BigCodeBench/1040": "needs a network (resolves localhost)"}


@dataclass(frozen=True, slots=True)
class BigCodeProblem(Problem):
    """One data row; ``prompt`` is the code with its docstring."""

    instruction: str
    header: str
    entry_point: str
    canonical_solution: str
    test: str


class BigCodeBench(CodeTask[BigCodeProblem]):
    """The BigCodeBench-Hard benchmark."""

    home = DataLocation(
        "bigcodebench/bigcodebench_hard.json.gz", "bigcode/bigcodebench-hard:default:v0.1.4"
    )
    problem_type = BigCodeProblem
    columns: ClassVar = {
        "prompt": "complete_prompt", "instruction": "instruct_prompt", "header": "code_prompt",
    }  # fmt: skip
    whole_programs = True
    needs_preparation = True

    def prepare(self, problems: Sequence[BigCodeProblem], sandbox: SandboxProtocol) -> None:
        """Determines the problems whose requirements the sandbox does not meet."""
        self.reference_exceptions = self.lacking(sandbox, _NEEDS)

    def modules(self, problem: BigCodeProblem) -> frozenset[str]:
        """Returns the modules that the prompt, its solution and the tests import."""
        return modules_of(problem.prompt + problem.canonical_solution, problem.test)

    def instruction(self, problem: BigCodeProblem) -> str:
        """Returns the row's instruction, which includes the required header."""
        return problem.instruction

    def preamble(self, problem: BigCodeProblem) -> str:
        """Returns the imports and the header with an empty body, which an answer replaces."""
        return f"{problem.header.rstrip()}\n    pass\n"

    def job(self, problem: BigCodeProblem, program: str) -> Job | Verdict:
        """Returns a job with the blinded test class, or ``infra_error`` if packages are missing."""
        if reason := self.reference_exceptions.get(problem.id):
            return Verdict(problem.id, 0, "infra_error", message=reason)
        return Job(
            program,
            test=problem.test,
            entry_point=problem.entry_point,
            mode="blinded",
            limits=Limits(cpu_s=30.0, memory_mib=4096, file_mib=64, processes=64, open_files=256),
        )


class BigCodeBenchFull(BigCodeBench):
    """The whole BigCodeBench benchmark."""

    home = DataLocation("bigcodebench/bigcodebench.json.gz", "bigcode/bigcodebench:default:v0.1.4")
