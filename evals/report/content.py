"""A report's content: scored runs, read from their directories, and the caller's additions.

The task extracts the programs from the answers, as it did for scoring. If the task cannot be loaded
(its data is missing), the answers are shown without programs, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from codegen.core.errors import CodegenError, InputError
from codegen.core.records import Sample, Status, Verdict, read_jsonl
from codegen.evals import metrics, statistics, tasks
from codegen.evals.run import SAMPLES, SCORED, VERDICTS
from codegen.evals.scoring import Score, read_score
from codegen.evals.tasks.exchange import read_samples


@dataclass(frozen=True, slots=True)
class SampleView:
    """One sample as the report shows it.

    Attributes:
        status, message: verdict of the sample, and the reason it did not pass.
        program: the program that was run; empty if none was found in the answer.
        actions: the sample's actions, if its tokens encode actions.
        finish_reason: ``eos``, ``stop`` or ``length``.
        cpu_s, memory_mib: CPU seconds and MiB of memory that the program used.
        trust: trust grade of the verdict.
        output: the beginning of the program's output.
    """

    index: int
    status: Status
    message: str
    program: str
    answer: str
    actions: str = ""
    finish_reason: str = ""
    tokens: int = 0
    cpu_s: float = 0.0
    memory_mib: float = 0.0
    trust: str = ""
    output: str = ""


@dataclass(frozen=True, slots=True)
class ProblemSamples:
    """The samples of one problem, and their prompt."""

    prompt: str
    samples: Sequence[SampleView]


@dataclass(frozen=True, slots=True)
class NamedScore:
    """A score with its name in the report.

    Attributes:
        samples: problem id -> its samples, if known.
    """

    name: str
    score: Score
    samples: Mapping[str, ProblemSamples] = field(default_factory=dict)

    def with_note(self, note: str) -> NamedScore:
        """Returns the run with an additional note on its score."""
        return replace(self, score=replace(self.score, notes=(*self.score.notes, note)))


@dataclass(frozen=True, slots=True)
class EditSteps:
    """One sample, action by action.

    Attributes:
        title: heading.
        prompt: the model's input.
        states: the program after each action.
        verdict: verdict of the last state.
    """

    title: str
    prompt: str
    states: Sequence[str]
    verdict: Status


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The loss of one fine-tuning run: (step, loss), sorted by step."""

    name: str
    points: Sequence[tuple[float, float]]


def read_run(name: str, folder: str | Path) -> NamedScore:
    """Reads a run from the directory that ``codegen eval score`` wrote.

    Its samples are in ``scored.jsonl`` or ``samples.jsonl``, if either exists.

    Raises:
        InputError: if the score or the samples cannot be read, or the samples differ from the
            scored ones.
    """
    folder = Path(folder)
    score = read_score(folder)
    home = folder if folder.is_dir() else folder.parent
    file = home / (SCORED if (home / SCORED).is_file() else SAMPLES)
    verdicts = home / VERDICTS
    if not (file.is_file() and verdicts.is_file()):
        return NamedScore(name, score)
    judged = {(v.problem_id, v.index): v for v in read_jsonl(Verdict, verdicts)}
    programs = Programs(score)
    views: dict[str, list[SampleView]] = {}
    prompts: dict[str, str] = {}
    for sample in read_samples(file):
        verdict = judged.pop((sample.problem_id, sample.index), None)
        if verdict is None:
            raise InputError(
                f"{file} contains sample {sample.index} of {sample.problem_id}, which was not "
                "scored.",
                f"Score it into {home}.",
            )
        problem = programs.problems.get(sample.problem_id)
        view = _view(sample, verdict, programs.of(sample))
        views.setdefault(sample.problem_id, []).append(view)
        asked = sample.prompt or (problem.prompt if problem else "")
        prompts.setdefault(sample.problem_id, asked)
    if judged:
        raise InputError(
            f"{file} lacks {len(judged)} of the scored samples.",
            "Score the samples again.",
        )
    if programs.task is None:
        note = "The task's data is not available, so answers are shown without their programs."
        score = replace(score, notes=(*score.notes, note))
    # Keep the score's order, which is the task's.
    order = {problem.problem_id: place for place, problem in enumerate(score.problems)}
    ids = sorted(views, key=lambda id_: order.get(id_, len(order)))
    return NamedScore(name, score, {i: ProblemSamples(prompts[i], views[i]) for i in ids})


class Programs:
    """Extracts the programs of a score's samples, in the same way as for scoring."""

    def __init__(self, score: Score) -> None:
        self.task = _task(score)
        self.problems = (
            {problem.id: problem for problem in self.task.problems()} if self.task else {}
        )

    def of(self, sample: Sample) -> str:
        """Returns a sample's program; empty if none is found, or the task is not available."""
        problem = self.problems.get(sample.problem_id)
        if self.task is None or problem is None:
            return ""
        try:
            return self.task.program(problem, sample)
        except CodegenError:
            return ""


def _task(score: Score) -> tasks.Task[Any] | None:
    """Loads the task of a score, with the same data."""
    for source in (None, score.source):
        try:
            task = tasks.load(score.task, source)
        except CodegenError:
            continue
        if task.source == score.source:
            return task
    return None


