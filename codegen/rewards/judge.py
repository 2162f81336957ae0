"""Tests completions in the sandbox, in the background, and rewards them; also for TRL's trainers.

:class:`Judge` evaluates samples for reinforcement learning: it extracts programs from completions
and runs each distinct program once in the sandbox, while the model samples the next ones. A sandbox
failure is retried and counted, and yields no reward.

:class:`SandboxReward` is a reward function for scripts that use TRL's trainers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from codegen.core import plugins
from codegen.core.errors import InputError
from codegen.core.records import UNJUDGED, Sample, Status, Trust, Verdict
from codegen.evals import tasks
from codegen.evals.counted_tests import (
    CountedTests,
    TestResults,
    constant_programs,
    counted,
    results,
)
from codegen.evals.tasks import Problem, PromptStyle, Task
from codegen.evals.tasks.custom import CustomTask
from codegen.rewards.builtin import Scored, rewards_of
from codegen.rewards.suspicious import suspects
from codegen.sandbox import Job, Limits, Outcome
from codegen.sandbox.verdicts import NotScored, choose_sandbox, retried

_MOST_KEPT = 20_000  # maximum number of cached outcomes


@dataclass(frozen=True, slots=True)
class TestedSample:
    """A sample with the results of its tests.

    Attributes:
        sample: the sample, with ``program``, ``tests``, ``original`` and ``measures`` in its
            ``meta`` (see :mod:`codegen.rewards.builtin`).
        verdict: verdict on the tests that are visible to rewards.
        solved: whether the sample passes all tests, including hidden ones; None if untested.
        suspects: kinds from :mod:`codegen.rewards.suspicious`.
    """

    sample: Sample
    verdict: Verdict
    solved: bool | None
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """The result of running a program."""

    verdict: Verdict
    tests: TestResults

    @property
    def status(self) -> Status:
        return self.verdict.status

    @property
    def message(self) -> str:
        return self.verdict.message


class Judge:
    """Tests samples of a task. Use as a context manager, or call :meth:`close`.

    Args:
        hidden: fraction of each problem's tests that is hidden from rewards.
        constants: whether to measure the score of constant programs (for the reward ``share``).
        workers: number of sandboxes; 0 for one per core.
        cpu_s: maximum CPU seconds per program; 0 for the task's limit.
        service: URLs of sandbox services; by default those in ``CODEGEN_SANDBOX_URL``, or else a
            local sandbox.
        trust: minimum trust of tests; programs with less are ``refused`` and get no reward.

    Raises:
        SandboxError: if this machine has no sandbox.
    """

    def __init__(
        self,
        task: Task[Any],
        *,
        hidden: float = 0.0,
        constants: bool = False,
        workers: int = 0,
        cpu_s: float = 0.0,
        service: str | Sequence[str] = (),
        trust: Trust = "blinded",
    ) -> None:
        self.task, self.hidden, self.constants, self.cpu_s = task, hidden, constants, cpu_s
        self.trust: Trust = trust
        self.failures = 0  # programs for which the sandbox failed in all attempts
        self._problems: dict[str, Problem] = {p.id: p for p in task.problems()}
        self._known: dict[tuple[str, str], _Found] = {}
        self._constant: dict[str, float] = {}
        self.sandbox = choose_sandbox(service, trust, workers=workers or None).__enter__()
        # One batch at a time: the next batch may contain the same programs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        if task.needs_preparation:
            task.prepare(list(self._problems.values()), self.sandbox)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the sandbox and cancels pending tests."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.sandbox.close()

    def add(self, problem: Problem) -> None:
        """Adds a problem of the task's type."""
        self._problems[problem.id] = problem

    def knows(self, problem_id: str) -> bool:
        """Returns True if the task has this problem."""
        return problem_id in self._problems

    def refuses(self, problem: Problem) -> bool:
        """Returns True if a problem's tests have less than the required :attr:`trust`."""
        job = self.task.job(problem, "pass\n")
        return isinstance(job, Job) and not job.reaches(self.trust)

    def start(self, samples: Sequence[Sample]) -> Future[list[TestedSample]]:
        """Tests samples in the background; results are in sample order."""
        return self._thread.submit(self.judge, samples)

    def judge(self, samples: Sequence[Sample]) -> list[TestedSample]:
        """Tests samples and returns the results in sample order."""
        programs: list[str] = []
        missing: dict[int, Verdict] = {}
        for number, sample in enumerate(samples):
            found = self.task.extract(self._problems[sample.problem_id], sample)
            programs.append(found.program)
            if not found.program:
                missing[number] = Verdict("", 0, found.status, message=found.reason)
        keys = [(s.problem_id, text) for s, text in zip(samples, programs, strict=True)]
        wanted = [key for number, key in enumerate(keys) if number not in missing]
        known = self._results(wanted)
        judged = []
        for number, (sample, key) in enumerate(zip(samples, keys, strict=True)):
            if number in missing:
                found = _Found(missing[number], TestResults((False,)))
            else:
                found = known[key]
            judged.append(self._judged(sample, key[1], found))
        return judged

    def _judged(self, sample: Sample, program: str, found: _Found) -> TestedSample:
        problem = self._problems[sample.problem_id]
        tests = found.tests
        meta: dict[str, Any] = {**sample.meta, "program": program}
        meta["tests"] = {
            "passed": sum(tests.seen),
            "total": len(tests.seen),
            "constant": self._constant_share(problem) if self.constants else 0.0,
        }
        if original := self._original(problem, sample):
            meta["original"] = original
        if measures := self.task.measure(problem, sample):
            meta["measures"] = dict(measures)
        verdict = replace(found.verdict, problem_id=sample.problem_id, index=sample.index)
        solved = verdict.passed and all(tests.seen) and all(tests.hidden)
        job = self.task.job(problem, program) if program else None
        return TestedSample(
            replace(sample, meta=meta),
            verdict,
            None if verdict.status in UNJUDGED else solved,
            () if isinstance(job, Verdict) else tuple(suspects(program, job.test if job else "")),
        )

    def _original(self, problem: Problem, sample: Sample) -> str:
        """Returns the program to change that the prompt shows; empty if absent."""
        shown = (text for text in self.task.buggy(problem) if text.strip() in sample.prompt)
        return next(shown, "")

    def _results(self, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], _Found]:
        """Returns the results of programs, from the cache or the sandbox.

        Raises:
            NotScored: if the sandbox failed on all programs.
        """
        if len(self._known) > _MOST_KEPT:
            self._known.clear()
        failed = _Found(Verdict("", 0, "infra_error"), TestResults((False,)))
        new: dict[tuple[str, str], _Found] = {}
        found = {key: self._known.get(key, failed) for key in keys}
        left = [key for key in found if key not in self._known]
        try:
            retried(self._run, left, new)
        except NotScored:
            if not new:
                raise
        known = {key: one for key, one in new.items() if one.status != "infra_error"}
        self._known |= known
        self.failures += len(left) - len(known)
        return found | new

    def _run(self, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], _Found]]:
        jobs: dict[tuple[str, str], Job] = {}
        rest = []
        for key in keys:
            job = self.task.job(self._problems[key[0]], key[1])
            if type(self.task).judge is Task.judge and isinstance(job, Job):
                jobs[key] = self._limited(job)
            else:
                rest.append((key, self._problems[key[0]], key[1]))
        tests = {key: self._counted(job) for key, job in jobs.items()}
        running = ((key, test.job if (test := tests[key]) else job) for key, job in jobs.items())
        for key, outcome in self.sandbox.map(running):
            found = results(tests[key], outcome, self.hidden)
            yield key, _Found(_verdict(outcome, found), found)
        for key, given in self.task.judge(rest, self.sandbox) if rest else ():
            verdict = _verdict(given) if isinstance(given, Outcome) else given
            yield key, _Found(verdict, TestResults((verdict.passed,)))

    def _counted(self, job: Job) -> CountedTests | None:
        found = counted(job)
        return found if found and found.job.reaches(self.trust) else None

    def _limited(self, job: Job) -> Job:
        if not self.cpu_s or job.limits.cpu_s <= self.cpu_s:
            return job
        return replace(job, limits=replace(job.limits, cpu_s=self.cpu_s))

    def _constant_share(self, problem: Problem) -> float:
        """Returns the largest fraction of the visible tests that a constant program passes."""
        if problem.id not in self._constant:
            job = self.task.job(problem, "pass\n")
            programs = constant_programs(job) if isinstance(job, Job) and self._counted(job) else []
            found = self._results((problem.id, text) for text in programs)
            shares = [one.tests.share for one in found.values()]
            self._constant[problem.id] = max(shares, default=0.0)
        return self._constant[problem.id]


