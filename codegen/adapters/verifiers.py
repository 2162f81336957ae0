"""Tasks for ``verifiers`` (0.4) and prime-rl, whose rewards come from the sandbox.

Their commands load these classes by the id ``codegen-tasks`` (module ``codegen_tasks``)::

    vf-validate codegen-tasks --taskset.problems humaneval --runtime.type subprocess
    vf-eval codegen-tasks --env.taskset.problems file:problems.jsonl --model MODEL

The reward ``passed`` is 1 if the program of the last reply passes its tests, which it cannot
access, else 0. A sandbox failure raises: the rollout counts as failed, not as wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import verifiers.v1 as vf
from pydantic import field_validator

from codegen.adapters import find_problem, judge_answer, prompt_of, task_of
from codegen.core.http_client import Client


class CodeTasksetConfig(vf.TasksetConfig):
    """The selected problems."""

    problems: str = "mbpp"
    """Task name (``codegen eval tasks``), or ``file:PATH``."""


class CodeTaskData(vf.TaskData):
    """One problem.

    Attributes:
        problems: name of its task.
    """

    problems: str


class VerifiersCodeTask(vf.Task[CodeTaskData, vf.State, vf.TaskConfig]):
    """A problem whose answers are programs."""

    @property
    def key(self) -> str:
        """The task's and the problem's name, which do not depend on the selection."""
        return f"{self.data.problems}/{self.data.id}"

    @vf.reward
    async def passed(self, task: CodeTaskData, trace: vf.Trace) -> float:
        """Returns 1 if the program of the last reply passes its tests, else 0."""
        verdict = await asyncio.to_thread(judge_answer, *_found(task), trace.last_reply)
        return float(verdict.passed)

    async def validate(self, runtime: Any) -> bool | None:
        """Returns True if the problem's own solution passes; None without a solution."""
        task, problem = _found(self.data)
        reference = task.reference(problem)
        if not reference or problem.id in task.reference_exceptions:
            return None
        fenced = f"```python\n{reference}\n```"
        verdict = await asyncio.to_thread(judge_answer, task, problem, fenced)
        return verdict.passed


class CodeTaskset(vf.Taskset[VerifiersCodeTask, CodeTasksetConfig]):
    """The problems of one of our tasks."""

    def load(self) -> Iterator[VerifiersCodeTask]:
        """Yields a task for each problem."""
        name = self.config.problems
        task = task_of(name)
        for problem in task.problems():
            prompt, key = prompt_of(task, problem), problem.id
            data = CodeTaskData(id=key, name=key, prompt=prompt, problems=name)
            yield VerifiersCodeTask(data, self.config.task)


class CodeHarness(vf.Harness[vf.HarnessConfig]):
    """Sends the prompt to the model once, from this process; the model gets no shell."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Requests one completion.

        Raises:
            RequestFailure: if the model's server failed.
        """
        texts = zip(("system", "user"), self.resolve_text_prompt(data), strict=True)
        messages = [{"role": role, "content": text} for role, text in texts if text]
        async with Client(endpoint, secret) as client:
            async for _ in client.rows(
                f"{endpoint}/chat/completions", {"model": ctx.model, "messages": messages}
            ):
                pass  # verifiers' proxy records the reply
        return vf.ProgramResult(0, "", "")


class CodeEnvConfig(vf.SingleAgentEnvConfig):
    """One agent, whose harness runs in this process."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())

    @field_validator("agent")
    @classmethod
    def _check_timeout(cls, agent: vf.AgentConfig) -> vf.AgentConfig:
        if agent.timeout.scoring is not None:
            raise ValueError(
                "verifiers scores 0 where timeout.scoring expires. Remove it; each program has its "
                "own limits."
            )
        return agent


class CodeEnv(vf.SingleAgentEnv, vf.Env[CodeEnvConfig]):
    """An environment of a taskset and one agent."""


def _found(data: CodeTaskData) -> tuple[Any, Any]:
    return find_problem(data.problems, str(data.id))
