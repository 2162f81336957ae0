"""What another machine, or a file, may see of a moment of editing.

A part of a secret looks like any text, so secrets are looked for in the whole file, now and before
each of its edits: a line of one is hidden also where the rest of it is gone or out of the window.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from codegen.methods.edits.formats import around, window_text
from codegen.methods.edits.sessions import lines_of
from codegen.records import Edit
from codegen.server.secrets import REDACTED, redact, secret_spans, without_spans

_MOST_PLACES = 8  # of an edit whose line is not certain


def hidden_lines(moment: Edit) -> frozenset[str]:
    """Lines of the file, now or before an edit, that hold a secret or a part of one; without the
    white space around them.

    Args:
        moment: with all that was edited, not what a prompt shows of it.
    """
    return frozenset(
        line for text in _states(moment) for line in _lines_in(text, secret_spans(text))
    )


def redacted(edit: Edit, hidden: Collection[str]) -> Edit | None:
    """The edit without secrets; None if its window, or all of its history, may hold one.

    Edits of the history that touched a secret are left out.
    """
    above, _ = around(edit)
    window = window_text(edit)
    start, end = len(above), len(above) + len(window)
    spans = secret_spans(edit.text)
    if any(e > start and s < end for s, e in spans) or not is_clean(window, hidden):
        return None
    parts = (without_spans(edit.text, spans, *p) for p in ((0, start), (end, len(edit.text))))
    head, rest = (_without_lines(part, hidden) for part in parts)
    shown = [c._replace(old=redact(c.old), new=redact(c.new)) for c in edit.history]
    history = tuple(c for c in shown if is_clean(c.old, hidden) and is_clean(c.new, hidden))
    if edit.history and not history:
        return None
    top = len(lines_of(head))
    place = (top, top + len(lines_of(window)))
    cursor = max(0, edit.cursor + len(head) - len(above))
    return replace(edit, text=head + window + rest, history=history, window=place, cursor=cursor)


def is_clean(text: str, hidden: Collection[str]) -> bool:
    """Whether a text holds no secret and none of these lines."""
    lines = {line.strip() for line in text.split("\n")}
    return lines.isdisjoint(hidden) and redact(text) == text


def _without_lines(text: str, hidden: Collection[str]) -> str:
    return "".join(
        REDACTED + "\n" * line.endswith("\n") if line.strip() in hidden else line
        for line in lines_of(text)
    )


def _states(moment: Edit) -> Iterator[str]:
    """The file now and before each edit of the history, without those that do not fit it."""
    lines = lines_of(moment.text)
    left = [(change, {change.line}) for change in moment.history if change.path == moment.path]
    yield moment.text
    while left:
        last, places = left.pop()
        old, new = lines_of(last.old), lines_of(last.new)
        fits = (p for p in sorted(places) if p >= 0 and lines[p : p + len(new)] == new)
        if (at := next(fits, None)) is None:
            continue
        lines[at : at + len(new)] = old
        # An earlier edit may have been moved by this one.
        added = len(new) - len(old)
        left = [
            (change, set(sorted({*known, *(p - added for p in known)})[:_MOST_PLACES]))
            for change, known in left
        ]
        yield "".join(lines)


def _lines_in(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[str]:
    """The lines that character ranges touch, without the white space around them."""
    for start, end in spans:
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", end)
        lines = text[first : last if last >= 0 else None].split("\n")
        yield from filter(None, map(str.strip, lines))
