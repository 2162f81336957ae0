"""Tables as sources: JSON Lines, Parquet, and datasets of the Hugging Face hub.

``hub:org/name[:config][:split]`` is streamed by the ``datasets`` library; the default split is
``train``. A single part that is the name of a common split (``hub:org/name:test``) is taken as the
split.

Limit: the description of a hub dataset has no digest, so changes there are not detected for a
finished directory. A run in progress detects them from the inputs already read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

from codegen.core.errors import InputError
from codegen.core.hub import cannot_open, check_exists, parse_hub
from codegen.core.records import Example, has_lone_surrogate
from codegen.data.sources import (
    Columns,
    Item,
    MeasuredSource,
    Rejected,
    SourceOptions,
    file_digest,
    language_tag,
)

PROBE_ROWS = 100
"""A column missing in all of these first rows is a user error."""

MAX_LINE_BYTES = 16 * 2**20
"""Maximum line length in bytes; longer lines are skipped unread, to bound memory."""

_BATCH_ROWS = 256
_BATCH_BYTES = 256 * 2**20  # maximum per batch of Python objects
_FORMATS = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


def examples_of_rows(
    rows: Iterable[tuple[str, Mapping[str, object] | Rejected]],
    options: SourceOptions,
    source: str,
    where: str,
) -> Iterator[Item]:
    """Converts (place, row) pairs to examples; an invalid row becomes a :class:`Rejected`.

    Args:
        options: columns, and default language and license of rows.
        where: name of the table in errors.

    Raises:
        InputError: if the first 100 rows lack a required column.
    """
    unseen = set(options.columns.required)
    present: dict[str, None] = {}  # columns found, in order
    held: list[Item] = []  # rows held back until the columns are checked
    probed = 0
    for place, row in rows:
        if unseen and not isinstance(row, Rejected):
            probed += 1
            present.update(dict.fromkeys(row))
            unseen.difference_update(row)
            if unseen and probed >= PROBE_ROWS:
                raise _missing_columns(unseen, present, where)
        item = row if isinstance(row, Rejected) else _example(place, row, options, source)
        held.append(item)
        if not unseen or len(held) >= PROBE_ROWS:
            yield from held
            held.clear()
    if unseen and probed:
        raise _missing_columns(unseen, present, where)
    yield from held


def _missing_columns(missing: set[str], present: Iterable[str], where: str) -> InputError:
    names = ", ".join(repr(name) for name in sorted(missing))
    remedy = "Set the correct names with --instruction-column, --program-column and so on."
    if missing == {"old"} and "program" in present:
        remedy = "For programs without a change, pass --program-column program."
    if missing == {"instruction"}:
        remedy = "Set another with --instruction-column, or '' for no instructions."
    return InputError(
        f"{where} has no column {names}. Its columns are: {', '.join(present) or '(none)'}.", remedy
    )


def _example(place: str, row: Mapping[str, object], options: SourceOptions, source: str) -> Item:
    columns = options.columns
    id_ = _row_id(place, row, columns)
    if isinstance(id_, Rejected):
        return id_
    for name in columns.required:
        if name not in row:
            return Rejected(id_, "missing_column", f"no column {name!r} in {place}")
    texts = {"instruction": "", "language": options.language}
    for what, name in columns.texts.items():
        value = row[name]
        if not isinstance(value, str):
            detail = f"column {name!r} in {place} contains {type(value).__name__}, not a string"
            return Rejected(id_, "wrong_type", detail)
        if has_lone_surrogate(value):
            return Rejected(id_, "not_unicode", f"column {name!r} in {place}: a lone surrogate")
        if not value.strip():
            return Rejected(id_, f"empty_{what}", f"column {name!r} in {place}", "skipped")
        texts[what] = value
    if not (language := language_tag(texts["language"])):
        detail = f"column {columns.language!r} in {place} is not a language name"
        return Rejected(id_, "bad_language", detail)
    license = row[columns.license] if columns.license else options.license
    return Example(
        id=id_,
        instruction=texts["instruction"],
        program=texts["program"],
        language=language,
        source=source,
        license=license if isinstance(license, str) else options.license,
        meta={name: row[name] for name in columns.extra if name in row} | {"place": place},
    )


def _row_id(place: str, row: Mapping[str, object], columns: Columns) -> str | Rejected:
    value = row.get(columns.id or "id")
    is_id = isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""
    if is_id and not (isinstance(value, str) and has_lone_surrogate(value)):
        return str(value)
    if not columns.id or columns.id not in row:
        return place
    return Rejected(place, "wrong_type", f"column {columns.id!r} in {place} has no usable id")


def format_of(path: Path) -> str | None:
    """Returns ``jsonl`` or ``parquet`` by a file's name; None for other files."""
    return next((kind for ending, kind in _FORMATS.items() if path.name.endswith(ending)), None)


