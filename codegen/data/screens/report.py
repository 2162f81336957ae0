"""What was contaminated with what: the detail of a rejected input, and the report made of it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codegen.records import read_rows, write_atomic

CONTAMINATED = "contaminated"
DECONTAMINATION = "decontamination.jsonl"

_DETAIL = re.compile(r"(\w+) match: part=(\w+) score=([\d.]+) set=(\S+) problem=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Match:
    """Why an example is contaminated.

    Attributes:
        kind: ``exact`` text, ``syntax`` (equal but for names and layout) or ``ngram``.
        part: the part of the problem that was found: ``prompt``, ``solution`` or ``tests``.
        score: the share of the part's n-grams that the example holds; 1.0 for the other kinds.
        set: the reference set.
        problem: the problem's id.
    """

    kind: str
    part: str
    score: float
    set: str
    problem: str

    def detail(self) -> str:
        """As the text that stands in ``rejects.jsonl``; the problem's id may hold anything."""
        return (
            f"{self.kind} match: part={self.part} score={self.score:.3f} set={self.set} "
            f"problem={self.problem}"
        )

    @classmethod
    def from_detail(cls, detail: str) -> Match | None:
        """Back from :meth:`detail`; None if it isn't one."""
        found = _DETAIL.fullmatch(detail)
        if not found:
            return None
        kind, part, score, set_, problem = found.groups()
        return cls(kind, part, float(score), set_, problem)


def write_report(
    rejects: str | os.PathLike[str], path: str | os.PathLike[str]
) -> Mapping[str, Any]:
    """Writes one line for each contaminated input in ``rejects.jsonl``, all at once; streams.

    A line holds ``id`` (the input's), ``kind``, ``part``, ``score``, ``set`` and ``problem``.

    Returns:
        For the manifest: ``inputs``, their number, and the numbers by ``set``, ``kind``, ``part``.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("set", "kind", "part")}

    def lines() -> Iterator[str]:
        for row in _contaminated(rejects):
            for name, counter in counts.items():
                counter[row[name]] += 1
            yield json.dumps(row) + "\n"

    write_atomic(path, lines())
    by_name = {name: dict(sorted(counter.items())) for name, counter in counts.items()}
    return {"inputs": counts["set"].total(), **by_name}


def _contaminated(rejects: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    for _, row in read_rows(rejects):
        # A generator may have a reason of this name too.
        match = Match.from_detail(row["detail"]) if row["reason"] == CONTAMINATED else None
        if match:
            yield {"id": row["id"], **asdict(match)}