def _verdict(outcome: Outcome, tests: TestResults | None = None) -> Verdict:
    return Verdict(
        "",
        0,
        (tests and tests.status) or outcome.status,
        outcome.trust,
        outcome.cpu_s,
        outcome.wall_s,
        outcome.memory_mib,
        (tests and tests.message) or outcome.message,
        outcome.stdout[:2000],
        outcome.sites,
        outcome.open_sites,
        outcome.seen,
    )


def combine(
    judged: Sequence[TestedSample], weights: Mapping[str, float]
) -> tuple[list[float | None], dict[str, list[Scored]]]:
    """Returns each sample's weighted sum of rewards, and the rewards by name.

    Args:
        judged: tested samples, in any order.
        weights: reward name -> weight.

    Returns:
        The sum for each sample, None if it was not tested; and the rewards by name.
        A reward without a value for a sample adds 0.

    Raises:
        ConfigError, InputError, CodegenError: see :func:`codegen.rewards.rewards_of`.
    """
    order = sorted(range(len(judged)), key=lambda number: judged[number].sample.problem_id)
    parts: dict[str, list[Scored]] = {name: [Scored(None)] * len(judged) for name in weights}
    for _, group in groupby(order, key=lambda number: judged[number].sample.problem_id):
        numbers = list(group)
        samples = [judged[number].sample for number in numbers]
        verdicts = [judged[number].verdict for number in numbers]
        for name, scores in parts.items():
            for number, one in zip(numbers, rewards_of(name, samples, verdicts), strict=True):
                scores[number] = one
    totals: list[float | None] = []
    for number, one in enumerate(judged):
        values = [(weights[name], scores[number].value) for name, scores in parts.items()]
        found = [weight * value for weight, value in values if value is not None]
        is_unjudged = one.verdict.status in UNJUDGED
        totals.append(None if is_unjudged or not found else math.fsum(found))
    return totals, parts


