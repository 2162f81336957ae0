"""The suggestions of a document: text that continues as a suggestion said needs no model.

That holds only while everything that the model saw is the same: its window of the text before the
cursor except for what was typed of the suggestion since, the text after the cursor, other files and
the options. All of it is compared, by content or by digest. No editor reports acceptance in a
standard way, but every editor sends it as one change whose text is the suggestion.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

from codegen.server.requests import CompletionRequest

Accepted = Literal["all", "part"]

_KEPT = 16  # sets of suggestions a document
_COMPARED = 512  # characters before the cursor that tell where a suggestion is shown


@dataclass(frozen=True, slots=True)
class Suggested:
    """Texts suggested for a request.

    Attributes:
        window: the end of the request's prefix that the prompt was made from.
        whole: whether that is all of the prefix.
        others: digest of everything else in the request.
        texts: best first; empty if there was nothing to suggest.
    """

    window: str
    whole: bool
    others: bytes
    texts: tuple[str, ...]

    def typed(self, prefix: str) -> str | None:
        """What a prefix adds to this one; None if the model would see another text before it."""
        at = 0 if self.whole else prefix.rfind(self.window)
        same = at >= 0 and prefix.startswith(self.window, at)
        return prefix[at + len(self.window) :] if same else None


class Suggestions:
    """The last suggestions of one document."""

    def __init__(self) -> None:
        self._sets: deque[Suggested] = deque(maxlen=_KEPT)
        self._shown: tuple[str, tuple[str, ...]] | None = None

    def add(self, request: CompletionRequest, seen: int, texts: tuple[str, ...]) -> None:
        """Remembers suggestions.

        Args:
            seen: number of characters before the cursor that the prompt was made from.
            texts: best first; empty if there is nothing to suggest.
        """
        prefix = request.prefix
        window = prefix[len(prefix) - seen :]
        whole = seen == len(prefix)
        self._sets.append(Suggested(window, whole, _others(request), texts))

    def find(self, request: CompletionRequest) -> tuple[str, ...] | None:
        """What earlier suggestions give for a request; None if fewer texts than it wants."""
        others = _others(request) if self._sets else b""
        for old in reversed(self._sets):
            typed = old.typed(request.prefix) if old.others == others else None
            if typed is None:
                continue
            if not old.texts and not typed:
                return ()
            rests = [text[len(typed) :] for text in old.texts if text.startswith(typed)]
            rests = list(dict.fromkeys(rest for rest in rests if rest.strip()))
            if len(rests) >= request.candidates:
                return tuple(rests)
        return None

    def show(self, prefix: str, texts: tuple[str, ...]) -> None:
        """Records the suggestions that the user sees."""
        self._shown = prefix[-_COMPARED:], texts

    def accepted(self, inserted: str, prefix: str) -> tuple[Accepted, int] | None:
        """Whether a change that inserts a text behind a prefix took a suggestion, and how many
        characters of it.
        """
        # A single character may have been typed.
        if self._shown is None or len(inserted) < 2:
            return None
        before, texts = self._shown
        size = min(len(before), len(prefix))
        if before[len(before) - size :] != prefix[len(prefix) - size :]:
            return None
        for text in texts:
            if inserted == text:
                self._shown = None
                return "all", len(text)
            if text.startswith(inserted):
                return "part", len(inserted)
        return None


def _others(request: CompletionRequest) -> bytes:
    """Digest of a request without the text before the cursor and the number of candidates."""
    same = replace(request, prefix="", candidates=1, settle=True)
    return blake2b(repr(same).encode("utf-8", "surrogatepass"), digest_size=16).digest()
