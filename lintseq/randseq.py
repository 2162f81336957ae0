"""RandSeq: edit sequences of random lines, the ablation of LintSeq that knows no linter.

Source: Piterbarg, Pinto and Fergus, ICLR 2025, and their reference code. All lines can be drawn,
blank lines and comments too; each deletion takes a number of lines uniform from 1 to all but one of
those left. Most states are no valid Python: that is the point.
"""

from __future__ import annotations

import random

from codegen.lintseq.edits import EditSequence
from codegen.lintseq.program import normalise, parse
from codegen.lintseq.reference import forward


def random_sequence(program: str, rng: random.Random) -> EditSequence:
    """One edit sequence of random lines; its last state is the program's normal form.

    As in the reference, a state shows blank lines only between others: see
    :func:`codegen.lintseq.reference.forward`.

    Raises:
        UnsupportedProgram: for a program that LintSeq skips too, so that both make data of the
            same programs.
    """
    text = normalise(program)
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
