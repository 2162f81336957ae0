"""Rewards for verl (0.9) with verdicts that a program cannot forge.

In verl's configuration::

    reward:
      custom_reward_function:
        path: pkg://codegen.adapters.verl   # or this file's path
        name: compute_score
        reward_kwargs: {continuous: false}  # other arguments
      reward_manager:
        source: importlib
        name: CodegenRewardManager
        module: {path: "pkg://codegen.adapters.verl"}

Without ``reward_manager``, verl's ``naive`` calls the function.

``ground_truth`` has the format of verl's ``sandbox_fusion``: ``inputs`` and ``outputs``, with
``fn_name`` for a function, or a method of a class ``Solution``, whose arguments are JSON, one per
line; or ``assert_case`` with asserts.
It can also be a row of a custom task (:mod:`codegen.evals.tasks.custom`).

verl's function sends one ``/run_code`` request per test, counts any exit code 0 as passed, compares
results as text, and counts a sandbox failure as a wrong answer. Here the program cannot access the
tests, results are compared as values, and a sandbox failure raises. verl's managers ``limited`` and
``prime`` turn exceptions into 0.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from codegen.adapters import judge_rows, read_problem
from codegen.core.errors import InputError

_THREADS = 64  # samples that a reward worker scores at the same time

if TYPE_CHECKING:
    _Manager: Any = object
else:
    try:
        from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase as _Manager
    except ImportError:  # compute_score does not need verl
        _Manager = object


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | Mapping[str, Any],
    extra_info: Mapping[str, Any] | None = None,  # noqa: ARG001 - verl passes it
    *,
    continuous: bool = True,
    cpu_s: float = 6.0,
    **_: Any,
) -> dict[str, Any]:
    """Returns the reward of one answer.

    Args:
        ground_truth: see the module docstring; a mapping or its JSON.
        continuous: True for the fraction of passed tests; False for 1 if all pass, else 0.
        cpu_s: maximum CPU seconds per test.
        _: the reward model's arguments that verl passes.

    Returns:
        ``score``; ``acc``: True if all tests pass; ``passed`` and ``tests``: counts; and the first
        ``status`` that is not ``passed``.

    Raises:
        InputError: for malformed tests. NotScored: if the sandbox failed.
    """
    rows = [{**row, "cpu_s": cpu_s} for row in _rows(data_source, ground_truth)]
    problems = [
        read_problem({**row, "id": str(number)}, f"A ground truth of {data_source}")
        for number, row in enumerate(rows)
    ]
    method = str(rows[0].get("entry_point", "")) if rows else ""
    statuses = [each.status for each in judge_rows(problems, solution_str, method)]
    passed = statuses.count("passed")
    every = passed == len(statuses)
    return {
        "score": passed / len(statuses) if continuous else float(every),
        "acc": every,
        "passed": passed,
        "tests": len(statuses),
        "status": next((status for status in statuses if status != "passed"), "passed"),
    }


class CodegenRewardManager(_Manager):
    """A reward manager that scores with :func:`compute_score`, and stops if the sandbox failed.

    Arguments other than the configuration and the tokenizer are ignored.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
        super().__init__(config, tokenizer, compute_score)
        custom = config.reward.get("custom_reward_function") or {}
        self._options = dict(custom.get("reward_kwargs") or {})
        self._threads = ThreadPoolExecutor(_THREADS)

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Returns the reward of the last sequence.

        Raises:
            InputError: for malformed tests. NotScored: if the sandbox failed.
        """
        item = data[-1:][0]
        tokens, row = item.batch["responses"], item.non_tensor_batch
        count = int(item.batch["attention_mask"][-len(tokens) :].sum())

        def score() -> dict[str, Any]:
            answer = self.tokenizer.decode(tokens[:count], skip_special_tokens=True)
            truth = row["reward_model"]["ground_truth"]
            return compute_score(row["data_source"], answer, truth, **self._options)

        found = await asyncio.get_running_loop().run_in_executor(self._threads, score)
        return {"reward_score": found["score"], "reward_extra_info": found}


def _rows(source: str, given: str | Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns a row for each test."""
    try:
        truth = json.loads(given) if isinstance(given, str) else given
        if not isinstance(truth, Mapping):
            raise TypeError("it is not an object")
        if "assert_case" in truth:
            return [{"tests": test} for test in truth["assert_case"]]
        if "inputs" not in truth:
            return [truth]
        pairs = list(zip(truth["inputs"], truth["outputs"], strict=True))
        if not (name := truth.get("fn_name")):
            return [{"stdin": given, "stdout": wanted} for given, wanted in pairs]
        return [
            {
                "entry_point": name,
                "calls": [[name, _arguments(given)]],
                "expected": [_value(wanted)],
            }
            for given, wanted in pairs
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"A ground truth of {source} cannot be read: {error}.",
            "Set inputs and outputs of equal length, or assert_case.",
        ) from None


def _arguments(given: Any) -> list[Any]:
    if not isinstance(given, str):
        return list(given)
    return [json.loads(line) for line in given.split("\n") if line.strip()]


def _value(wanted: Any) -> Any:
    if not isinstance(wanted, str):
        return wanted
    try:
        return json.loads(wanted)
    except (ValueError, RecursionError):
        return wanted
