"""Tables as sources: JSON Lines, Parquet, and datasets of the Hugging Face hub.

``hub:org/name[:config][:split]`` is streamed by the ``datasets`` library; the split is ``train`` if
not given. A single part that is the name of a common split (``hub:org/name:test``) is taken as the
split.

Limit: the description of a dataset of the hub holds no digest, so a finished directory can't know
that the dataset has changed there. A run in progress does, by the inputs that it has read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

from codegen.data.sources import (
    Columns,
    Item,
    PartlyRead,
    Rejected,
    SourceOptions,
    file_digest,
    language_tag,
)
from codegen.errors import InputError
from codegen.hub import cannot_open, check_exists, parse_hub
from codegen.records import Example, has_lone_surrogate

PROBE_ROWS = 100
"""If a column is in none of the first rows, the caller has misnamed it."""

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is skipped unread, so that a file without line ends can't fill the memory."""

_BATCH_ROWS = 256
_BATCH_BYTES = 256 * 2**20  # per batch that becomes Python objects as a whole
_FORMATS = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

# --- rows as examples --------------------------------------------------------------------------


def examples_of_rows(
    rows: Iterable[tuple[str, Mapping[str, object] | Rejected]],
    options: SourceOptions,
    source: str,
    where: str,
) -> Iterator[Item]:
    """Turns (place, row) pairs into examples; a broken row becomes a :class:`Rejected`.

    Args:
        options: the columns, and the language and license of rows that name none.
        where: the name of the table in errors.

    Raises:
        InputError: if the first 100 rows lack a required column.
    """
    unseen = set(options.columns.required)
    present: dict[str, None] = {}  # the columns seen, in their order
    held: list[Item] = []  # a caller's mistake is reported before any row is yielded
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
    remedy = "Name the right ones with --instruction-column, --program-column and so on."
    if missing == {"old"} and "program" in present:
        remedy = "For programs without a change: --program-column program."
    if missing == {"instruction"}:
        remedy = "Name another with --instruction-column, or give it '' if there is none."
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
            detail = f"column {name!r} in {place} holds {type(value).__name__}, not text"
            return Rejected(id_, "wrong_type", detail)
        if has_lone_surrogate(value):
            return Rejected(id_, "not_unicode", f"column {name!r} in {place}: a lone surrogate")
        if not value.strip():
            return Rejected(id_, f"empty_{what}", f"column {name!r} in {place}", "skipped")
        texts[what] = value
    if not (language := language_tag(texts["language"])):
        detail = f"column {columns.language!r} in {place} names no language"
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
    return Rejected(place, "wrong_type", f"column {columns.id!r} in {place} holds no usable id")


# --- files -------------------------------------------------------------------------------------


def format_of(path: Path) -> str | None:
    """The format of a file of rows by its name, ``jsonl`` or ``parquet``; None for other files."""
    return next((kind for ending, kind in _FORMATS.items() if path.name.endswith(ending)), None)


@dataclass(slots=True)
class RowFileSource(PartlyRead):
    """The rows of one file; ``kind`` names its format."""

    kind: str
    path: Path
    spec: str
    options: SourceOptions = field(default_factory=SourceOptions)

    def describe(self) -> Mapping[str, Any]:
        """The path as given, the file's digest and the columns."""
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


def jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object] | Rejected, float]]:
    """The rows of a ``.jsonl`` or ``.jsonl.gz`` file: place, row, share of the bytes read."""
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
                place = f"{path.name}:{number}"
                row = _parse(line, place, first=number == 1)
                if row is not None:
                    yield place, row, min(1.0, raw.tell() / size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            # A cut download: the rows before are sound, and the loss must be visible.
            place = f"{path.name}:{number + 1}"
            yield place, Rejected(place, "damaged_archive", f"{error}; the rest is lost"), 1.0


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines of a file; None for one that is too long."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield None


def _parse(line: bytes | None, place: str, first: bool) -> Mapping[str, object] | Rejected | None:
    """A decoded row, a rejection, or None for a blank line."""
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
    """The rows of a ``.parquet`` file: place, row, share of the rows read.

    A text that many rows share stays one until the size of the rows is known: a file of a kilobyte
    may say that each of a million rows holds the same gigabyte.

    Args:
        spec: the user's name for it, for errors.
        columns: the columns to read; all if None.

    Raises:
        InputError: if it can't be read, or lacks one of the columns.
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
            raise InputError(f"{spec} is damaged after row {number}: {error}.") from None


def _texts(file: Any) -> list[str]:
    """The paths of a Parquet file's columns that hold texts, at any depth."""
    columns = map(file.schema.column, range(len(file.schema)))
    return [
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type in ("STRING", "NONE")
    ]


def _parquet_batch(batch: Any) -> Iterator[dict[str, object] | None]:
    """The rows of an Arrow batch; None for one that is too long."""
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
    """The size of an Arrow array if each value that a dictionary holds once is written out."""
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


# --- the hub -----------------------------------------------------------------------------------


@dataclass(slots=True)
class HubSource:
    """The rows of one split of a dataset of the hub."""

    name: str
    config: str = ""
    split: str = "train"
    options: SourceOptions = field(default_factory=SourceOptions)

    def describe(self) -> Mapping[str, Any]:
        """The dataset's name, config and split, and the columns."""
        return {
            "kind": "hub",
            "name": self.name,
            "config": self.config,
            "split": self.split,
            **self.options.describe(),
        }

    def fraction(self) -> float | None:
        """Unknown: a stream has no length."""
        return None

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
    """One split of a dataset of the hub as a stream of rows.

    Raises:
        InputError: if the hub can't be reached, or has no such dataset, configuration or split.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    check_exists(name, spec)
    try:
        return datasets.load_dataset(name, config or None, split=split, streaming=True)
    except (OSError, ValueError, DatasetsError) as error:
        # datasets wraps network, authorization and spelling errors in these three.
        raise cannot_open(spec, error) from None


def hub(argument: str, options: SourceOptions) -> HubSource:
    """The source ``hub:org/name[:config][:split]``."""
    return HubSource(*parse_hub(argument), options)


MBPP = "google-research-datasets/mbpp"


def mbpp(argument: str, _options: SourceOptions) -> HubSource:
    """The source ``mbpp[:split]`` (Austin et al. 2021, arXiv 2108.07732), by its own columns."""
    _, _, split = parse_hub(f"{MBPP}:full:{argument}")
    own = SourceOptions(Columns("text", "code", "task_id"), license="cc-by-4.0")
    return HubSource(MBPP, "full", split, own)
