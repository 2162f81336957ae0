r"""The text form of edit sequences, and the resolver that turns a model's text back into a program.

Source: the reference code of LintSeq (Piterbarg, Pinto and Fergus, "Training Language Models on
Synthetic Edit Sequences Improves Code Synthesis", ICLR 2025). A sequence d1 ... dn is the join of
``["", d1, ..., dn, "", ""]`` with ``"\n<|diff|>"``; its end is marked by two empty diffs. A diff is
a unified diff without context lines and file names::

    text   = "<|diff|>" diff { "\n<|diff|>" diff } "\n<|diff|>" "\n<|diff|>"
    diff   = hunk { "\n" hunk }
    hunk   = "@@ -" A ",0 +" C [ "," D ] " @@" { "\n+" line }

A is the number of lines of the old state above the hunk, C the 1-based number of the hunk's first
line in the new state, D the number of its lines, left out when 1. Lines end in "\n" and nothing
else, so a line may hold form feeds or U+2028.

The reference's resolver drops a hunk whose code contains "@@", strips leading "+" and "-" of code,
strips the characters (not the string) of the end-of-sequence token, and applies whatever position
it finds. This one checks every number against the state, says what was wrong with a hunk it skips,
and corrects what models that have seen other diffs write differently but clearly. Each correction
is reported by its kind:

- ``crlf``: lines that end in "\r\n";
- ``header_text``: text after the second ``@@``, as git writes it;
- ``header_spacing``: blanks in the header that do not belong there, or are missing;
- ``context``: lines of the old state around the new ones, which start with a blank. They must be
  those of the state;
- ``blank_line``: an empty line without ``+``. It is a new line if the header's count says so, else
  an empty line of the old state, if there is one, else nothing;
- ``fence``: a line of a Markdown code fence;
- ``no_newline_note``: git's note that a file has no newline at its end.

The context lines decide the place: the header's old position is taken if the state has these lines
there, counted as in a unified diff (``-A,B`` starts at line A) or as in the published form
(``-A,0`` inserts below line A). If it has not, but exactly one other place has them, the hunk goes
there if numbers may be repaired (``moved_context``). Several places are ``ambiguous_context``, none
is ``context_not_found``: such a hunk is skipped, since nothing says where it belongs.

The anchored form (:func:`format_anchored`) has no numbers, since small models count badly: half of
a small model's samples have a wrong count. A hunk says by lines of the state where it belongs::

    hunk = "@@ @@" { "\n " line } { "\n+" line }

The lines with a blank before them are those just above the new ones: as few as are first found
there, searching down from the last hunk's place. A hunk without them is at the top. Both forms are
read by the same resolver, with the same repairs. In this form a line that lacks its sign is taken
for one of the old state (``sign``), and blanks at the beginning of those don't count if only one
place has them then (``indentation``).

Stripping the end-of-sequence token, as a suffix, is the caller's part. Limits: a program that
contains ``<|diff|>`` can't be written in this form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegen.errors import InputError
from codegen.lintseq.edits import (
    Edit,
    Hunk,
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
    """What a hunk's text says.

    Attributes:
        start, old_count, new_start, new_count: the numbers of the header.
        lines: the lines below it, each with ``+`` (new) or a blank (of the old state) before it.
        mends: the kinds of what was repaired in reading it.
        is_anchored: whether it has no numbers, and its first lines say where it belongs.
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
        if match[5].lstrip().startswith("+") and _plus(rows) == new_count - 1:
            rows.insert(0, match[5].lstrip())  # the first line is beside the header
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


def _read_anchored(body: Sequence[str], beside: str) -> HunkText | str:
    """A hunk of the anchored form; an empty line is of the kind above it, at the end nothing.

    Args:
        body: its header and lines.
        beside: what is in the header's line.
    """
    mends = ["header_text"] if beside else []
    if not body[0].startswith(ANCHORED):
        mends.append("header_spacing")
    rows = [beside] if beside.startswith("+") else []
    for row in body[1:]:
        if _FENCE.fullmatch(row):
            mends.append("fence")
        elif row.startswith("\\ No newline"):
            mends.append("no_newline_note")
        elif row.startswith("-"):
            return "bad_line"
        else:
            rows.append(row)
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

    The place is -1 if it is not known.

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


