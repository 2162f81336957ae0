"""How much of the main job fits in a given time on this machine.

The measured rates (:mod:`codegen.quickstart.measure`) give the time of each stage as a function of
three sizes: optimizer steps of each fine-tuning, samples a problem, and problems. A plan chooses
these. Half of the time that is left beside what every run costs goes to the two fine-tunings, the
rest to the samples: first one a problem for as many problems as possible, then more a problem.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.errors import ResumeError
from codegen.records import write_atomic

STAGES = (
    "measuring this machine",
    "programs and edit sequences",
    "a first page",
    "fine-tuning on whole programs",
    "fine-tuning on edit sequences",
    "samples",
    "running the samples",
    "report",
)
MODELS = 3  # base, whole, edits
SHARD = 40  # samples decoded together

FULL_STEPS, FULL_N = 32, 5  # the comparison of --full
_MOST_STEPS, _MOST_N = 200, 20
_FEWEST_STEPS, _FEWEST_PROBLEMS = 2, 4
_TRAINING_SHARE = 0.5
_RESERVE = 0.05  # of the time, for what was estimated too low
_LATE = 1.1  # a run that would take longer than this many times its minutes gets fewer samples

# Beside what is measured. The first fine-tuning imports the trainer; each one reads and encodes the
# texts, and writes checkpoints. Programs run on all cores; some of a hundred run into a time limit.
_FINE_TUNING_LOADS = 5
_SAMPLING_LOADS = 2
_LIVE = 0.75  # mean share of a batch's samples that are still being written
_SANDBOX_S, _PROGRAM_S = 2.0, 0.25
_PAGE_S = 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What this machine was measured to take, in seconds of wall time.

    Attributes:
        measuring: the measurement itself.
        data: reading the source and making both kinds of texts, of the whole source.
        load: loading the model.
        example_tokens: tokens of a training text, mean.
        train_token: a token of a training text, forward and backward.
        prompt_tokens: of a problem, mean.
        prompt_token: a prompt's token.
        step, step_row: a decoding step of a batch takes ``step + rows * step_row``.
    """

    measuring: float
    data: float
    load: float
    example_tokens: float
    train_token: float
    prompt_tokens: float
    prompt_token: float
    step: float
    step_row: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a plan decides.

    Attributes:
        steps: optimizer steps of each fine-tuning.
        n: samples a problem and model.
        problems: of the task, its first ones.
    """

    steps: int
    n: int
    problems: int


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the user has decided: sizes that are not None, and what their times depend on."""

    minutes: float | None
    steps: int | None
    n: int | None
    limit: int | None
    batch_size: int
    max_new_tokens: int
    task_problems: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan and how far it has come; stored as ``plan.json``.

    Attributes:
        request: what the run was begun with; another request is another run.
        rates: as measured.
        sizes: as planned, or as they were lowered later.
        expected: stage -> seconds of wall time.
        spent: stage -> seconds so far, those of earlier processes too.
        lowered: why there are fewer samples than planned; None until that is decided.
    """

    request: Mapping[str, Any]
    rates: Rates
    sizes: Sizes
    expected: Mapping[str, float]
    spent: Mapping[str, float] = field(default_factory=dict)
    lowered: str | None = None

    @property
    def seconds(self) -> float:
        """The whole run's expected time."""
        return sum(self.expected.values())

    def write(self, path: Path) -> Plan:
        """Stores it; returns itself."""
        write_atomic(path, json.dumps(asdict(self), indent=1) + "\n")
        return self


def read_plan(path: Path, request: Mapping[str, Any]) -> Plan | None:
    """The plan that a run was begun with, or None.

    Raises:
        ResumeError: if it was begun with another request, or the file is damaged.
    """
    remedy = "Choose another --out, or delete that directory."
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        plan = Plan(
            row["request"], Rates(**row["rates"]), Sizes(**row["sizes"]), row["expected"],
            row["spent"], row["lowered"],
        )  # fmt: skip
        then = dict(plan.request)
    except (OSError, ValueError, TypeError, KeyError):
        raise ResumeError(f"{path} is damaged.", remedy) from None
    for key, value in request.items():
        if then.get(key) != value:
            raise ResumeError(
                f"{path.parent} was begun with {key} = {then.get(key)!r}, now it is {value!r}.",
                remedy,
            )
    return plan


