"""Rewards: completions -> numbers with reasons.

A reward sees each sample with the verdict of its tests, which ran in the sandbox. A built-in one is
``passed``; other packages add theirs by an entry point (:mod:`codegen.plugins`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from codegen import plugins
from codegen.errors import InputError
from codegen.records import Sample, Verdict, write_atomic


@dataclass(frozen=True, slots=True)
class Scored:
    """The reward of one sample.

    Attributes:
        value: the number; None if there is none, as when the sandbox failed. Such a sample must
            count neither for nor against the model.
        reason: why, in some words.
    """

    value: float | None
    reason: str = ""


class Reward(Protocol):
    """Gives each sample a number."""

    def __call__(self, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> Sequence[Scored]:
        """The rewards of samples of one problem, in their order.

        Args:
            samples: completions.
            verdicts: what their tests gave, in the same order.
        """
        ...


def passed(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Scored]:
    """1 for a sample that passes its tests, else 0; the reason is the status."""
    return [
        Scored(None if verdict.status == "infra_error" else float(verdict.passed), verdict.status)
        for _, verdict in zip(samples, verdicts, strict=True)
    ]


def write_rewards(
    name: str,
    samples: Iterable[Sample],
    verdicts: Iterable[Verdict],
    path: str | os.PathLike[str],
) -> dict[str, float | int | None]:
    """Rewards scored samples by the reward called ``name``, one JSON line each.

    Args:
        name: see :mod:`codegen.plugins`.
        samples: those of a problem come together.
        verdicts: in the same order.
        path: the file to write: ``problem_id``, ``index``, ``value``, ``reason``.

    Returns:
        ``samples``, how many have a value (``valued``), and their ``mean``, None without any.

    Raises:
        ConfigError: for an unknown name.
        InputError: if the reward gives another number of values than it got samples.
    """
    reward: Reward = plugins.load("rewards", name)
    values: list[float] = []
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        pairs = zip(samples, verdicts, strict=True)
        for problem, group in groupby(pairs, key=lambda pair: pair[0].problem_id):
            of_problem, judged = zip(*group, strict=True)
            scored = reward(of_problem, judged)
            if len(scored) != len(of_problem):
                raise InputError(
                    f"The reward {name!r} gave {len(scored)} values for the {len(of_problem)} "
                    f"samples of {problem}.",
                    "A reward must give one value for each sample.",
                )
            for sample, one in zip(of_problem, scored, strict=True):
                count += 1
                if one.value is not None:
                    values.append(one.value)
                row = {"problem_id": problem, "index": sample.index, "value": one.value}
                yield json.dumps({**row, "reason": one.reason}) + "\n"

    write_atomic(path, lines())
    mean = sum(values) / len(values) if values else None
    return {"samples": count, "valued": len(values), "mean": mean}
