"""Rewards from the sandbox for scripts that use TRL's trainers.

:class:`SandboxReward` is a reward function; :class:`Submissions` an environment in which a model
that calls tools submits programs and is told how they fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from codegen import plugins
from codegen.errors import InputError
from codegen.evals import tasks
from codegen.evals.sandbox import Limits
from codegen.evals.tasks.custom import Custom
from codegen.records import Sample

from .judge import Judge, combine, feedback, metrics_of, sample_of, text_of


class SandboxReward:
    """A reward for TRL's trainers (``reward_funcs``): programs run in the sandbox.

    The data set has a column ``prompt`` and those that say how an answer is judged: ``tests``, or
    ``calls`` and ``expected``, or ``stdin`` and ``stdout``; if need be ``entry_point`` and
    ``setup`` (:mod:`codegen.evals.tasks.custom` describes them all). With ``task`` it has a column
    ``problem_id`` instead. The object can be pickled; its sandbox starts with the first call, and
    ends with the process or by :meth:`close`.

    Args:
        rewards: name -> weight, of ``codegen plugins``.
        task: name of a task (``codegen eval tasks``); empty for the columns above.
        hidden, workers, cpu_s, service: see :class:`Judge`.
        style: how answers are read, a prompt style; ``chat`` finds the code block in a text.

    Raises:
        ConfigError: for an unknown task, reward or style.
    """

    def __init__(
        self,
        rewards: Mapping[str, float] | None = None,
        *,
        task: str = "",
        hidden: float = 0.0,
        workers: int = 0,
        cpu_s: float = 0.0,
        service: str | Sequence[str] = (),
        style: str = "chat",
    ) -> None:
        self.__name__ = "sandbox"  # what TRL calls it in its logs
        self.rewards = dict(rewards or {"passed": 1.0})
        for name in self.rewards:
            plugins.load("rewards", name)
        if cpu_s:
            Limits(cpu_s=cpu_s)
        self.task, self.style = task, tasks.find_style(style)
        self.options: dict[str, Any] = {
            "hidden": hidden,
            "workers": workers,
            "cpu_s": cpu_s,
            "service": service,
        }
        self._judge: Judge | None = None
        self._rows: dict[str, str] = {}  # what decides a problem -> its id

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_judge": None, "_rows": {}}

    def close(self) -> None:
        """Ends the sandbox."""
        if self._judge:
            self._judge.close()
            self._judge = None

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Any = None,
        log_extra: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """A reward for each completion; None where the sandbox failed.

        Args:
            prompts, completions: texts, or lists of messages.
            completion_ids: tokens, for their number.
            log_metric, log_extra: TRL's, which get the share of solved samples, statuses and the
                suspects.
            columns: the data set's other columns, one value for each completion.

        Raises:
            InputError: for a row that does not say how it is judged.
        """
        samples = []
        environments = columns.pop("environments", None) or [None] * len(prompts)
        for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            row = {
                name: values[number]
                for name, values in columns.items()
                if isinstance(values, (list, tuple))  # TRL adds other arguments
            }
            tokens = len(completion_ids[number]) if completion_ids else 0
            if isinstance(environment := environments[number], Submissions):
                completion = environment.program
            samples.append(self._sample(row, number, prompt, completion, tokens))
        judged = self._open().start(samples).result()  # TRL may call from several threads
        totals, parts = combine(judged, self.rewards)
        if log_metric:
            for name, value in metrics_of(judged, parts).items():
                log_metric(name, value)
        if log_extra:
            log_extra("status", [one.verdict.status for one in judged])
            log_extra("suspects", [", ".join(one.suspects) for one in judged])
        return totals

    def environment(self) -> Submissions:
        """For TRL's ``environment_factory``: the model submits programs by a tool; see
        :class:`Submissions`.
        """
        return Submissions(self)

    def _open(self) -> Judge:
        if self._judge is None:
            options = {**self.options, "constants": "share" in self.rewards}
            columns = Custom("rewarded", "columns of a data set", [], "")
            self._judge = Judge(tasks.load(self.task) if self.task else columns, **options)
        return self._judge

    def _sample(
        self, row: Mapping[str, Any], number: int, prompt: Any, completion: Any, tokens: int
    ) -> Sample:
        problem_id = self._problem_of(self._open(), text_of(prompt), row)
        return sample_of(self.task, problem_id, number, prompt, completion, tokens, self.style)

    def _problem_of(self, judge: Judge, prompt: str, row: Mapping[str, Any]) -> str:
        if self.task:
            if not judge.knows(problem_id := str(row.get("problem_id", ""))):
                raise InputError(
                    f"The task {self.task} has no problem {problem_id!r}.",
                    "Give the data set a column problem_id with the ids of its problems.",
                )
            return problem_id
        given = {name: value for name, value in row.items() if value is not None}
        given |= {"prompt": prompt, "id": "row"}
        known = self._rows.setdefault(repr(sorted(given.items())), f"row-{len(self._rows)}")
        if not judge.knows(known):
            judge.add(replace(Custom.problem_of("A row of the data set", given), id=known))
        return known


class Submissions:
    """An environment of TRL for models that call tools: the tool ``submit`` runs a program.

    Its answer is the kind of failure and the input that fails, never what the tests expect. The
    reward is that of the last program, by the same :class:`SandboxReward`::

        reward = SandboxReward()
        GRPOTrainer(..., reward_funcs=reward, environment_factory=reward.environment)
    """

    def __init__(self, reward: SandboxReward) -> None:
        self._reward = reward
        self._row: dict[str, Any] = {}
        self.program = ""

    def reset(self, prompt: Any = "", **row: Any) -> None:
        """Begins an episode with a row of the data set."""
        self._row, self.program = {"prompt": prompt, **row}, ""

    def submit(self, program: str) -> str:
        """
        Runs a program against its tests.

        Args:
            program: The whole program in Python.

        Returns:
            Whether it passes, or the kind of failure and the input that fails.
        """
        self.program = program
        row = {name: value for name, value in self._row.items() if name != "prompt"}
        sample = self._reward._sample(row, 0, self._row["prompt"], program, 0)
        (judged,) = self._reward._open().start([sample]).result()
        return feedback(judged)
