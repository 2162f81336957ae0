r"""Lines, differences of two texts as hunks, and unified diffs.

A line ends at "\n" only and keeps it, so that joining a text's lines gives the text, whatever else
it holds ("\r", form feeds, no newline at the end).
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from codegen.errors import InputError

NO_NEWLINE = "\\ No newline at end of file\n"
_HEADER = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


class Hunk(NamedTuple):
    """Lines ``start`` to ``end`` (not included) of the old text become ``new``."""

    start: int
    end: int
    new: tuple[str, ...]


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


class _Matcher(difflib.SequenceMatcher[str]):
    """Gives up on very repetitive texts, whose comparison takes cubic time."""

    def __init__(self, old: Sequence[str], new: Sequence[str], most_work: int) -> None:
        super().__init__(None, old, new, autojunk=False)
        counts = Counter(new)
        # Pairs of equal lines above each line of the old text.
        self._pairs = [0, *itertools.accumulate(counts[line] for line in old)]
        self._work_left = most_work

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> difflib.Match:
        self._work_left -= self._pairs[-1 if ahi is None else ahi] - self._pairs[alo]
        if self._work_left < 0:
            raise InputError("The texts repeat themselves too much to be compared.")
        return super().find_longest_match(alo, ahi, blo, bhi)


def difference(old: Sequence[str], new: Sequence[str], most_work: int = 100_000_000) -> list[Hunk]:
    """The hunks that turn the old lines into the new ones, from top to bottom (difflib).

    Args:
        most_work: the most pairs of equal lines to compare; the default takes some seconds.

    Raises:
        InputError: if it would take longer, since both repeat the same lines many times.
    """
    matcher = _Matcher(old, new, most_work)
    return [
        Hunk(a, b, tuple(new[c:d])) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"
    ]


def apply(lines: Sequence[str], hunks: Sequence[Hunk]) -> list[str]:
    """The lines after the hunks, which go from top to bottom and all refer to ``lines``."""
    result: list[str] = []
    done = 0
    for hunk in hunks:
        result += lines[done : hunk.start]
        result += hunk.new
        done = hunk.end
    return result + list(lines[done:])


def moved(hunk: Hunk, made: Sequence[Hunk]) -> Hunk:
    """The hunk at its lines after other hunks of the same text are made."""
    above = (h for h in made if h[:2] < hunk[:2])  # also an insertion above the same line
    shift = sum(len(h.new) - (h.end - h.start) for h in above)
    return hunk._replace(start=hunk.start + shift, end=hunk.end + shift)


def apply_diff(old: str, diff: str) -> str:
    """The text after a unified diff of one file, which must fit exactly.

    Raises:
        InputError: if the diff is malformed or does not fit the text.
    """
    lines = lines_of(old)
    hunks: list[Hunk] = []
    for start, count, body in _diff_hunks(diff):
        before, after = [], []
        for mark, text in body:
            if mark in " -":
                before.append(text)
            if mark in " +":
                after.append(text)
        first = start - 1 if count else start
        if lines[first : first + len(before)] != before or (hunks and first < hunks[-1].end):
            raise InputError(f"The diff does not fit the text at line {start}.")
        hunks.append(Hunk(first, first + len(before), tuple(after)))
    if not hunks:
        raise InputError("The diff has no hunks.")
    return "".join(apply(lines, hunks))


def _diff_hunks(diff: str) -> Iterator[tuple[int, int, list[tuple[str, str]]]]:
    """First old line, number of old lines, and marked lines of each hunk.

    The counts in a header say where a hunk ends: a removed line may look like a file's header.
    """
    rows = iter(lines_of(diff))
    row = next(rows, None)
    while row is not None:
        match = _HEADER.match(row)
        if not match:
            row = next(rows, None)
            continue
        start, old, _, new = (1 if part is None else int(part) for part in match.groups())
        old_left, new_left = old, new
        body: list[tuple[str, str]] = []
        row = next(rows, None)
        while row is not None and (old_left or new_left or row.startswith("\\")):
            if row.startswith("\\"):
                if body:
                    body[-1] = (body[-1][0], body[-1][1].removesuffix("\n"))
            elif row[0] in " -+\n":
                mark = " " if row[0] == "\n" else row[0]  # some tools strip trailing blanks
                body.append((mark, row if row[0] == "\n" else row[1:]))
                old_left -= mark != "+"
                new_left -= mark != "-"
            else:
                raise InputError(f"The diff has a line that starts with {row[0]!r}.")
            row = next(rows, None)
        if old_left or new_left:
            raise InputError("The diff ends in the middle of a hunk, or a hunk's counts are wrong.")
        yield start, old, body


def unified(path: str, line: int, old: str, new: str) -> str:
    """One change as a unified diff with file names and without context.

    Args:
        line: the first changed line, from 0.
    """
    removed, added = lines_of(old), lines_of(new)
    header = f"@@ -{_range(line, len(removed))} +{_range(line, len(added))} @@\n"
    body = marked("-", removed) + marked("+", added)
    return f"--- a/{path}\n+++ b/{path}\n{header}{body}"


def _range(line: int, count: int) -> str:
    first = line + 1 if count else line
    return f"{first}" if count == 1 else f"{first},{count}"


def marked(mark: str, lines: Sequence[str]) -> str:
    """The lines after a mark, with git's note after a line without a newline."""
    return "".join(
        mark + line if line.endswith("\n") else f"{mark}{line}\n{NO_NEWLINE}" for line in lines
    )


def anchored(lines: Sequence[str], hunk: Hunk, floor: int) -> tuple[int, int]:
    """The smallest range around a hunk whose lines are first found there.

    It grows upwards to ``floor``, where the search begins, then downwards. It is empty only if
    there are no lines.
    """
    start, end = hunk.start, hunk.end
    while (start == end or find(lines, lines[start:end], floor) != start) and (
        start > floor or end < len(lines)
    ):
        if start > floor:
            start -= 1
        else:
            end += 1
    return start, end


def find(lines: Sequence[str], wanted: Sequence[str], floor: int) -> int:
    """Where the wanted lines are first found from line ``floor`` on; -1 if nowhere."""
    size = len(wanted)
    for place in range(floor, len(lines) - size + 1):
        if list(lines[place : place + size]) == list(wanted):
            return place
    return -1
