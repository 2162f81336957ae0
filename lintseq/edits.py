r"""Insert-only edits and edit sequences, the package's data types.

A *state* is a list of lines. Its text is each line followed by "\n", so the empty state is "" and
every other state ends in a newline. The first state is empty; each edit turns a state into the next
by inserting lines; the last state is the program. This module is independent of Python and of the
text format.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from codegen.core.errors import InputError, SkippedExample


class UnsupportedProgram(SkippedExample):
    """Error for a program without an edit sequence; the program is skipped.

    ``reason`` is one of ``not_python``, ``unknown_language``, ``not_clean``, ``syntax_error``,
    ``newer_python``, ``null_bytes``, ``not_unicode``, ``empty``, ``comments_only``,
    ``contains_marker``, ``too_deep``, ``no_candidates`` or ``too_many_states``.
    """

    subject = "The program has no edit sequence"


@dataclass(frozen=True, slots=True)
class InsertHunk:
    """Consecutive lines to insert.

    Attributes:
        start: number of lines above the new lines in the state *before the edit*.
        lines: new lines, without line ends; at least one.
    """

    start: int
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.start < 0 or not self.lines:
            raise InputError(
                f"A hunk starts at {self.start} and has {len(self.lines)} lines; "
                "it must start at 0 or later and have at least one."
            )


@dataclass(frozen=True, slots=True)
class EditStep:
    """Hunks to insert at once, from top to bottom, with at least one old line between any two."""

    hunks: tuple[InsertHunk, ...]

    def __post_init__(self) -> None:
        if not self.hunks:
            raise InputError("An edit needs at least one hunk.")
        for above, below in zip(self.hunks, self.hunks[1:], strict=False):
            if below.start <= above.start:
                raise InputError(
                    f"Hunks must be sorted; one at {below.start} follows one at {above.start}."
                )


@dataclass(frozen=True, slots=True)
class EditSequence:
    """The edits that write a program, in writing order."""

    edits: tuple[EditStep, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """Text after each edit; the last is the program. Computed on each access."""
        return states(self.edits)

    @property
    def program(self) -> str:
        """Text after the last edit; "" without edits."""
        lines: list[str] = []
        for edit in self.edits:
            lines = apply(lines, edit)
        return to_text(lines)


def apply(lines: Sequence[str], edit: EditStep) -> list[str]:
    """Returns the state after an edit.

    Raises:
        InputError: if a hunk starts below the end of the state.
    """
    result: list[str] = []
    done = 0
    for hunk in edit.hunks:
        if hunk.start > len(lines):
            raise InputError(
                f"A hunk starts at line {hunk.start}, but the state has {len(lines)} lines."
            )
        result += lines[done : hunk.start]
        result += hunk.lines
        done = hunk.start
    result += lines[done:]
    return result


def iter_states(edits: Iterable[EditStep]) -> Iterator[list[str]]:
    """Yields the lines of the state after each edit."""
    lines: list[str] = []
    for edit in edits:
        lines = apply(lines, edit)
        yield lines


def states(edits: Iterable[EditStep]) -> tuple[str, ...]:
    """Returns the text of the state after each edit, without the empty first state."""
    return tuple(map(to_text, iter_states(edits)))


def to_text(lines: Sequence[str]) -> str:
    """Returns the text of a state: each line followed by a newline."""
    return "\n".join(lines) + "\n" if lines else ""


def from_text(text: str) -> list[str]:
    """Returns the lines of a state's text; the last line may lack its newline."""
    return text.removesuffix("\n").split("\n") if text else []


def undo(lines: Sequence[str], deletions: Iterable[Collection[int]]) -> EditSequence:
    """Returns the edits that undo deletions, last deletion first.

    Args:
        deletions: line numbers of each deletion; together all lines, each once. An empty deletion
            yields no edit.
    """
    alive = list(range(len(lines)))
    edits = [_cut_out(alive, sorted(deleted), lines) for deleted in deletions if deleted]
    return EditSequence(tuple(reversed(edits)))


def _cut_out(alive: list[int], deleted: Sequence[int], lines: Sequence[str]) -> EditStep:
    """Removes lines from the sorted ``alive``, and returns the edit that reinserts them."""
    hunks = []
    done = 0
    position = 0
    while done < len(deleted):
        position = bisect_left(alive, deleted[done], position)
        run = 1
        while done + run < len(deleted) and alive[position + run] == deleted[done + run]:
            run += 1
        # The edit's earlier lines are not in ``alive``, so positions refer to the old state.
        hunks.append(
            InsertHunk(position, tuple(lines[line] for line in deleted[done : done + run]))
        )
        del alive[position : position + run]
        done += run
    return EditStep(tuple(hunks))
