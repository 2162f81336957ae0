"""Samples edit sequences by the dependency rules, checks them, and resamples failures.

Source: Piterbarg, Pinto and Fergus, ICLR 2025, section 3, and their reference code. Backward:
sample a line, delete its node and everything that depends on it, until the program is empty.
Forward: the deletions in reverse order are the edits. The reference finds broken lines with pylint;
here the dependency graph defines them, so a whole sequence takes time linear in the program.

The states of all sequences are checked together. A sequence with a dirty state is resampled after a
repair: the faulty statement then depends on the nodes whose deletion made it faulty. With
``pylint``, a sequence that stays dirty is sampled by the published algorithm, which runs the linter
after each deletion. In languages other than Python, where checks may be slow, a dirty state is
skipped: the edit that leads to it is merged with the next one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from codegen.core.errors import CodegenError
from codegen.lintseq.edits import EditSequence, UnsupportedProgram, undo
from codegen.lintseq.program import PreparedProgram
from codegen.lintseq.reference import reference_sequence
from codegen.lintseq.verify import Check, LintMessage, Verify, batches, check_for, new_findings

Step = list[int]


def sample_edits(prepared: PreparedProgram, rng: random.Random) -> EditSequence:
    """Samples one edit sequence that is clean by the dependency rules."""
    return edits_of(prepared, sample_steps(prepared, rng))


def sample_steps(prepared: PreparedProgram, rng: random.Random) -> list[Step]:
    """Samples the nodes of each deletion, the seed first, in deletion order."""
    deletion = Deletion(prepared)
    owners = prepared.owners
    steps = []
    for line in seed_order(prepared.weights, rng):
        if not deletion.dead[owners[line]]:
            steps.append(deletion.delete(owners[line]))
            if len(steps) == 1:
                for node in prepared.faulty:
                    if not deletion.dead[node]:
                        steps[0] += deletion.delete(node)
    if 0 in owners:  # comments outside of all blocks
        steps.append([0])
    return steps


def seed_order(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Returns the lines in a random order of weighted sampling without replacement.

    Each line gets an exponentially distributed time with its weight as the rate. Regardless of the
    lines deleted in between, the earliest remaining one is line i with probability w_i / sum of the
    remaining w, so sorting once replaces all draws (Efraimidis and Spirakis 2006).
    """
    times = [
        (-math.log(1.0 - rng.random()) / weight, line)
        for line, weight in enumerate(weights)
        if weight
    ]
    times.sort()
    return [line for _, line in times]


class Deletion:
    """The state of a backward phase."""

    def __init__(self, prepared: PreparedProgram) -> None:
        self.prepared = prepared
        self.dead = [False] * len(prepared.dependents)
        self.alive_in_group = list(prepared.group_sizes)

    def delete(self, seed: int) -> Step:
        """Deletes a node and all its dependents; returns them, the seed first."""
        prepared, dead, alive_in_group = self.prepared, self.dead, self.alive_in_group
        dead[seed] = True
        step = [seed]
        for node in step:  # the step grows in the loop
            for dependent in prepared.dependents[node]:
                if not dead[dependent]:
                    dead[dependent] = True
                    step.append(dependent)
            for group in prepared.groups[node]:
                alive_in_group[group] -= 1
                target = prepared.group_targets[group]
                if not alive_in_group[group] and not dead[target]:
                    dead[target] = True
                    step.append(target)
        return step


def edits_of(prepared: PreparedProgram, steps: Sequence[Step]) -> EditSequence:
    """Returns the edits that undo deletions of nodes, last deletion first."""
    lines_of: list[list[int]] = [[] for _ in prepared.dependents]
    for line, owner in enumerate(prepared.owners):
        lines_of[owner].append(line)
    return undo(
        prepared.lines, [[line for node in step for line in lines_of[node]] for step in steps]
    )


MAX_REPAIRS = 8
# The states' total size grows with the square of the program size; at the limit, compiling takes
# about 5 seconds. A real 4,000-line module has half of it; 20,000 independent lines, 100 times.
MOST_STATE_CHARACTERS = 32_000_000
# About 0.3 seconds per sequence, so that an audit does not exceed an example's time limit.
MOST_AUDITED_CHARACTERS = 100_000
MOST_COMPARED_CHARACTERS = 3_000

Job = tuple[PreparedProgram, random.Random]


