"""Publishes data directories: Parquet files, and the Hugging Face hub.

Each data file gets a Parquet file with the same rows in the same order. The schema does not depend
on the generator: ``meta``, whose keys differ, is a JSON string.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.core.errors import InputError
from codegen.core.hub import hub_errors, repository_name
from codegen.core.paths import child, new_folder, refuse_links
from codegen.core.records import DataRecord, TrainingText, to_row
from codegen.data.manifest import Manifest, data_files, load_manifest, read_data

if TYPE_CHECKING:
    import pyarrow as pa
    from huggingface_hub import HfApi

PARQUET = "parquet"
"""Default folder of the Parquet files in a data directory."""

_FINGERPRINT = "codegen.fingerprint"  # key in a file's metadata
_ROW_GROUP = 500  # rows in memory
_PUBLISHED = ("data-*.jsonl", "rejects.jsonl", "manifest.json", "card.md", "README.md")


def parquet_schema(record: DataRecord) -> pa.Schema:
    """Returns the schema for records of this kind: their fields, ``meta`` as a JSON string."""
    import pyarrow as pa

    text = pa.string()
    columns: dict[str, pa.DataType]
    if isinstance(record, TrainingText):
        flags = all(isinstance(segment.train, bool) for segment in record.segments)
        train = pa.field("train", pa.bool_() if flags else pa.float64())
        segment = pa.struct([pa.field("text", text), train])
        columns = {"segments": pa.list_(segment)}
    else:
        message = pa.struct([pa.field("role", text), pa.field("content", text)])
        content = text if isinstance(record.prompt, str) else pa.list_(message)
        columns = dict.fromkeys(("prompt", "chosen", "rejected"), content)
    types = [*((name, text) for name in ("id", "example_id", "generator")), *columns.items()]
    types.append(("meta", text))
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types])


def export_parquet(
    directory: str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Writes the rows of a finished directory as Parquet (zstd), all files or none.

    Rows are streamed, so memory is bounded. An earlier export in ``out`` is replaced.

    Args:
        directory: data directory made by :func:`codegen.data.run`.
        out: output folder; by default ``parquet`` in the directory.

    Returns:
        The files, in order.

    Raises:
        InputError: if the directory is not finished, ``out`` contains other files, or a string
            cannot be encoded as UTF-8.
    """
    manifest = load_manifest(directory)
    out = Path(out) if out is not None else Path(directory, PARQUET)
    refuse_links(out)
    _refuse_foreign(out)
    partial = new_folder(out)
    try:
        names = []
        for path in _whole_data_files(directory, manifest):
            names.append(path.with_suffix(".parquet").name)
            _write_parquet(path, partial / names[-1], manifest.fingerprint)
        shutil.rmtree(out, ignore_errors=True)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [out / name for name in names]


def _refuse_foreign(out: Path) -> None:
    foreign = [
        path.name
        for path in (out.iterdir() if out.exists() else ())
        if not (re.fullmatch(r"data-\d+\.parquet", path.name) and _is_export(path))
    ]
    if foreign:
        raise InputError(
            f"{out} contains {min(foreign)!r}, which is not an export.", "Choose another directory."
        )


def _is_export(path: Path) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _FINGERPRINT.encode() in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def _whole_data_files(directory: str | os.PathLike[str], manifest: Manifest) -> list[Path]:
    """Returns the data files after checking that they match the manifest.

    Raises:
        InputError: if a file is missing, truncated or not listed.
    """
    present = {path.name: path for path in data_files(directory)} if manifest.files else {}
    for file in manifest.files:
        path = present.get(file["name"])
        if path is None or path.stat().st_size != file["bytes"]:
            raise InputError(
                f"{Path(directory, file['name'])} differs from the manifest, which lists "
                f"{file['bytes']} bytes with {file['texts']} texts.",
                "Copy the directory again or regenerate it.",
            )
    if extra := sorted(present.keys() - {file["name"] for file in manifest.files}):
        raise InputError(
            f"{Path(directory, extra[0])} does not belong to the data: the manifest does not list "
            "it.",
            "Move it elsewhere.",
        )
    return [present[file["name"]] for file in manifest.files]


def _write_parquet(source: Path, target: Path, fingerprint: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = read_data(source)
    first = next(records)  # a manifest lists no empty files
    schema = parquet_schema(first).with_metadata({_FINGERPRINT: fingerprint})
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        records = chain([first], records)
        while rows := [_row(text) for text in islice(records, _ROW_GROUP)]:
            try:
                batch = pa.RecordBatch.from_pylist(rows, schema)
            except UnicodeEncodeError:
                raise InputError(
                    f"{source} contains a lone surrogate, which Parquet cannot store.",
                    "Use JSON Lines, or correct the source.",
                ) from None
            writer.write_batch(batch)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _row(record: DataRecord) -> dict[str, object]:
    return {**to_row(record), "meta": json.dumps(record.meta)}


def push(
    directory: str | os.PathLike[str],
    target: str,
    *,
    private: bool = False,
    api: HfApi | None = None,
) -> str:
    """Uploads a finished directory to the Hugging Face hub as a dataset.

    Data files of an earlier upload that are not in this directory are removed from the hub, so that
    two runs do not mix. Other files of the repository are kept.

    Args:
        directory: data directory made by :func:`codegen.data.run`, with any Parquet files.
        target: repository, ``hub:org/name``.
        private: make a new repository private; an existing public one is rejected.
        api: hub client; by default one with the environment's token.

    Returns:
        The URL of the dataset.

    Raises:
        InputError: if the directory is not finished or was changed, the name is invalid, no
            token has write access, or the hub cannot be reached.
    """
    manifest = load_manifest(directory)
    _whole_data_files(directory, manifest)
    _refuse_links(Path(directory))
    if not manifest.texts:
        raise InputError(
            f"{directory} contains no rows.", f"{directory}/rejects.jsonl lists the reasons."
        )
    name = repository_name(target)

    from huggingface_hub import HfApi

    api = api or HfApi()
    with hub_errors(api, target):
        return _upload(api, Path(directory), name, private, manifest)


def _refuse_links(directory: Path) -> None:
    """Raises for links in a directory, since their targets would be uploaded."""
    for pattern in _PUBLISHED:
        for path in directory.glob(pattern):
            child(directory, path.name, str(directory))
    refuse_links(directory / PARQUET)


def _upload(api: HfApi, directory: Path, name: str, private: bool, manifest: Manifest) -> str:
    # None leaves an existing repository unchanged; a new one follows its owner's settings.
    url = api.create_repo(
        name, repo_type="dataset", private=True if private else None, exist_ok=True
    )
    if private and not api.repo_info(name, repo_type="dataset").private:
        raise InputError(
            f"hub:{name} exists and is public.",
            "Make it private in its settings on the hub, or choose another name.",
        )
    api.upload_folder(
        repo_id=name,
        folder_path=directory,
        repo_type="dataset",
        commit_message=f"{manifest.texts} texts by {manifest.run.generator}",
        commit_description=f"Made by codegen-toolkit; fingerprint {manifest.fingerprint}.",
        allow_patterns=[*_PUBLISHED, f"{PARQUET}/data-*.parquet"],
        delete_patterns=["data-*.jsonl", f"{PARQUET}/data-*.parquet"],
    )
    return str(url)
