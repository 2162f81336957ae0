r"""One hunk of a model's edit text: its header and lines, read as models write them.

The published form is strict: ``@@ -A,0 +C,D @@`` and lines that start with ``+``. Models that have
seen other diffs write other forms of the same. What leaves no doubt is mended, and each mend is
reported by its kind:

- ``header_text``: text after the second ``@@``, as git writes it;
- ``header_spacing``: blanks in the header that do not belong there, or are missing;
- ``context``: lines of the old state around the new ones, which start with a blank. They must be
  those of the state;
- ``blank_line``: an empty line without ``+``. It is a new line if the header's count says so, else
  an empty line of the old state, if there is one, else nothing;
- ``fence``: a line of a Markdown code fence;
- ``no_newline_note``: git's note that a file has no newline at its end.

Where context lines stand decides: the header's old position is taken if the state has these lines
there, counted as in a unified diff (``-A,B`` starts at line A) or as in the published form
(``-A,0`` inserts below line A). If it has not, but exactly one other place has them, the hunk goes
there if numbers may be mended (``moved_context``). Several places are ``ambiguous_context``, none
is ``context_not_found``: such a hunk is skipped, for there is no telling where it belongs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from codegen.lintseq.edits import Hunk

# Nine digits are enough for any state, and keep int() far from its limit on long numerals.
_HEADER = re.compile(
    r"@@\s*-([0-9]{1,9}),([0-9]{1,9})\s+\+([0-9]{1,9})(?:,([0-9]{1,9}))?\s*@@(?!@)(.*)"
)
_EXACT = re.compile(r"@@ -[0-9]+,[0-9]+ \+[0-9]+(?:,[0-9]+)? @@")
_FENCE = re.compile(r"```\w*\s*|~~~\w*\s*")


@dataclass(slots=True)
class HunkText:
    """What a hunk's text says.

    Attributes:
        start, old_count, new_start, new_count: the numbers of the header.
        lines: the lines below it, each with ``+`` (new) or a blank (of the old state) before it.
        mends: the kinds of what was mended in reading it.
    """

    start: int
    old_count: int
    new_start: int
    new_count: int
    lines: list[str]
    mends: list[str]

    @property
    def added(self) -> int:
        """The number of new lines."""
        return sum(1 for line in self.lines if line[0] == "+")

    @property
    def context(self) -> list[str]:
        """The lines of the old state."""
        return [line[1:] for line in self.lines if line[0] == " "]


def read_hunk(body: Sequence[str]) -> HunkText | str:
    """A hunk's text, or why it is malformed: ``bad_header``, ``bad_line`` or ``deletes_lines``.

    Args:
        body: its header and lines.
    """
    match = _HEADER.fullmatch(body[0])
    if not match:
        return "bad_header"
    start, old_count, new_start = (int(match[group]) for group in (1, 2, 3))
    new_count = 1 if match[4] is None else int(match[4])
    mends = []
    if not _EXACT.match(body[0]) or (match[5] and not match[5].strip()):
        mends.append("header_spacing")
    rows = list(body[1:])
    if match[5].strip():
        mends.append("header_text")
        if match[5].lstrip().startswith("+") and _plus(rows) == new_count - 1:
            rows.insert(0, match[5].lstrip())  # the first line stands beside the header
    lines = []
    for row in rows:
        if _FENCE.fullmatch(row):
            mends.append("fence")
        elif row.startswith("\\ No newline"):
            mends.append("no_newline_note")
        elif row and row[0] not in "+ ":
            return "deletes_lines" if row[0] == "-" and old_count else "bad_line"
        else:
            lines.append(row)
    found = HunkText(start, old_count, new_start, new_count, [], mends)
    _settle_blanks(found, lines)
    return found


def _plus(rows: Sequence[str]) -> int:
    return sum(1 for row in rows if row.startswith("+"))


def _settle_blanks(hunk: HunkText, lines: Sequence[str]) -> None:
    """Decides what empty lines without ``+`` stand for, by the header's counts."""
    blanks = lines.count("")
    context = sum(1 for line in lines if line.startswith(" "))
    added = len(lines) - blanks - context
    trailing = 0
    while trailing < len(lines) and lines[-1 - trailing] == "":
        trailing += 1
    inner = blanks - trailing
    sign = " "
    keep = len(lines) - trailing  # those at the end are a break before the next marker
    if blanks and hunk.old_count in (0, context):
        for kept in (inner, blanks):
            if kept and hunk.new_count == added + kept + hunk.old_count:
                sign, keep = "+", len(lines) - (blanks - kept)
                break
    if blanks:
        hunk.mends.append("blank_line")
    hunk.lines = [line or sign for line in lines[:keep]]
    if hunk.context:
        hunk.mends.append("context")


def place_hunk(hunk: HunkText, state: Sequence[str]) -> tuple[int, str]:
    """The line of the state, from 0, at which a hunk's lines begin, and what is wrong or "".

    The place is -1 if it can't be told.

    Args:
        hunk: what the text says.
        state: the lines before the edit.
    """
    context = hunk.context
    if not context:
        place = hunk.start
        return min(place, len(state)), "past_end" if place > len(state) else ""
    leading = next((n for n, line in enumerate(hunk.lines) if line[0] == "+"), len(hunk.lines))
    below = hunk.start - leading  # the published form: lines are inserted below line A
    stated = [hunk.start - 1, below] if hunk.old_count else [below, hunk.start - 1]
    for place in stated:
        if _stands_at(context, state, place):
            return place, ""
    places = [n for n in range(len(state)) if _stands_at(context, state, n)]
    if len(places) == 1:
        return places[0], "moved_context"
    return -1, "ambiguous_context" if places else "context_not_found"


def _stands_at(context: Sequence[str], state: Sequence[str], place: int) -> bool:
    """Whether the state has the lines there; blanks at their ends don't count."""
    if place < 0 or place + len(context) > len(state):
        return False
    found = state[place : place + len(context)]
    return all(a.rstrip() == b.rstrip() for a, b in zip(context, found, strict=True))


def counts_agree(hunk: HunkText) -> bool:
    """Whether the header's counts are those of the lines, with or without those of context."""
    context = len(hunk.context)
    counts = hunk.old_count, hunk.new_count
    return counts in ((context, context + hunk.added), (0, hunk.added))


def hunks_at(hunk: HunkText, place: int) -> list[Hunk]:
    """The insertions of a hunk that begins at a line of the state."""
    found: list[Hunk] = []
    new: list[str] = []
    for line in [*hunk.lines, " "]:
        if line[0] == "+":
            new.append(line[1:])
            continue
        if new:
            found.append(Hunk(place, tuple(new)))
            new = []
        place += 1
    return found
