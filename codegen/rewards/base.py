"""The interface of rewards, and computing them for samples."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from codegen import plugins
from codegen.errors import CodegenError, InputError
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


def rewards_of(name: str, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Scored]:
    """The rewards of samples of one problem by the reward called ``name``.

    Raises:
        ConfigError: for an unknown name.
        InputError: if the reward gives another number of values than it got samples, or a value
            that is not a finite number.
        CodegenError: if the reward of another package raises an error.
    """
    reward: Reward = plugins.load("rewards", name)
    try:
        scored = list(reward(samples, verdicts))
    except CodegenError:
        raise
    except Exception as error:
        raise plugins.blame(error) or error from error
    problem = samples[0].problem_id
    if len(scored) != len(samples):
        raise InputError(
            f"The reward {name!r} gave {len(scored)} values for the {len(samples)} samples of "
            f"{problem}.",
            "A reward must give one value for each sample.",
        )
    for one in scored:
        value = getattr(one, "value", one)
        if not isinstance(one, Scored) or not (value is None or _is_finite(value)):
            raise InputError(
                f"The reward {name!r} gave {value!r} for a sample of {problem}.",
                "A reward must give a Scored with a finite number, or with None where there is no "
                "reward.",
            )
    return scored


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def write_rewards(
    name: str,
    samples: Iterable[Sample],
    verdicts: Iterable[Verdict],
    path: str | os.PathLike[str],
) -> dict[str, float | int | None]:
    """Rewards scored samples by the reward called ``name``, one JSON line each.

    Args:
        samples: those of a problem come together.
        verdicts: in the same order.
        path: the file to write: ``problem_id``, ``index``, ``value``, ``reason``.

    Returns:
        ``samples``, how many have a value (``valued``), and their ``mean``, None without any.

    Raises:
        ConfigError: for an unknown name.
        InputError: if the reward gives another number of values than it got samples.
    """
    plugins.load("rewards", name)  # fails before anything is written
    values: list[float] = []
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        pairs = zip(samples, verdicts, strict=True)
        for problem, group in groupby(pairs, key=lambda pair: pair[0].problem_id):
            of_problem, judged = zip(*group, strict=True)
            scored = rewards_of(name, of_problem, judged)
            for sample, one in zip(of_problem, scored, strict=True):
                count += 1
                if one.value is not None:
                    values.append(one.value)
                row = {"problem_id": problem, "index": sample.index, "value": one.value}
                yield json.dumps({**row, "reason": one.reason}) + "\n"

    write_atomic(path, lines())
    mean = sum(values) / len(values) if values else None
    return {"samples": count, "valued": len(values), "mean": mean}
