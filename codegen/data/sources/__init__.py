"""Where examples come from: a file for each kind of source, and :func:`open_source` to pick."""

from __future__ import annotations

from pathlib import Path

from codegen.data.sources.base import Item, MemorySource, Outcome, Rejected, Source
from codegen.data.sources.families import families_source
from codegen.data.sources.functions import FunctionFilter
from codegen.data.sources.hub import HubSource, parse_hub
from codegen.data.sources.humaneval import HumanEvalSource
from codegen.data.sources.puzzles import Puzzles, PuzzleSource, is_puzzles
from codegen.data.sources.python_files import PythonFilesSource, stdlib_source
from codegen.data.sources.row_files import RowFileSource, format_of
from codegen.data.sources.rows import Columns, language_tag
from codegen.errors import ConfigError, InputError

__all__ = [
    "Columns",
    "FunctionFilter",
    "Item",
    "MemorySource",
    "Outcome",
    "Rejected",
    "Source",
    "open_source",
]

KINDS = (
    "A source is a .jsonl, .jsonl.gz or .parquet file, a directory of Python files, "
    "hub:org/name[:config][:split], stdlib, humaneval, mbpp[:split], families[:names][:count] or "
    "puzzles:name[:split][:count]."
)

MBPP = "google-research-datasets/mbpp"  # Austin et al. 2021, arXiv 2108.07732
MBPP_COLUMNS = Columns("text", "code", "task_id")


def open_source(
    spec: str,
    *,
    instruction_column: str = "instruction",
    program_column: str = "program",
    id_column: str = "",
    licence_column: str = "",
    licence: str = "",
    language: str = "python",
    language_column: str = "",
    extra_columns: tuple[str, ...] = (),
    keep_docstring: bool = False,
) -> Source:
    """The source that a text names. Nothing is read yet but the existence of a path.

    Args:
        spec: ``file.jsonl``, ``file.jsonl.gz``, ``file.parquet``, a directory of Python files,
            ``hub:org/name[:config][:split]``, ``stdlib``, ``humaneval`` or ``mbpp[:split]``, which
            is short for MBPP on the hub (its ``full`` configuration, by default ``train``) with its
            own columns. ``families[:name,...][:count]`` draws CoGEX records,
            ``puzzles:name[:split][:count]`` puzzles to plan on.
        instruction_column: for rows, the column with the instruction; empty if there is none.
        program_column: for rows, the column with the program.
        id_column: for rows, the column with a stable id; by default ``id``, or the row's place.
        licence_column: for rows, the column with each row's licence.
        licence: the licence of all examples where the source states none (an SPDX id).
        language: for rows, the language of the programs.
        language_column: for rows, the column with each program's language.
        extra_columns: for rows, columns to copy into the examples' ``meta``.
        keep_docstring: for functions, leave the docstring in the program too.

    Raises:
        InputError: if nothing is at the path, or its kind is unknown.
        ConfigError: if ``language`` can't be the name of one, or is given for a source that has no
            rows but Python's own files.
    """
    if not (tag := language_tag(language)):
        raise ConfigError(f"{language!r} is no name of a language.", "For example: javascript")
    columns = Columns(
        instruction_column,
        program_column,
        id_column,
        licence_column,
        language_column,
        extra_columns,
    )
    if (tag != "python" or language_column) and not _has_rows(spec):
        raise ConfigError(
            f"The programs of {spec} are in Python; only of rows another language can be told.",
            "Leave out --language and --language-column.",
        )
    wanted = FunctionFilter(keep_docstring=keep_docstring)
    if spec == "stdlib":
        return stdlib_source(wanted)
    if spec == "humaneval":
        return HumanEvalSource(keep_docstring)
    if is_puzzles(spec):
        return PuzzleSource(Puzzles.parse(spec))
    if spec == "families" or spec.startswith("families:"):
        return families_source(spec)
    if spec == "mbpp" or spec.startswith("mbpp:"):
        _, _, split = parse_hub(f"{MBPP}:full:{spec.removeprefix('mbpp').removeprefix(':')}")
        return HubSource(MBPP, "full", split, MBPP_COLUMNS, licence="cc-by-4.0")
    if spec.startswith("hub:"):
        name, config, split = parse_hub(spec.removeprefix("hub:"))
        return HubSource(name, config, split, columns, tag, licence)
    path = Path(spec)
    if path.is_dir():
        return PythonFilesSource(path, spec, wanted, licence)
    if not path.exists():
        raise InputError(f"No file or directory at {spec!r}.", KINDS)
    if not path.is_file():
        raise InputError(f"{spec!r} is not a regular file.", KINDS)
    if kind := format_of(path):
        return RowFileSource(kind, path, spec, columns, tag, licence)
    raise InputError(f"Don't know how to read {spec!r}.", KINDS)


def _has_rows(spec: str) -> bool:
    """Whether a source is a table that somebody made: the language of its programs may be told."""
    drawn = ("mbpp", "families", "puzzles")
    named = spec in ("stdlib", "humaneval") or spec.partition(":")[0] in drawn
    return not named and not Path(spec).is_dir()
