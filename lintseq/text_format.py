r"""The text form of edit sequences, and the resolver that converts a model's text to a program.

Source: the reference code of LintSeq (Piterbarg, Pinto and Fergus, "Training Language Models on
Synthetic Edit Sequences Improves Code Synthesis", ICLR 2025). A sequence d1 ... dn is the join of
``["", d1, ..., dn, "", ""]`` with ``"\n<|diff|>"``; its end is marked by two empty diffs. A diff is
a unified diff without context lines and file names::

    text   = "<|diff|>" diff { "\n<|diff|>" diff } "\n<|diff|>" "\n<|diff|>"
    diff   = hunk { "\n" hunk }
    hunk   = "@@ -" A ",0 +" C [ "," D ] " @@" { "\n+" line }

A is the number of lines of the old state above the hunk, C the 1-based number of the hunk's first
line in the new state, D the number of its lines, omitted when 1. Lines end only in "\n", so a line
may contain form feeds or U+2028.

The reference's resolver drops a hunk whose code contains "@@", strips leading "+" and "-" of code,
strips the characters (not the string) of the end-of-sequence token, and accepts any position. This
one checks every number against the state, reports why it skips a hunk, and corrects forms of other
diffs if their meaning is clear. Each correction is reported by its kind:

- ``crlf``: lines that end in "\r\n";
- ``header_text``: text after the second ``@@``, as git writes it;
- ``header_spacing``: superfluous or missing blanks in the header;
- ``context``: lines of the old state around the new ones, which start with a blank; they must agree
  with the state;
- ``blank_line``: an empty line without ``+``: a new line if the header's count says so, else an
  empty line of the old state, if there is one, else nothing;
- ``fence``: a line of a Markdown code fence;
- ``no_newline_note``: git's note that a file has no newline at its end.

The context lines decide the position. The header's old position is used if the state has the lines
there, counted as in a unified diff (``-A,B`` starts at line A) or as in the published form
(``-A,0`` inserts below line A). Otherwise, if they occur exactly once and numbers may be corrected,
the hunk is applied there (``moved_context``). With several matches (``ambiguous_context``) or none
(``context_not_found``) it is skipped.

The anchored form (:func:`format_edits`) has no numbers, since half of a small model's samples have
a wrong count. Lines of the state locate a hunk::

    hunk = "@@ @@" { "\n " line } { "\n+" line }

The lines after a blank are those just above the new lines, as few as a search down from the last
hunk needs to find that position first. A hunk without them is at the top. One resolver reads both
forms, with the same corrections. In the anchored form a line without a sign counts as a line of the
old state (``sign``), and leading blanks of such lines are ignored if exactly one position then
matches (``indentation``).

The caller strips the end-of-sequence token, as a suffix. Limits: a program that contains
``<|diff|>`` cannot be written in these forms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegen.core.errors import InputError
from codegen.lintseq.edits import (
    EditStep,
    InsertHunk,
    UnsupportedProgram,
    apply,
    from_text,
    iter_states,
    states,
    to_text,
)

# Nine digits are enough for any state, and keep int() far from its limit on long numerals.
_HEADER = re.compile(
    r"@@\s*-([0-9]{1,9}),([0-9]{1,9})\s+\+([0-9]{1,9})(?:,([0-9]{1,9}))?\s*@@(?!@)(.*)"
)
_EXACT = re.compile(r"@@ -[0-9]+,[0-9]+ \+[0-9]+(?:,[0-9]+)? @@")
ANCHORED = "@@ @@"
_ANCHORED_HEADER = re.compile(r"@@\s*@@(?!@)(.*)")
_FENCE = re.compile(r"```\w*\s*|~~~\w*\s*")


@dataclass(slots=True)
class HunkText:
    """A parsed hunk.

    Attributes:
        start, old_count, new_start, new_count: numbers in the header.
        lines: the lines below it, each after ``+`` (new) or a blank (old state).
        mends: the kinds of corrections made.
        is_anchored: whether it has no numbers and is located by its first lines.
    """

    start: int
    old_count: int
    new_start: int
    new_count: int
    lines: list[str]
    mends: list[str]
    is_anchored: bool = False

    @property
    def added(self) -> int:
        """Number of new lines."""
        return sum(1 for line in self.lines if line[0] == "+")

    @property
    def context(self) -> list[str]:
        """Lines of the old state."""
        return [line[1:] for line in self.lines if line[0] == " "]


def read_hunk(body: Sequence[str]) -> HunkText | str:
    """Parses a hunk, or returns its fault: ``bad_header``, ``bad_line`` or ``deletes_lines``."""
    if match := _ANCHORED_HEADER.fullmatch(body[0]):
        return _read_anchored(body, match[1].strip())
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
        if (
            match[5].lstrip().startswith("+")
            and sum(row[:1] == "+" for row in rows) == new_count - 1
        ):
            rows.insert(0, match[5].lstrip())  # the first line is next to the header
    lines = list(_without_notes(rows, mends))
    if wrong := [row for row in lines if row and row[0] not in "+ "]:
        return "deletes_lines" if wrong[0][0] == "-" and old_count else "bad_line"
    found = HunkText(start, old_count, new_start, new_count, [], mends)
    _classify_blanks(found, lines)
    return found


def _read_anchored(body: Sequence[str], beside: str) -> HunkText | str:
    """Parses an anchored hunk. An empty line has the sign of the line above it; empty lines at
    the end are dropped.

    Args:
        beside: the text after the header on its line.
    """
    mends = ["header_text"] if beside else []
    if not body[0].startswith(ANCHORED):
        mends.append("header_spacing")
    rows = [beside] if beside.startswith("+") else []
    rows += _without_notes(body[1:], mends)
    if any(row.startswith("-") for row in rows):
        return "bad_line"
    if "" in rows:
        mends.append("blank_line")
    while rows and not rows[-1]:
        rows.pop()
    lines: list[str] = []
    sign = " "
    for row in rows:
        if row and row[0] not in "+ ":
            mends.append("sign")
            row = " " + row
        if row.startswith(" ") and sign == "+":
            mends.append("context")
        sign = row[0] if row else sign
        lines.append(row or sign)
    if "+" not in (line[0] for line in lines):
        return "no_lines"
    return HunkText(0, 0, 0, 0, lines, mends, is_anchored=True)


def _without_notes(rows: Sequence[str], mends: list[str]) -> Iterator[str]:
    """Yields the rows except code fences and git's note, which are recorded in ``mends``."""
    for row in rows:
        if _FENCE.fullmatch(row):
            mends.append("fence")
        elif row.startswith("\\ No newline"):
            mends.append("no_newline_note")
        else:
            yield row


