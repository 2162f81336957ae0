"""Merges the shards of a run into the same bytes as the unsharded run.

Shard ``i/n`` contains the inputs i, i + n, ... of the source, so merging takes one input from each
shard in turn. Duplicates are removed here, in input order, by the shards' signatures. Call an
interrupted merge again to resume it; the shards are not changed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import IO, TypeVar

from codegen.core.errors import InputError, ResumeError
from codegen.core.paths import child
from codegen.core.records import TrainingText, conform, from_json
from codegen.data.engine import find_finished
from codegen.data.filters.dedup import Dedup
from codegen.data.manifest import (
    KEPT,
    REJECTS,
    Manifest,
    RunConfig,
    Shard,
    data_files,
    load_manifest,
    refuse_other_run,
    versions_in_use,
)
from codegen.data.outcomes import InputOutcome, characters, measures
from codegen.data.output import KeptRow, Output, RejectRow, read_signature

R = TypeVar("R")
CHUNK = 256
COMMIT_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Part:
    folder: Path
    shard: Shard
    manifest: Manifest

    @property
    def inputs(self) -> int:
        return self.manifest.counts["inputs"]


def merge(
    shards: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    command: str = "",
) -> Manifest:
    """Merges the directories of all shards of one run, in any order.

    Args:
        shards: the finished directories of shards 0/n to (n - 1)/n.
        out: a new or empty directory, or one with an interrupted merge of the same shards.

    Raises:
        InputError: if a shard is missing, repeated or not finished.
        ResumeError: if the shards' settings differ.
    """
    out = Path(out)
    parts = _parts([Path(folder) for folder in shards])
    whole = replace(parts[0].manifest.run, shard=None)
    if finished := find_finished(out, whole):
        return finished
    header = {"run": whole.describe(), "versions": versions_in_use()}
    began = time.monotonic()
    with Output(out, header, whole.shard_bytes, dedup=_dedup(whole)) as output:
        if not output.state.done:
            _write(output, parts)
        spent = sum(part.manifest.throughput["seconds"] for part in parts)
        output.state.seconds = spent + time.monotonic() - began
        workers = [part.manifest.throughput["workers"] or 0 for part in parts]
        return output.finish(whole, parts[0].manifest.versions, sum(workers), command)


def _parts(folders: list[Path]) -> list[_Part]:
    parts = [_part(folder) for folder in folders]
    if not parts:
        raise InputError("No shards to merge.", "Pass the directories of all shards.")
    first = parts[0]
    for part in parts[1:]:
        old, new = (replace(p.manifest.run, shard=None) for p in (first, part))
        try:
            refuse_other_run(first.folder, old, new)
        except ResumeError as error:
            message = f"{part.folder} is a shard of another run. {error.message}"
            raise ResumeError(message, "Pass only the shards of one run.") from None
    ordered = sorted(parts, key=lambda part: part.shard.index)
    indices = [part.shard.index for part in ordered]
    number = first.shard.of
    if any(part.shard.of != number for part in parts) or indices != list(range(number)):
        listed = ", ".join(f"{part.folder} is {part.shard}" for part in ordered)
        raise InputError(
            f"The {number} shards of the run are incomplete or repeated: {listed}.",
            "Pass each directory once.",
        )
    return ordered


def _part(folder: Path) -> _Part:
    manifest = load_manifest(folder)
    if manifest.run.shard is None:
        raise InputError(
            f"{folder} is a whole run, not a shard.",
            "No merge is needed: datasets.load_dataset and recipes accept several directories.",
        )
    return _Part(folder, Shard.parse(manifest.run.shard), manifest)


def _dedup(run: RunConfig) -> Dedup | None:
    """Builds the deduplication from the manifests' settings."""
    if run.dedup is None:
        return None
    return Dedup(**{f.name: run.dedup[f.name] for f in fields(Dedup) if f.name in run.dedup})


def _write(output: Output, parts: list[_Part]) -> None:
    state = output.state
    total = sum(part.inputs for part in parts)
    committed = time.monotonic()
    with closing(_results(parts)) as results:
        for _ in islice(results, state.position):
            pass
        while state.position < total:
            output.write(list(islice(results, CHUNK)), "")
            if time.monotonic() - committed >= COMMIT_EVERY_S:
                output.commit()
                committed = time.monotonic()
    state.done = True
    output.commit()


def _results(parts: list[_Part]) -> Generator[InputOutcome, None, None]:
    """Yields the results of all inputs in source order."""
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(_of_part(part))) for part in parts]
        for number in range(sum(part.inputs for part in parts)):
            yield next(streams[number % len(streams)])


def _of_part(part: _Part) -> Generator[InputOutcome, None, None]:
    """Yields the results of a shard's inputs.

    Raises:
        InputError: if one of the shard's files is corrupt.
    """
    try:
        yield from _read_part(part)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{part.folder} is corrupt: {error}.", "Regenerate this shard.") from None


def _read_part(part: _Part) -> Generator[InputOutcome, None, None]:
    with (
        child(part.folder, REJECTS, "a run").open("rb") as rejected,
        child(part.folder, KEPT, "a run").open("rb") as kept,
        closing(_lines(part)) as lines,
    ):
        reject, keep = _row(RejectRow, rejected), _row(KeptRow, kept)
        for position in range(part.inputs):
            number = part.shard.number(position)
            if reject and reject["input"] == number:
                yield InputOutcome(
                    reject["id"], reject["outcome"], reject["reason"], reject["detail"]
                )
                reject = _row(RejectRow, rejected)
            elif keep and keep["input"] == number:
                yield _kept(keep, list(islice(lines, keep["texts"])), part.folder)
                keep = _row(KeptRow, kept)
            else:
                raise InputError(
                    f"{part.folder} is corrupt: it lacks the outcome of input {number}.",
                    "Regenerate this shard.",
                )


def _row(kind: type[R], file: IO[bytes]) -> R | None:
    line = file.readline()
    return conform(kind, json.loads(line)) if line else None


def _kept(row: KeptRow, lines: list[bytes], folder: Path) -> InputOutcome:
    if len(lines) < row["texts"]:
        raise InputError(
            f"{folder} is corrupt: its data files contain too few rows.", "Regenerate this shard."
        )
    texts = [from_json(TrainingText, line.decode("utf-8"), f"{row['id']!r}") for line in lines]
    prompt, trained = characters(texts)
    return InputOutcome(
        id=row["id"],
        outcome="kept",
        data=b"".join(lines),
        license=row["license"],
        prompt_characters=prompt,
        trained_characters=trained,
        measures=tuple(measures(text) for text in texts),
        signature=read_signature(row) if row["signature"] else None,
    )


def _lines(part: _Part) -> Generator[bytes, None, None]:
    """Yields the lines of all data files of a shard."""
    for path in data_files(part.folder) if part.manifest.files else ():
        with path.open("rb") as file:
            yield from file
