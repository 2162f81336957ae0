"""The reward interface, the computation of rewards, and the built-in rewards.

Besides sample and verdict, a reward can use the keys that :class:`codegen.rewards.Judge` adds to
the sample's ``meta``: ``program``, the program extracted from the answer; ``tests``, counts of
passed tests (see :func:`share`); ``original``, the program to change; ``measures``, the task's own
measures of the sample, if any.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any, Protocol

from codegen.core import plugins
from codegen.core.errors import CodegenError, InputError
from codegen.core.paths import write_atomic
from codegen.core.records import UNJUDGED, Sample, Verdict
from codegen.evals.tasks.extraction import find_code
from codegen.lintseq.verify import LintMessage, check_compile, check_ruff

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_SOFT_SHARE = 0.2  # last fraction of the maximum length, in which the length penalty rises


@dataclass(frozen=True, slots=True)
class Scored:
    """The reward of one sample.

    Attributes:
        value: the reward; None if missing, for example if the sandbox failed or the tests are
            unusable. Such a sample must count neither for nor against the model.
        reason: short explanation.
    """

    value: float | None
    reason: str = ""


class Reward(Protocol):
    """Scores samples."""

    def __call__(self, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> Sequence[Scored]:
        """Returns the rewards of samples of one problem, in sample order.

        Args:
            samples: completions.
            verdicts: test results, in the same order.
        """
        ...


def rewards_of(name: str, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Scored]:
    """Computes the reward ``name`` for samples of one problem.

    Raises:
        ConfigError: for an unknown name.
        InputError: if the number of values differs from the number of samples, or a value is not
            a finite number.
        CodegenError: if another package's reward raises an error.
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
            f"The reward {name!r} returned {len(scored)} values for the {len(samples)} samples of "
            f"{problem}.",
            "Return one value for each sample.",
        )
    for one in scored:
        value = getattr(one, "value", one)
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        if not isinstance(one, Scored) or not (value is None or is_number):
            raise InputError(
                f"The reward {name!r} returned {value!r} for a sample of {problem}.",
                "Return a Scored with a finite number, or with None for a sample without a reward.",
            )
    return scored


