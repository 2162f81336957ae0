"""The documents' caches, within a budget of memory: the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codegen.decoding.suffix import SuffixStore
from codegen.server.requests import DocumentKey

if TYPE_CHECKING:
    from codegen.decoding.editing import EditableCache

_PAST = 4096  # tokens kept of what was made in a document


@dataclass
class Document:
    """What is kept of one document between requests.

    Attributes:
        cache: its tokens' states.
        past: tokens that were made in it.
        quote: of the string that the cursor's line began in; a change asks for a recompute.
        recompute: whether states should be made exact when there is time.
    """

    cache: EditableCache
    past: SuffixStore = field(default_factory=lambda: SuffixStore(_PAST))
    quote: str = ""
    recompute: bool = False


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
        self._documents: OrderedDict[DocumentKey, Document] = OrderedDict()
        self.evicted = 0

    def get(self, key: DocumentKey) -> Document:
        """A document, with an empty cache if there was none; it becomes the most recent."""
        found = self._documents.get(key)
        if found is None:
            found = self._documents[key] = Document(self._make())
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

    def to_recompute(self) -> Document | None:
        """The most recently used document whose states should be made exact."""
        return next((d for d in reversed(self._documents.values()) if d.recompute), None)

    @property
    def nbytes(self) -> int:
        """Of all caches."""
        return sum(document.cache.nbytes for document in self._documents.values())

    def __len__(self) -> int:
        return len(self._documents)
