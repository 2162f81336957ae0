"""Sources of examples: :func:`open_source` opens a source by name or path.

A source is a stream of examples and rejected inputs. ``rows`` reads tables (JSONL, Parquet, hub
datasets), ``functions`` extracts functions from Python files, ``synthetic`` generates examples or
takes them from a benchmark, and ``git`` reads histories. Other packages add sources through entry
points (:mod:`codegen.core.plugins`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from codegen.core import plugins
from codegen.core.errors import ConfigError, InputError
from codegen.core.records import Example

Outcome = Literal["kept", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that did not become an example. The engine counts it; it never aborts a run.

    Attributes:
        id: the input's id, or its location (file and line).
        reason: short, stable category for counts, such as ``bad_json``.
        outcome: ``failed`` for corrupt input, ``skipped`` for valid but unwanted input.
    """

    id: str
    reason: str
    detail: str = ""
    outcome: Literal["skipped", "failed"] = "failed"


Item = Example | Rejected


class Source(Protocol):
    """A stream of examples that can be read again from the start, in the same order."""

    def __iter__(self) -> Iterator[Item]:
        """Yields the inputs one by one, keeping a bounded number in memory."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Returns the settings that determine the inputs (JSON values); must be the same on resume.
        The settings should include a digest of the content unless that needs a download: a finished
        directory detects a changed source only by this digest.
        """
        ...

    def fraction(self) -> float | None:
        """Returns the fraction of the current iteration read so far, in [0, 1]; None if unknown."""
        ...


@dataclass(slots=True)
class MeasuredSource:
    """A source that records the fraction read so far."""

    _fraction: float | None = field(default=None, init=False)

    def fraction(self) -> float | None:
        """Returns the fraction of the current iteration read so far."""
        return self._fraction


@dataclass(frozen=True, slots=True)
class MemorySource:
    """Items held in memory, for tests and notebooks."""

    items: tuple[Item, ...]
    name: str = "memory"
    info: Mapping[str, object] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Item]:
        """Yields the items."""
        return iter(self.items)

    def describe(self) -> Mapping[str, Any]:
        """Returns the name, the number of items and their digest."""
        digest = ""
        for item in self.items:
            digest = chained(digest, item)
        return {"kind": self.name, "items": len(self.items), "digest": digest, **self.info}

    def fraction(self) -> float | None:
        """Returns None: unknown."""
        return None


