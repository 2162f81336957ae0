"""Converts a file's change to edit states between the hunks of the change.

A commit does not show the order in which it was written; a :class:`Session` orders its hunks. In an
edit state the first hunks are applied, the last of them possibly half typed, and the cursor is at a
plausible location. The target applies the other hunks within the window. Categories:

- ``here``: the next hunk is within a line of the cursor; ``above``, ``below``: it is in the window;
- ``jump``: it is elsewhere, and the cursor was moved there;
- ``unfinished``: the last hunk is cut in the middle, and the target completes it;
- ``nothing``: all hunks are applied, or the last edit was undone; the window does not change.
"""

from __future__ import annotations

import difflib
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from codegen.core.errors import InputError
from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.core.records import Change, Edit

NO_NEWLINE = "\\ No newline at end of file\n"
_HEADER = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")


class Hunk(NamedTuple):
    """Replaces lines ``start`` to ``end`` (excluded) of the old text by ``new``."""

    start: int
    end: int
    new: tuple[str, ...]


def lines_of(text: str) -> list[str]:
    """Returns the lines of a text with their line ends."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


class _Matcher(difflib.SequenceMatcher[str]):
    """Matcher that rejects very repetitive texts, whose comparison takes cubic time."""

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
            raise InputError("The texts are too repetitive to compare.")
        return super().find_longest_match(alo, ahi, blo, bhi)


def difference(old: Sequence[str], new: Sequence[str], most_work: int = 100_000_000) -> list[Hunk]:
    """Returns the hunks that turn the old lines into the new ones, from top to bottom (difflib).

    Args:
        most_work: maximum pairs of equal lines to compare; the default takes a few seconds.

    Raises:
        InputError: if the limit is exceeded because both repeat the same lines many times.
    """
    matcher = _Matcher(old, new, most_work)
    return [
        Hunk(a, b, tuple(new[c:d])) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"
    ]


def apply(lines: Sequence[str], hunks: Sequence[Hunk]) -> list[str]:
    """Applies hunks, from top to bottom, that all refer to ``lines``."""
    result: list[str] = []
    done = 0
    for hunk in hunks:
        result += lines[done : hunk.start]
        result += hunk.new
        done = hunk.end
    return result + list(lines[done:])


def moved(hunk: Hunk, made: Sequence[Hunk]) -> Hunk:
    """Shifts a hunk to its lines after other hunks of the same text were applied."""
    above = (h for h in made if h[:2] < hunk[:2])  # includes an insertion above the same line
    shift = sum(len(h.new) - (h.end - h.start) for h in above)
    return hunk._replace(start=hunk.start + shift, end=hunk.end + shift)


def apply_diff(old: str, diff: str) -> str:
    """Applies a unified diff of one file, which must match exactly.

    Raises:
        InputError: if the diff is malformed or does not match the text.
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
            raise InputError(f"The diff does not match the text at line {start}.")
        hunks.append(Hunk(first, first + len(before), tuple(after)))
    if not hunks:
        raise InputError("The diff has no hunks.")
    return "".join(apply(lines, hunks))


def _diff_hunks(diff: str) -> Iterator[tuple[int, int, list[tuple[str, str]]]]:
    """Yields the first old line, number of old lines, and marked lines of each hunk.

    A hunk's end follows from its header's counts, as a removed line may look like a file's header.
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
                mark = " " if row[0] == "\n" else row[0]  # some tools strip trailing spaces
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
    """Returns a change as a unified diff with file names and without context.

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
    """Prefixes lines with a mark, and adds git's note after a line without a newline."""
    return "".join(
        mark + line if line.endswith("\n") else f"{mark}{line}\n{NO_NEWLINE}" for line in lines
    )


