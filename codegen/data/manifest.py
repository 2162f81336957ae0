"""The manifest of a data directory: what was made, from what, with what, and what was left out.

A directory with a ``manifest.json`` is finished; the file is written last, all at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from codegen.errors import InputError, ResumeError

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides the data files: two runs with the same one make the same bytes.

    Attributes:
        generator: the generator's name.
        config: its configuration.
        source: the source's own description.
        seed: of all randomness.
        limit: the most examples taken from the source, or None.
        shard_bytes: a data file is closed once it is this large.
        item_timeout_s: the time one example may take, in seconds.
        decontamination: what :meth:`Decontamination.describe` says, or None without it.
        dedup: what :meth:`Dedup.describe` says, or None without it.
        max_characters: longer programs are skipped.
        shard: which part of a run this is, as ``i/n``, or None for the whole.
    """

    generator: str
    config: Mapping[str, Any]
    source: Mapping[str, Any]
    seed: int
    limit: int | None
    shard_bytes: int
    item_timeout_s: float
    decontamination: Mapping[str, Any] | None = None
    dedup: Mapping[str, Any] | None = None
    max_characters: int = 2**20
    shard: str | None = None

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the configuration in canonical JSON."""
        return hashlib.sha256(_canonical(asdict(self)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a data directory.

    Attributes:
        run: what decides the data files.
        fingerprint: of ``run``.
        counts: ``inputs``, ``kept`` (numbers), ``skipped`` and ``failed`` (reason -> number);
            inputs = kept + all skipped + all failed.
        texts: the number of training texts.
        characters: ``prompt`` and ``trained``, over all texts.
        licences: licence -> number of kept examples; the empty one is unknown.
        files: name, bytes and texts of each data file.
        versions: of Python and the packages that took part.
        throughput: ``seconds`` of wall time over all resumed runs, ``inputs_per_s``, ``workers``.
        statistics: of the texts, as :meth:`codegen.data.statistics.Statistics.to_json` gives them.
        removed: what decontamination took out: ``inputs``, and by ``set``, ``kind`` and ``part``.
        command: the command line that makes the data again; empty if it was made from Python.
    """

    run: RunConfig
    fingerprint: str
    counts: Mapping[str, Any]
    texts: int
    characters: Mapping[str, int]
    licences: Mapping[str, int]
    files: tuple[Mapping[str, Any], ...]
    versions: Mapping[str, str]
    throughput: Mapping[str, Any]
    statistics: Mapping[str, Any] = field(default_factory=dict)
    removed: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    format: int = FORMAT

    @property
    def kept(self) -> int:
        """The number of examples that gave texts."""
        return self.counts["kept"]

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


def load_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """The manifest of a finished data directory.

    Raises:
        InputError: if there is none, or it can't be understood.
    """
    path = Path(directory, MANIFEST)
    try:
        row = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{directory} holds no finished data ({MANIFEST} is missing).",
            "If a run was interrupted, run the same command again.",
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from None
    try:
        run = RunConfig(**row.pop("run"))
        return Manifest(run=run, files=tuple(row.pop("files")), **row)
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not a manifest of this version: {error}.",
            "Make the data again, in another directory.",
        ) from None


def refuse_changes(where: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Compares the settings of an earlier run with those of this one.

    Raises:
        ResumeError: naming each field that differs, from what to what.
    """
    # Through JSON, so that a tuple equals the list that it became on disk.
    flat_old, flat_new = (dict(_flatten(json.loads(_canonical(side)))) for side in (old, new))
    changes = [
        f"{key} from {_show(flat_old, key)} to {_show(flat_new, key)}"
        for key in dict.fromkeys([*flat_old, *flat_new])
        if _show(flat_old, key) != _show(flat_new, key)
    ]
    if changes:
        raise ResumeError(
            f"{where} was begun with other settings. Changed: {'; '.join(changes)}.",
            "Choose another --out, or restore what has changed.",
        )


def describe_run(run: RunConfig) -> dict[str, Any]:
    """The configuration as nested JSON values."""
    return {f.name: getattr(run, f.name) for f in fields(run)}


def versions_in_use() -> dict[str, str]:
    """Versions of Python, this toolkit and the packages that can influence the data."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from codegen import __version__

    found = {"python": platform.python_version(), "codegen-toolkit": __version__}
    for name in ("datasketch", "ruff", "pylint"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # optional, so it took no part
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _show(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False) if key in flat else "(not set)"
