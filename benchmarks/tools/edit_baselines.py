"""Baselines that propose edits without a model.

``nothing`` never proposes; ``repeat`` applies the last edit's replacement of lines where its old
lines occur; ``rename`` applies the history's word replacements to the window (from edits with
equal numbers of lines whose words differ one for one).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from codegen.core.records import Edit
from codegen.edits.expected_edits import rename
from codegen.edits.formats import window_lines
from codegen.edits.sessions import Hunk, apply, find, lines_of


def nothing(edit: Edit) -> str:
    """Returns the window unchanged."""
    return "".join(window_lines(edit))


def repeat(edit: Edit) -> str:
    """Repeats the last edit at the first place in the window with its old lines."""
    lines = window_lines(edit)
    if not edit.history or not edit.history[-1].old.strip():
        return "".join(lines)
    last = edit.history[-1]
    old = [line.strip() for line in lines_of(last.old)]
    place = find([line.strip() for line in lines], old, 0)
    if place < 0:
        return "".join(lines)
    return "".join(apply(lines, [Hunk(place, place + len(old), tuple(lines_of(last.new)))]))


BASELINES: Mapping[str, Callable[[Edit], str]] = {
    "nothing": nothing,
    "repeat": repeat,
    "rename": rename,
}
"""Baselines; each returns the new text of the window."""
