"""The numbers of a search; the defaults are those of the paper (arXiv 2405.16337 §2.3, §3.1)."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

from codegen.errors import ConfigError

Method = Literal["halving", "full"]
CANDIDATES, ITEMS = 300, 1000


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How a program is searched.

    Attributes:
        candidates: n, the programs to choose from, one written for each of so many problems; the
            other problems rank them.
        method: ``full`` emulates each program on all ranking problems, as published; ``halving``
            drops most programs early (:mod:`codegen.cogex.search.halving`).
        share: of the published method's emulations that halving may take.
        threshold: alpha, method ``full`` alone: a program that gets less on the problems that the
            candidates are written for is written anew. The paper does not give its value; 0, the
            default, asks for nothing.
        tries: how often a program is written at most; the best stays. The paper sets no bound.
        best: k, how many programs are kept, to answer by majority.
        program_temperature, answer_temperature: of the sampling.
        seed: of all randomness.
    """

    candidates: int = CANDIDATES
    method: Method = "halving"
    share: float = 0.2
    threshold: float = 0.0
    tries: int = 5
    best: int = 3
    program_temperature: float = 0.7
    answer_temperature: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("candidates", "tries", "best"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.method not in ("halving", "full"):
            raise ConfigError(f"There is no method {self.method!r}.", "There are: halving, full.")
        if not 0 < self.share <= 1 or not 0 <= self.threshold <= 1:
            raise ConfigError("share must lie in (0, 1], threshold in [0, 1].")
        if self.threshold and self.method != "full":
            raise ConfigError("A threshold is for method full.", "Add: --method full")


def within_budget(budget: int, method: Method, share: float) -> tuple[int, int]:
    """Candidates and problems whose search takes about so many emulations, at most the paper's.

    Their proportion is the paper's, 300 to 1000: with D problems 0.3 D candidates are ranked on
    0.7 D problems.
    """
    ratio = CANDIDATES / ITEMS
    cost_of_one = ratio * (1 - ratio) * (share if method == "halving" else 1.0)
    items = max(4, min(ITEMS, int(sqrt(budget / cost_of_one))))
    return max(2, min(CANDIDATES, round(ratio * items))), items
