"""A next edit by rule: words are replaced as they were before."""

from __future__ import annotations

import difflib
import re

from codegen.methods.edits.formats import window_lines
from codegen.methods.edits.hunks import lines_of
from codegen.records import Change, Edit

_WORD = re.compile(r"\w+|\s+|[^\w\s]")


def rename(edit: Edit) -> str:
    """The window with words replaced as in the history."""
    text = "".join(window_lines(edit))
    words = {old: new for change in edit.history for old, new in replaced_words(change).items()}
    if not words:
        return text
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(words))) + r")\b")
    return pattern.sub(lambda found: words[found[0]], text)


def replaced_words(change: Change) -> dict[str, str]:
    """The words that a change replaced one for one; none if it changed the number of lines."""
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