class VerificationFailed(CodegenError):
    """No edit sequence of a program passed its check within the bounded number of repairs.

    Attributes:
        check: the check that failed, ``compile`` or ``ruff``.
        detail: the last finding.
    """

    def __init__(self, check: str, detail: str) -> None:
        self.check = check
        self.detail = detail
        super().__init__(
            f"An intermediate state fails the check {check!r} after all repairs: {detail}",
            "Remove the program, or report it as an error of the dependency rules.",
        )

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.check, self.detail)


# Result for a program without verified sequences.
Failure = UnsupportedProgram | VerificationFailed


class VerifiedSequence(NamedTuple):
    """A sequence that passed its check.

    Attributes:
        fallback: whether it was sampled by the published algorithm.
        joined: number of skipped dirty states.
    """

    sequence: EditSequence
    fallback: bool = False
    joined: int = 0


def edit_sequences(jobs: Sequence[Job], *, verify: Verify = "ruff") -> list[EditSequence | Failure]:
    """Returns a verified edit sequence, or the failure, for each job.

    A job's result depends only on that job. The states of all jobs are checked together, each once,
    since ruff takes longer to start than to lint.

    Raises:
        ConfigError: for an unknown check.
        CodegenError: if the check's tool is not installed.
    """
    results = verified_sequences(jobs, verify)
    return [found.sequence if isinstance(found, VerifiedSequence) else found for found in results]


def verified_sequences(jobs: Sequence[Job], verify: Verify) -> list[VerifiedSequence | Failure]:
    """Returns the results of :func:`edit_sequences`, with fallbacks and joins marked."""
    results: dict[int, VerifiedSequence | Failure] = {}
    for language in dict.fromkeys(prepared.language for prepared, _ in jobs):
        numbers = [n for n, (prepared, _) in enumerate(jobs) if prepared.language == language]
        own, check = [jobs[n] for n in numbers], check_for(verify, language)
        if check is None:
            sampled = (edits_of(prepared, sample_steps(prepared, rng)) for prepared, rng in own)
            found: Iterable[VerifiedSequence | Failure] = map(VerifiedSequence, sampled)
        elif language == "python":
            found = _repaired_until_clean(own, verify, check)
        else:
            found = _without_dirty_states(own, check)
        results.update(zip(numbers, found, strict=True))
    return [results[number] for number in range(len(jobs))]


def _without_dirty_states(jobs: Sequence[Job], check: Check) -> list[VerifiedSequence | Failure]:
    """Merges each edit to a dirty state with the next edit, for languages other than Python."""
    results: list[VerifiedSequence | Failure] = []
    attempts = ((prepared, sample_attempt(prepared, rng)) for prepared, rng in jobs)
    for batch in batches(attempts, lambda item: item[1].characters, MOST_STATE_CHARACTERS):
        known = _Known(check, eager=False)
        known.add(attempt.texts[-1] for _, attempt in batch if attempt.texts)
        sound = [a.texts for _, a in batch if a.texts and not known.findings[a.texts[-1]]]
        known.add(text for texts in sound for text in texts)
        results += [_joined(prepared, attempt, known) for prepared, attempt in batch]
    return results


def _joined(
    prepared: PreparedProgram, attempt: Attempt, known: _Known
) -> VerifiedSequence | Failure:
    if attempt.refused:
        return attempt.refused
    if own := known.findings[attempt.texts[-1]]:
        return UnsupportedProgram("not_clean", f"line {own[0].line}: {own[0].message}")
    dirty = {number for number, _ in _dirty(attempt, known)}
    if not dirty:
        return VerifiedSequence(attempt.sequence)
    steps: list[Step] = []
    for number, step in enumerate(attempt.steps):
        if number - 1 in dirty:
            steps[-1] += step
        else:
            steps.append(list(step))
    return VerifiedSequence(edits_of(prepared, steps), joined=len(dirty))


def _repaired_until_clean(
    jobs: Sequence[Job], verify: Verify, check: Check
) -> list[VerifiedSequence | Failure]:
    """Resamples sequences that have a dirty state, with added dependencies, for Python."""
    results: dict[int, VerifiedSequence | Failure] = {}
    pending = {number: prepared for number, (prepared, _) in enumerate(jobs)}
    for _ in range(MAX_REPAIRS + 1):
        todo = list(pending.items())
        attempts = ((number, sample_attempt(item, jobs[number][1])) for number, item in todo)
        for batch in batches(attempts, lambda item: item[1].characters, MOST_STATE_CHARACTERS):
            known = _Known(check, eager=verify != "pylint")
            known.look_at(attempt.texts for _, attempt in batch)
            for number, attempt in batch:
                dirty = _dirty(attempt, known)
                if dirty:
                    results[number] = _failure(verify, dirty[0][1])
                    pending[number] = _repaired(pending[number], attempt, dirty)
                else:
                    results[number] = attempt.refused or VerifiedSequence(attempt.sequence)
                    del pending[number]
        if not pending:
            break
    if verify == "pylint":
        for number in pending:
            results[number] = _fallback(*jobs[number], check)
    return [results[number] for number in range(len(jobs))]


