"""Deduplication: decides in the order of the inputs which are duplicates of an earlier one.

Of programs that are alike the first is kept, and later ones are compared with those that were kept.
So a program that is similar to a removed one only, and to no kept one, stays.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codegen.data.screens.dedup import Dedup, Signature
from codegen.data.screens.lexing import digest
from codegen.data.screens.signatures import Found, SignatureTable
from codegen.data.sources.base import Rejected
from codegen.errors import InputError
from codegen.paths import new_folder
from codegen.records import Example


class DedupIndex:
    """The signatures of what was kept so far, on disk, and of the reference corpora.

    Decisions depend on the settings and the order of ``add`` alone. Use it as a context manager.

    Args:
        path: the SQLite file; made if it isn't there. What was committed to it counts.
        dedup: the settings; the same for all uses of one file.

    Raises:
        InputError: if a reference can't be read or holds no program.
    """

    def __init__(self, path: str | os.PathLike[str], dedup: Dedup) -> None:
        self.dedup = dedup
        self._reference = reference_table(dedup) if dedup.references else None
        self._kept = SignatureTable.open(path, dedup)

    def add(self, position: int, id_: str, signature: Signature) -> Rejected | None:
        """Adds an example that is to be kept, or says what it is a duplicate of.

        Args:
            position: of the input; greater than those added before.
            id_: the example's.
            signature: the example's.
        """
        if self._reference and (found := self._reference.find(signature)):
            return _rejected(id_, found, "_of_reference")
        if found := self._kept.find(signature):
            return _rejected(id_, found, "")
        self._kept.insert(position, id_, signature)
        return None

    def commit(self) -> None:
        """Makes what was added survive a crash."""
        self._kept.commit()

    def rollback_to(self, position: int) -> None:
        """Forgets what was added at or after an input position, committed or not."""
        self._kept.delete_from(position)
        self._kept.commit()

    def describe(self) -> Mapping[str, Any]:
        """The settings, as JSON values."""
        return self.dedup.describe()

    def close(self) -> None:
        """Closes the files; what was not committed is forgotten."""
        self._kept.close()
        if self._reference:
            self._reference.close()

    def __enter__(self) -> DedupIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _rejected(id_: str, found: Found, where: str) -> Rejected:
    reason = "duplicate" if found.exact else "near_duplicate"
    similarity = "" if found.exact else f"jaccard={found.similarity:.3f} "
    # The id comes last, for it may hold anything.
    return Rejected(id_, reason + where, f"{similarity}of={found.id}", "skipped")


def reference_table(dedup: Dedup) -> SignatureTable:
    """The signatures of the reference corpora, made once and kept in the user's cache.

    The cache knows a corpus by its description: files by content, a dataset of the hub by name.
    """
    from codegen.models.embedded import cache_dir

    key = digest(json.dumps(dedup.describe(), sort_keys=True), _version()).hex()
    path = cache_dir() / "dedup" / f"{key}.sqlite"
    if not path.exists():
        _make_reference(path, dedup)
    return SignatureTable.open_to_read(path, dedup)


def _make_reference(path: Path, dedup: Dedup) -> None:
    folder = new_folder(path)
    partial = folder / path.name
    try:
        table = SignatureTable.open(partial, dedup, durable=False)
        try:
            for number, (id_, example) in enumerate(_programs(dedup)):
                signature = dedup.signature(example)
                if not table.find(signature):  # one of those that are alike is enough
                    table.insert(number, id_, signature)
            table.flush()
            table.commit()
        finally:
            table.close()
        partial.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs(dedup: Dedup) -> Iterator[tuple[str, Example]]:
    from codegen.data.sources import open_source

    for spec in dedup.references:
        number = 0
        for item in open_source(spec):
            if isinstance(item, Example):
                number += 1
                yield f"{spec} {item.id}", item
        if not number:
            raise InputError(
                f"The reference {spec!r} holds no program.",
                "Give a source that codegen data can read, with its columns instruction and "
                "program.",
            )


def _version() -> str:
    import datasketch

    return datasketch.__version__
