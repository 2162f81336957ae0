"""What was suggested in a document: typed as suggested, and whether it was accepted.

Text that goes on as a suggestion said is answered from that suggestion, without the model; so is
text that was deleted again. Acceptance is told by no editor in a standard way, but every editor
sends it as one change whose text is the suggestion.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

Accepted = Literal["all", "part"]

_KEPT = 16  # sets of suggestions a document
_COMPARED = 512  # characters around the cursor that must be the same
_CLOSERS = ")]}'\"`>"


@dataclass(frozen=True, slots=True)
class Suggested:
    """Texts suggested between a prefix and a suffix, best first."""

    prefix: str
    suffix: str
    texts: tuple[str, ...]


class Suggestions:
    """The last suggestions of one document."""

    def __init__(self) -> None:
        self._sets: OrderedDict[tuple[str, str], Suggested] = OrderedDict()
        self._shown: Suggested | None = None

    def add(self, prefix: str, suffix: str, texts: tuple[str, ...]) -> None:
        """Remembers suggestions; an empty tuple means that there is nothing to suggest."""
        key = prefix[-_COMPARED:], suffix[:_COMPARED]
        self._sets[key] = Suggested(*key, texts)
        self._sets.move_to_end(key)
        while len(self._sets) > _KEPT:
            self._sets.popitem(last=False)

    def find(self, prefix: str, suffix: str, count: int = 1) -> tuple[str, ...] | None:
        """At least ``count`` texts that earlier suggestions give here; None if there are fewer."""
        for old in reversed(self._sets.values()):
            rests = _rests(old, prefix, suffix)
            if rests is not None and (len(rests) >= count or (not rests and not old.texts)):
                return rests
        return None

    def show(self, prefix: str, suffix: str, texts: tuple[str, ...]) -> None:
        """These are on the user's screen."""
        self._shown = Suggested(prefix[-_COMPARED:], suffix[:_COMPARED], texts)

    def accepted(self, inserted: str, prefix: str) -> tuple[Accepted, int] | None:
        """Whether a change took a suggestion, and how many characters of it.

        Args:
            inserted: the change's text.
            prefix: the text before the change, up to the change's start.
        """
        shown = self._shown
        # One character may well be typed; two or more at once are not.
        if shown is None or len(inserted) < 2 or not _same_end(prefix, shown.prefix):
            return None
        for text in shown.texts:
            if inserted == text:
                self._shown = None
                return "all", len(text)
            if text.startswith(inserted):
                return "part", len(inserted)
        return None


def _rests(old: Suggested, prefix: str, suffix: str) -> tuple[str, ...] | None:
    """What is left of the suggestions after what was typed since; None if another text is there."""
    if not _same_suffix(old.suffix, suffix):
        return None
    grown = _grown(old.prefix, prefix)
    if grown is not None:
        rests = [text[len(grown) :] for text in old.texts if text.startswith(grown)]
        if not old.texts and not grown:
            return ()
        return tuple(dict.fromkeys(rest for rest in rests if rest.strip())) or None
    shrunk = _shrunk(old.prefix, prefix)
    if shrunk and old.texts:
        return tuple(shrunk + text for text in old.texts)
    return None


def _grown(old: str, new: str) -> str | None:
    """What ``new`` has behind ``old``, None if it does not go on from it.

    Args:
        old: the last characters of a text, or a whole one that is shorter than that.
        new: all that is known before the cursor.
    """
    if len(old) < _COMPARED:
        return new[len(old) :] if new.startswith(old) else None
    at = new.rfind(old)
    return new[at + len(old) :] if at >= 0 else None


def _shrunk(old: str, new: str) -> str:
    """What ``old`` had on its last line behind ``new``; empty if they do not fit."""
    for size in range(1, len(old) - max(old.rfind("\n"), old.rfind("\r"))):
        head = old[:-size]
        if new == head or (len(old) == _COMPARED and head and new.endswith(head)):
            return old[-size:]
    return ""


def _same_end(one: str, other: str) -> bool:
    size = min(len(one), len(other), _COMPARED)
    return one[len(one) - size :] == other[len(other) - size :]


def _same_suffix(old: str, new: str) -> bool:
    """Whether it is the same, but for brackets that the editor has closed by itself."""
    return any(
        set(new[:extra]) <= set(_CLOSERS) and new[extra : extra + _COMPARED] == old
        for extra in range(3)
    )
