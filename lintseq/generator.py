"""From programs to verified edit sequences and training texts.

Sequences are sampled, all their states checked at once, and those with a dirty state sampled again
after a repair: the statement that was found wrong from then on needs the nodes whose deletion made
it so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from codegen.errors import CodegenError, ConfigError
from codegen.lintseq.edits import EditSequence
from codegen.lintseq.errors import UnsupportedProgram, VerificationFailed
from codegen.lintseq.program import GRANULARITIES, Granularity, Prepared, prepare
from codegen.lintseq.sampling import Step, edits_of, sample_steps
from codegen.lintseq.text_format import format_edits
from codegen.lintseq.verify import Finding, Verify, check_for, new_findings
from codegen.records import Example, Segment, TrainingText

MAX_REPAIRS = 8


def edit_sequence(
    program: str,
    rng: random.Random,
    *,
    granularity: Granularity = "statement",
    verify: Verify = "compile",
    strict: bool = True,
) -> EditSequence:
    """One verified edit sequence of a program; its last state is the program's normal form.

    Raises:
        UnsupportedProgram: if the program has no edit sequence, with the reason.
        VerificationFailed: if a state stays dirty after ``MAX_REPAIRS`` repairs.
        ConfigError: for an unknown option.
    """
    check_for(verify)
    prepared = prepare(program, granularity=granularity, strict=strict)
    (result,) = edit_sequences([(prepared, rng)], verify=verify)
    if isinstance(result, VerificationFailed):
        raise result
    return result


def edit_sequences(
    jobs: Sequence[tuple[Prepared, random.Random]], *, verify: Verify = "compile"
) -> list[EditSequence | VerificationFailed]:
    """One verified edit sequence, or why there is none, for each job.

    A job's result depends on that job alone. The states of all jobs are checked together, each text
    once: with ``ruff``, whose process takes longer to start than to lint, many jobs at once cost
    far less than one by one.
    """
    check = check_for(verify)
    if check is None:
        return [edits_of(prepared, sample_steps(prepared, rng)) for prepared, rng in jobs]
    known: dict[str, list[Finding]] = {}
    results: dict[int, EditSequence | VerificationFailed] = {}
    pending = {number: prepared for number, (prepared, _) in enumerate(jobs)}
    for _ in range(MAX_REPAIRS + 1):
        attempts = {n: _attempt(prepared, jobs[n][1]) for n, prepared in pending.items()}
        texts = dict.fromkeys(text for attempt in attempts.values() for text in attempt.texts)
        new = [text for text in texts if text not in known]
        known.update(zip(new, check(new), strict=True))
        for number, attempt in attempts.items():
            dirty = _dirty(attempt, known)
            if dirty:
                finding = dirty[0][1]
                detail = f"line {finding.line}: {finding.rule} {finding.message}"
                results[number] = VerificationFailed(verify, detail)
                pending[number] = _repaired(pending[number], attempt, dirty)
            else:
                results[number] = attempt.sequence
                del pending[number]
        if not pending:
            break
    return [results[number] for number in range(len(jobs))]


class _Attempt(NamedTuple):
    """A sampled sequence: its deletions, and the texts of its states in the order of writing."""

    steps: list[Step]
    sequence: EditSequence
    texts: list[str]


# A deletion, by its number, and a finding in the state it leaves.
_Dirty = list[tuple[int, Finding]]


def _attempt(prepared: Prepared, rng: random.Random) -> _Attempt:
    steps = sample_steps(prepared, rng)
    sequence = edits_of(prepared, steps)
    return _Attempt(steps, sequence, list(sequence.states))


def _dirty(attempt: _Attempt, known: Mapping[str, list[Finding]]) -> _Dirty:
    """What is wrong with each state but the last, which is the whole program."""
    *states, program = attempt.texts
    last = len(states) - 1
    return [
        (last - number, finding)
        for number, text in enumerate(states)
        if known[text]
        for finding in new_findings(known[text], known[program])
    ]


def _repaired(prepared: Prepared, attempt: _Attempt, dirty: _Dirty) -> Prepared:
    """The program with edges that forbid these states: what is wrong dies with what was deleted."""
    edges: dict[int, set[int]] = {}
    for number, finding in dirty:
        dead = {node for step in attempt.steps[: number + 1] for node in step}
        left = [owner for owner in prepared.owners if owner not in dead]
        # A checker that tells no line, or one past the end, means the end.
        wrong = left[finding.line - 1 if 0 < finding.line <= len(left) else -1]
        for node in attempt.steps[number]:
            edges.setdefault(node, set()).add(wrong)
    return prepared.with_edges(edges)


def generate(
    example: Example,
    rng: random.Random,
    *,
    sequences: int = 1,
    granularity: Granularity = "statement",
    verify: Verify = "compile",
    strict: bool = True,
) -> Iterator[TrainingText]:
    """The training texts of one example: its instruction, then one edit sequence each.

    Sequence k draws from a generator of its own, derived from ``rng``: it is the same whatever the
    number of sequences. ``meta`` holds the number of ``edits``, ``hunks`` and ``lines``, and
    ``failed_sequences`` if some of several found no clean form.

    Raises:
        UnsupportedProgram: if the program has no edit sequence, with the reason.
        VerificationFailed: if none of its sequences passed the check.
        ConfigError: for an unknown option.
    """
    config = LintSeq(sequences, granularity, verify, strict)
    return config.generate(example, rng)


@dataclass(frozen=True, slots=True)
class LintSeq:
    """The generator with its options, as a value that can be pickled.

    Attributes:
        sequences: independent edit sequences for each example; the paper has 5.
        granularity: what one piece of a program is.
        verify: how states are checked; see :mod:`codegen.lintseq.verify`.
        strict: whether to apply the stricter dependency rules.
    """

    sequences: int = 1
    granularity: Granularity = "statement"
    verify: Verify = "compile"
    strict: bool = True
    name: str = field(default="lintseq", init=False)

    def __post_init__(self) -> None:
        if self.sequences < 1:
            raise ConfigError(f"sequences is {self.sequences}; it must be at least 1.")
        if self.granularity not in GRANULARITIES:
            raise ConfigError(
                f"There is no granularity {self.granularity!r}.",
                f"Choose one of: {', '.join(GRANULARITIES)}.",
            )
        check_for(self.verify)

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """See :func:`generate`."""
        (texts,) = self.generate_many([(example, rng)])
        if isinstance(texts, CodegenError):
            raise texts
        yield from texts

    __call__ = generate

    def generate_many(
        self, items: Sequence[tuple[Example, random.Random]]
    ) -> list[list[TrainingText] | UnsupportedProgram | VerificationFailed]:
        """What :meth:`generate` yields or raises for each item, with one call of the check."""
        prepared = [self._prepare(example) for example, _ in items]
        jobs: list[tuple[Prepared, random.Random]] = []
        for item, (_, rng) in zip(prepared, items, strict=True):
            if isinstance(item, Prepared):
                seeds = [rng.getrandbits(64) for _ in range(self.sequences)]
                jobs += [(item, random.Random(seed)) for seed in seeds]
        results = iter(edit_sequences(jobs, verify=self.verify))
        return [
            item
            if isinstance(item, UnsupportedProgram)
            else self._texts(example, [next(results) for _ in range(self.sequences)])
            for item, (example, _) in zip(prepared, items, strict=True)
        ]

    def _prepare(self, example: Example) -> Prepared | UnsupportedProgram:
        if example.language != "python":
            detail = f"example {example.id!r} is written in {example.language!r}."
            return UnsupportedProgram("not_python", detail)
        try:
            return prepare(example.program, granularity=self.granularity, strict=self.strict)
        except UnsupportedProgram as error:
            return error

    def _texts(
        self, example: Example, results: Sequence[EditSequence | VerificationFailed]
    ) -> list[TrainingText] | VerificationFailed:
        failures = [result for result in results if isinstance(result, VerificationFailed)]
        if len(failures) == len(results):
            return failures[0]
        extra = {"failed_sequences": len(failures)} if failures else {}
        return [
            _training_text(example, number, result, extra)
            for number, result in enumerate(results)
            if isinstance(result, EditSequence)
        ]


def _training_text(
    example: Example, number: int, sequence: EditSequence, extra: Mapping[str, int]
) -> TrainingText:
    hunks = [hunk for edit in sequence.edits for hunk in edit.hunks]
    return TrainingText(
        id=f"{example.id}#lintseq-{number}",
        example_id=example.id,
        generator="lintseq",
        segments=(
            Segment(example.instruction + "\n", False),
            Segment(format_edits(sequence.edits), True),
        ),
        meta={
            "edits": len(sequence.edits),
            "hunks": len(hunks),
            "lines": sum(len(hunk.lines) for hunk in hunks),
            **extra,
        },
    )
