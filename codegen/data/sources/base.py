"""What a source is: a stream of examples, with the inputs that could not become one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

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
        """What decides the inputs (JSON values). A resumed run must find the same description."""
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
        """The name and number of items."""
        return {"kind": self.name, "items": len(self.items), **self.info}

    def fraction(self) -> float | None:
        """Unknown."""
        return None


def has_lone_surrogate(text: str) -> bool:
    """Whether ``text`` has no UTF-8 form, as after the JSON escape of half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