def _classify_blanks(hunk: HunkText, lines: Sequence[str]) -> None:
    """Classifies empty lines without ``+`` by the header's counts."""
    blanks = lines.count("")
    context = sum(1 for line in lines if line.startswith(" "))
    added = len(lines) - blanks - context
    trailing = 0
    while trailing < len(lines) and lines[-1 - trailing] == "":
        trailing += 1
    inner = blanks - trailing
    sign = " "
    keep = len(lines) - trailing  # empty lines at the end separate the hunk from the next marker
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
    """Returns a hunk's first line in the state, from 0 (-1: unknown), and its fault or ""."""
    context = hunk.context
    if not context:
        place = hunk.start
        return min(place, len(state)), "past_end" if place > len(state) else ""
    leading = next((n for n, line in enumerate(hunk.lines) if line[0] == "+"), len(hunk.lines))
    below = hunk.start - leading  # published form: insert below line A
    stated = [hunk.start - 1, below] if hunk.old_count else [below, hunk.start - 1]
    for place in stated:
        if _stands_at(context, state, place):
            return place, ""
    places = [n for n in range(len(state)) if _stands_at(context, state, n)]
    if len(places) == 1:
        return places[0], "moved_context"
    return -1, "ambiguous_context" if places else "context_not_found"


def _stands_at(context: Sequence[str], state: Sequence[str], place: int) -> bool:
    """Returns True if the state has the lines at ``place``, ignoring trailing blanks."""
    if place < 0 or place + len(context) > len(state):
        return False
    found = state[place : place + len(context)]
    return all(a.rstrip() == b.rstrip() for a, b in zip(context, found, strict=True))