def _view(sample: Sample, verdict: Verdict, program: str) -> SampleView:
    return SampleView(
        index=sample.index,
        status=verdict.status,
        message=verdict.message,
        program=program,
        answer=sample.completion,
        actions=sample.actions,
        finish_reason=sample.finish_reason,
        tokens=sample.completion_tokens,
        cpu_s=verdict.cpu_s,
        memory_mib=verdict.memory_mib,
        trust=verdict.grade,
        output=verdict.output,
    )


def named_folders(arguments: Sequence[str]) -> list[tuple[str, Path]]:
    """Returns the name and directory of each ``[NAME=]DIR``."""
    # A directory's name may contain an equals sign.
    parts = [("", a) if "=" not in a or Path(a).exists() else a.split("=", 1) for a in arguments]
    paths = [Path(folder).resolve() for _, folder in parts]
    return [
        (name or _shortest_end(path, [other for other in paths if other != path]), Path(folder))
        for (name, folder), path in zip(parts, paths, strict=True)
    ]


def _shortest_end(path: Path, others: Sequence[Path]) -> str:
    """Returns the shortest suffix of a path that no other path ends with."""
    for count in range(1, len(path.parts)):
        end = path.parts[-count:]
        if not any(other.parts[-count:] == end for other in others):
            return "/".join(end)
    return str(path)


_SIGNIFICANT = 0.05
_ALL_PAIRS_UP_TO = 4  # runs; with more, each is compared only with the first
_LOOKED_AT = 20  # maximum samples measured per problem
_MOST_MEASURED = 4000  # maximum samples measured per run


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Two runs compared; ``p_adjusted`` is Holm-adjusted for all comparisons of the report."""

    task: str
    first: str
    second: str
    comparison: statistics.Comparison
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """True if the difference is significant at the 5% level, after adjustment."""
        return self.p_adjusted <= _SIGNIFICANT


def headline_ks(runs: Sequence[NamedScore]) -> list[int]:
    """Returns each k to show: 1, 10 and 100 if samples suffice, else the smallest and largest."""
    known = {k for run in runs for k in run.score.estimates}
    chosen = [k for k in (1, 10, 100) if k in known]
    if len(chosen) < 2 and known:
        chosen = sorted({min(known), max(known)})
    return chosen


def compare_runs(runs: Sequence[NamedScore], *, seed: int = 0) -> list[PairedResult]:
    """Compares each task's runs pairwise (many runs: each with the first) at the headline ks."""
    comparisons: list[tuple[NamedScore, NamedScore, statistics.Comparison]] = []
    for group in by_task(runs).values():
        pairs = list(combinations(group, 2))
        if len(group) > _ALL_PAIRS_UP_TO:
            pairs = [(group[0], other) for other in group[1:]]
        for first, second in pairs:
            shared = [r for r in (first, second) if r.score.estimates]
            for k in headline_ks(shared):
                result = statistics.compare(
                    first.score.counts,
                    second.score.counts,
                    k,
                    cluster=statistics.base_task,
                    seed=seed,
                )
                if result is not None:
                    comparisons.append((first, second, result))
    adjusted = statistics.holm([comparison.p_value for _, _, comparison in comparisons])
    return [
        PairedResult(first.score.task, first.name, second.name, comparison, p)
        for (first, second, comparison), p in zip(comparisons, adjusted, strict=True)
    ]


def by_task(runs: Sequence[NamedScore]) -> dict[str, list[NamedScore]]:
    """Groups runs by task, in order."""
    groups: dict[str, list[NamedScore]] = {}
    for run in runs:
        groups.setdefault(run.score.task, []).append(run)
    return groups


@dataclass(frozen=True, slots=True)
class ExtraMeasures:
    """Measures of one run in addition to its score.

    Attributes:
        all_pass: k -> pass^k, for the k of the score's estimates.
        diversity, repetition: measures of the samples, if known.
        measured: number of samples that ``repetition`` covers.
    """

    all_pass: Mapping[int, statistics.Estimate] = field(default_factory=dict)
    diversity: metrics.Diversity | None = None
    repetition: metrics.PaperRepetition | None = None
    measured: int = 0


def compute(run: NamedScore, *, seed: int = 0) -> ExtraMeasures:
    """Computes a run's extra measures."""
    repetition, measured = _repetition(run)
    return ExtraMeasures(
        all_pass=_all_pass(run),
        diversity=metrics.measure_diversity(_programs_of(run), most=_LOOKED_AT, seed=seed),
        repetition=repetition,
        measured=measured,
    )


def _all_pass(run: NamedScore) -> dict[int, statistics.Estimate]:
    counts = run.score.counts
    clusters = [statistics.base_task(id_) for id_ in counts]
    estimates = {
        k: statistics.estimate_pass_hat_k(list(counts.values()), k, clusters)
        for k in run.score.estimates
    }
    return {k: estimate for k, estimate in estimates.items() if estimate is not None}


def _repetition(run: NamedScore) -> tuple[metrics.PaperRepetition | None, int]:
    if not run.samples:
        return None, 0
    each = max(1, min(_LOOKED_AT, _MOST_MEASURED // len(run.samples)))
    outputs = [
        metrics.Generation(problem.prompt, view.answer, view.finish_reason != "length")
        for problem in run.samples.values()
        for view in problem.samples[:each]
    ]
    return metrics.paper_repetition(outputs), len(outputs)


def _programs_of(run: NamedScore) -> Mapping[str, list[str]]:
    """Returns problem -> its samples' programs, or answers where no program was found."""
    return {
        id_: [view.program or view.answer for view in problem.samples]
        for id_, problem in run.samples.items()
    }
