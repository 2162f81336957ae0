"""CoGEX records drawn from families of problems with known programs (:mod:`codegen.cogex`).

``families[:name,...][:count]``: so many records in all, the families taking turns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codegen.cogex.families import FAMILIES, find_family
from codegen.cogex.family import source_of
from codegen.data.sources.base import Item
from codegen.errors import ConfigError
from codegen.records import Example

DEFAULT_COUNT = 2000


@dataclass(slots=True)
class FamiliesSource:
    """The first ``count`` records of some families."""

    names: tuple[str, ...]
    count: int
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """The families, the count, and a digest of what decides the records."""
        digest = hashlib.sha256()
        for name in self.names:
            family = find_family(name)
            programs = [source_of(program) for program in family.programs]
            digest.update(repr((name, family.instructions, programs)).encode())
            digest.update(repr(family.record(0).to_row()).encode())
        return {
            "kind": "families",
            "names": list(self.names),
            "count": self.count,
            "sha256": digest.hexdigest(),
        }

    def fraction(self) -> float | None:
        """The share of the records that has been drawn."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Draws the records."""
        for number in range(self.count):
            self._fraction = (number + 1) / self.count
            name = self.names[number % len(self.names)]
            place = f"{name}/{number // len(self.names)}"
            row = find_family(name).record(number // len(self.names)).to_row()
            yield Example(
                id=place,
                instruction=row.pop("instruction"),
                program=row.pop("code_prompt"),
                source="families",
                licence="Apache-2.0",
                meta={**row, "place": place},
            )


def families_source(spec: str) -> FamiliesSource:
    """The source that a text names.

    Raises:
        ConfigError: for an unknown family or a bad count.
    """
    parts = [part for part in spec.split(":")[1:] if part]
    count = DEFAULT_COUNT
    if parts and parts[-1].isdecimal():
        count = int(parts.pop())
    if len(parts) > 1:
        raise ConfigError(f"{spec!r} is no source.", "Write families[:name,...][:count].")
    names = tuple(parts[0].split(",")) if parts else tuple(FAMILIES)
    for name in names:
        find_family(name)
    if len(set(names)) < len(names):
        raise ConfigError(f"{spec!r} names a family twice.")
    return FamiliesSource(names, count)
