"""A data directory: its manifest, and reading its files.

The manifest describes the data, its source and settings, and the inputs that were left out. A
directory with a ``manifest.json`` is finished, because the file is written last, all at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

from codegen import __version__
from codegen.data.sources.puzzles import Puzzles, is_puzzles
from codegen.data.statistics import Statistics
from codegen.errors import InputError
from codegen.paths import child
from codegen.records import (
    DataRecord,
    Preference,
    TrainingText,
    UnpairedPreference,
    conform,
    current_names,
    from_dict,
    read_jsonl,
    read_rows,
)

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"
KEPT = "kept.jsonl"
PARTIAL = ".partial"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that determines the data files: equal configurations give equal bytes.

    Attributes:
        limit: the most examples taken from the source, or None.
        shard_bytes: a data file is closed once it is this large.
        item_timeout_s: the time one example may take, in seconds.
        decontamination: from :meth:`Decontamination.describe`, or None without it.
        dedup: from :meth:`Dedup.describe`, or None without it.
        max_characters: longer programs are skipped.
        shard: which part of a run this is, as ``i/n``, or None for the whole.
        filters: descriptions of further filters, each with its name.
    """

    generator: str
    config: Mapping[str, Any]
    source: Mapping[str, object]
    seed: int
    limit: int | None
    shard_bytes: int
    item_timeout_s: float
    decontamination: Mapping[str, object] | None = None
    dedup: Mapping[str, Any] | None = None
    max_characters: int = 2**20
    shard: str | None = None
    filters: tuple[Mapping[str, object], ...] = ()

    def describe(self) -> dict[str, Any]:
        """As JSON values, without filters if there are none, as in older versions."""
        row = {f.name: getattr(self, f.name) for f in fields(self)}
        return row if self.filters else {k: v for k, v in row.items() if k != "filters"}

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the configuration in canonical JSON."""
        text = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class DataFile(TypedDict):
    """One file of training texts."""

    name: str
    bytes: int
    texts: int


class Counts(TypedDict):
    """Outcomes of a run's inputs: inputs = kept + all skipped + all failed.

    ``skipped`` and ``failed`` are numbers by reason.
    """

    inputs: int
    kept: int
    skipped: dict[str, int]
    failed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a data directory.

    Attributes:
        run: what determines the data files.
        characters: ``prompt`` and ``trained`` characters of all texts.
        licenses: license -> number of kept examples; "" for an unknown license.
        versions: versions of Python and the packages that took part.
        throughput: ``seconds`` of wall time over all resumed runs, ``inputs_per_s``, ``workers``.
        statistics: from :meth:`codegen.data.statistics.Statistics.to_json`.
        removed: what decontamination removed: ``inputs``, and by ``set``, ``kind`` and ``part``.
        command: the command line that makes the data; empty if it was made from Python.
    """

    run: RunConfig
    fingerprint: str
    counts: Counts
    texts: int
    characters: Mapping[str, int]
    licenses: Mapping[str, int]
    files: tuple[DataFile, ...]
    versions: Mapping[str, str]
    throughput: Mapping[str, Any]
    statistics: Mapping[str, Any] = field(default_factory=dict)
    removed: Mapping[str, object] = field(default_factory=dict)
    command: str = ""
    format: int = FORMAT

    @property
    def kept(self) -> int:
        """The number of examples that gave texts."""
        return self.counts["kept"]

    def to_json(self) -> str:
        """The file's text."""
        row = {**asdict(self), "run": self.run.describe()}
        return json.dumps(row, ensure_ascii=False, indent=2) + "\n"


def load_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """The manifest of a finished data directory.

    Raises:
        InputError: if there is none, or it can't be understood.
    """
    path = Path(directory, MANIFEST)
    try:
        row = json.loads(path.read_text("utf-8"), object_hook=current_names)
    except FileNotFoundError:
        raise InputError(
            f"{directory} holds no finished data ({MANIFEST} is missing).",
            "If a run was interrupted, run the same command again.",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from None
    kinds = get_type_hints(Manifest)
    try:
        run = RunConfig(**row.pop("run"))
        rest = {name: conform(kinds[name], value, name) for name, value in row.items()}
        conform(Statistics, Statistics.from_json(rest.get("statistics", {})))
        return Manifest(run, **rest)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not a manifest of this version: {error}.",
            "Make the data again, in another directory.",
        ) from None


def versions_in_use() -> dict[str, str]:
    """Versions of Python, this toolkit and the packages that can influence the data."""
    found = {"python": platform.python_version(), "codegen-toolkit": __version__}
    for name in ("datasketch", "ruff", "pylint"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # optional, so it took no part
    return found


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files with training texts in a data directory, in order; for a file, that file.

    Raises:
        InputError: if there are none, or the directory's run is unfinished.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise InputError(
            f"No file or directory at {path}.",
            "Make a data directory with `codegen data`; fine-tuning also takes JSONL or Parquet "
            "files with messages, or with prompt and completion.",
        )
    if (path / PARTIAL).exists() and not (path / MANIFEST).exists():
        raise InputError(
            f"The run in {path} is not finished.", "Run the same command again to resume."
        )
    files = [child(path, file.name, str(path)) for file in sorted(path.glob("data-*.jsonl"))]
    if not files and (path / MANIFEST).is_file():
        raise InputError(f"Nothing was kept in {path}.", f"{path / REJECTS} gives the reasons.")
    if not files:
        raise InputError(f"{path} holds no data-*.jsonl.", "Give a directory made by codegen data.")
    return files


def read_texts(path: str | os.PathLike[str]) -> Iterator[TrainingText]:
    """Streams the training texts of a data directory or of one JSONL file, or draws puzzles.

    Raises:
        InputError: if there are none, or a line is not a training text (naming file and line).
        ConfigError: for unknown puzzles (``puzzles:NAME:SPLIT``).
    """
    if is_puzzles(path):
        yield from Puzzles.parse(str(path)).texts()
        return
    for file in data_files(path):
        yield from read_jsonl(TrainingText, file)


def read_data(path: str | os.PathLike[str]) -> Iterator[DataRecord]:
    """Streams the records of a data directory or of one JSONL file: texts or preferences.

    Raises:
        InputError: if there are none, or a line is none of them (naming file and line).
    """
    if is_puzzles(path):
        yield from read_texts(path)
        return
    for file in data_files(path):
        for where, row in read_rows(file):
            if isinstance(row, dict) and "chosen" in row:
                yield from_dict(Preference, row, where)
            elif isinstance(row, dict) and "label" in row:
                yield from_dict(UnpairedPreference, row, where)
            elif isinstance(row, dict) and "segments" not in row:
                raise InputError(
                    f"{where} is not a row that `codegen data` wrote: it has no segments.",
                    f"To look at rows of your own: codegen view {file}",
                )
            else:
                yield from_dict(TrainingText, row, where)


def digests(path: str | os.PathLike[str]) -> list[str]:
    """An identity of the data: a digest of each file, or the name of the puzzles.

    Raises:
        InputError, ConfigError: see :func:`read_texts`.
    """
    if is_puzzles(path):
        return [Puzzles.parse(str(path)).spec]
    return [_digest(file) for file in data_files(path)]


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()[:16]


def read_rejects(directory: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Streams the inputs that were left out: ``id``, ``outcome``, ``reason``, ``detail``."""
    for _, row in read_rows(Path(directory, REJECTS)):
        yield row
