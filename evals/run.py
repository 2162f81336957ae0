"""Generates the samples of a benchmark run; a killed run can be resumed.

Requests have a fixed order and are split into fixed shards. A shard is generated and logged as a
whole: a model's rounding depends on the whole batch. A partial shard is therefore
regenerated, and a resumed run has the same bytes as an uninterrupted one (on the same machine, with
a deterministic backend).

A backend with independent completions, such as a server, resumes by sample: each is logged on
arrival. A failed request has no sample: ``failed.jsonl`` lists it with the reason, the run is
incomplete (:class:`IncompleteRun`), and the next call repeats the request.

Files in ``out``: ``run.json`` with all settings, which later calls must repeat once there are
samples; ``samples.partial.jsonl`` during the run, which locks the directory; at the end
``samples.jsonl``, sorted by problem and index.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.core.errors import ConfigError, InputError, ModelError
from codegen.core.generation import Backend, Decoder, Request, SamplingParams, samples, settings_of
from codegen.core.paths import child, write_atomic
from codegen.core.records import (
    Sample,
    Verdict,
    from_json,
    read_jsonl,
    read_rows,
    to_json,
)
from codegen.core.runs import Journal, OnProgress, RunDirectory, fingerprint, refuse_changes
from codegen.evals.tasks import STYLES, Problem, PromptStyle, Task, meta_of

SETTINGS = "run.json"
PARTIAL = "samples.partial.jsonl"
SAMPLES = "samples.jsonl"
FAILED = "failed.jsonl"
VERDICTS = "verdicts.jsonl"
SCORED = "scored.jsonl"
SCORE = "score.json"
REWARDS = "rewards.jsonl"
SHARD_SIZE = 40

_Key = tuple[str, int]


class IncompleteRun(ModelError):
    """Error that some requests failed; the same call repeats them.

    Attributes:
        samples: number of samples so far.
        failed: reason -> number of requests.
        spent: the requests' cost, set by the caller of :func:`run` if counted.
    """

    spent: Mapping[str, Any] = {}

    def __init__(self, out: Path, samples: int, failed: Mapping[str, int]) -> None:
        self.samples, self.failed = samples, dict(failed)
        count = sum(failed.values())
        worst = max(failed, key=lambda reason: failed[reason])
        super().__init__(
            f"The run is incomplete: {count} of {samples + count} requests failed, "
            f"{failed[worst]} of them with: {worst}",
            f"Run the same command again to repeat them ({out / FAILED}). `codegen eval score` "
            "scores the others and marks the score as incomplete.",
        )


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A line of ``failed.jsonl``: a request without a sample, and the reason."""

    problem_id: str
    index: int
    reason: str


