"""What a check says about a state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

_LINE = re.compile(r"\bline \d+")


class Finding(NamedTuple):
    """A fault of a state; ``line`` counts from 1, 0 if unknown."""

    line: int
    rule: str
    message: str


# A check takes the texts of states, and gives the findings in each.
Check = Callable[[Sequence[str]], list[list[Finding]]]


def new_findings(findings: Iterable[Finding], excused: Iterable[Finding]) -> list[Finding]:
    """Those that the whole program has not, or less often.

    Line numbers don't count, neither a finding's own nor one in its message ("already defined line
    7"): they move as lines are inserted.
    """
    left = Counter(map(_key, excused))
    new = []
    for finding in findings:
        key = _key(finding)
        left[key] -= 1
        if left[key] < 0:
            new.append(finding)
    return new


def _key(finding: Finding) -> tuple[str, str]:
    return finding.rule, _LINE.sub("line", finding.message)
