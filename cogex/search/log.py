"""What a search has done so far, on disk: programs and emulations, each written as it is made.

A directory with ``search.json`` (the settings) and ``log.jsonl``. Killed at any moment, the same
search goes on from there; another one refuses the directory and says what differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.errors import InputError, ResumeError
from codegen.records import AppendLog, has_lone_surrogate, read_rows, write_atomic


@dataclass(frozen=True, slots=True)
class Draw:
    """A program that the model wrote for a problem, at some try; or why there is none."""

    item: str
    index: int
    program: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Try:
    """An emulation of a program on a problem: what was answered, and whether it was right."""

    program: str
    item: str
    answer: str
    right: bool
    failure: str = ""


class SearchLog:
    """Draws by (item, index) and tries by (program's digest, item). A context manager.

    Args:
        folder: where it is kept; None to keep it in memory alone.
        settings: what decides the result (JSON values).

    Raises:
        ResumeError: if the folder holds another search.
        InputError: if it can't be read or written.
    """

    def __init__(self, folder: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.resumed = 0  # entries that an earlier run made
        self.draws: dict[tuple[str, int], Draw] = {}
        self.tries: dict[tuple[str, str], Try] = {}
        self._file: AppendLog | None = None
        self.folder = Path(folder) if folder is not None else None
        if self.folder is None:
            return
        _claim(self.folder, settings)
        self._file = AppendLog(self.folder / "log.jsonl")
        try:
            for where, row in read_rows(self.folder / "log.jsonl"):
                self._read(where, row)
        except BaseException:
            self._file.close()
            raise
        self.resumed = len(self.draws) + len(self.tries)

    def add(self, entry: Draw | Try) -> None:
        """Keeps an entry."""
        self._keep(entry)
        if self._file:
            row = {name: getattr(entry, name) for name in entry.__slots__}
            text = json.dumps(row, ensure_ascii=False)
            self._file.append(json.dumps(row) if has_lone_surrogate(text) else text)

    def close(self) -> None:
        """Closes the file."""
        if self._file:
            self._file.close()

    def __enter__(self) -> SearchLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, entry: Draw | Try) -> None:
        if isinstance(entry, Draw):
            self.draws[entry.item, entry.index] = entry
        else:
            self.tries[entry.program, entry.item] = entry

    def _read(self, where: str, row: Any) -> None:
        try:
            self._keep(Draw(**row) if "index" in row else Try(**row))
        except TypeError:
            raise InputError(
                f"{where} is no line of a search.", "Choose another --out, or mend the file."
            ) from None


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    path = folder / "search.json"
    wanted = json.loads(json.dumps(settings))
    if path.is_file():
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError:
            raise InputError(f"{path} is damaged.", "Choose another --out.") from None
        changed = [key for key in (found | wanted) if found.get(key) != wanted.get(key)]
        if changed:
            key = changed[0]
            raise ResumeError(
                f"{folder} holds a search with another {key} "
                f"({found.get(key)!r}, now {wanted.get(key)!r}).",
                "Choose another --out, or the same settings.",
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds something that is no search.", "Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(wanted, indent=1) + "\n")
