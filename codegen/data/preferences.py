"""Preferences from a scored run: answers that passed their tests and answers that failed.

:class:`ScoredRun` reads the samples of a run with their verdicts, and rejects useless or misleading
samples, each with a reason. :class:`Preferences` pairs a problem's remaining samples, for DPO.

Samples are compared by their programs; the records contain the model's unchanged answers. All
samples of the run are kept in memory.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import (
    UNJUDGED,
    Example,
    Preference,
    Sample,
    Status,
    TextOrMessages,
    Verdict,
    read_jsonl,
)
from codegen.data.generators import Skip
from codegen.data.manifest import PREFERENCES
from codegen.data.sources import Item, Rejected, file_digest
from codegen.evals.metrics import normal_form, shapes
from codegen.evals.run import SAMPLES, SCORED, VERDICTS
from codegen.evals.tasks import Task, find_style
from codegen.evals.tasks.exchange import read_samples

# Answers without a runnable program: easy to recognize, so one per problem is enough.
_TRIVIAL = ("syntax_error", "empty", "no_answer")
REJECTABLE = tuple(s for s in get_args(Status) if s not in ("passed", *UNJUDGED))


@dataclass(frozen=True, slots=True)
class _Judged:
    """The sample fields that pairing needs."""

    index: int
    answer: str
    program: str
    status: Status
    trust: str

    def provenance(self) -> dict[str, Any]:
        """Returns the origin of the answer, for ``meta``."""
        return {"index": self.index, "status": self.status, "trust": self.trust}


def scored_files(folder: Path) -> tuple[Path, Path]:
    """Returns the paths of a scored run's samples and verdicts.

    Raises:
        InputError: if a file is missing.
    """
    verdicts = folder / VERDICTS
    samples = [path for name in (SCORED, SAMPLES) if (path := folder / name).is_file()]
    if not samples or not verdicts.is_file():
        what = "verdicts" if samples else "samples"
        raise InputError(
            f"{folder} contains no {what}.",
            f"Run: codegen eval score {folder}" if samples else "Pass a codegen eval directory.",
        )
    return samples[0], verdicts


@dataclass(slots=True)
class ScoredRun:
    """A source: the problems of a scored run, each with its usable samples.

    Every other sample is skipped with a reason: its status is not in ``rejected``
    (``sample_timeout``), it was cut off (``sample_cut``), equals an earlier one except for layout
    and names (``sample_duplicate``), equals one with the opposite verdict, so that the verdict is
    random (``sample_contradictory``), differs from ``alike`` kept ones only in names, numbers and
    strings (``sample_alike``), or is not the first without a program (``sample_trivial``).

    Attributes:
        samples, verdicts: paths of the run's files, see :func:`scored_files`.
        rejected: statuses of rejected answers.
        alike: maximum number of programs of one shape per problem and verdict.
    """

    samples: Path
    verdicts: Path
    task: Task[Any]
    rejected: tuple[str, ...] = ("wrong",)
    alike: int = 2
    _read: float | None = None

    def __post_init__(self) -> None:
        for status in self.rejected:
            if status not in REJECTABLE:
                raise ConfigError(
                    f"Answers with the status {status!r} cannot be rejected.",
                    f"Choose from: {', '.join(REJECTABLE)}.",
                )

    def describe(self) -> Mapping[str, Any]:
        """Returns the task, the settings, and digests of the files."""
        return {
            "kind": "scored_run",
            "task": self.task.name,
            "samples": file_digest(self.samples),
            "verdicts": file_digest(self.verdicts),
            "rejected": sorted(self.rejected),
            "alike": self.alike,
        }

    def fraction(self) -> float | None:
        """Returns the fraction of the problems read so far."""
        return self._read

    def __iter__(self) -> Iterator[Item]:
        """Yields for each problem its rejected samples, then the problem.

        Raises:
            InputError: if a sample's problem is not in the task, or samples lack prompts, as in
                other tools' files.
        """
        verdicts = {
            (verdict.problem_id, verdict.index): verdict
            for verdict in read_jsonl(Verdict, self.verdicts)
        }
        groups: dict[str, list[Sample]] = {}
        for sample in read_samples(self.samples):
            groups.setdefault(sample.problem_id, []).append(sample)
        problems = {problem.id: problem for problem in self.task.problems()}
        for number, (id_, samples) in enumerate(groups.items(), 1):
            if id_ not in problems:
                raise InputError(
                    f"The task {self.task.name!r} has no problem {id_!r}.", "Set --task."
                )
            if not samples[0].prompt:
                raise InputError(
                    f"The samples of {id_} have no prompts.",
                    "Score samples of codegen eval run; other tools' files have no prompts.",
                )
            yield from self._problem(problems[id_], samples, verdicts)
            self._read = number / len(groups)

    def _problem(
        self,
        problem: Any,
        samples: Sequence[Sample],
        verdicts: Mapping[tuple[str, int], Verdict],
    ) -> Iterator[Item]:
        prompt, style = samples[0].prompt, samples[0].meta.get("style", "")
        left: list[_Judged] = []
        for sample in samples:
            verdict = verdicts.get((sample.problem_id, sample.index))
            if reason := self._why_left_out(sample, verdict, prompt):
                yield _left_out(sample.problem_id, sample.index, reason)
                continue
            assert verdict is not None
            program = self.task.extract(problem, sample).program
            answer = sample.actions or sample.completion
            left.append(_Judged(sample.index, answer, program, verdict.status, verdict.trust))
        kept: list[_Judged] = []
        for judged, reason in _reasons(left, self.alike):
            if reason:
                yield _left_out(problem.id, judged.index, reason)
            else:
                kept.append(judged)
        passed = [judged.program for judged in kept if judged.status == "passed"]
        yield Example(
            problem.id,
            prompt,
            passed[0] if passed else "",  # read by filters
            source=self.task.name,
            meta={"judged": kept, "chat": bool(style) and find_style(style).chat},
        )

    def _why_left_out(self, sample: Sample, verdict: Verdict | None, prompt: str) -> str:
        if verdict is None:
            return "not_judged"
        if verdict.status not in ("passed", *self.rejected):
            return verdict.status
        if sample.finish_reason == "length":
            return "cut"
        return "other_prompt" if sample.prompt != prompt else ""


def _left_out(problem_id: str, index: int, reason: str) -> Rejected:
    return Rejected(f"{problem_id}/{index}", f"sample_{reason}", outcome="skipped")


def _reasons(samples: Sequence[_Judged], alike: int) -> Iterator[tuple[_Judged, str]]:
    """Yields each sample with the reason for its rejection, "" if kept."""
    forms = [normal_form(sample.program) for sample in samples]
    verdicts: dict[str, set[bool]] = {}
    for sample, form in zip(samples, forms, strict=True):
        verdicts.setdefault(form, set()).add(sample.status == "passed")
    seen: set[str] = set()
    of_shape: Counter[tuple[bool, tuple[str, ...]]] = Counter()
    has_trivial = False
    for sample, form in zip(samples, forms, strict=True):
        passed = sample.status == "passed"
        shape = passed, tuple(shapes(sample.program))
        if len(verdicts[form]) > 1:
            yield sample, "contradictory"
        elif sample.status in _TRIVIAL and has_trivial:
            yield sample, "trivial"
        elif form in seen:
            yield sample, "duplicate"
        elif of_shape[shape] >= alike:
            yield sample, "alike"
        else:
            seen.add(form)
            of_shape[shape] += 1
            has_trivial |= sample.status in _TRIVIAL
            yield sample, ""


@dataclass(frozen=True, slots=True)
class Preferences:
    """Pairs of a passed and a failed answer to one problem, of about the same length.

    Models learn length differences most easily, so answers are matched by length, the closest
    first, each answer once.

    Attributes:
        pairs: maximum number of pairs per problem.
        ratio: maximum ratio of the answers' lengths in characters.
    """

    pairs: int = 4
    ratio: float = 1.5
    name: str = field(default=PREFERENCES, init=False)

    def generate(self, example: Example, rng: random.Random) -> Iterator[Preference]:
        """Yields the preferences of one problem of a :class:`ScoredRun`.

        Raises:
            Skip: if the problem has no pair: ``only_passed``, ``only_failed``, ``no_samples`` (none
                usable), or ``lengths_differ``.
        """
        judged: list[_Judged] = example.meta["judged"]
        is_chat = example.meta["chat"]
        good = [sample for sample in judged if sample.status == "passed"]
        bad = [sample for sample in judged if sample.status != "passed"]
        if not judged:
            raise Skip("no_samples", "no usable samples")
        prompt = _turn("user", example.instruction, is_chat)

        def answer(sample: _Judged) -> TextOrMessages:
            return _turn("assistant", sample.answer, is_chat)

        if not good or not bad:
            reason = "only_passed" if good else "only_failed"
            raise Skip(reason, f"{len(judged)} usable samples")
        pairs = _matched(good, bad, self.ratio)[: self.pairs]
        if not pairs:
            raise Skip("lengths_differ", f"the length ratio of all pairs exceeds {self.ratio:g}")
        for chosen, rejected in pairs:
            yield Preference(
                f"{example.id}#{chosen.index}-{rejected.index}",
                example.id,
                self.name,
                prompt,
                answer(chosen),
                answer(rejected),
                {"chosen": chosen.provenance(), "rejected": rejected.provenance()},
            )


def _turn(role: str, text: str, is_chat: bool) -> TextOrMessages:
    return [{"role": role, "content": text}] if is_chat else text


def _matched(
    good: Sequence[_Judged], bad: Sequence[_Judged], ratio: float
) -> list[tuple[_Judged, _Judged]]:
    """Returns pairs by increasing ratio of their lengths, each sample once."""
    lengths = {sample.index: max(1, len(sample.answer)) for sample in (*good, *bad)}

    def apart(pair: tuple[_Judged, _Judged]) -> float:
        one, other = sorted(lengths[sample.index] for sample in pair)
        return other / one

    pairs, used = [], set()
    for pair in sorted(((g, b) for g in good for b in bad), key=apart):
        indices = {sample.index for sample in pair}
        if apart(pair) <= ratio and not indices & used:
            used |= indices
            pairs.append(pair)
    return pairs
