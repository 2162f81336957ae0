"""A reinforcement run in a report: its steps in a few stages, each treated like a scored run.

``rollouts.jsonl`` of such a run has a line for each sample: step, verdict, rewards with reasons,
suspects (:mod:`codegen.finetune.rollouts`). A stage is some steps in a row, so the page's
comparisons and its list of samples step through the training; curves show every step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import codegen
from codegen.errors import CodegenError, InputError
from codegen.evals import tasks
from codegen.evals.score import STATUSES, Measure, ProblemScore, ReferenceGate, Score
from codegen.evals.statistics import Count, base_task, default_ks, estimate_pass_at_k
from codegen.records import Status, conform, read_json, read_rows

from .content import LossCurve, ProblemSamples, SampleView, ScoredRun

ROLLOUTS = "rollouts*.jsonl"
_SETTINGS = "recipe.json"
_MOST_BYTES = 64 << 20
_LARGEST = 1e100
_MOST_SHOWN = 16  # samples of a problem in a stage; the others are in the run's file


@dataclass(frozen=True, slots=True)
class Rollout:
    """A line of ``rollouts.jsonl``."""

    step: int
    problem_id: str
    index: int
    completion: str
    program: str
    status: Status
    trust: str
    message: str
    reward: float | None
    rewards: Mapping[str, tuple[float | bool | None, str]]
    solved: bool | None
    suspects: Sequence[str]
    tokens: int
    finish_reason: str
    cpu_s: float
    earlier: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def view(self, index: int) -> SampleView:
        """The sample with its rewards before the verdict's message."""
        parts = [f"step {self.step}"]
        if self.reward is not None:
            parts.append(f"reward {self.reward:.3g}")
        if len(self.rewards) > 1 or any(reason for _, reason in self.rewards.values()):
            parts += [
                f"{name} {value if value is None else round(value, 3)}"
                + (f" ({reason})" if reason and reason != self.status else "")
                for name, (value, reason) in self.rewards.items()
            ]
        if self.status == "passed" and self.solved is False:
            parts.append("fails hidden tests")
        if self.suspects:
            parts.append(f"suspects: {', '.join(self.suspects)}")
        text = "; ".join(parts) + (f". {self.message}" if self.message else "")
        answers = [*(f"{answer}\n[{status}]\n" for answer, status in self.earlier), self.completion]
        return SampleView(
            index,
            self.status,
            text,
            self.program,
            "\n".join(answers),
            finish_reason=self.finish_reason,
            tokens=self.tokens,
            cpu_s=self.cpu_s,
            trust=self.trust,
        )


def is_training(folder: str | Path) -> bool:
    """Whether a directory holds a run of reinforcement."""
    return any(Path(folder).glob(ROLLOUTS))


