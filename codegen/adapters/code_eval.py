"""The metric ``code_eval`` of Hugging Face's ``evaluate`` (0.4), with tests that the program cannot
access.

``codegen eval code-eval --out .`` writes the directory ``code_eval``, which ``evaluate.load``
prefers to the hub's if it is in the working directory. So lm-evaluation-harness's own tasks
``humaneval`` and ``mbpp`` use it. Arguments and results are as in the original, but ``result`` has
the sandbox's status (``failed: wrong: ...``). The original runs each program together with its
test.

A warning counts tests that a program could forge because they compare its results with each other:
4 of 164 in HumanEval. Another counts programs on which the sandbox failed: they have no result, and
pass@k (NaN if no program has one) does not count them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import datasets
import evaluate

from codegen.evals.statistics import pass_at_k
from codegen.sandbox import Job, Limits, Outcome
from codegen.sandbox.verdicts import run_jobs

_MEMORY_MIB = 1024
_LOG = logging.getLogger(__name__)


class CodeEval(evaluate.Metric):
    """pass@k of candidate programs."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description="predictions: candidates per task. references: a test per task.",
            features=datasets.Features(
                {"predictions": datasets.Sequence(text), "references": text}
            ),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[str],
        k: Sequence[int] = (1, 10, 100),
        num_workers: int = 4,
        timeout: float = 3.0,
    ) -> tuple[dict[str, float], dict[int, list[tuple[int, dict[str, Any]]]]]:
        """Returns pass@k, and each candidate's result by task.

        Args:
            predictions: candidate programs of each task.
            references: the test of each task: statements that call the program.
            k: values of k; those above a task's number of candidates are omitted.
            num_workers: ignored.
            timeout: CPU seconds per program.

        Raises:
            NotScored: if the sandbox failed on every program.
        """
        limits = Limits(cpu_s=timeout, memory_mib=_MEMORY_MIB)
        jobs = {
            (task, number): Job(candidate, test=test, limits=limits)
            for task, (candidates, test) in enumerate(zip(predictions, references, strict=True))
            for number, candidate in enumerate(candidates)
        }
        open_tests = {job.test for job in jobs.values() if not job.reaches("blinded")}
        if open_tests:
            _LOG.warning("A program could forge %d of these tests.", len(open_tests))
        found = run_jobs(jobs, "in_sandbox", partial=True)
        if lost := len(jobs) - len(found):
            _LOG.warning("No verdict on %d of %d programs: not counted.", lost, len(jobs))
        results: dict[int, list[tuple[int, dict[str, Any]]]] = {task: [] for task, _ in jobs}
        for (task, number), outcome in sorted(found.items()):
            row = {"task_id": task, "passed": outcome.passed, "result": _result(outcome)}
            results[task].append((number, {**row, "completion_id": number}))
        counts = [[row["passed"] for _, row in rows] for rows in results.values()]
        fewest = min(map(len, predictions), default=0)
        scores = {}
        for each in k:
            tasks = [pass_at_k(len(c), sum(c), each) for c in counts if len(c) >= each]
            if each <= fewest:
                scores[f"pass@{each}"] = fmean(tasks) if tasks else math.nan
        return scores, results


def _result(outcome: Outcome) -> str:
    if outcome.status == "timeout":
        return "timed out"
    return "passed" if outcome.passed else f"failed: {outcome.status}: {outcome.message}"