def counts_agree(hunk: HunkText) -> bool:
    """Returns True if the header's counts agree with the lines, with or without context."""
    context = len(hunk.context)
    counts = hunk.old_count, hunk.new_count
    return counts in ((context, context + hunk.added), (0, hunk.added))


def hunks_at(hunk: HunkText, place: int) -> list[InsertHunk]:
    """Returns the insertions of a hunk that starts at a line of the state."""
    found: list[InsertHunk] = []
    new: list[str] = []
    for line in [*hunk.lines, " "]:
        if line[0] == "+":
            new.append(line[1:])
            continue
        if new:
            found.append(InsertHunk(place, tuple(new)))
            new = []
        place += 1
    return found


def _found(context: Sequence[str], state: Sequence[str], floor: int) -> int:
    """Returns the first match of the lines in the state from line ``floor`` on; -1 if absent."""
    places = range(floor, len(state) - len(context) + 1)
    return next((n for n in places if _stands_at(context, state, n)), -1)


def _found_once(context: Sequence[str], state: Sequence[str], floor: int) -> int:
    """Returns the only match of the lines, ignoring indentation; -1 if absent or ambiguous."""
    flat, wanted = [line.strip() for line in state], [line.strip() for line in context]
    places = [n for n in range(floor, len(state)) if flat[n : n + len(wanted)] == wanted]
    return places[0] if len(places) == 1 else -1


MARKER = "<|diff|>"
SEPARATOR = "\n" + MARKER
_CRLF_HEADER = re.compile(r"@@ *\r$", re.MULTILINE)


class MalformedHunk(NamedTuple):
    """A hunk that was skipped, or applied although its numbers are wrong.

    ``edit`` counts the diffs that have a line starting with "@@", ``hunk`` these lines within the
    diff, both from 0. ``reason`` is one of ``bad_header``, ``deletes_lines`` (the header claims to
    replace old lines), ``bad_count`` (the body has another number of lines), ``bad_line`` (a body
    line that is neither new nor context), ``no_lines`` (an anchored hunk inserts nothing),
    ``past_end``, ``out_of_order``, ``bad_new_position`` (the line number in the new state does not
    follow from the old one), ``moved_context``, ``ambiguous_context``, ``context_not_found`` (see
    the module) and ``truncated`` (the text ends inside the hunk).
    """

    edit: int
    hunk: int
    reason: str


