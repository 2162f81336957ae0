"""Searches over known outcomes: a real model's recorded ones, or random ones.

A replayed model "writes" the recorded programs as often as the real one wrote them, and "emulates"
by looking up the outcome. So the real search code runs, with the problems in a different order each
time, as in the paper's simulated trials (arXiv 2405.16337 §5.1).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from codegen.cogex.model import Emulation, ModelQuery, PseudoModel
from codegen.cogex.search import ProgramSearch, SearchLog, SearchResult, SearchSettings, TaskItem

_RIGHT, _WRONG = "right", "wrong"
_RECORDED = Path(__file__).resolve().parents[1] / "data" / "cogex_recorded.json"


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Programs and their results on the same problems.

    Attributes:
        name: task name.
        programs: source texts, repeated as often as they were written.
        right: program's text -> per problem, True if the emulation was correct.
    """

    name: str
    programs: tuple[str, ...]
    right: Mapping[str, Sequence[bool]]

    @property
    def items(self) -> int:
        """Number of problems."""
        return len(next(iter(self.right.values())))


@dataclass(frozen=True, slots=True)
class Trial:
    """Both searches on the same problems in the same order.

    Attributes:
        full, halving: emulations by each search; the published one repeats them for copies of a
            program.
        distinct: the published search's without copies.
        same: True if they chose the same program.
        lost: score of full search's program minus halving's program, on all problems.
        noise: half the 95% interval of that difference, paired by problem.
    """

    full: int
    distinct: int
    halving: int
    same: bool
    lost: float
    noise: float

    @property
    def within_noise(self) -> bool:
        """True if the programs are the same or not significantly different."""
        return self.same or self.lost <= self.noise


def compare(outcomes: Outcomes, share: float, seed: int) -> Trial:
    """Runs one trial of both searches."""
    order = list(range(outcomes.items))
    random.Random(seed).shuffle(order)
    full = _search(outcomes, order, SearchSettings(method="full", best=1, seed=seed))
    halving = _search(outcomes, order, SearchSettings(share=share, best=1, seed=seed))
    one, other = (found.best[0].program.text for found in (full, halving))
    pairs = zip(outcomes.right[one], outcomes.right[other], strict=True)
    differences = [int(a) - int(b) for a, b in pairs]
    lost = sum(differences) / len(differences)
    spread = sum((d - lost) ** 2 for d in differences) / max(1, len(differences) - 1)
    noise = 1.96 * math.sqrt(spread / len(differences))
    return Trial(
        full=full.emulations_full,
        distinct=full.emulations,
        halving=halving.emulations,
        same=one == other,
        lost=lost,
        noise=noise,
    )


def drawn_outcomes(programs: int, items: int, seed: int, close: bool = False) -> Outcomes:
    """Samples outcomes: Beta program qualities, N(0, 1) problem difficulties in logits.

    The distribution is Beta(2, 3), or with ``close`` Beta(20, 30), with the same mean and a third
    of the spread. Quality and difficulty add up in logits; given both, outcomes are independent.
    """
    rng = random.Random(seed)
    difficulty = [rng.gauss(0, 1) for _ in range(items)]
    right = {}
    for number in range(programs):
        quality = rng.betavariate(20, 30) if close else rng.betavariate(2, 3)
        logit = math.log(quality / (1 - quality))
        chances = (1 / (1 + math.exp(-logit - d)) for d in difficulty)
        text = f"def program_{number}(x):\n    return {{'answer': x}}"
        right[text] = [rng.random() < chance for chance in chances]
    return Outcomes("drawn", tuple(right), right)


def recorded() -> list[Outcomes]:
    """Reads outcomes of full searches with a fine-tuned embedded model, one per task.

    Made by ``codegen finetune cogex`` (seed 0, 100 steps) and, for each task, ``codegen cogex
    search TASK --model runs/cogex/model --method full --candidates 8 --items 36 --test 0``. A row
    has a program, the number of times that the model wrote it, and the ones of 28 problems that its
    emulation solved.
    """
    tasks = json.loads(_RECORDED.read_text(encoding="utf-8"))
    return [
        Outcomes(
            task,
            tuple(row["program"] for row in rows for _ in range(row["written"])),
            {row["program"]: [bit == "1" for bit in row["right"]] for row in rows},
        )
        for task, rows in tasks.items()
    ]


class _Replay:
    """Writes and emulates from known outcomes."""

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self._written = iter(outcomes.programs)

    def write(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, str, str]]:
        """Yields the recorded programs in order."""
        for number in range(len(queries)):
            yield number, next(self._written), ""

    def emulate(
        self, queries: Sequence[ModelQuery], temperature: float
    ) -> Iterator[tuple[int, Emulation]]:
        """Yields the recorded outcome; a query's input is the number of its problem."""
        for number, query in enumerate(queries):
            right = self.outcomes.right[query.program][int(query.input)]
            yield number, Emulation(query.program, "", {"answer": _RIGHT if right else _WRONG})


def _search(outcomes: Outcomes, order: Sequence[int], settings: SearchSettings) -> SearchResult:
    train = [TaskItem(f"write/{n}", "", "") for n in range(len(outcomes.programs))]
    dev = [TaskItem(str(number), str(number), _RIGHT) for number in order]
    with SearchLog(None, {}) as log:
        model = cast(PseudoModel, _Replay(outcomes))
        return ProgramSearch("", train, dev, model, settings, log).run()
