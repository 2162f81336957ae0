"""What a model has to beat: systems that propose edits without one.

``nothing`` never proposes; ``repeat`` makes the last edit's replacement of lines again where its
old lines are found; ``rename`` replaces in the window the words that the history's edits replaced
by others, one word for one (specified by lines of equal number and the differences of their words).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping

from codegen.methods.edits.formats import window_lines
from codegen.methods.edits.hunks import Hunk, apply, find, lines_of
from codegen.records import Change, Edit

_WORD = re.compile(r"\w+|\s+|[^\w\s]")


def nothing(edit: Edit) -> str:
    """The window as it is."""
    return "".join(window_lines(edit))


def repeat(edit: Edit) -> str:
    """The last edit once more, at the first place in the window where its old lines are."""
    lines = window_lines(edit)
    if not edit.history or not edit.history[-1].old.strip():
        return "".join(lines)
    last = edit.history[-1]
    old = [line.strip() for line in lines_of(last.old)]
    place = find([line.strip() for line in lines], old, 0)
    if place < 0:
        return "".join(lines)
    return "".join(apply(lines, [Hunk(place, place + len(old), tuple(lines_of(last.new)))]))


def rename(edit: Edit) -> str:
    """The window with words replaced as in the history."""
    text = "".join(window_lines(edit))
    words = {old: new for change in edit.history for old, new in replaced_words(change).items()}
    if not words:
        return text
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(words))) + r")\b")
    return pattern.sub(lambda found: words[found[0]], text)


def replaced_words(change: Change) -> dict[str, str]:
    """Word -> the word that took its place, in lines of which there are as many as before."""
    old, new = lines_of(change.old), lines_of(change.new)
    found: dict[str, str] = {}
    if len(old) != len(new):
        return found
    for before, after in zip(old, new, strict=True):
        a, b = _WORD.findall(before), _WORD.findall(after)
        for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            if tag == "replace" and j - i == m - k == 1 and (a[i] + b[k]).isidentifier():
                found[a[i]] = b[k]
    return found


BASELINES: Mapping[str, Callable[[Edit], str]] = {
    "nothing": nothing,
    "repeat": repeat,
    "rename": rename,
}
"""Each gives the new text of the window."""
