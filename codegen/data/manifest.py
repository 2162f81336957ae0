"""A data directory: its manifest, its card, and reading its files.

The manifest describes the data, its source and settings, and the omitted inputs. A directory with
a ``manifest.json`` is finished, because the file is written last and atomically.

The card has the YAML header that the hub and ``datasets`` read; its template is ``card.md.jinja``,
and its format is described at https://huggingface.co/docs/hub/datasets-cards. It depends only on
the run, without times and the number of workers, so that the same run yields the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from codegen import __version__
from codegen.core.errors import ConfigError, InputError, cannot_read
from codegen.core.paths import child
from codegen.core.records import (
    DataRecord,
    Preference,
    TrainingText,
    conform,
    from_dict,
    read_json,
    read_jsonl,
    read_rows,
)
from codegen.core.runs import refuse_changes
from codegen.data.sources.synthetic import Puzzles, is_puzzles

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"
KEPT = "kept.jsonl"
PARTIAL = ".partial"
FORMAT = 2
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` (from 0) of ``of`` parts: the inputs ``index``, ``index + of``, ...

    Every part reads the whole source, so that limits and duplicate ids are the same for all parts,
    and processes only its own inputs.
    """

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ConfigError(
                f"Shard {self.index}/{self.of} does not exist.",
                f"Choose a first number from 0 to {max(0, self.of - 1)}.",
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads ``i/n``.

        Raises:
            ConfigError: for other text, or i outside of [0, n).
        """
        if not (match := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)):
            raise ConfigError(f"The shard {text!r} is not of the form i/n.", "Write it as 0/8.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def number(self, position: int) -> int:
        """Returns the source index, from 0, of this shard's input at a position."""
        return position * self.of + self.index


MAX_NAMES = 100
"""Maximum number of measures, so that a generator with many names cannot exhaust memory."""


@dataclass(slots=True)
class Statistics:
    """Number of texts so far and the sum of each measure."""

    texts: int = 0
    totals: dict[str, int] = field(default_factory=dict)

    def add(self, measured: Mapping[str, int]) -> None:
        """Adds the measures of one text."""
        self.texts += 1
        for name, value in measured.items():
            if name not in self.totals and len(self.totals) >= MAX_NAMES:
                continue
            self.totals[name] = self.totals.get(name, 0) + value

    def dirty_rate(self) -> tuple[float, float, float] | None:
        """Returns the fraction of audited states with pylint messages and its 95% Wilson interval.

        None if no state was audited. The states of one program are not independent, so the interval
        is somewhat too narrow.
        """
        audited = self.totals.get("audited_states", 0)
        if audited <= 0:
            return None
        rate = self.totals.get("dirty_states", 0) / audited
        from codegen.evals.statistics import wilson  # imports numpy, which workers do not need

        return rate, *wilson(rate, audited)


def statistics_lines(found: Statistics) -> Iterator[str]:
    """Yields a manifest's statistics, one fact per line; nothing without texts."""
    if not found.texts:
        return
    for name, total in found.totals.items():
        if name not in _COMPARED:
            yield f"{name}: {total} in total, {total / found.texts:.1f} per text"
    if rate := found.dirty_rate():
        share, low, high = (100 * value for value in rate)
        audited = found.totals["audited_states"]
        yield (
            f"dirty states: {share:.2f}% of {audited} audited (95% interval {low:.2f} to "
            f"{high:.2f}%)"
        )
    if number := found.totals.get("compared_sequences", 0):
        ours, theirs = (found.totals.get(name, 0) / number for name in _COMPARED[1:])
        yield (
            f"edits per sequence: {ours:.2f}, and {theirs:.2f} by the published algorithm, on the "
            f"same {number} programs"
        )


_COMPARED = ("compared_sequences", "compared_edits", "reference_edits")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All settings that determine the data files: equal settings yield equal bytes.

    Attributes:
        limit: maximum number of examples from the source, or None.
        shard_bytes: size in bytes at which a data file is closed.
        item_timeout_s: time limit per example in seconds.
        decontamination: from :meth:`Decontamination.describe`, or None without it.
        dedup: from :meth:`Dedup.describe`, or None without it.
        max_characters: longer programs are skipped.
        shard: part of the run, as ``i/n``, or None for the whole.
        filters: descriptions of other filters, each with its name.
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
        """Returns the configuration as JSON values."""
        return asdict(self)


def refuse_other_run(folder: str | os.PathLike[str], then: RunConfig, now: RunConfig) -> None:
    """Compares an earlier run's configuration with the current one.

    Raises:
        ResumeError: if the configurations differ; names each setting by its option.
    """
    before, after = then.describe(), now.describe()
    limits = before.pop("item_timeout_s"), after.pop("item_timeout_s")
    # The default limit depends on the mode, so with another mode it is not a user's change.
    if before["config"].get("mode") == after["config"].get("mode"):
        before["item_timeout"], after["item_timeout"] = limits
    refuse_changes(folder, before, after)


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
    """The contents of a data directory.

    Attributes:
        run: configuration that determines the data files.
        characters: ``prompt`` and ``trained`` characters of all texts.
        licenses: license -> number of kept examples; "" for an unknown license.
        versions: versions of Python and the packages used.
        throughput: ``seconds`` of wall time over all resumed runs, ``inputs_per_s``, ``workers``.
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
    statistics: Statistics
    command: str = ""
    format: int = FORMAT

    @property
    def kept(self) -> int:
        """Number of examples that yielded texts."""
        return self.counts["kept"]

    def to_json(self) -> str:
        """Returns the content of the manifest file."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n"


PREFERENCES = "preferences"  # generator of preference pairs

# The hub's license ids that are SPDX ids in lower case:
# https://huggingface.co/docs/hub/repositories-licenses
_HUB_LICENSES = frozenset({
    "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0",
    "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1",
    "lgpl-3.0", "mit", "mpl-2.0", "unlicense", "wtfpl", "zlib",
})  # fmt: skip


def hub_licenses(licenses: Mapping[str, int]) -> list[str]:
    """Returns the hub's license ids: ``unknown`` for none, ``other`` for one that the hub lacks."""
    known = {"": "unknown"} | {name: name for name in _HUB_LICENSES}
    return sorted({known.get(name.lower(), "other") for name in licenses}) or ["unknown"]


def card(manifest: Manifest) -> str:
    """Renders the dataset card: a header for the hub, the contents and their origin."""
    run, counts = manifest.run, manifest.counts
    part = f", part {run.shard}" if run.shard else ""
    skipped = counts["skipped"]
    what, columns = _contents(run)
    from jinja2 import Environment, PackageLoader  # workers do not need it

    environment = Environment(
        loader=PackageLoader("codegen.data", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"yaml": json.dumps, "json": _json, "plain": _plain, "cell": _cell}
    return environment.get_template("card.md.jinja").render(
        manifest=manifest,
        run=run,
        counts=counts,
        title=f"{manifest.texts} {what} by {run.generator}{part}",
        what=what,
        columns=columns,
        hub_licenses=hub_licenses(manifest.licenses),
        statistics=list(statistics_lines(manifest.statistics)),
        left_out=[
            (outcome, reason, number)
            for outcome in ("skipped", "failed")
            for reason, number in sorted(counts[outcome].items(), key=lambda p: (-p[1], p[0]))
        ],
        duplicates=[(reason, n) for reason, n in sorted(skipped.items()) if "duplicate" in reason],
        licenses=[(name or "unknown", n) for name, n in sorted(manifest.licenses.items())],
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        settings={"seed": run.seed, "limit": run.limit, run.generator: dict(run.config)},
    )


def _contents(run: RunConfig) -> tuple[str, list[tuple[str, str]]]:
    """Returns the kind of data, and (column, content) of its specific columns."""
    if run.generator != PREFERENCES:
        train = 'list of `{"text", "train"}`; `train`: whether it is trained, or its loss weight'
        return "training texts", [("segments", train)]
    prompt = ("prompt", "the model's prompt: a string, or a list of messages")
    chosen = ("chosen", "an answer that passed the tests")
    return "preference pairs", [prompt, chosen, ("rejected", "an answer that failed them")]


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, indent=2)


def _plain(text: str) -> str:
    """Formats a YAML value, quoted if necessary."""
    plain = text.replace("-", "").replace(".", "").isalnum() and text.isascii()
    return text if plain else json.dumps(text)  # JSON is YAML


def _cell(value: object) -> str:
    # Text from data must not break the table.
    return " ".join(str(value).split()).replace("|", "\\|")


def load_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """Loads the manifest of a finished data directory.

    Raises:
        InputError: if the manifest is missing or invalid.
    """
    path = Path(directory, MANIFEST)
    remedy = "Regenerate the data in another directory."
    try:
        row = read_json(path, _MOST_BYTES)
        if isinstance(row, dict) and row.get("format") != FORMAT:
            raise InputError(f"{path} has an unsupported format.", remedy)
        return conform(Manifest, row)
    except FileNotFoundError:
        raise InputError(
            f"{directory} contains no finished data ({MANIFEST} is missing).",
            "If a run was interrupted, run the same command again.",
        ) from None
    except OSError as error:
        raise cannot_read(path, error) from None
    except ValueError as error:
        raise InputError(f"{path} is corrupt: {error}.", remedy) from None


def versions_in_use() -> dict[str, str]:
    """Returns versions of Python, this toolkit and the packages that can affect the data."""
    versions = {"python": platform.python_version(), "codegen-toolkit": __version__}
    for name in ("datasketch", "ruff", "pylint"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue  # optional, so it was not used
    return versions


def data_files(path: str | os.PathLike[str]) -> list[Path]:
    """Returns the training files of a data directory, in order; for a file, that file.

    Raises:
        InputError: if there are no files, or the directory's run is unfinished.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.exists():
        raise InputError(
            f"No file or directory at {path}.",
            "Make a data directory with `codegen data`; fine-tuning also accepts JSONL or Parquet "
            "files with messages, or with prompt and completion.",
        )
    if (path / PARTIAL).exists() and not (path / MANIFEST).exists():
        raise InputError(
            f"The run in {path} is not finished.", "Run the same command again to resume."
        )
    files = [child(path, file.name, str(path)) for file in sorted(path.glob("data-*.jsonl"))]
    if not files and (path / MANIFEST).is_file():
        raise InputError(
            f"No examples were kept in {path}.", f"{path / REJECTS} lists the reasons."
        )
    if not files:
        raise InputError(
            f"{path} contains no data-*.jsonl.", "Pass a directory made by codegen data."
        )
    return files


def read_texts(path: str | os.PathLike[str]) -> Iterator[TrainingText]:
    """Streams the training texts of a data directory or JSONL file, or generates puzzles.

    Raises:
        InputError: if there are no texts, or a line is not a training text.
        ConfigError: for unknown puzzles (``puzzles:NAME:SPLIT``).
    """
    if is_puzzles(path):
        yield from Puzzles.parse(str(path)).texts()
        return
    for file in data_files(path):
        yield from read_jsonl(TrainingText, file)


def read_data(path: str | os.PathLike[str]) -> Iterator[DataRecord]:
    """Streams the records of a data directory or JSONL file: texts or preferences.

    Raises:
        InputError: if there are no records, or a line is invalid (names file and line).
    """
    if is_puzzles(path):
        yield from read_texts(path)
        return
    for file in data_files(path):
        for where, row in read_rows(file):
            if isinstance(row, dict) and "chosen" in row:
                yield from_dict(Preference, row, where)
            elif isinstance(row, dict) and "segments" not in row:
                raise InputError(
                    f"{where} was not written by `codegen data`: the row has no segments.",
                    f"To view your own rows: codegen view {file}",
                )
            else:
                yield from_dict(TrainingText, row, where)


def digests(path: str | os.PathLike[str]) -> list[str]:
    """Returns the data's identity: a digest of each file, or the puzzles' name.

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
    """Streams the omitted inputs: ``id``, ``outcome``, ``reason``, ``detail``."""
    for _, row in read_rows(Path(directory, REJECTS)):
        yield row