def run(
    task: Task[Any],
    backend: Backend,
    params: SamplingParams,
    decoder: Decoder,
    *,
    n: int,
    style: PromptStyle,
    out: str | Path,
    limit: int | None = None,
    shard_size: int = SHARD_SIZE,
    settings: Mapping[str, object] | None = None,
    about: Mapping[str, object] | None = None,
    after: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Generates ``n`` samples of each problem, or resumes a run in ``out``.

    Args:
        task, backend, params, decoder: the benchmark, and how completions are generated.
        n: samples per problem.
        style: the prompt style, see :class:`codegen.evals.tasks.PromptStyle`.
        limit: use only the first ``limit`` problems.
        shard_size: number of samples generated and logged together, the maximum that a kill loses.
            Preferably a multiple of the backend's batch size.
        settings: other settings that affect the samples (model, backend, batch size, precision);
            JSON values. They are recorded and must be the same on resuming.
        about: facts derived from the settings, such as the model's size; JSON values to record.
        after: directory of a scored run of the same problems, for second attempts: samples that
            passed are kept; the others get a new request with their tests' message.
        on_progress: called with (samples done, total samples).

    Returns:
        The path of ``samples.jsonl``.

    Raises:
        ConfigError: for a value out of range.
        ResumeError: if ``out`` has samples of a run with other settings; names the setting.
        InputError: if another process writes to ``out``, or its log is corrupt.
        IncompleteRun: if some requests failed.
    """
    for name, value in (("n", n), ("limit", limit), ("shard_size", shard_size)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1.")
    problems = list(task.problems())[:limit]
    tried = _attempts(Path(after), task) if after else {}
    plan = _Plan.of(task, problems, style, n, shard_size, tried)
    described = {
        **(settings or {}),
        "task": task.name,
        "problems": len(problems),
        "style": style.name,
        # The prompts' digest covers built-in styles, but a user's file may change.
        **({} if style.name in STYLES else {"style_definition": style.model_dump()}),
        "n": n,
        "decoder": asdict(decoder),
        "params": asdict(params),
        **({} if backend.independent else {"shard_size": shard_size}),
        "prompts_sha256": plan.digest,
        **({"kept": len(plan.kept)} if after else {}),
    }
    described = json.loads(json.dumps(described))  # as read from the file: tuples become lists
    more = {"fingerprint": fingerprint(described), **({"about": dict(about)} if about else {})}
    report = on_progress or (lambda *_: None)
    directory = RunDirectory(Path(out), SETTINGS)
    final = directory.folder / SAMPLES
    with directory.open(PARTIAL) as journal:
        is_done = final.exists()
        begun = is_done or journal.size > 0
        directory.claim(described, begun=begun, section="settings", more=more)
        if is_done:
            report(plan.total, plan.total)
        else:
            sampling = _Sampling(plan, backend, params, decoder, style, journal, report)
            sampling.each() if backend.independent else sampling.by_shards()
            _finish(plan, journal.path, final)
    (directory.folder / PARTIAL).unlink(missing_ok=True)
    return final


@dataclass(frozen=True, slots=True)
class _Plan:
    """The shards in generation order, and the keys in the final file's order."""

    shards: Sequence[Sequence[Request]]
    final: Sequence[_Key]
    digest: str
    kept: Mapping[_Key, Sample] = field(default_factory=dict)
    meta: Mapping[_Key, Mapping[str, object]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of samples to generate."""
        return len(self.final) - len(self.kept)

    def finished(self, sample: Sample, style: PromptStyle) -> Sample:
        """Adds the metadata that a stored sample has."""
        more = self.meta.get(_key(sample), {})
        return replace(sample, meta={**sample.meta, **meta_of(style), **more})

    @classmethod
    def of(
        cls,
        task: Task[Any],
        problems: Sequence[Problem],
        style: PromptStyle,
        n: int,
        size: int,
        tried: Mapping[_Key, tuple[Sample, Verdict]],
    ) -> _Plan:
        requests: list[Request] = []
        kept: dict[_Key, Sample] = {}
        meta: dict[_Key, Mapping[str, object]] = {}
        for problem in problems:
            for index in range(n):
                key = problem.id, index
                if not tried:
                    requests.append(task.request(problem, style, index))
                    continue
                if key not in tried:
                    raise ConfigError(
                        f"The first run has no sample {index} of {problem.id}.",
                        "Pass the same -n and --limit as in that run.",
                    )
                sample, verdict = tried[key]
                if verdict.passed:
                    kept[key] = sample
                    continue
                requests.append(task.retry(problem, style, sample, verdict))
                number = sample.meta.get("try", 1)
                meta[key] = {
                    "try": number + 1 if isinstance(number, int) else 2,
                    "before": task.extract(problem, sample).program
                    or sample.meta.get("before", ""),
                }
        digest = hashlib.sha256()
        for request in requests:
            digest.update(json.dumps(asdict(request)).encode())
        # Prompts of similar length are batched together, to save padding.
        order = sorted(requests, key=lambda r: (len(r.prompt), r.problem_id, r.index))
        shards = [order[start : start + size] for start in range(0, len(order), size)]
        final = [(problem.id, index) for problem in problems for index in range(n)]
        return cls(shards, final, digest.hexdigest(), kept, meta)


def _attempts(folder: Path, task: Task[Any]) -> dict[_Key, tuple[Sample, Verdict]]:
    """Returns the samples of a scored run with their verdicts.

    Raises:
        InputError: if the run belongs to another task, or has samples without a verdict.
    """
    remedy = f"Score it first: codegen eval score {folder}"
    samples, verdicts = (child(folder, name, str(folder)) for name in (SAMPLES, VERDICTS))
    for path in (samples, verdicts):
        if not path.is_file():
            raise InputError(f"{path} is missing.", remedy)
    judged = {(v.problem_id, v.index): v for v in read_jsonl(Verdict, verdicts)}
    attempts: dict[_Key, tuple[Sample, Verdict]] = {}
    for sample in read_jsonl(Sample, samples):
        verdict = judged.get(_key(sample))
        if sample.task != task.name:
            raise InputError(f"{samples} belongs to the task {sample.task!r}, not {task.name!r}.")
        if verdict is None or verdict.status == "infra_error":
            raise InputError(f"Sample {sample.index} of {sample.problem_id} is not scored.", remedy)
        attempts[_key(sample)] = (sample, verdict)
    return attempts


def _key(item: Request | Sample) -> _Key:
    return item.problem_id, item.index


@dataclass(frozen=True, slots=True)
class _Sampling:
    """Generates and logs a plan's samples that are not in the log yet."""

    plan: _Plan
    backend: Backend
    params: SamplingParams
    decoder: Decoder
    style: PromptStyle
    log: Journal
    report: OnProgress

    def by_shards(self) -> None:
        """Generates shard by shard, since the samples of a batch depend on each other."""
        logged = _logged(self.log.path)
        first = next(iter(logged.values()), None)
        settings = _sample_at(self.log.path, first).settings if first is not None else None
        total = self.plan.total
        complete = [shard for shard in self.plan.shards if all(_key(r) in logged for r in shard)]
        done = sum(map(len, complete))
        self.report(done, total)
        finished = set(map(id, complete))
        for shard in self.plan.shards:
            if id(shard) in finished:
                continue
            made: dict[_Key, Sample] = {}
            for sample in samples(self.backend, shard, self.params, self.decoder):
                made[_key(sample)] = self.plan.finished(sample, self.style)
                self.report(done + len(made), total)
            ordered = [_take(made, request) for request in shard]
            settings = settings or ordered[0].settings
            for sample in ordered:
                refuse_changes(self.log.path.parent, dict(settings), dict(sample.settings))
            self.log.append(*(to_json(sample) for sample in ordered))
            done += len(shard)

    def each(self) -> None:
        """Generates independent samples and logs each on arrival.

        Raises:
            IncompleteRun: if requests failed.
        """
        folder = self.log.path.parent
        logged = _logged(self.log.path)
        settings = settings_of(self.backend.model, self.params, self.decoder)
        settings = json.loads(json.dumps({**settings, **self.backend.settings}))
        if logged:
            before = _sample_at(self.log.path, next(iter(logged.values()))).settings
            refuse_changes(folder, before, settings)
        missing = [r for shard in self.plan.shards for r in shard if _key(r) not in logged]
        total = self.plan.total
        done = total - len(missing)
        failed: list[FailedRequest] = []
        self.report(done, total)
        try:
            for made in self.backend.generate(missing, self.params, self.decoder):
                if made.error:
                    request = made.request
                    why = made.error.message
                    failed.append(FailedRequest(request.problem_id, request.index, why))
                    continue
                self.log.append(to_json(self.plan.finished(made.sample(settings), self.style)))
                done += 1
                self.report(done, total)
        finally:
            if failed:
                write_atomic(folder / FAILED, (json.dumps(asdict(row)) + "\n" for row in failed))
            else:
                (folder / FAILED).unlink(missing_ok=True)
        if failed:
            raise IncompleteRun(folder, done, Counter(row.reason for row in failed))
        if done < total:
            raise ModelError(f"The backend returned {done} of {total} samples.")


def read_failed(samples: Path) -> Iterator[FailedRequest]:
    """Yields the failed requests of the run that wrote a samples file.

    Raises:
        InputError: if the list is corrupt or a symbolic link.
    """
    path = child(samples.parent, FAILED, str(samples.parent))
    for where, row in read_rows(path) if path.exists() else ():
        try:
            yield FailedRequest(str(row["problem_id"]), int(row["index"]), str(row["reason"]))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{where}: not a logged request.", "Delete the file.") from None


def _take(made: Mapping[_Key, Sample], request: Request) -> Sample:
    if sample := made.get(_key(request)):
        return sample
    raise ModelError(
        f"The backend returned no sample for request {request.index} of {request.problem_id}."
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        offset = 0
        for line in file:
            yield offset, line
            offset += len(line)


def _logged(path: Path) -> dict[_Key, int]:
    """Returns each sample's key with the log offset of its last line.

    A kill during a write leaves a partial shard; the whole shard is then written again after it,
    and only the later lines count. So a shard is complete if all its keys are present.
    """
    offsets: dict[_Key, int] = {}
    for number, (offset, line) in enumerate(_lines(path), 1):
        offsets[_key(_parse(line, f"{path}:{number}"))] = offset
    return offsets


def _parse(line: bytes, where: str) -> Sample:
    try:
        return from_json(Sample, line.decode("utf-8"), where)
    except UnicodeDecodeError:
        raise InputError(f"{where}: not valid UTF-8.", "The log is corrupt: delete it.") from None


def _sample_at(path: Path, offset: int) -> Sample:
    with path.open("rb") as file:
        file.seek(offset)
        return _parse(file.readline(), str(path))


def _finish(plan: _Plan, log: Path, samples: Path) -> None:
    offsets = _logged(log)

    def lines() -> Iterator[str]:
        with log.open("rb") as file:
            for key in plan.final:
                if key in plan.kept:
                    yield to_json(plan.kept[key]) + "\n"
                    continue
                file.seek(offsets[key])
                yield file.readline().decode("utf-8")

    write_atomic(samples, lines())
