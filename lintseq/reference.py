"""The published LintSeq algorithm, line by line with a linter in the loop, and its ablation.

Source: Piterbarg, Pinto and Fergus, "Training Language Models on Synthetic Edit Sequences Improves
Code Synthesis", ICLR 2025 (arXiv 2410.02749), section 3, and the behavior of their code with the
settings of the paper's data: a beam of one, so a single random path, of at most 512 edits.

Unchanged: which lines can be sampled, and their weights; a deleted line also deletes the deeper
lines below it; all lines that the linter reports are deleted at once until it reports none; the
remaining lines (mostly comments) are the first edit. Messages about the whole program are not
ignored: their lines are removed by the first deletion.

Corrected: edits are made from the deletions, so they only insert and reproduce the program exactly;
the caller passes the random generator; a reported line outside of the program counts as the last
line instead of raising an exception; lines are never dropped silently. The caller also passes the
linter, which should persist: starting one per call takes most of the time in the published code.

Limits: slow, since each deletion and each round of messages calls the linter. States may contain
half a docstring. To generate data, :mod:`codegen.lintseq.program` with granularity ``line`` is
similar and much cheaper.

The ablation, RandSeq (:func:`random_sequence`), uses no linter: all lines can be sampled, including
blank lines and comments, and the size of each deletion is uniform from 1 to the number of lines
left minus one. Most states are invalid Python, on purpose.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

from codegen.lintseq.edits import EditSequence, UnsupportedProgram, to_text, undo
from codegen.lintseq.program import indentations, line_weights, normalize, parse
from codegen.lintseq.verify import LintMessage

Lint = Callable[[str], Sequence[LintMessage]]

MAX_EDITS = 512  # maximum deletions; the remaining lines become the first edit


def reference_sequence(
    program: str,
    rng: random.Random,
    lint: Lint,
) -> EditSequence:
    """Samples one edit sequence of a program; its last state is the program's normal form.

    Args:
        lint: returns the findings in a program; their lines are deleted.

    Raises:
        UnsupportedProgram: if it has no edit sequence; contains the reason.
    """
    text = normalize(program)
    parse(text)
    lines = text.removesuffix("\n").split("\n")
    weights = line_weights(lines)
    candidates = [line for line, weight in enumerate(weights) if weight > 0]
    if not candidates:
        raise UnsupportedProgram("no_candidates", "none of its lines can be sampled.")
    return forward(lines, _backward(lines, candidates, weights, rng, lint))


def _backward(
    lines: Sequence[str],
    candidates: Sequence[int],
    weights: Sequence[float],
    rng: random.Random,
    lint: Lint,
) -> list[list[int]]:
    """Runs the backward phase: returns the lines of each deletion, in deletion order."""
    indents = indentations(lines)
    alive = set(range(len(lines)))
    deletions: list[list[int]] = []
    remaining = list(candidates)
    while remaining and len(deletions) < MAX_EDITS:
        (seed,) = rng.choices(remaining, [weights[line] for line in remaining])
        deleted = _induced(seed, alive, lines, indents, lint)
        deletions.append(sorted(deleted))
        remaining = [line for line in remaining if line in alive]
    if alive:
        deletions.append(sorted(alive))
    return deletions


def _induced(
    seed: int, alive: set[int], lines: Sequence[str], indents: Sequence[int], lint: Lint
) -> set[int]:
    """Deletes a line, and lines that the linter reports until it reports none; returns them all."""
    deleted: set[int] = set()
    affected: Iterable[int] = (seed,)
    while True:
        for line in affected:
            block = {line, *_block(line, indents)} & alive
            deleted |= block
            alive -= block
        kept = sorted(alive)
        findings = lint(to_text([lines[line] for line in kept])) if kept else ()
        if not findings:
            return deleted
        affected = [
            kept[finding.line - 1 if 0 < finding.line <= len(kept) else -1] for finding in findings
        ]


def _block(line: int, indents: Sequence[int]) -> range:
    """Returns the contiguous lines below one that are indented deeper."""
    stop = line + 1
    while stop < len(indents) and indents[stop] > indents[line]:
        stop += 1
    return range(line + 1, stop)


def forward(lines: Sequence[str], deletions: Sequence[Sequence[int]]) -> EditSequence:
    """Runs the forward phase: returns the edits that undo deletions of all lines.

    The reference strips each state before it takes the difference, so a blank line is inserted once
    text lines exist above and below it, or at the program's start or end by the last edit.
    """
    births = _births(len(lines), deletions)
    shown = _shown(lines, births)
    steps: list[list[int]] = [[] for _ in deletions]
    for line, birth in enumerate(shown):
        steps[len(deletions) - 1 - birth].append(line)
    return undo(lines, steps)


def _births(count: int, deletions: Sequence[Sequence[int]]) -> list[int]:
    """Returns the index of the edit that inserts each line."""
    births = [0] * count
    for number, deleted in enumerate(reversed(deletions)):
        for line in deleted:
            births[line] = number
    return births


def _shown(lines: Sequence[str], births: Sequence[int]) -> list[int]:
    """Returns, per line, the first edit that puts it between lines of text, or the last edit."""
    last = max(births)
    is_text = [bool(line.strip()) for line in lines]

    def earliest(numbers: Iterable[int]) -> dict[int, int]:
        """Returns, for each line, the earliest edit that inserts a text line scanned so far."""
        least = last
        found = {}
        for number in numbers:
            if is_text[number]:
                least = min(least, births[number])
            found[number] = least
        return found

    above = earliest(range(len(lines)))
    below = earliest(range(len(lines) - 1, -1, -1))
    return [
        birth if is_text[number] else max(birth, above[number], below[number])
        for number, birth in enumerate(births)
    ]


def random_sequence(program: str, rng: random.Random) -> EditSequence:
    """Samples an edit sequence of random lines; its last state is the program's normal form.

    As in the reference, a state has blank lines only between text lines: see
    :func:`codegen.lintseq.reference.forward`.

    Raises:
        UnsupportedProgram: if LintSeq also skips the program, so that both datasets contain the
            same programs.
    """
    text = normalize(program)
    parse(text)
    lines = text.removesuffix("\n").split("\n")
    remaining = list(range(len(lines)))
    deletions: list[list[int]] = []
    while remaining:
        size = rng.randint(1, max(1, len(remaining) - 1))
        drawn = rng.sample(remaining, size)
        deletions.append(drawn)
        gone = set(drawn)
        remaining = [line for line in remaining if line not in gone]
    return forward(lines, deletions)
