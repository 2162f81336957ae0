"""Draws an edit sequence: LintSeq's backward and forward phase without a linter.

Source: Piterbarg, Pinto and Fergus, ICLR 2025, section 3, and their reference code. Backward: draw
a line, delete its node and everything that depends on it, until nothing is left. Forward: the
deletions in reverse order are the edits. Where the reference runs pylint to find broken lines, the
dependency graph gives them, so a whole sequence takes time linear in the program.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

from codegen.lintseq.edits import Edit, EditSequence, Hunk
from codegen.lintseq.program import Prepared

Step = list[int]


def sample_edits(prepared: Prepared, rng: random.Random) -> EditSequence:
    """One edit sequence of a program, clean by the dependency rules."""
    return edits_of(prepared, sample_steps(prepared, rng))


def sample_steps(prepared: Prepared, rng: random.Random) -> list[Step]:
    """The nodes of each deletion, the seed first, in the order of deletion."""
    deletion = _Deletion(prepared)
    owners = prepared.owners
    steps = []
    for line in _seed_order(prepared.weights, rng):
        if not deletion.dead[owners[line]]:
            steps.append(deletion.delete(owners[line]))
            if len(steps) == 1:
                for node in prepared.faulty:
                    if not deletion.dead[node]:
                        steps[0] += deletion.delete(node)
    if 0 in owners:  # comments outside of all blocks
        steps.append([0])
    return steps


def _seed_order(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Lines in the order in which they are drawn without replacement, by their weights.

    Each line gets an exponentially distributed time with its weight as the rate. Whatever lines are
    deleted in between, the earliest of the others is line i with probability w_i / sum of their w,
    so sorting once replaces all draws (Efraimidis and Spirakis 2006).
    """
    times = [
        (-math.log(1.0 - rng.random()) / weight, line)
        for line, weight in enumerate(weights)
        if weight
    ]
    times.sort()
    return [line for _, line in times]


class _Deletion:
    """The state of a backward phase."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.dead = [False] * len(prepared.dependents)
        self.alive_in_group = list(prepared.group_sizes)

    def delete(self, seed: int) -> Step:
        """Deletes a node and everything that must go with it; returns them, the seed first."""
        prepared, dead, alive_in_group = self.prepared, self.dead, self.alive_in_group
        dead[seed] = True
        step = [seed]
        for node in step:  # which grows meanwhile
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


def edits_of(prepared: Prepared, steps: Sequence[Step]) -> EditSequence:
    """The edits that undo deletions of nodes, last deletion first."""
    lines_of: list[list[int]] = [[] for _ in prepared.dependents]
    for line, owner in enumerate(prepared.owners):
        lines_of[owner].append(line)
    return undo(
        prepared.lines, [[line for node in step for line in lines_of[node]] for step in steps]
    )


def undo(lines: Sequence[str], deletions: Iterable[Collection[int]]) -> EditSequence:
    """The edits that undo deletions, last deletion first.

    Args:
        deletions: the numbers of the lines that each deletes; together all lines, each once. An
            empty deletion has no edit.
    """
    alive = list(range(len(lines)))
    edits = [_cut_out(alive, sorted(deleted), lines) for deleted in deletions if deleted]
    return EditSequence(tuple(reversed(edits)))


def _cut_out(alive: list[int], deleted: Sequence[int], lines: Sequence[str]) -> Edit:
    """Removes lines from the sorted ``alive``, and returns the edit that inserts them again."""
    hunks = []
    done = 0
    position = 0
    while done < len(deleted):
        position = bisect_left(alive, deleted[done], position)
        run = 1
        while done + run < len(deleted) and alive[position + run] == deleted[done + run]:
            run += 1
        # The edit's lines above are no longer in ``alive``: positions are in the old state.
        hunks.append(Hunk(position, tuple(lines[line] for line in deleted[done : done + run])))
        del alive[position : position + run]
        done += run
    return Edit(tuple(hunks))
