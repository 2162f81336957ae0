"""An ``openenv`` (0.5 to 0.10) environment whose reward comes from the sandbox.

``make_app("mbpp")`` serves the problems of a task, or of your own file (``file:PATH``). An episode
is one problem: ``reset`` returns its prompt, and the first ``step`` scores the answer and ends the
episode. Over HTTP, where each request has its own environment, ``step`` names the problem. The
reward is 1 if the answer's program passes its tests, which it cannot access, else 0. A sandbox
failure raises: the client gets an error instead of a reward.
"""

from __future__ import annotations

import itertools
from typing import Any
from uuid import uuid4

from openenv.core.env_server import Action, Environment, Observation, State, create_app

from codegen.adapters import find_problem, judge_answer, prompt_of, task_of
from codegen.core.errors import InputError


class CodeAction(Action):
    """A model's answer, from which the program is extracted, and the problem if none was reset."""

    answer: str
    problem: str = ""


class CodeObservation(Observation):
    """The prompt of a problem; after an answer, the program's status.

    The verdict's message is omitted, since it may contain expected values.
    """

    problem: str
    prompt: str
    status: str = ""


class CodeEnvironment(Environment[CodeAction, CodeObservation, State]):
    """The problems of a task, one per episode.

    Args:
        problems: task name; ``codegen eval tasks`` lists them.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, problems: str = "mbpp") -> None:
        super().__init__()
        self._name = problems
        self._ids = [problem.id for problem in task_of(problems).problems()]
        self._turns = itertools.count()
        self._state = State()
        self._now: CodeObservation | None = None

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        problem: str | None = None,
        index: int | None = None,
        **_: Any,
    ) -> CodeObservation:
        """Starts the named problem, the one that the index or seed selects, or the next.

        Raises:
            InputError: for an unknown problem.
        """
        seed = seed if index is None else index
        turn = next(self._turns) if seed is None else seed
        chosen = problem or self._ids[turn % len(self._ids)]
        task, found = find_problem(self._name, chosen)
        self._state = State(episode_id=episode_id or str(uuid4()))
        self._now = CodeObservation(problem=chosen, prompt=prompt_of(task, found))
        return self._now

    def step(self, action: CodeAction, timeout_s: float | None = None, **_: Any) -> CodeObservation:
        """Scores the answer and ends the episode; the sandbox's limits apply.

        Raises:
            InputError: if no episode is running, or the problem is unknown. NotScored: if the
                sandbox failed.
        """
        if action.problem:
            self.reset(problem=action.problem)
        if self._now is None or self._now.done:
            raise InputError("No episode is running.", "Call reset before step.")
        verdict = judge_answer(*find_problem(self._name, self._now.problem), action.answer)
        self._state.step_count += 1
        reward, status = float(verdict.passed), verdict.status
        self._now = self._now.model_copy(update={"done": True, "reward": reward, "status": status})
        return self._now

    def list_splits(self) -> list[str]:
        """Returns the split of the Task API, openenv's ``TaskProvider``."""
        return ["test"]

    def get_task_range(
        self, split: str, start: int | None = None, stop: int | None = None
    ) -> list[Any]:
        """Returns the ids and indices of some problems."""
        return [{"id": id_, "index": n} for n, id_ in enumerate(self._ids)][start:stop]

    def list_tasks(self, split: str) -> list[Any]:
        """Returns the ids and indices of all problems."""
        return self.get_task_range(split)

    def num_tasks(self, split: str) -> int:
        """Returns the number of problems."""
        return len(self._ids)

    def get_task(self, split: str, index: int) -> dict[str, Any]:
        """Returns one problem's id and index."""
        return self.list_tasks(split)[index]

    @property
    def state(self) -> State:
        """The episode's id and number of steps."""
        return self._state


def make_app(problems: str = "mbpp", sessions: int = 64) -> Any:
    """Returns the web application, for uvicorn.

    Args:
        sessions: maximum number of concurrent clients.
    """
    return create_app(
        lambda: CodeEnvironment(problems),
        CodeAction,
        CodeObservation,
        env_name="codegen",
        max_concurrent_envs=sessions,
    )