def chained(digest: str, item: Item) -> str:
    """Returns a stream's digest after one more item; the digest of an empty stream is ""."""
    parts = (
        (item.id, item.instruction, item.program, item.language, item.license)
        if isinstance(item, Example)
        else (item.id, item.reason)
    )
    key = "\x00".join((digest, *parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Returns a file's SHA-256 (hex), in about a second per gigabyte.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a table.

    Attributes:
        instruction: column of the instruction; empty for none.
        program: column of the program.
        id: column of the row's id; empty for ``id`` if present, else the row's position.
        license: column of the row's license; empty for the source's license.
        language: column of the program's language; empty for the source's language.
        extra: columns to copy into the examples' ``meta``.
    """

    instruction: str = "instruction"
    program: str = "program"
    id: str = ""
    license: str = ""
    language: str = ""
    extra: tuple[str, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Returns the non-empty columns by field name."""
        named = {what: name for what, name in asdict(self).items() if name}
        return named | ({"extra": list(self.extra)} if self.extra else {})

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        return (*self.texts.values(), *filter(None, (self.id, self.license)))

    @property
    def texts(self) -> Mapping[str, str]:
        """Columns that must contain strings, by field name."""
        optional = {"instruction": self.instruction, "language": self.language}
        used = {what: name for what, name in optional.items() if name}
        return {**used, "program": self.program}


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The user's options for a source.

    Attributes:
        columns: for rows, the column names.
        language: for rows, the programs' language, as the tag of a Markdown block.
        license: default license of the examples if the source has none (an SPDX id).
        keep_docstring: for functions, also keep the docstring in the program.
    """

    columns: Columns = field(default_factory=Columns)
    language: str = "python"
    license: str = ""
    keep_docstring: bool = False

    def describe(self) -> dict[str, Any]:
        """Returns the options for rows, as JSON values."""
        columns = self.columns.describe()
        return {"columns": columns, "language": self.language, "license": self.license}


_PATHS = (
    "Pass a .jsonl, .jsonl.gz or .parquet file, a Python file or directory, "
    "hub:org/name[:config][:split], stdlib, humaneval, mbpp[:split], families[:names][:count], "
    "puzzles:name[:split][:count] or git:PATH."
)
_PYTHON = ("stdlib", "humaneval", "mbpp", "families", "puzzles")


def open_source(
    spec: str,
    *,
    instruction_column: str = "instruction",
    program_column: str = "program",
    id_column: str = "",
    license_column: str = "",
    license: str = "",
    language: str = "python",
    language_column: str = "",
    extra_columns: tuple[str, ...] = (),
    keep_docstring: bool = False,
) -> Source:
    """Opens a source by name or path, without reading its content.

    Args:
        spec: ``file.jsonl``, ``file.jsonl.gz``, ``file.parquet``, a Python file or a directory
            of them, ``hub:org/name[:config][:split]``, ``stdlib``, ``humaneval`` or
            ``mbpp[:split]``, which is short for MBPP on the hub (its ``full`` configuration, by
            default ``train``) with its own columns. ``families[:name,...][:count]`` generates CoGEX
            records, ``puzzles:name[:split][:count]`` planning puzzles. ``git:PATH`` is a
            repository, or a directory of several. ``name[:text]`` is a source of another
            package.
        instruction_column: for rows, the column with the instruction; empty for none.
        program_column: for rows, the column with the program.
        id_column: for rows, the column with a stable id; by default ``id``, or the row's position.
        license_column: for rows, the column with each row's license.
        license: default license of the examples if the source has none (an SPDX id).
        language: for rows, the language of the programs.
        language_column: for rows, the column with each program's language.
        extra_columns: for rows, columns to copy into the examples' ``meta``.
        keep_docstring: for functions, also keep the docstring in the program.

    Raises:
        InputError: if the path does not exist, or its file type is unknown.
        ConfigError: if ``language`` is not a valid name, or set for a source that contains only
            Python.
    """
    name, _, argument = spec.partition(":")
    if not (tag := language_tag(language)):
        raise ConfigError(f"{language!r} is not a language name.", "Write for example javascript.")
    path = Path(spec)
    is_python = path.is_dir() or (path.suffix == ".py" and path.is_file())
    if (tag != "python" or language_column) and (name in _PYTHON or is_python):
        raise ConfigError(
            f"The programs of {spec} are in Python; a language applies only to rows.",
            "Remove --language and -o language_column.",
        )
    columns = Columns(
        instruction_column, program_column, id_column, license_column, language_column,
        extra_columns,
    )  # fmt: skip
    options = SourceOptions(columns, tag, license, keep_docstring)
    if name in plugins.names("sources"):
        return plugins.load("sources", name)(argument, options)
    if is_python:
        from codegen.data.sources.functions import python_files

        return python_files(spec, options)
    if not path.exists():
        raise InputError(f"No file or directory at {spec!r}.", _PATHS)
    if not path.is_file():
        raise InputError(f"{spec!r} is not a regular file.", _PATHS)
    from codegen.data.sources.rows import RowFileSource, format_of

    if kind := format_of(path):
        return RowFileSource(kind, path, spec, options)
    raise InputError(f"The source {spec!r} has an unknown file type.", _PATHS)


def language_tag(name: str) -> str:
    """Converts a language to its Markdown block tag, such as ``JavaScript`` to ``javascript``.

    Returns an empty string if the name is invalid.
    """
    tag = name.strip().lower()
    return tag if re.fullmatch(r"[^\s`~]{1,40}", tag) else ""
