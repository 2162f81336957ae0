"""Reading a data directory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codegen.data.journal import PARTIAL, REJECTS
from codegen.data.manifest import MANIFEST, load_manifest
from codegen.data.sources.puzzles import Puzzles, is_puzzles
from codegen.errors import InputError
from codegen.paths import child
from codegen.records import TrainingText, read_jsonl


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files with training texts in a data directory, in order; a file stands for itself.

    Raises:
        InputError: if there are none, or the directory's run is unfinished.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise InputError(f"No file or directory at {path}.", "Make one with: codegen data lintseq")
    if (path / PARTIAL).exists() and not (path / MANIFEST).exists():
        raise InputError(
            f"The run into {path} is not finished.", "Run the same command again to go on."
        )
    files = [child(path, file.name, str(path)) for file in sorted(path.glob("data-*.jsonl"))]
    if not files:
        raise InputError(f"{path} holds no data-*.jsonl.", "Give a directory made by codegen data.")
    return files


def read_texts(path: str | os.PathLike[str]) -> Iterator[TrainingText]:
    """Streams the training texts of a data directory or of one JSONL file, or draws puzzles.

    Raises:
        InputError: if there are none, or a line is not a training text (naming file and line).
        ConfigError: for puzzles (``puzzles:NAME:SPLIT``) that there are not.
    """
    if is_puzzles(path):
        yield from Puzzles.parse(str(path)).texts()
        return
    for file in data_files(path):
        yield from read_jsonl(TrainingText, file)


def digests(path: str | os.PathLike[str]) -> list[str]:
    """What tells data from other data: a digest of each file, or what puzzles are drawn.

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
    with Path(directory, REJECTS).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


__all__ = ["data_files", "digests", "load_manifest", "read_rejects", "read_texts"]
