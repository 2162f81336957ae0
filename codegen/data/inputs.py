"""The inputs of a run: the items of a source up to a limit, or a shard's part of them."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codegen.data.sources import Item, Rejected, Source, chained
from codegen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` (from 0) of ``of`` parts: the inputs number ``index``, ``index + of``, ...

    Every part reads the whole source, so that limits and duplicate ids are the same for all parts,
    and processes only its own inputs.
    """

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ConfigError(
                f"Shard {self.index}/{self.of} does not exist.",
                f"The first number goes from 0 to {max(0, self.of - 1)}.",
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads ``i/n``.

        Raises:
            ConfigError: for other text, or i outside of [0, n).
        """
        if not (found := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)):
            raise ConfigError(f"The shard {text!r} is not of the form i/n.", "For example: 0/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def number(self, position: int) -> int:
        """The number in the source, from 0, of this shard's input at a position."""
        return position * self.of + self.index


class Inputs:
    """The items of a source up to a limit of examples, with second uses of an id rejected.

    ``digest`` is a hash of the contents of all items so far, including other shards' items.
    """

    def __init__(
        self, source: Source, limit: int | None, seen_path: Path, shard: Shard | None = None
    ) -> None:
        self.source = source
        self.limit = limit
        self.shard = shard or Shard()
        self.digest = ""
        self.examples = 0
        self.seen = _seen_ids(seen_path)

    def __iter__(self) -> Iterator[Item]:
        for number, item in enumerate(self._all()):
            if number % self.shard.of == self.shard.index:
                yield item

    def _all(self) -> Iterator[Item]:
        if self.limit == 0:
            return
        for item in self.source:
            self.digest = chained(self.digest, item)
            if isinstance(item, Rejected):
                yield item
                continue
            self.examples += 1
            if self._is_new(item.id):
                yield item
            else:
                yield Rejected(item.id, "duplicate_id", "an earlier input has this id", "skipped")
            if self.examples == self.limit:
                return

    def fraction(self) -> float | None:
        """The share of the inputs that has been read, in [0, 1]; None if unknown."""
        of_source = self.source.fraction()
        if not self.limit:
            return of_source
        return max(of_source or 0.0, self.examples / self.limit)

    def close(self) -> None:
        """Forgets the ids."""
        self.seen.close()

    def _is_new(self, id_: str) -> bool:
        """Whether an id comes for the first time."""
        key = hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        statement = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self.seen.execute(statement, (key,)).rowcount == 1


def _seen_ids(path: Path) -> sqlite3.Connection:
    """A set of ids on disk, so that memory stays flat. It is rebuilt when a run is resumed."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    # Never committed or recovered, so without journal and syncs.
    for statement in (
        "PRAGMA journal_mode = OFF",
        "PRAGMA synchronous = OFF",
        "CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID",
        "BEGIN",
    ):
        connection.execute(statement)
    return connection
