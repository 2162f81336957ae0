"""LintSeq by brute force: all edit sequences of a small program, each with its probability.

Written for the tests from the published algorithm alone (Piterbarg, Pinto and Fergus, ICLR 2025,
and the behavior of their code): it shares nothing with the generator but pylint itself.
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

# The texts of the states, without blank lines, in the order of deletion.
States = tuple[str, ...]
# The numbers, from 0, of the lines that a linter objects to.
Lint = Callable[[Sequence[str]], list[int]]


def pylint_lines() -> Lint:
    """A plain pylint of its own, that looks at one file after another."""
    from pylint.lint import PyLinter
    from pylint.reporters import CollectingReporter

    linter = PyLinter(reporter=CollectingReporter())
    linter.load_default_plugins()
    linter.disable("all")
    for kind in ("E", "F", "bad-indentation", "super-init-not-called"):
        linter.enable(kind)

    def lint(lines: Sequence[str]) -> list[int]:
        reporter = CollectingReporter()
        linter.set_reporter(reporter)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "state.py")
            path.write_text("".join(line + "\n" for line in lines))
            linter.check([str(path)])
        found = []
        for message in reporter.messages:
            header = re.search(r"on line (\d+)", message.msg)
            line = int(header[1]) if message.msg_id == "E0001" and header else message.line
            found.append(min(max(line, 1), len(lines)) - 1)
        return found

    return lint


def all_sequences(program: str, lint: Lint) -> Mapping[States, float]:
    """The probability of each sequence of states that LintSeq can draw."""
    lines = program.rstrip("\n").split("\n")
    indents = []
    for line in lines:
        text = line.lstrip()
        indents.append(len(line) - len(text) if len(text) > 1 else (indents[-1] if indents else 0))
    tab = next((indent for indent in indents if indent), 1)
    weights = {
        number: max(indents[number], tab) / tab if indents[number] else 1.0
        for number, line in enumerate(lines)
        if line.strip() and not line.strip().startswith("#")
    }

    @cache
    def reported(alive: tuple[int, ...]) -> tuple[int, ...]:
        if not alive:
            return ()
        return tuple(alive[n] for n in lint([lines[number] for number in alive]))

    def without(seed: int, alive: frozenset[int]) -> frozenset[int]:
        left = set(alive)
        affected: Sequence[int] = (seed,)
        while affected:
            for first in affected:
                stop = first + 1
                while stop < len(lines) and indents[stop] > indents[first]:
                    stop += 1
                left -= set(range(first, stop))
            affected = reported(tuple(sorted(left)))
        return frozenset(left)

    @cache
    def rest(alive: frozenset[int]) -> Mapping[States, float]:
        seeds = [number for number in weights if number in alive]
        if not seeds:
            return {(): 1.0}
        total = sum(weights[seed] for seed in seeds)
        found: defaultdict[States, float] = defaultdict(float)
        for seed in seeds:
            left = without(seed, alive)
            text = shown([lines[number] for number in sorted(left)])
            for states, probability in rest(left).items():
                found[(text, *states)] += probability * weights[seed] / total
        return found

    found: defaultdict[States, float] = defaultdict(float)
    for states, probability in rest(frozenset(range(len(lines)))).items():
        found[tuple(filter(None, states))] += probability
    return found


def shown(lines: Sequence[str]) -> str:
    """A state's text without blank lines, which forms of edits place differently."""
    return "\n".join(line for line in lines if line.strip())


def mean_edits(sequences: Mapping[States, float]) -> float:
    """The expected number of edits."""
    return sum((len(states) + 1) * share for states, share in sequences.items())


def chi_square(
    counts: Mapping[States, int], expected: Mapping[States, float], least: float = 5.0
) -> tuple[float, int]:
    """Pearson's statistic and its degrees of freedom; rare sequences share a bin.

    A sequence that cannot be drawn makes the statistic infinite.
    """
    draws = sum(counts.values())
    if any(states not in expected for states in counts):
        return float("inf"), 1
    common = {states for states, share in expected.items() if share * draws >= least}
    bins = [(counts.get(states, 0), expected[states] * draws) for states in common]
    rare = draws - sum(share for _, share in bins)
    if rare >= least:
        bins.append((draws - sum(count for count, _ in bins), rare))
    statistic = sum((count - share) ** 2 / share for count, share in bins)
    return statistic, len(bins) - 1