def choose(rates: Rates, fixed: Fixed) -> Sizes:
    """The largest sizes that fit in the user's minutes; the smallest if none do."""
    problems = min(fixed.limit or fixed.task_problems, fixed.task_problems)
    if fixed.minutes is None:
        return Sizes(fixed.steps or FULL_STEPS, fixed.n or FULL_N, problems)
    budget = 60 * fixed.minutes * (1 - _RESERVE)
    least = Sizes(
        fixed.steps or _FEWEST_STEPS,
        fixed.n or 1,
        problems if fixed.limit else min(_FEWEST_PROBLEMS, problems),
    )
    steps = least.steps
    if fixed.steps is None:
        left = budget - sum(expect(rates, fixed, least).values())
        a_step = 2 * fixed.batch_size * rates.example_tokens * rates.train_token
        steps += min(_MOST_STEPS - steps, max(0, int(_TRAINING_SHARE * left / a_step)))
    chosen = replace(least, steps=steps)
    for sizes in _samples(chosen, fixed, problems):
        if sum(expect(rates, fixed, sizes).values()) > budget:
            break
        chosen = sizes
    return chosen


def _samples(least: Sizes, fixed: Fixed, problems: int) -> list[Sizes]:
    """Numbers of problems, then of samples a problem, from few to many."""
    counts = range(least.problems, problems + 1)
    tries = range(least.n, (fixed.n or _MOST_N) + 1)
    fewer = [replace(least, problems=count) for count in counts]
    return fewer + [replace(least, problems=problems, n=n) for n in tries]


def lower(rates: Rates, fixed: Fixed, plan: Plan) -> Sizes:
    """The plan's sizes, or fewer samples if the run would end late.

    Args:
        rates: measured again, before the samples are made.
    """
    if fixed.minutes is None:
        return plan.sizes
    spent = sum(plan.spent.values())
    budget = 60 * fixed.minutes * _LATE - spent

    def left(sizes: Sizes) -> float:
        expected = expect(rates, fixed, sizes)
        return sum(expected[stage] for stage in STAGES[STAGES.index("samples") :])

    if left(plan.sizes) <= budget:
        return plan.sizes
    least = replace(
        plan.sizes,
        n=fixed.n or 1,
        problems=plan.sizes.problems if fixed.limit else min(_FEWEST_PROBLEMS, plan.sizes.problems),
    )
    chosen = least
    for sizes in _samples(least, fixed, plan.sizes.problems):
        if sizes.n > plan.sizes.n or left(sizes) > budget:
            break
        chosen = sizes
    return chosen


def expect(rates: Rates, fixed: Fixed, sizes: Sizes) -> dict[str, float]:
    """Stage -> seconds of wall time."""
    tokens = sizes.steps * fixed.batch_size * rates.example_tokens
    training = _FINE_TUNING_LOADS * rates.load + tokens * rates.train_token
    rows = sizes.n * sizes.problems
    whole, rest = divmod(rows, SHARD)
    a_model = _SAMPLING_LOADS * rates.load
    a_model += whole * _shard_s(rates, SHARD, fixed.max_new_tokens)
    a_model += _shard_s(rates, rest, fixed.max_new_tokens) if rest else 0.0
    again = 2 * rates.load + 2 * _shard_s(rates, 4, 12)  # measuring, before the samples are made
    programs = MODELS * rows + sizes.problems
    return dict(
        zip(
            STAGES,
            (
                rates.measuring,
                rates.data,
                _SANDBOX_S + _PAGE_S,
                training,
                training,
                again + MODELS * a_model,
                _SANDBOX_S + programs * _PROGRAM_S,
                _PAGE_S,
            ),
            strict=True,
        )
    )


def _shard_s(rates: Rates, rows: int, tokens: int) -> float:
    prompts = rows * rates.prompt_tokens * rates.prompt_token
    return prompts + tokens * (rates.step + _LIVE * rows * rates.step_row)