def _found(context: Sequence[str], state: Sequence[str], floor: int) -> int:
    """Where the state first has the lines from line ``floor`` on, from 0; -1 if nowhere."""
    places = range(floor, len(state) - len(context) + 1)
    return next((n for n in places if _stands_at(context, state, n)), -1)


def _found_once(context: Sequence[str], state: Sequence[str], floor: int) -> int:
    """As :func:`_found`, whatever the indentation; -1 too if several places have the lines."""
    flat, wanted = [line.strip() for line in state], [line.strip() for line in context]
    places = [n for n in range(floor, len(state)) if flat[n : n + len(wanted)] == wanted]
    return places[0] if len(places) == 1 else -1


MARKER = "<|diff|>"
SEPARATOR = "\n" + MARKER
_CRLF_HEADER = re.compile(r"@@ *\r$", re.MULTILINE)


class Malformed(NamedTuple):
    """A hunk that was skipped, or applied although its numbers are wrong.

    ``edit`` counts the diffs with at least one line that starts with "@@", ``hunk`` those lines
    within the diff, both from 0. ``reason`` is one of ``bad_header``, ``deletes_lines`` (the header
    claims to replace old lines), ``bad_count`` (the body has another number of lines than
    announced), ``bad_line`` (a body line that is neither new nor context), ``no_lines`` (an
    anchored hunk inserts nothing), ``past_end``,
    ``out_of_order``, ``bad_new_position`` (the line number in the new state doesn't follow from the
    old one), ``moved_context``, ``ambiguous_context``, ``context_not_found`` (see
    the module) and ``truncated`` (the text ends inside the hunk).
    """

    edit: int
    hunk: int
    reason: str


class Mended(NamedTuple):
    """What was not in the published form but left no doubt, and was repaired.

    ``edit`` and ``hunk`` as in :class:`Malformed`, -1 if it concerns the whole text. ``kind`` is
    one of those in the module's docstring.
    """

    edit: int
    hunk: int
    kind: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a text of edits stands for.

    Attributes:
        program: the text after all well-formed hunks.
        edits: what was applied: the well-formed hunks, without edits that have none.
        malformed: the hunks with faults, in the order of the text.
        complete: whether the text is ended by two empty diffs.
        stray_lines: non-blank lines that belong to no hunk: prose before a hunk, text after the
            end.
        mended: what was read as it was meant, in the order of the text.
    """

    program: str
    edits: tuple[Edit, ...]
    malformed: tuple[Malformed, ...]
    complete: bool
    stray_lines: int
    mended: tuple[Mended, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """The text after each edit, computed at each access: its size can be quadratic.

        Only for edits of the empty state.
        """
        return states(self.edits)


def format_edit(edit: Edit) -> str:
    """One diff, without the marker before it."""
    parts = []
    added = 0
    for hunk in edit.hunks:
        count = len(hunk.lines)
        size = "" if count == 1 else f",{count}"
        parts.append(f"@@ -{hunk.start},0 +{hunk.start + added + 1}{size} @@")
        parts += ["+" + line for line in hunk.lines]
        added += count
    return "\n".join(parts)


def format_anchored_edit(edit: Edit, state: Sequence[str]) -> str:
    """One diff of the anchored form, without the marker before it.

    Args:
        edit: the insertions.
        state: the lines before the edit.
    """
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


def format_edits(edits: Iterable[Edit], *, anchored: bool = False) -> str:
    r"""The text of a whole sequence, from its first ``<|diff|>`` to its two empty diffs.

    The "\n" that the published form has before the first marker is left to the prompt, which ends
    with it.

    Args:
        edits: those that write a program from the empty state on.
        anchored: whether to write the form without numbers.

    Raises:
        UnsupportedProgram: ``contains_marker``, if a line holds the marker.
        InputError: if a line holds a line end.
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
            "A line of an edit contains a line end.", "Split the text at line ends first."
        )
    return text