class HunkFix(NamedTuple):
    """A correction of clear text that deviates from the published form.

    ``edit`` and ``hunk`` as in :class:`MalformedHunk`, -1 for the whole text; ``kind`` is listed
    in the module's docstring.
    """

    edit: int
    hunk: int
    kind: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """The program that an edit text writes.

    Attributes:
        program: the text after all applied hunks.
        edits: edits with at least one applied hunk.
        malformed: hunks with faults, in text order.
        complete: whether two empty diffs end the text.
        stray_lines: non-blank lines outside of hunks: prose before a hunk, text after the end.
        mended: corrections, in text order.
    """

    program: str
    edits: tuple[EditStep, ...]
    malformed: tuple[MalformedHunk, ...]
    complete: bool
    stray_lines: int
    mended: tuple[HunkFix, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """Text after each edit, computed on each access, since its size can be quadratic.

        Only valid if the first edit changes the empty state.
        """
        return states(self.edits)


def format_edit(edit: EditStep) -> str:
    """Formats one diff, without the marker before it."""
    parts = []
    added = 0
    for hunk in edit.hunks:
        count = len(hunk.lines)
        size = "" if count == 1 else f",{count}"
        parts.append(f"@@ -{hunk.start},0 +{hunk.start + added + 1}{size} @@")
        parts += ["+" + line for line in hunk.lines]
        added += count
    return "\n".join(parts)


def format_anchored_edit(edit: EditStep, state: Sequence[str]) -> str:
    """Formats one diff of the anchored form, without the marker before it."""
    parts = []
    floor = 0
    for hunk in edit.hunks:
        first = hunk.start - 1
        while first > floor and _found(state[first : hunk.start], state, floor) != first:
            first -= 1
        parts.append(ANCHORED)
        parts += [" " + line for line in state[max(first, 0) : hunk.start]]
        parts += ["+" + line for line in hunk.lines]
        floor = hunk.start
    return "\n".join(parts)


def format_edits(edits: Iterable[EditStep], *, anchored: bool = False) -> str:
    r"""Formats a whole sequence, from its first ``<|diff|>`` to its two empty diffs.

    The prompt ends with the "\n" that the published form has before the first marker.

    Args:
        edits: edits that write a program from the empty state.
        anchored: write the form without numbers.

    Raises:
        UnsupportedProgram: ``contains_marker``, if a line contains the marker.
        InputError: if a line contains a line end.
    """
    edits = tuple(edits)
    if anchored:
        before = [[], *iter_states(edits)]
        diffs = [format_anchored_edit(*pair) for pair in zip(edits, before, strict=False)]
    else:
        diffs = [format_edit(edit) for edit in edits]
    text = SEPARATOR.join(["", *diffs, "", ""])[1:]
    if text.count(MARKER) != len(diffs) + 2:
        raise UnsupportedProgram("contains_marker", f"a line contains {MARKER!r}.")
    if any("\n" in line for edit in edits for hunk in edit.hunks for line in hunk.lines):
        raise InputError(
            "A line of an edit contains a line break.", "Split the text at line breaks first."
        )
    return text


def parse_edits(text: str) -> tuple[EditStep, ...]:
    """Parses a whole, well-formed text.

    Raises:
        InputError: if the text has faults; names the first.
    """
    resolution = resolve(text)
    if resolution.malformed:
        edit, hunk, reason = resolution.malformed[0]
        raise InputError(
            f"Edit {edit}, hunk {hunk} of the edit sequence is malformed ({reason}).",
            "Use resolve() to skip malformed hunks.",
        )
    if resolution.mended:
        edit, hunk, kind = resolution.mended[0]
        raise InputError(
            f"Edit {edit}, hunk {hunk} of the edit sequence is not in the published form ({kind}).",
            "Use resolve() to repair it.",
        )
    if resolution.stray_lines:
        raise InputError(
            f"The edit sequence has {resolution.stray_lines} lines outside of hunks.",
            "Use resolve() to ignore them.",
        )
    if not resolution.complete:
        raise InputError(
            "The edit sequence does not end with two empty diffs.",
            "Use resolve() for text that may be truncated.",
        )
    return resolution.edits


def resolve(text: str, *, base: str = "", recount: bool = False) -> Resolution:
    r"""Converts a model's text to a program; never raises.

    The text may start with the marker, with "\n" and the marker, or, if the prompt ended with the
    marker, with the first hunk. Clear deviations are corrected and reported; malformed hunks are
    skipped. Line numbers in the new state are checked up to a diff's first malformed hunk; later
    hunks are placed by their old positions.

    Args:
        text: edits as :func:`format_edits` writes them, without the end-of-sequence token.
        base: the text of the state that the first edit changes.
        recount: apply a hunk whose lines are sound but whose numbers are wrong, as
            ``git apply --recount`` and the published resolver do. It is applied at its context
            lines, if any, else at its old position, or at the end if that is past the end. It is
            still reported (``bad_count``, ``bad_new_position``, ``moved_context``, ``past_end``).
    """
    mended: list[HunkFix] = []
    if _CRLF_HEADER.search(text):  # elsewhere, a carriage return is part of a line
        text = text.replace("\r\n", "\n")
        mended.append(HunkFix(-1, -1, "crlf"))
    diffs, stray, complete = _split(text)
    lines = from_text(base)
    edits: list[EditStep] = []
    malformed: list[MalformedHunk] = []
    index = 0
    for number, diff in enumerate(diffs):
        prose, *bodies = _blocks(diff)
        stray += sum(1 for line in prose if not _is_blank(line))
        if not bodies:
            continue
        cut_off = number == len(diffs) - 1 and not complete
        hunks: list[InsertHunk] = []
        added: int | None = 0  # lines inserted so far by this edit; None once a hunk was skipped
        for position, body in enumerate(bodies):
            at_cut = cut_off and position == len(bodies) - 1
            if at_cut and not body[-1]:
                body = body[:-1]
            read = read_hunk(body)
            found, reason = _hunks(read, lines, hunks, added, at_cut)
            if at_cut and (reason == "no_lines" or (len(body) == 1 and reason == "bad_header")):
                reason = "truncated"
            if reason:
                malformed.append(MalformedHunk(index, position, reason))
                added = None
            if isinstance(read, HunkText):
                mended += (HunkFix(index, position, kind) for kind in dict.fromkeys(read.mends))
            if not reason or (recount and reason != "truncated"):
                hunks += found
                added = None if added is None else added + sum(len(h.lines) for h in found)
        if hunks:
            edits.append(EditStep(tuple(hunks)))
            lines = apply(lines, edits[-1])
        index += 1
    around = any(_FENCE.fullmatch(line) for diff in diffs for line in _blocks(diff)[0])
    if around and all(found.kind != "fence" for found in mended):
        mended.append(HunkFix(-1, -1, "fence"))
    return Resolution(
        to_text(lines), tuple(edits), tuple(malformed), complete, stray, tuple(mended)
    )


def _split(text: str) -> tuple[list[str], int, bool]:
    """Returns the diffs before the end mark, the text lines after it, and if it exists."""
    # No program contains the marker, so it separates even without a newline before it.
    first, *diffs = re.split(r"\n?" + re.escape(MARKER), text)
    for end in range(1, len(diffs)):
        if not diffs[end - 1].strip() and all(map(_is_blank, diffs[end].split("\n"))):
            rest = "\n".join(diffs[end + 1 :]).split("\n")
            return [first, *diffs[: end - 1]], sum(1 for line in rest if line.strip()), True
    diffs = [first, *diffs]
    diffs[-1] = _without_cut_line(diffs[-1])
    return diffs, 0, False


def _is_blank(line: str) -> bool:
    return not line.strip() or _FENCE.fullmatch(line) is not None


def _without_cut_line(diff: str) -> str:
    """Removes a partial separator or header at the end of the last diff."""
    above, newline, last = diff.rpartition("\n")
    if last == "@" or (newline and SEPARATOR.startswith(newline + last)):
        return above
    return diff


def _blocks(diff: str) -> list[list[str]]:
    """Splits a diff before each header: lines before any header, then each hunk."""
    blocks: list[list[str]] = [[]]
    for line in diff.split("\n"):
        # A line of code starts with "+", so "@@" at the start of a line is a header.
        if line.startswith("@@"):
            blocks.append([])
        blocks[-1].append(line)
    return blocks


def _hunks(
    read: HunkText | str,
    state: Sequence[str],
    above: Sequence[InsertHunk],
    added: int | None,
    at_cut: bool,
) -> tuple[list[InsertHunk], str]:
    """Returns the insertions of a hunk, and its fault or "".

    A truncated hunk inserts the lines it has; a hunk with wrong numbers inserts its lines at the
    most likely position.

    Args:
        read: the parsed hunk, or why it cannot be parsed.
        added: the number of lines in the hunks above, or None if unknown.
        at_cut: whether a cut-off text ends with this hunk.
    """
    if isinstance(read, str):
        return [], read
    if read.is_anchored:
        floor = above[-1].start if above else 0
        context = read.context
        place = _found(context, state, floor)
        if place < 0 and (place := _found_once(context, state, floor)) >= 0:
            read.mends.append("indentation")
        if place < 0 or (above and not context):
            return [], "context_not_found"
        return hunks_at(read, place), "truncated" if at_cut else ""
    if read.old_count and not read.context:
        return [], "deletes_lines"
    if read.new_count == 0:
        return [], "bad_header"
    place, reason = place_hunk(read, state)
    if place < 0:
        return [], reason
    found = hunks_at(read, place)
    first = found[0].start if found else place
    if above and first <= above[-1].start:
        return [], "out_of_order"
    if not reason and added is not None:
        # Possible positions: of the hunk's first new line, or of its first context line.
        starts = {first + added + 1, place + added + 1}
        if read.new_start not in starts:
            reason = "bad_new_position"
    if reason:
        return found, reason
    if read.added < read.new_count - (read.old_count and len(read.context)) and at_cut:
        return found, "truncated"
    return found, "" if counts_agree(read) and read.added else "bad_count"
