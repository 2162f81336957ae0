"""State kept per document between requests: its cache, within a budget, and its suggestions.

**Caches** (:class:`DocumentCaches`): the least recently used go first.

**Suggestions** (:class:`Suggestions`): text that continues as a suggestion said is answered from
that suggestion, without the model. That is right only while everything that the model saw is the
same: its window of the text before the cursor but for what was typed of the suggestion since, the
text after the cursor, other files, and the options. All of it is compared, by content or by digest.
No editor reports acceptance in a standard way, but every editor sends it as one change whose text
is the suggestion.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

from codegen.decoding.suffix import SuffixStore
from codegen.server.requests import CompletionRequest, DocumentKey

if TYPE_CHECKING:
    from codegen.decoding.editing import EditableCache

_PAST = 4096  # tokens kept of what was made in a document


@dataclass
class DocumentState:
    """What is kept of one document between requests.

    Attributes:
        cache: its tokens' states.
        past: tokens that were made in it.
        quote: of the string that the cursor's line began in; a change asks for a recompute.
        recompute: whether states should be made exact when there is time.
        doubtful: the prompt whose answer was in doubt, empty if the latest was not.
    """

    cache: EditableCache
    past: SuffixStore = field(default_factory=lambda: SuffixStore(_PAST))
    quote: str = ""
    recompute: bool = False
    doubtful: list[int] = field(default_factory=list)


class DocumentCaches:
    """Caches by document; for the worker thread alone.

    Args:
        make: makes an empty cache.
        most: documents kept.
        budget: bytes of all caches together. The document in use is kept whatever its size.
    """

    def __init__(self, make: Callable[[], EditableCache], most: int, budget: int) -> None:
        self._make = make
        self._most = most
        self._budget = budget
        self._documents: OrderedDict[DocumentKey, DocumentState] = OrderedDict()
        self.evicted = 0

    def get(self, key: DocumentKey) -> DocumentState:
        """A document, with an empty cache if there was none; it becomes the most recent."""
        found = self._documents.get(key)
        if found is None:
            found = self._documents[key] = DocumentState(self._make())
        self._documents.move_to_end(key)
        return found

    def known(self, key: DocumentKey) -> bool:
        """Whether there is a cache."""
        return key in self._documents

    def shrink(self) -> None:
        """Drops the least recently used ones that the budget has no room for."""
        while len(self._documents) > 1 and (
            len(self._documents) > self._most or self.nbytes > self._budget
        ):
            self._documents.popitem(last=False)
            self.evicted += 1

    def drop(self, matches: Callable[[DocumentKey], bool]) -> None:
        """Drops all documents whose key matches."""
        for key in [key for key in self._documents if matches(key)]:
            del self._documents[key]

    def to_recompute(self) -> DocumentState | None:
        """The most recently used document whose states should be made exact."""
        return next((d for d in reversed(self._documents.values()) if d.recompute), None)

    @property
    def nbytes(self) -> int:
        """Of all caches."""
        return sum(document.cache.nbytes for document in self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)


# ------------------------------------------------------------------ suggestions

Accepted = Literal["all", "part"]

_KEPT = 16  # sets of suggestions a document
_COMPARED = 512  # characters before the cursor that tell where a suggestion is shown


@dataclass(frozen=True, slots=True)
class Suggested:
    """Texts suggested for a request, best first.

    Attributes:
        window: the end of the request's prefix, as much as the prompt was made from.
        whole: whether that is all of the prefix.
        others: digest of everything else that was asked for.
        texts: none if there is nothing to suggest.
    """

    window: str
    whole: bool
    others: bytes
    texts: tuple[str, ...]

    def typed(self, prefix: str) -> str | None:
        """What a prefix has behind this one; None if the model would see another text before it."""
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
            request: that they answer.
            seen: how many characters before the cursor the prompt was made from.
            texts: best first; none if there is nothing to suggest.
        """
        prefix = request.prefix
        window = prefix[len(prefix) - seen :]
        whole = seen == len(prefix)
        self._sets.append(Suggested(window, whole, _others(request), texts))

    def find(self, request: CompletionRequest) -> tuple[str, ...] | None:
        """At least as many texts as a request wants that earlier suggestions give; None if there
        are fewer.
        """
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
        """These are on the user's screen."""
        self._shown = prefix[-_COMPARED:], texts

    def accepted(self, inserted: str, prefix: str) -> tuple[Accepted, int] | None:
        """Whether a change took a suggestion, and how many characters of it.

        Args:
            inserted: the change's text.
            prefix: the text before the change, up to the change's start.
        """
        # One character may well be typed; two or more at once are not.
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
    """Digest of a request but for the text before the cursor and the number of candidates."""
    same = replace(request, prefix="", candidates=1, settle=True)
    return blake2b(repr(same).encode("utf-8", "surrogatepass"), digest_size=16).digest()