@dataclass(slots=True)
class RowFileSource(MeasuredSource):
    """The rows of one file; ``kind`` names its format."""

    kind: str
    path: Path
    spec: str
    options: SourceOptions = field(default_factory=SourceOptions)

    def describe(self) -> Mapping[str, Any]:
        """Returns the path as given, the file's digest and the columns."""
        return {
            "kind": self.kind,
            "spec": self.spec,
            "sha256": file_digest(self.path),
            **self.options.describe(),
        }

    def __iter__(self) -> Iterator[Item]:
        """Streams the rows."""
        return examples_of_rows(self._rows(), self.options, self.path.name, self.spec)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, object] | Rejected]]:
        rows = (
            jsonl_rows(self.path)
            if self.kind == "jsonl"
            else parquet_rows(self.path, self.spec, self.options.columns)
        )
        for place, row, self._fraction in rows:
            yield place, row


def sound_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yields (place, row) pairs of a ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file.

    Raises:
        InputError: for a row that cannot be read.
    """
    is_parquet = format_of(path) == "parquet"
    for place, row, _ in parquet_rows(path, str(path)) if is_parquet else jsonl_rows(path):
        if isinstance(row, Rejected):
            raise InputError(
                f"{path.parent / place}: {row.reason.replace('_', ' ')} ({row.detail})."
            )
        yield place, row


def jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object] | Rejected, float]]:
    """Yields (place, row, fraction of bytes read) of a ``.jsonl`` or ``.jsonl.gz`` file."""
    size = max(1, path.stat().st_size)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    with raw:
        zipped = path.suffix == ".gz"
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=raw) if zipped else raw)
        number = 0
        try:
            for number, line in enumerate(_lines(file), 1):
                where = f"{path.name}:{number}"
                row = _parse(line, where, first=number == 1)
                if row is not None:
                    yield where, row, min(1.0, raw.tell() / size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            # A truncated download: earlier rows are valid; report the loss.
            where = f"{path.name}:{number + 1}"
            yield where, Rejected(where, "damaged_archive", f"{error}; the rest is lost"), 1.0


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """Yields the lines of a file; None for a line that is too long."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def _parse(line: bytes | None, place: str, first: bool) -> Mapping[str, object] | Rejected | None:
    """Returns a decoded row, a rejection, or None for a blank line."""
    if line is None:
        return Rejected(place, "line_too_long", f"over {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode("utf-8-sig" if first else "utf-8").strip()
    except UnicodeDecodeError as error:
        return Rejected(place, "not_utf8", str(error))
    if not text:
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejected(place, "bad_json", str(error))
    if not isinstance(row, dict):
        return Rejected(place, "not_an_object", f"a JSON {type(row).__name__}")
    return row


def parquet_rows(
    path: Path, spec: str, columns: Columns | None = None
) -> Iterator[tuple[str, Mapping[str, object] | Rejected, float]]:
    """Yields (place, row, fraction of rows read) of a ``.parquet`` file.

    A string shared by many rows is not copied until the size of the rows is known: in a file of one
    kilobyte, a million rows may each contain the same gigabyte.

    Args:
        spec: file name in errors.
        columns: the columns to read; None for all.

    Raises:
        InputError: if the file cannot be read or lacks one of the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            texts = _texts(file)
        file = pq.ParquetFile(path, read_dictionary=texts)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{spec} is not a readable Parquet file: {error}.") from None
    with file:
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        is_large = any(group.total_byte_size > _BATCH_BYTES for group in groups)
        names = wanted = file.schema_arrow.names
        if columns is not None:
            wanted = [n for n in (*columns.required, *columns.extra, "id") if n in names]
            if missing := [name for name in columns.required if name not in names]:
                raise _missing_columns(set(missing), names, spec)
        number = 0
        try:
            size = 8 if is_large else _BATCH_ROWS
            for batch in file.iter_batches(size, columns=list(dict.fromkeys(wanted))):
                for row in _parquet_batch(batch):
                    number += 1
                    place, share = f"{path.name}:{number}", number / file.metadata.num_rows
                    if row is None:
                        row = Rejected(place, "row_too_long", f"over {MAX_LINE_BYTES} bytes")
                    yield place, row, share
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{spec} is corrupt after row {number}: {error}.") from None


def _texts(file: Any) -> list[str]:
    """Returns the paths of a Parquet file's string columns, at any depth."""
    columns = map(file.schema.column, range(len(file.schema)))
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type in ("STRING", "NONE")
    ]