def anchored(lines: Sequence[str], hunk: Hunk, floor: int) -> tuple[int, int]:
    """Returns the smallest range around a hunk whose lines have no earlier match.

    The range grows upwards to ``floor``, where the search begins, then downwards, and is empty
    only if there are no lines.
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
    """Returns the first match of the wanted lines from line ``floor`` on; -1 if absent."""
    size = len(wanted)
    for place in range(floor, len(lines) - size + 1):
        if list(lines[place : place + size]) == list(wanted):
            return place
    return -1


_PARSED_LINES = 3000
_NAME = re.compile(r"[^\W\d]\w+")
# Weights of a pause after each kind of character, as in Zed's commit splitting.
_PAUSES = ((",;:([{", 10), (")]}", 8), ("+-*/=<>.", 5), (" \t", 6), ("\n", 8))


@dataclass(frozen=True, slots=True)
class View:
    """Size limits of the window and history in a prompt.

    Attributes:
        above, below: lines of the window above and below the cursor's line.
        hunks: maximum edits of the history.
        characters: maximum total characters of these edits; the oldest are dropped.
    """

    above: int = 10
    below: int = 10
    hunks: int = 6
    characters: int = 800

    def window(self, line: int, lines: int) -> tuple[int, int]:
        """Returns the window around a line of a file with ``lines`` lines."""
        return max(0, line - self.above), min(lines, line + self.below + 1)

    def history(self, changes: Sequence[Change]) -> tuple[Change, ...]:
        """Returns the latest changes within the limits."""
        kept: list[Change] = []
        size = 0
        for change in reversed(changes[-self.hunks :] if self.hunks else ()):
            size += len(change.old) + len(change.new)
            if size > self.characters:
                break
            kept.append(change)
        return tuple(reversed(kept))


@dataclass(frozen=True, slots=True)
class Session:
    """The change of one file, as hunks in editing order.

    Attributes:
        lines: lines of the file before all edits.
        hunks: hunks that refer to ``lines`` and do not overlap.
    """

    path: str
    lines: tuple[str, ...]
    hunks: tuple[Hunk, ...]

    def state(
        self, done: int, view: View, *, typed: str | None = None, line: int | None = None
    ) -> Edit:
        """Returns the edit state after the first ``done`` hunks, without an id.

        Args:
            done: number of applied hunks.
            typed: typed prefix of the last hunk's new lines, if it is unfinished.
            line: the cursor's line; by default the end of the last edit.
        """
        made = list(self.hunks[:done])
        if typed is not None:
            rest = "" if typed.endswith("\n") or not typed else "\n"
            made[-1] = made[-1]._replace(new=tuple(lines_of(typed + rest)))
        current = apply(self.lines, sorted(made))
        starts = [moved(hunk, made).start for hunk in made]
        changes = [
            Change(self.path, start, "".join(self.lines[hunk.start : hunk.end]), "".join(hunk.new))
            for hunk, start in zip(made, starts, strict=True)
        ]
        cursor = 0
        if made:
            size = len(typed) if typed is not None else len("".join(made[-1].new).rstrip("\n"))
            cursor = len("".join(current[: starts[-1]])) + size
        if line is not None:
            cursor = len("".join(current[:line]))
        top, bottom = view.window("".join(current).count("\n", 0, cursor), len(current))
        ahead = [moved(hunk, made) for hunk in self.hunks[done:]]
        if typed is not None:
            start, whole = starts[-1], self.hunks[done - 1].new
            ahead.append(Hunk(start, start + len(made[-1].new), whole))
        inside = [
            hunk._replace(start=hunk.start - top, end=hunk.end - top)
            for hunk in sorted(ahead)
            if top <= hunk.start and hunk.end <= bottom
        ]
        return Edit(
            id="",
            path=self.path,
            text="".join(current),
            history=view.history(changes),
            window=(top, bottom),
            cursor=cursor,
            target="".join(apply(current[top:bottom], inside)),
        )

    def next_lines(self, done: int) -> tuple[int, int]:
        """Returns the lines of the next hunk in the file after ``done`` hunks, end excluded."""
        hunk = moved(self.hunks[done], self.hunks[:done])
        return hunk.start, hunk.end


def ordered(path: str, old: str, new: str, rng: random.Random) -> Session:
    """Orders the hunks of a change as a user might.

    The order is mostly top to bottom, often starting in the middle, sometimes bottom up or random.
    """
    lines = lines_of(old)
    hunks = difference(lines, lines_of(new))
    drawn = rng.random()
    if drawn < 0.3 and hunks:
        first = rng.randrange(len(hunks))
        hunks = hunks[first:] + hunks[:first]
    elif drawn < 0.45:
        hunks.reverse()
    elif drawn < 0.55:
        rng.shuffle(hunks)
    return Session(path, tuple(lines), tuple(hunks))


def next_edit(session: Session, done: int, view: View) -> Edit:
    """Returns the edit state after ``done`` hunks, with its category; more hunks must remain.

    The cursor is at the end of the last edit if its window contains the next edit, else at the
    next edit.
    """
    start, end = session.next_lines(done)
    found = session.state(done, view)
    line = found.text[: found.cursor].count("\n")
    if not (found.window[0] <= start and end <= found.window[1]) or not done:
        middle = min(max(start, end - view.below - 1), start + view.above)
        return replace(session.state(done, view, line=middle), category="jump")
    if start <= line + 1 and end >= line - 1:
        category = "here"
    else:
        category = "below" if start > line else "above"
    return replace(found, category=category)


def unfinished(session: Session, done: int, view: View, rng: random.Random) -> Edit | None:
    """Returns an edit state within the last of ``done`` hunks; None if it adds no text."""
    whole = "".join(session.hunks[done - 1].new)
    old = "".join(session.lines[session.hunks[done - 1].start : session.hunks[done - 1].end])
    same = 0
    while same < min(len(old), len(whole)) and old[same] == whole[same]:
        same += 1
    places = range(same + 1, len(whole.rstrip()))
    if not places:
        return None
    weights = [_pause(whole, place) for place in places]
    typed = whole[: rng.choices(places, weights)[0]]
    found = session.state(done, view, typed=typed)
    if found.text == session.state(done, view).text:
        return None
    return replace(found, category="unfinished")


def _pause(text: str, place: int) -> int:
    last = text[place - 1]
    for characters, weight in _PAUSES:
        if last in characters:
            return weight
    return 8 if not re.match(r"\w", text[place]) else 1


def nothing(session: Session, view: View, rng: random.Random) -> Edit:
    """Returns an edit state without a next edit: all hunks applied, or the last edit undone."""
    count = len(session.hunks)
    kind = rng.random()
    if kind < 0.2:  # the last edit was undone
        first = session.hunks[0]
        before, after = "".join(session.lines[first.start : first.end]), "".join(first.new)
        path, start = session.path, first.start
        there = Session(path, session.lines, ()).state(0, view, line=start)
        changes = (Change(path, start, before, after), Change(path, start, after, before))
        return replace(there, history=view.history(changes), category="nothing")
    found = session.state(count, view)
    if kind < 0.5:
        lines = found.text.count("\n") or 1
        found = session.state(count, view, line=rng.randrange(lines))
    return replace(found, category="nothing")


def hard_negative(session: Session, view: View, rng: random.Random) -> Edit | None:
    """Returns an edit state with a misleading cue but no next edit; None if the file has none.

    All hunks are applied. A comment or a blank line was typed last, or trailing whitespace removed;
    or the cursor is at a remaining word that the edits replaced elsewhere: in a string, a comment
    or another scope.
    """
    done = session.state(len(session.hunks), view)
    lines = lines_of(done.text)
    starts = [moved(hunk, session.hunks).start for hunk in session.hunks]
    pairs = list(zip(session.hunks, starts, strict=True))
    changed = {n for hunk, start in pairs for n in range(start, start + len(hunk.new))}
    old = "".join("".join(session.lines[hunk.start : hunk.end]) for hunk in session.hunks)
    new = "".join("".join(hunk.new) for hunk in session.hunks)
    gone = {*_NAME.findall(old)} - {*_NAME.findall(new)}
    comment = "#" if session.path.endswith(".py") else "//"
    found: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        if not gone.isdisjoint(_NAME.findall(line)):
            found.setdefault("word", []).append(number)
        if number in changed or not line.endswith("\n") or "\r" in line:
            continue
        kind = "trailing" if line.strip() else "blank"
        kind = "comment" if line.lstrip().startswith(comment) else kind
        if kind == "comment" or line in ("\n", line.rstrip() + "\n"):
            found.setdefault(kind, []).append(number)
    if not found:
        return None
    kind = rng.choice(sorted(found))
    number = rng.choice(found[kind])
    at = session.state(len(session.hunks), view, line=number)
    if kind == "word":
        return replace(at, category="nothing")
    line = lines[number]
    before = line.rstrip() + "  \n" if kind == "trailing" else ""
    history = view.history((*done.history, Change(session.path, number, before, line)))
    cursor = at.cursor + len(line.rstrip("\n"))
    return replace(at, history=history, cursor=cursor, category="nothing")


def undone(changes: Sequence[Change], text: str) -> str:
    """Reverts the last edit; returns the text unchanged if the edit is missing."""
    lines = lines_of(text)
    if changes:
        last = changes[-1]
        new = lines_of(last.new)
        if lines[last.line : last.line + len(new)] == new:
            lines[last.line : last.line + len(new)] = lines_of(last.old)
    return "".join(lines)


def breaks(before: str, after: str, language: str) -> bool:
    """Returns True if an edit breaks a Python file's syntax; very long files are not checked."""
    if language != "python" or before.count("\n") > _PARSED_LINES:
        return False
    return _parses(before) and not _parses(after)


def _parses(text: str) -> bool:
    try:
        parse(text)
    except UNPARSABLE:
        return False
    return True
