"""The viewer's sources: the runs in some directories, and JSONL files, each with its tables."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.catalog import Run, find_runs, read_run
from codegen.errors import InputError
from codegen.evals.report import content
from codegen.evals.score import Score, read_score
from codegen.records import Sample, from_dict
from codegen.server.viewer.records import as_value
from codegen.server.viewer.tables import Table

_FRESH_S = 2.0  # the list of runs is made again after this time,
_SHARE = 20  # but not before this many times its own duration


@dataclass(slots=True)
class Source:
    """A run, or files outside of runs, with its tables by name.

    ``name`` is the path as the user gave it; ``run`` is None for files.
    """

    name: str
    folder: Path
    run: Run | None
    tables: dict[str, Table] = field(default_factory=dict)
    _score: tuple[float, Score | None] = (0.0, None)
    _programs: content.Programs | None = None

    @property
    def score(self) -> Score | None:
        """The run's score, if it has one that can be read."""
        try:
            changed = (self.folder / "score.json").lstat().st_mtime
        except OSError:
            return None
        if changed != self._score[0]:
            try:
                self._score = changed, read_score(self.folder)
            except InputError:
                self._score = changed, None
        return self._score[1]

    def program_of(self, row: Mapping[str, Any]) -> str:
        """The program in a sample, as the task finds it; empty if unknown."""
        if self.score is None:
            return ""
        if self._programs is None:
            self._programs = content.Programs(self.score)
        try:
            return self._programs.of(from_dict(Sample, row))
        except InputError:
            return ""


class Library:
    """The sources in directories and JSONL files.

    Raises:
        InputError: if one is not there, or holds nothing to show.
    """

    def __init__(self, places: Sequence[str | os.PathLike[str]]) -> None:
        self.places = [Path(place) for place in places]
        self._sources: dict[str, Source] = {}
        self._next = 0.0
        self._lock = threading.Lock()
        for place in self.places:
            if not place.exists():
                raise InputError(f"There is nothing at {place}.", "Give a directory or a file.")
        if not self.sources():
            named = ", ".join(map(str, self.places))
            raise InputError(
                f"{named} holds no data set, no run and no JSONL file.",
                "Name a directory that `codegen data`, `codegen eval` or `codegen finetune` wrote.",
            )

    def sources(self) -> dict[str, Source]:
        """All current sources by name."""
        with self._lock:
            began = time.monotonic()
            if began >= self._next or not self._sources:
                self._sources = {s.name: s for s in self._found()}
                now = time.monotonic()
                self._next = now + max(_FRESH_S, _SHARE * (now - began))
            return self._sources

    def first(self) -> list[Source]:
        """The sources that the user named, without those below them."""
        names = {as_value(os.path.normpath(place)) for place in self.places}
        return [source for source in self.sources().values() if source.name in names]

    def _found(self) -> Iterator[Source]:
        folders = [place for place in self.places if place.is_dir()]
        runs = find_runs(folders)
        for run in runs:
            yield self._source(run.name, run.folder, run, _TABLES[run.kind](run.folder))
        for place in self.places:
            name = os.path.normpath(place)
            files = [place] if place.is_file() else sorted(place.glob("*.jsonl"))
            if files and (place.is_file() or read_run(place) is None):
                yield self._source(name, place, None, _tables_of_files(files))

    def _source(self, name: str, folder: Path, run: Run | None, tables: Sequence[Table]) -> Source:
        name = as_value(name)
        source = self._sources.get(name) or Source(name, folder, run)
        source.run = run
        for table in tables:  # an index that was made is kept
            source.tables.setdefault(table.name, table)
        return source


def _tables_of_files(files: Sequence[Path]) -> list[Table]:
    return [Table(path.name, path.name, lambda path=path: [path]) for path in files]


def _data(folder: Path) -> list[Table]:
    def shards() -> Sequence[Path]:
        return sorted(_home(folder).glob("data-*.jsonl"))

    return [
        Table("texts", "Texts", shards),
        Table("rejects", "Left out", lambda: _there(_home(folder) / "rejects.jsonl")),
    ]


def _home(folder: Path) -> Path:
    """The directory of a data run's files, which is another one until the run is finished."""
    is_partial = (folder / ".partial").is_dir() and not (folder / "manifest.json").exists()
    return folder / ".partial" if is_partial else folder


def _evaluation(folder: Path) -> list[Table]:
    def samples() -> Sequence[Path]:
        names = ("scored.jsonl", "samples.jsonl", "samples.partial.jsonl")
        return [path for name in names for path in _there(folder / name)][:1]

    return [
        Table("samples", "Samples", samples, folder / "verdicts.jsonl"),
        Table("failed", "Failed requests", lambda: _there(folder / "failed.jsonl")),
    ]


def _training(folder: Path) -> list[Table]:
    return [
        Table("rollouts", "Samples of the training", lambda: sorted(folder.glob("rollouts*.jsonl")))
    ]


def _search(folder: Path) -> list[Table]:
    return [Table("log", "Draws and tries", lambda: _there(folder / "log.jsonl"))]


def _there(path: Path) -> list[Path]:
    return [path] if path.is_file() else []


_TABLES: Mapping[str, Callable[[Path], list[Table]]] = {
    "data": _data,
    "evaluation": _evaluation,
    "training": _training,
    "search": _search,
    "quickstart": lambda _: [],
}
