"""Reads a task's rows from a file, a dataset on the hub, or the dataset folder.

A source is a path to ``.jsonl`` or ``.json`` (an array, or an object from ids to rows), optionally
with ``.gz``; a data directory; or ``hub:org/name[:config][:split]``. Without a source, a task uses
its file in the dataset folder ``CODEGEN_TEST_DATA``, if present, else its dataset on the hub.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from codegen.core.errors import InputError
from codegen.core.hub import cannot_open, check_exists, parse_hub
from codegen.core.paths import read_packed
from codegen.core.records import read_rows

FILE = "file:"
"""Prefix of a custom task's name; its path follows."""
DATA_FOLDER = "CODEGEN_TEST_DATA"
_REMEDY = (
    "Check the name, the network, and HF_TOKEN; or pass a file with --source, or set "
    f"{DATA_FOLDER} to a folder of files."
)


@dataclass(frozen=True, slots=True)
class DataLocation:
    """Default location of a task's data.

    Attributes:
        file: path in the dataset folder.
        hub: dataset as ``org/name[:config][:split]``; empty if the hub has none.
    """

    file: str
    hub: str = ""

    def source(self) -> str:
        """Returns the file in the dataset folder if it exists, else the hub's dataset.

        Raises:
            InputError: if neither exists.
        """
        folder = os.environ.get(DATA_FOLDER)
        if folder and Path(folder, self.file).is_file():
            return str(Path(folder, self.file))
        if self.hub:
            return f"hub:{self.hub}"
        raise InputError(
            f"The data of this task ({self.file}) is not on the hub.",
            f"Pass its file with --source, or set {DATA_FOLDER} to its folder.",
        )


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """A source's rows, each with its place ("file:line"), and the source's name in reports."""

    items: Iterable[tuple[str, Mapping[str, object]]]
    source: str


def read_rows_of(source: str | None, home: DataLocation) -> DatasetRows:
    """Returns the rows of a source, by default the task's, read lazily.

    Raises:
        InputError: if the source cannot be read; names file and line.
    """
    where = source or home.source()
    if where.startswith("hub:"):
        return DatasetRows(_objects(_hub_rows(where)), where)
    # The default is shown in settings and reports, which must not contain a machine's paths.
    return DatasetRows(_objects(_file_rows(Path(where))), source or home.file)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; tasks add the fields they need. ``id`` is unique in its task."""

    id: str
    prompt: str


AnyProblem = TypeVar("AnyProblem", bound=Problem)


def make_problems(
    rows: DatasetRows, make: Callable[[str, Mapping[str, object]], AnyProblem]
) -> list[AnyProblem]:
    """Builds one problem per row, in order.

    Raises:
        InputError: without rows, or for a duplicate id.
    """
    problems: dict[str, AnyProblem] = {}
    for place, row in rows.items:
        problem = make(place, row)
        if problem.id in problems:
            raise InputError(f"{place}: the id {problem.id!r} appears twice.")
        problems[problem.id] = problem
    if not problems:
        raise InputError(f"{rows.source} has no problems.")
    return list(problems.values())


def text_fields(place: str, row: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """Returns the values of columns that must be strings.

    Raises:
        InputError: if a column is missing or not a string; names the first one.
    """
    return [text_field(place, row, name, names) for name in names]


def text_field(
    place: str, row: Mapping[str, object], name: str, expected: Sequence[str] = ()
) -> str:
    """Returns the value of one column that must be a string."""
    value = row.get(name)
    if isinstance(value, str):
        return value
    state = "is missing" if name not in row else "is not a string"
    remedy = f"The rows of this task have: {', '.join(expected)}." if expected else ""
    raise InputError(f"{place}: the field {name!r} {state}.", remedy)


def optional_text(place: str, row: Mapping[str, object], name: str) -> str:
    """Returns the value of a string column; empty if it is missing or null."""
    return "" if row.get(name) is None else text_field(place, row, name)


def texts_field(place: str, row: Mapping[str, object], name: str) -> tuple[str, ...]:
    """Returns the value of a column with a list of strings; empty if it is missing."""
    value = row.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InputError(f"{place}: the field {name!r} must be a list of strings.")
    return tuple(value)


def problem_of_columns(
    kind: type[AnyProblem], place: str, row: Mapping[str, object], **columns: str
) -> AnyProblem:
    """Builds a problem whose fields are string columns.

    Args:
        columns: field -> column, where the names differ; the column of ``id`` is ``task_id``.

    Raises:
        InputError: if a column is missing or not a string; names the first one.
    """
    columns = {"id": "task_id", **columns}
    named = {f.name: columns.get(f.name, f.name) for f in fields(kind)}
    values = text_fields(place, row, list(named.values()))
    if "entry_point" in named:
        entry_point_field(place, row)
    return kind(**dict(zip(named, values, strict=True)))


def entry_point_field(place: str, row: Mapping[str, object], name: str = "entry_point") -> str:
    """Returns the value of a column that contains a function name."""
    value = text_field(place, row, name)
    if not value.isidentifier():
        raise InputError(f"{place}: the {name} {value!r} is not a Python identifier.")
    return value


def _objects(rows: Iterator[tuple[str, object]]) -> Iterator[tuple[str, Mapping[str, object]]]:
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}.")
        yield place, row


def _file_rows(path: Path) -> Iterator[tuple[str, object]]:
    if path.is_dir():
        if not (path / "manifest.json").is_file():
            raise InputError(f"{path} is not a finished data directory.", "Pass another path.")
        for file in sorted(path.glob("data-*.jsonl")):
            yield from read_rows(file)
        return
    if not path.name.removesuffix(".gz").endswith(".json"):
        yield from read_rows(path)
        return
    value = read_json(path)
    if isinstance(value, dict):
        yield from ((f"{path}:{name}", row) for name, row in value.items())
    elif isinstance(value, list):
        yield from ((f"{path}:{number}", row) for number, row in enumerate(value, 1))
    else:
        raise InputError(f"{path}: expected an array of rows, got {type(value).__name__}.")


def read_json(path: Path) -> Any:
    """Parses a JSON file, optionally gzipped.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}).") from None


def read_text(path: Path) -> str:
    """Reads a text file, optionally gzipped.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        return read_packed(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text or is corrupt: {error}.") from None


def _hub_rows(source: str) -> Iterator[tuple[str, object]]:
    import datasets
    from datasets.exceptions import DatasetsError

    name, config, split = parse_hub(source.removeprefix("hub:"), "test")
    check_exists(name, source, _REMEDY)
    try:
        rows = datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        # datasets raises these three for network, authorization and spelling errors.
        raise cannot_open(source, error, _REMEDY) from None
    for number, row in enumerate(rows, 1):
        yield f"{source}:{number}", row