class Attempt(NamedTuple):
    """A sampled sequence: its deletions, and the texts of its states in writing order.

    The texts lack inert lines, so that states that differ only in comments or a docstring's text
    are checked once. If they are too large to check, ``refused`` is set and there are no texts.
    """

    steps: list[Step]
    sequence: EditSequence
    texts: Sequence[str]
    refused: UnsupportedProgram | None = None

    @property
    def characters(self) -> int:
        return sum(map(len, self.texts))


class _Known:
    """The findings of a batch of states, each checked once.

    A whole program's findings matter only if one of its states has findings. ``eager`` checks the
    program together with the states, which saves a second call of a slow check.
    """

    def __init__(self, check: Check, *, eager: bool) -> None:
        self.check = check
        self.eager = eager
        self.findings: dict[str, list[LintMessage]] = {"": []}

    def look_at(self, attempts: Iterable[Sequence[str]]) -> None:
        """Checks new states; the last state of each sequence is the program."""
        sequences = list(attempts)
        self.add(text for texts in sequences for text in (texts if self.eager else texts[:-1]))
        self.add(texts[-1] for texts in sequences if any(map(self.findings.get, texts[:-1])))

    def add(self, texts: Iterable[str]) -> None:
        """Checks new texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self.findings]
        if new:
            self.findings.update(zip(new, self.check(new), strict=True))


# The number of a deletion, and a finding in the state after it.
_Dirty = list[tuple[int, LintMessage]]


def sample_attempt(prepared: PreparedProgram, rng: random.Random) -> Attempt:
    """Samples a sequence and builds the texts of its states."""
    steps = sample_steps(prepared, rng)
    sequence = edits_of(prepared, steps)
    characters = _state_characters(sequence)
    if characters > MOST_STATE_CHARACTERS:
        refused = UnsupportedProgram(
            "too_many_states",
            f"the {len(sequence.edits)} states of a sequence have {characters} characters, "
            f"over the limit of {MOST_STATE_CHARACTERS} for checks.",
            "Split the program, or use verify='static'.",
        )
        return Attempt(steps, sequence, (), refused)
    return Attempt(steps, sequence, _texts(prepared, steps))


class _Shown(NamedTuple):
    """A line that is checked in the states after deletions ``first`` to ``last - 1``.

    The state before all deletions is -1.
    """

    first: int
    last: int
    owner: int
    text: str


def _shown(prepared: PreparedProgram, steps: Sequence[Step]) -> list[_Shown]:
    """Returns the checked lines from top to bottom: all except inert ones."""
    deletion = [0] * len(prepared.dependents)
    for number, step in enumerate(steps):
        for node in step:
            deletion[node] = number
    first = {
        node: max((deletion[other] for other in others), default=-1)
        for node, others in prepared.idle.items()
    }
    return [
        _Shown(first.get(owner, -1), deletion[owner], owner, line + "\n")
        for number, (line, owner) in enumerate(zip(prepared.lines, prepared.owners, strict=True))
        if number not in prepared.inert
    ]


def _texts(prepared: PreparedProgram, steps: Sequence[Step]) -> list[str]:
    """Returns the checked text of each state, in writing order."""
    lines = _shown(prepared, steps)
    return [
        "".join([text for first, last, _, text in lines if first <= number < last])
        for number in range(len(steps) - 2, -2, -1)
    ]


def _state_characters(sequence: EditSequence) -> int:
    """Returns the total length of all states; a line counts in each state from its edit on."""
    edits = sequence.edits
    return sum(
        (len(edits) - number) * sum(len(line) + 1 for hunk in edit.hunks for line in hunk.lines)
        for number, edit in enumerate(edits)
    )


def _dirty(attempt: Attempt, known: _Known) -> _Dirty:
    """Returns the new findings in each state except the last, the whole program."""
    if attempt.refused:
        return []
    *states, program = attempt.texts
    last = len(states) - 1
    findings = known.findings
    return [
        (last - number, finding)
        for number, text in enumerate(states)
        if findings[text]
        for finding in new_findings(findings[text], findings[program])
    ]


def _failure(verify: Verify, finding: LintMessage) -> VerificationFailed:
    return VerificationFailed(verify, f"line {finding.line}: {finding.rule} {finding.message}")


def _repaired(prepared: PreparedProgram, attempt: Attempt, dirty: _Dirty) -> PreparedProgram:
    """Adds edges that prevent dirty states: faulty nodes are deleted with a step's nodes."""
    edges: dict[int, set[int]] = {}
    lines = _shown(prepared, attempt.steps)
    for number, finding in dirty:
        left = [line.owner for line in lines if line.first <= number < line.last]
        # An unknown line, or one past the end, counts as the last line.
        wrong = left[finding.line - 1 if 0 < finding.line <= len(left) else -1]
        for node in attempt.steps[number]:
            edges.setdefault(node, set()).add(wrong)
    return prepared.with_edges(edges)