def _parquet_batch(batch: Any) -> Iterator[dict[str, object] | None]:
    """Yields the rows of an Arrow batch; None for a row that is too long."""
    import pyarrow as pa

    if sum(map(_unpacked_bytes, batch.columns)) <= _BATCH_BYTES:
        columns = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for column in batch.columns
        ]
        yield from pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()
        return
    for number in range(len(batch)):
        row = batch.slice(number, 1)
        fits = sum(map(_unpacked_bytes, row.columns)) <= MAX_LINE_BYTES
        yield row.to_pylist()[0] if fits else None


def _unpacked_bytes(array: Any) -> int:
    """Returns the size in bytes of an Arrow array with its dictionaries expanded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        sizes = pc.call_function("binary_length", [array.dictionary]).cast(pa.int64())
        return pc.call_function("sum", [sizes.take(array.indices)]).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(map(_unpacked_bytes, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _unpacked_bytes(array.flatten())
    if pa.types.is_map(kind):
        return _unpacked_bytes(array.keys) + _unpacked_bytes(array.items)
    return array.nbytes


@dataclass(slots=True)
class HubSource(MeasuredSource):
    """The rows of one split of a hub dataset; their number is unknown."""

    name: str
    config: str = ""
    split: str = "train"
    options: SourceOptions = field(default_factory=SourceOptions)

    def describe(self) -> Mapping[str, Any]:
        """Returns the dataset's name, config and split, and the columns."""
        return {
            "kind": "hub",
            "name": self.name,
            "config": self.config,
            "split": self.split,
            **self.options.describe(),
        }

    def __iter__(self) -> Iterator[Item]:
        """Streams the rows."""
        spec = ":".join(part for part in ("hub", self.name, self.config, self.split) if part)
        rows = open_hub(self.name, self.config, self.split, spec)
        stated = getattr(getattr(rows, "info", None), "license", None)
        license = self.options.license or (stated if isinstance(stated, str) else "")
        options = replace(self.options, license=license)
        prefix = spec.removeprefix("hub:")
        numbered = ((f"{prefix}:{number}", row) for number, row in enumerate(rows))
        return examples_of_rows(numbered, options, self.name, spec)


def open_hub(name: str, config: str, split: str, spec: str) -> Any:
    """Opens one split of a hub dataset as a stream of rows.

    Raises:
        InputError: if the hub cannot be reached, or has no such dataset, configuration or split.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    check_exists(name, spec)
    try:
        return datasets.load_dataset(name, config or None, split=split, streaming=True)
    except (OSError, ValueError, DatasetsError) as error:
        # datasets wraps network, authorization and spelling errors in these three.
        raise cannot_open(spec, error) from None


def hub_rows(argument: str) -> Iterator[tuple[str, Any]]:
    """Yields (place, row) pairs of ``hub:argument``.

    Raises:
        InputError: as :func:`open_hub`.
    """
    name, config, split = parse_hub(argument)
    for number, row in enumerate(open_hub(name, config, split, f"hub:{argument}")):
        yield f"hub:{argument}:{number}", row


def hub(argument: str, options: SourceOptions) -> HubSource:
    """Opens the source ``hub:org/name[:config][:split]``."""
    return HubSource(*parse_hub(argument), options)


MBPP = "google-research-datasets/mbpp"


def mbpp(argument: str, _options: SourceOptions) -> HubSource:
    """Opens the source ``mbpp[:split]`` (Austin et al. 2021, arXiv 2108.07732)."""
    _, _, split = parse_hub(f"{MBPP}:full:{argument}")
    options = SourceOptions(Columns("text", "code", "task_id"), license="cc-by-4.0")
    return HubSource(MBPP, "full", split, options)