def text_of(messages: Any) -> str:
    """Returns the text of a prompt or completion; for messages, of the last one."""
    if isinstance(messages, str):
        return messages
    return str((messages[-1].get("content") or "") if messages else "")


def sample_of(
    task: str,
    problem_id: str,
    index: int,
    prompt: Any,
    completion: Any,
    tokens: int,
    style: PromptStyle,
    **more: Any,
) -> Sample:
    """Builds the record of a completion; ``more``: fields of
    :class:`codegen.core.records.Sample`.
    """
    fields: dict[str, Any] = {"finish_reason": "eos", "settings": {}, "seed": 0} | more
    return Sample(
        task=task,
        problem_id=problem_id,
        index=index,
        prompt=text_of(prompt),
        completion=text_of(completion),
        prompt_tokens=0,
        completion_tokens=tokens,
        meta=tasks.meta_of(style),
        **fields,
    )


def metrics_of(
    judged: Sequence[TestedSample], parts: Mapping[str, Sequence[Scored]]
) -> dict[str, float]:
    """Returns each reward's mean over samples, and rates of solved, suspicious and failed samples.

    ``solved`` counts samples that pass all tests, including hidden ones.
    """
    found: dict[str, float] = {}
    for name, scores in parts.items():
        if values := [one.value for one in scores if one.value is not None]:
            found[f"reward/{name}"] = sum(values) / len(values)
    if rated := [one.solved for one in judged if one.solved is not None]:
        found["solved"] = sum(rated) / len(rated)
    kinds = Counter(kind for one in judged for kind in one.suspects)
    for kind, count in kinds.items():
        found[f"suspects/{kind}"] = count / len(judged)
    found["suspects"] = sum(bool(one.suspects) for one in judged) / len(judged)
    refused = sum(one.verdict.status == "refused" for one in judged)
    found["refused"] = refused / len(judged)
    found["infra_errors"] = (sum(one.solved is None for one in judged) - refused) / len(judged)
    return found


class SandboxReward:
    """A reward for TRL's trainers (``reward_funcs``) that runs programs in the sandbox.

    The dataset needs a column ``prompt`` and columns for the tests: ``tests``, or ``calls`` and
    ``expected``, or ``stdin`` and ``stdout``; optionally ``entry_point`` and ``setup`` (see
    :mod:`codegen.evals.tasks.custom`). With ``task`` it needs a column ``problem_id`` instead. The
    object can be pickled; its sandbox starts on the first call, and stops with the process or
    :meth:`close`.

    Args:
        rewards: reward name (``codegen plugins``) -> weight.
        task: task name (``codegen eval tasks``); empty for the columns above.
        hidden: see :class:`Judge`, also for ``workers``, ``cpu_s``, ``service`` and ``trust``.
        style: prompt style that parses answers; ``chat`` extracts the code block.

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
        trust: Trust = "blinded",
        style: str = "chat",
    ) -> None:
        self.__name__ = "sandbox"  # name in TRL's logs
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
            "trust": trust,
        }
        self._judge: Judge | None = None
        self._rows: dict[str, str] = {}  # problem content -> its id

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_judge": None, "_rows": {}}

    def close(self) -> None:
        """Stops the sandbox."""
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
        """Returns the reward of each completion; None if the sandbox failed.

        Args:
            prompts: strings or lists of messages.
            completions: strings or lists of messages.
            completion_ids: token ids, to count them.
            log_metric: TRL's logger for the rate of solved samples.
            log_extra: TRL's logger for statuses and suspects.
            columns: the dataset's other columns, one value per completion.

        Raises:
            InputError: for a row without tests.
        """
        samples = []
        for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            row = {
                name: values[number]
                for name, values in columns.items()
                if isinstance(values, (list, tuple))  # TRL passes other arguments, too
            }
            tokens = len(completion_ids[number]) if completion_ids else 0
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

    def _open(self) -> Judge:
        if self._judge is None:
            options: dict[str, Any] = {**self.options, "constants": "share" in self.rewards}
            columns = CustomTask("rewarded", "columns of a dataset", [], "")
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
                    "Add a column problem_id with the task's problem ids to the dataset.",
                )
            return problem_id
        given = {name: value for name, value in row.items() if value is not None}
        given |= {"prompt": prompt, "id": "row"}
        known = self._rows.setdefault(repr(sorted(given.items())), f"row-{len(self._rows)}")
        if not judge.knows(known):
            judge.add(replace(CustomTask.problem_of("A row of the dataset", given), id=known))
        return known