def _fallback(
    prepared: PreparedProgram, rng: random.Random, check: Check
) -> VerifiedSequence | VerificationFailed:
    """Samples a sequence by the published algorithm, and checks it like the others."""
    program = prepared.program
    excused = check([program])[0]

    def lint(text: str) -> list[LintMessage]:
        return new_findings(check([text])[0], excused)

    try:
        sequence = reference_sequence(program, rng, lint)
    except UnsupportedProgram as error:  # comments and global definitions only
        return VerificationFailed("pylint", error.detail)
    for text in sequence.states[:-1]:
        # Recheck, since the first state has lines that are never sampled, and blank lines move.
        if found := lint(text):
            return _failure("pylint", found[0])
    return VerifiedSequence(sequence, fallback=True)


def compared(
    sequences: Sequence[tuple[EditSequence, random.Random]], share: float, check: Check
) -> list[Mapping[str, int]]:
    """Runs the published algorithm on a random sample of the programs.

    Programs over :data:`MOST_COMPARED_CHARACTERS` are skipped, since checking them takes long.

    Returns:
        For each sequence ``compared_sequences`` (1), ``compared_edits`` (its own) and
        ``reference_edits``; empty for programs outside the sample.
    """
    counts: list[Mapping[str, int]] = []
    for sequence, rng in sequences:
        drawn = rng.random() < share
        program = sequence.program if drawn else ""
        counts.append({})
        if not drawn or len(program) > MOST_COMPARED_CHARACTERS:
            continue
        try:
            reference = reference_sequence(program, rng, lambda text: check([text])[0])
        except UnsupportedProgram:  # comments and global definitions only
            continue
        edits, reference_edits = len(sequence.edits), len(reference.edits)
        counts[-1] = {
            "compared_sequences": 1,
            "compared_edits": edits,
            "reference_edits": reference_edits,
        }
    return counts


def audited(
    sequences: Sequence[tuple[EditSequence, random.Random]], share: float, check: Check
) -> list[Mapping[str, int]]:
    """Checks a random sample of the states between the edits of each sequence.

    States are taken until they exceed :data:`MOST_AUDITED_CHARACTERS`, so states of very long
    programs are not audited.

    Returns:
        For each sequence ``audited_states`` and ``dirty_states``, the number of them with findings
        that the whole program does not have; empty if no state was sampled.
    """
    drawn = []
    for sequence, rng in sequences:
        numbers = [n for n in range(len(sequence.edits) - 1) if rng.random() < share]
        drawn.append(_bounded(sequence, numbers) if numbers else [])
    known = _Known(check, eager=False)
    known.look_at(texts for texts in drawn if texts)
    return [_counts(texts, known.findings) if texts else {} for texts in drawn]


def _bounded(sequence: EditSequence, numbers: Sequence[int]) -> list[str]:
    """Returns these states up to the size limit, and the program; [] if none fits."""
    states = sequence.states
    taken: list[str] = []
    left = MOST_AUDITED_CHARACTERS
    for number in numbers:
        left -= len(states[number])
        if left < 0:
            break
        taken.append(states[number])
    return [*taken, states[-1]] if taken else []


def _counts(texts: Sequence[str], findings: Mapping[str, list[LintMessage]]) -> Mapping[str, int]:
    *states, program = texts
    dirty = sum(
        1
        for state in states
        if findings[state] and new_findings(findings[state], findings[program])
    )
    return {"audited_states": len(states), "dirty_states": dirty}