def read_training(
    name: str, folder: str | Path, stages: int = 4
) -> tuple[list[ScoredRun], list[LossCurve]]:
    """A run's stages as scored runs, and its curves by step.

    Args:
        folder: with ``rollouts.jsonl`` and ``recipe.json``.
        stages: how many, at most; of equally many steps.

    Raises:
        InputError: naming a file that cannot be read, or the line that is not a sample.
    """
    folder = Path(folder)
    rows = sorted(_rows(folder), key=lambda row: row.step)
    if not rows:
        raise InputError(f"{folder} holds no samples yet.", "Train it first.")
    recipe = _recipe(folder)
    settings = {
        **{
            key: recipe[key]
            for key in ("model", "method", "learning_rate", "seed")
            if key in recipe
        },
        **{key: value for key, value in recipe.get("grpo", {}).items() if value not in ("", {}, 0)},
    }
    prompts = _prompts(str(settings.get("task", "")))
    steps = sorted({row.step for row in rows})
    size = -(-len(steps) // min(stages, len(steps)))
    runs = []
    for start in range(0, len(steps), size):
        among = set(steps[start : start + size])
        part = [row for row in rows if row.step in among]
        runs.append(_stage(name, part, settings, prompts, hides=bool(settings.get("hidden"))))
    note = "The samples were drawn during training, each from another state of the model."
    runs[0] = replace(runs[0], score=replace(runs[0].score, notes=[note, *runs[0].score.notes]))
    return runs, _curves(name, rows)


def _rows(folder: Path) -> Iterator[Rollout]:
    for path in sorted(folder.glob(ROLLOUTS)):
        for where, row in read_rows(path):
            try:
                found = conform(Rollout, row)
                numbers = [
                    found.reward or 0.0,
                    *(value or 0.0 for value, _ in found.rewards.values()),
                ]
                if max(map(abs, numbers)) > _LARGEST:  # their sum would be none
                    raise ValueError(f"a reward is larger than {_LARGEST:g}")
                yield found
            except ValueError as error:
                raise InputError(f"{where}: not a sample of a training run: {error}.") from None


def _recipe(folder: Path) -> dict[str, Any]:
    try:
        recipe: Any = read_json(folder / _SETTINGS, _MOST_BYTES)
        json.dumps(recipe, allow_nan=False)
    except (OSError, ValueError):
        return {}
    is_recipe = isinstance(recipe, dict) and isinstance(recipe.get("grpo", {}), dict)
    return recipe if is_recipe else {}


def _prompts(task: str) -> dict[str, str]:
    try:
        return {problem.id: problem.prompt for problem in tasks.load(task).problems()}
    except CodegenError:
        return {}


def _stage(
    name: str,
    rows: Sequence[Rollout],
    settings: Mapping[str, Any],
    prompts: Mapping[str, str],
    *,
    hides: bool,
) -> ScoredRun:
    groups: dict[str, list[Rollout]] = {}
    for row in rows:
        groups.setdefault(row.problem_id, []).append(row)
    problems = []
    order = {problem_id: place for place, problem_id in enumerate(prompts)}
    for problem_id in sorted(groups, key=lambda id_: order.get(id_, len(order))):
        group = groups[problem_id]
        rated = [row.solved for row in group if row.solved is not None]
        problems.append(ProblemScore(problem_id, len(rated), sum(rated)))
    counts = [Count(p.n, p.c) for p in problems if p.n]
    clusters = [base_task(p.problem_id) for p in problems if p.n]
    fewest = min((count.n for count in counts), default=0)
    estimates = {k: estimate_pass_at_k(counts, k, clusters) for k in default_ks(fewest)}
    statuses = Counter(row.status for row in rows)
    notes = []
    unsolved = sum(row.status == "passed" and row.solved is False for row in rows)
    if hides:
        notes.append(
            f"{unsolved} of {statuses['passed']} samples that pass the tests that the reward sees "
            "fail hidden ones; only those that pass all count as solved."
        )
    first, last = rows[0].step, rows[-1].step
    score = Score(
        task=str(settings.get("task", "")),
        source="",
        complete=not statuses["infra_error"] and not statuses["bad_test"],
        estimates={k: estimate for k, estimate in estimates.items() if estimate},
        statuses={status: statuses[status] for status in STATUSES if statuses[status]},
        problems=problems,
        problems_in_task=max(len(prompts), len(problems)),
        samples=len(rows),
        programs=len({(row.problem_id, row.program) for row in rows}),
        settings={**settings, "steps": f"{first} to {last}"},
        sandbox={},
        versions={"codegen": codegen.__version__},
        reference=ReferenceGate(0, 0),
        notes=notes,
        measures=_measures(groups),
    )
    shown = {
        problem_id: ProblemSamples(
            prompts.get(problem_id, ""),
            [row.view(number) for number, row in enumerate(group[-_MOST_SHOWN:])],
        )
        for problem_id, group in groups.items()
    }
    return ScoredRun(f"{name} steps {first} to {last}", score, shown, is_training=True)


def _measures(groups: Mapping[str, Sequence[Rollout]]) -> dict[str, Measure]:
    """Rewards and suspects: means over problems, as the page shows other measures."""
    means: dict[str, list[float]] = {}
    counts: Counter[str] = Counter()
    for group in groups.values():
        values: dict[str, list[float]] = {}
        for row in group:
            if row.reward is not None:
                values.setdefault("reward", []).append(row.reward)
            for name, (value, _) in row.rewards.items():
                if isinstance(value, (int, float)) and len(row.rewards) > 1:
                    values.setdefault(f"reward {name}", []).append(value)
            values.setdefault("suspects", []).append(bool(row.suspects))
            values.setdefault("tokens", []).append(row.tokens)
        for name, found in values.items():
            means.setdefault(name, []).append(fmean(found))
            counts[name] += len(found)
    return {
        name: Measure(
            fmean(found),
            stdev(found) / len(found) ** 0.5 if len(found) > 1 else None,
            counts[name],
        )
        for name, found in means.items()
    }


def _curves(name: str, rows: Sequence[Rollout]) -> list[LossCurve]:
    """By step: the mean reward, the shares of samples solved and of suspects, pass@k of groups."""
    by_step: dict[int, list[Rollout]] = {}
    for row in rows:
        by_step.setdefault(row.step, []).append(row)
    points: dict[str, list[tuple[float, float]]] = {}
    for step, found in by_step.items():
        rewards = [row.reward for row in found if row.reward is not None]
        rated = [row for row in found if row.solved is not None]
        shares = {
            "reward": fmean(rewards) if rewards else None,
            "solved": fmean(bool(row.solved) for row in rated) if rated else None,
            "suspects": fmean(bool(row.suspects) for row in found),
        }
        groups: dict[str, list[bool]] = {}
        for row in rated:
            groups.setdefault(row.problem_id, []).append(bool(row.solved))
        counts = [Count(len(group), sum(group)) for group in groups.values()]
        k = min((count.n for count in counts), default=0)
        if k > 1 and (estimate := estimate_pass_at_k(counts, k)):
            shares[f"pass@{k}"] = estimate.value
        for quantity, value in shares.items():
            if value is not None:
                points.setdefault(quantity, []).append((step, value))
    return [LossCurve(f"{name}: {quantity}", found) for quantity, found in points.items()]
