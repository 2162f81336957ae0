"""A taskset of ``verifiers`` (0.4) whose rewards come from the sandbox.

``load_taskset("mbpp")`` has the problems of a task, or of your own file
(``file:PATH``). The reward ``passed`` is 1 where the answer's program passes its tests, which it
cannot access, else 0. A sandbox failure raises, so that the rollout counts as failed, not as wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf

from codegen.adapters.answers import find_problem, judge_answer, task_of
from codegen.evals.tasks import find_style


class CodeTasksetConfig(vf.TasksetConfig):
    """Selection of problems; ``problems`` has the task's name."""

    problems: str = "mbpp"


class CodeTaskData(vf.TaskData):
    """One problem.

    Attributes:
        problems: name of its task.
    """

    problems: str


class VerifiersCodeTask(vf.Task[CodeTaskData, vf.State, vf.TaskConfig]):
    """A problem whose answers are programs."""

    @vf.reward
    async def passed(self, task: CodeTaskData, trace: vf.Trace) -> float:
        """Returns 1 if the program of the last reply passes its tests, else 0."""
        verdict = await asyncio.to_thread(judge_answer, *_found(task), trace.last_reply)
        return float(verdict.passed)

    async def validate(self, runtime: Any) -> bool | None:
        """Returns True if the problem's own solution passes; None if it has none."""
        task, problem = _found(self.data)
        reference = task.reference(problem)
        if not reference:
            return None
        fenced = f"```python\n{reference}\n```"
        verdict = await asyncio.to_thread(judge_answer, task, problem, fenced)
        return verdict.passed


class CodeTaskset(vf.Taskset[VerifiersCodeTask, CodeTasksetConfig]):
    """The problems of a task of this toolkit."""

    def load(self) -> Iterator[VerifiersCodeTask]:
        """Yields a task for each problem."""
        name = self.config.problems
        task, style = task_of(name), find_style("chat")
        for problem in task.problems():
            prompt = task.request(problem, style, 0).prompt
            data = CodeTaskData(id=problem.id, prompt=prompt, problems=name)
            yield VerifiersCodeTask(data, self.config.task)


def load_taskset(problems: str = "mbpp") -> CodeTaskset:
    """Returns the problems of a task; ``codegen eval tasks`` lists their names."""
    return CodeTaskset(CodeTasksetConfig(problems=problems))


def _found(data: CodeTaskData) -> tuple[Any, Any]:
    return find_problem(data.problems, str(data.id))
