"""What a source is: a stream of examples, with the inputs that could not become one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from codegen.errors import InputError
from codegen.records import Example

Outcome = Literal["kept", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that did not become an example. The engine counts it; it never ends a run.

    Attributes:
        id: the input's id, or the place where it stands (file and line).
        reason: a short stable word to count by, such as ``bad_json``.
        detail: what exactly was wrong.
        outcome: ``failed`` for damaged input, ``skipped`` for sound input that is not wanted.
    """

    id: str
    reason: str
    detail: str = ""
    outcome: Literal["skipped", "failed"] = "failed"


Item = Example | Rejected


class Source(Protocol):
    """A stream of examples that can be read again from the start, in the same order."""

    def __iter__(self) -> Iterator[Item]:
        """Yields the inputs one by one, holding no more than a bounded number of them."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What decides the inputs (JSON values). A resumed run must find the same description.

        It should hold a digest of the content wherever that can be had without a download: it is
        all that tells a finished directory that its source has changed.
        """
        ...

    def fraction(self) -> float | None:
        """How much of the running iteration has been read, in [0, 1]; None where unknown."""
        ...


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Items held in memory, for tests and notebooks."""

    items: tuple[Item, ...]
    name: str = "memory"
    info: Mapping[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        """Yields the items."""
        return iter(self.items)

    def describe(self) -> Mapping[str, Any]:
        """The name, the number of items and their digest."""
        digest = ""
        for item in self.items:
            digest = chained(digest, item)
        return {"kind": self.name, "items": len(self.items), "digest": digest, **self.info}

    def fraction(self) -> float | None:
        """Unknown."""
        return None


def chained(digest: str, item: Item) -> str:
    """The digest of a stream of items that goes on with ``item``; that of no items is empty."""
    parts = (
        (item.id, item.instruction, item.program, item.language, item.licence)
        if isinstance(item, Example)
        else (item.id, item.reason)
    )
    key = "\x00".join((digest, *parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file, read once: about a second for a gigabyte.

    Raises:
        InputError: if it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