def parse_edits(text: str) -> tuple[Edit, ...]:
    """The edits of a whole, well-formed text.

    Raises:
        InputError: naming the first hunk that is malformed, or what else the text has or lacks.
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
            "The edit sequence is not ended by two empty diffs.",
            "Use resolve() for text that may be cut off.",
        )
    return resolution.edits


def resolve(
    text: str, *, base: str = "", keep_partial: bool = False, recount: bool = False
) -> Resolution:
    r"""Turns a model's text into a program; never raises, whatever the text.

    The text may start with the marker, with "\n" and the marker, or, if the prompt ended with the
    marker, with the first hunk. What is written otherwise but leaves no doubt is repaired and
    reported; malformed hunks are skipped. Until a diff's first malformed hunk the line numbers in
    the new state are checked too; after it they can't be known, and hunks are placed by their old
    positions.

    Args:
        text: edits as :func:`format_edits` writes them, without the end-of-sequence token.
        base: the text of the state that the first edit changes.
        keep_partial: whether to apply the lines that are there of a last hunk that is cut off; it
            is reported as ``truncated`` all the same.
        recount: whether to apply a hunk whose lines are sound but whose numbers are not, as
            ``git apply --recount`` and the published resolver do: small models count badly. Such a
            hunk goes where its context lines are, if it has any, else to its old position, or to
            the end if that lies past it. It is reported all the same (as ``bad_count``,
            ``bad_new_position``, ``moved_context`` or ``past_end``).
    """
    mended: list[Mended] = []
    if _CRLF_HEADER.search(text):  # elsewhere, a carriage return is part of a line
        text = text.replace("\r\n", "\n")
        mended.append(Mended(-1, -1, "crlf"))
    diffs, stray, complete = _split(text)
    lines = from_text(base)
    edits: list[Edit] = []
    malformed: list[Malformed] = []
    index = 0
    for number, diff in enumerate(diffs):
        prose, *bodies = _blocks(diff)
        stray += sum(1 for line in prose if not _is_blank(line))
        if not bodies:
            continue
        cut_off = number == len(diffs) - 1 and not complete
        hunks: list[Hunk] = []
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
                malformed.append(Malformed(index, position, reason))
                added = None
            if isinstance(read, HunkText):
                mended += (Mended(index, position, kind) for kind in dict.fromkeys(read.mends))
            if not reason or (keep_partial if reason == "truncated" else recount):
                hunks += found
                added = None if added is None else added + sum(len(h.lines) for h in found)
        if hunks:
            edits.append(Edit(tuple(hunks)))
            lines = apply(lines, edits[-1])
        index += 1
    around = any(_FENCE.fullmatch(line) for diff in diffs for line in _blocks(diff)[0])
    if around and all(found.kind != "fence" for found in mended):
        mended.append(Mended(-1, -1, "fence"))
    return Resolution(
        to_text(lines), tuple(edits), tuple(malformed), complete, stray, tuple(mended)
    )


def _split(text: str) -> tuple[list[str], int, bool]:
    """The diffs up to the end mark, the number of stray lines after it, and if it is there."""
    # The marker can't occur in a program, so it separates even where the newline before it is
    # missing.
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
    """A last diff without the piece of a separator or header that it may end with."""
    above, newline, last = diff.rpartition("\n")
    if last == "@" or (newline and SEPARATOR.startswith(newline + last)):
        return above
    return diff


def _blocks(diff: str) -> list[list[str]]:
    """The lines of a diff, cut before each header: first those before any header, then hunks."""
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
    above: Sequence[Hunk],
    added: int | None,
    at_cut: bool,
) -> tuple[list[Hunk], str]:
    """The insertions of a hunk, and why it is malformed or "".

    A hunk that is cut off comes with the lines it has, one whose numbers are wrong with its lines
    at the place that is most likely meant.

    Args:
        read: what the hunk's text says, or why it can't be read.
        state: the lines before the edit.
        above: the edit's insertions so far.
        added: the lines of the hunks above it, or None if not known.
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
        # Of the first line that the header speaks of: of context, or new.
        starts = {first + added + 1, place + added + 1}
        if read.new_start not in starts:
            reason = "bad_new_position"
    if reason:
        return found, reason
    if read.added < read.new_count - (read.old_count and len(read.context)) and at_cut:
        return found, "truncated"
    return found, "" if counts_agree(read) and read.added else "bad_count"