def write_rewards(
    name: str, samples: Iterable[Sample], verdicts: Iterable[Verdict], path: str | os.PathLike[str]
) -> dict[str, float | int | None]:
    """Writes the reward ``name`` of scored samples, one JSON line each.

    Args:
        samples: samples, grouped by problem.
        verdicts: test results, in the same order.
        path: output file: ``problem_id``, ``index``, ``value``, ``reason``.

    Returns:
        ``samples``, the number with a value (``valued``), and their ``mean`` or None.

    Raises:
        ConfigError: for an unknown name.
        InputError: if the number of values differs from the number of samples.
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


def passed(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Scored]:
    """Returns 1 for a sample that passes its tests, else 0; None for an untested one. The reason is
    the status.
    """
    return [
        Scored(None if verdict.status in UNJUDGED else float(verdict.passed), verdict.status)
        for _, verdict in zip(samples, verdicts, strict=True)
    ]


def share(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Scored]:
    """Returns the fraction of tests passed, scaled so that a constant program gets 0.

    With s the fraction of tests passed and c the largest fraction passed by a program that returns
    a constant: max(0, (s - c) / (1 - c)). ``meta["tests"]`` has ``passed``, ``total`` and
    ``constant`` = c; without it the reward equals :func:`passed`.
    """
    plain = passed(samples, verdicts)
    return [
        _share(one, sample.meta.get("tests")) for one, sample in zip(plain, samples, strict=True)
    ]


def _share(plain: Scored, tests: Any) -> Scored:
    if plain.value != 0.0 or not tests:
        return plain
    least, part = tests["constant"], tests["passed"] / tests["total"]
    value = max(0.0, (part - least) / (1 - least)) if least < 1 else 0.0
    reason = f"{tests['passed']} of {tests['total']} tests"
    return Scored(value, reason + (f", a constant passes {least:.0%}" if least else ""))


def compiles(samples: Sequence[Sample], _: Sequence[Verdict]) -> list[Scored]:
    """Returns 1 for a program that Python compiles, else 0; the reason is the error."""
    return _without_faults(samples, check_compile([program_of(one) for one in samples]))


def lint(samples: Sequence[Sample], _: Sequence[Verdict]) -> list[Scored]:
    """Returns 1 for a program without ruff errors (undefined names, syntax), else 0."""
    return _without_faults(samples, check_ruff([program_of(one) for one in samples]))


def _without_faults(samples: Sequence[Sample], faults: Sequence[list[LintMessage]]) -> list[Scored]:
    scored = []
    for sample, found in zip(samples, faults, strict=True):
        if not program_of(sample).strip():
            scored.append(Scored(0.0, "no program"))
        elif found:
            scored.append(Scored(0.0, f"line {found[0].line}: {found[0].message}"))
        else:
            scored.append(Scored(1.0))
    return scored


def format_(samples: Sequence[Sample], _: Sequence[Verdict]) -> list[Scored]:
    """Returns 1 for an answer with exactly one closed, non-empty code block, else 0."""
    scored = []
    for sample in samples:
        fences = len(_FENCE.findall(sample.completion))
        if fences != 2:
            scored.append(Scored(0.0, f"{fences} code fences instead of 2"))
        else:
            scored.append(Scored(float(bool(program_of(sample).strip()))))
    return scored


def length(samples: Sequence[Sample], _: Sequence[Verdict]) -> list[Scored]:
    """Returns a penalty from 0 to -1 in the last fifth of the allowed tokens; -1 if truncated.

    Source: the soft overlong punishment of DAPO (arXiv 2503.14476, eq. 13).
    """
    scored = []
    for sample in samples:
        most, tokens = sample.settings.get("max_new_tokens", 0), sample.completion_tokens
        soft = (1 - _SOFT_SHARE) * most
        if sample.finish_reason == "length":
            scored.append(Scored(-1.0, f"cut off after {tokens} tokens"))
        elif most and tokens > soft:
            scored.append(Scored((soft - tokens) / (most - soft), f"{tokens} of {most} tokens"))
        else:
            scored.append(Scored(0.0))
    return scored


def edit_size(samples: Sequence[Sample], _: Sequence[Verdict]) -> list[Scored]:
    """Returns the negative fraction of the original program's lines changed or added, at least -1.

    None if the task has no program to change.
    """
    return [_edit_size(sample) for sample in samples]


def _edit_size(sample: Sample) -> Scored:
    original = sample.meta.get("original", "")
    if not original:
        return Scored(None, "no program to change")
    before, after = (_lines(text) for text in (original, program_of(sample)))
    if not after:
        return Scored(-1.0, "no program")
    if len(after) >= 2 * len(before):  # the result is -1 anyway, and comparing may be slow
        return Scored(-1.0, f"{len(before)} lines became {len(after)}")
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    kept = sum(block.size for block in blocks)
    changed = max(len(before), len(after)) - kept
    return Scored(-min(1.0, changed / len(before)), f"{changed} of {len(before)} lines changed")


def next_edit(samples: Sequence[Sample], _: Sequence[Verdict]) -> list[Scored]:
    """Returns the quality of a proposed next edit in [-1, 1], by the measures of ``next-edit``.

    1 for the exact edit; 0 for no edit, correct or not; -1 for an answer that is not in its format;
    -0.5 for one that reverts the last edit, or after which a Python file no longer parses. Any
    other edit gets -0.25 plus half of its correct fraction, the smaller of ``similarity`` and
    ``kept``; so an edit pays off only if at least half of it is correct. If no edit is expected,
    an edit gets -0.25.

    None for samples of other tasks.
    """
    return [_next_edit(sample.meta.get("measures", {})) for sample in samples]


def _next_edit(found: Mapping[str, float]) -> Scored:
    if "parsed" not in found:
        return Scored(None, "not a next edit")
    if not found["parsed"]:
        return Scored(-1.0, "not in the format")
    is_due = "shown" in found
    if "breaks" not in found:  # no edit proposed
        return Scored(0.0, "no edit, but one was expected" if is_due else "correctly no edit")
    if is_due and found["exact"]:
        return Scored(1.0, "exact")
    if found["undoes"]:
        return Scored(-0.5, "reverts the last edit")
    if found["breaks"]:
        return Scored(-0.5, "the file no longer parses")
    if not is_due:
        return Scored(-0.25, "an edit, but none was expected")
    right = min(found["similarity"], found.get("kept", 1.0))
    return Scored(right / 2 - 0.25, f"{right:.0%} correct")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def program_of(sample: Sample) -> str:
    """Returns the program in a sample."""
    program = sample.meta.get("program")
    return program if isinstance(program, str) else find_code(sample.completion, "").program
