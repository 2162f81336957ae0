"""The data engine: runs a generator over a source into a data directory.

What it promises, whatever the generator:

* The same bytes for any number of workers, chunk size or executor, since an example's randomness is derived
  from (seed, example id) and results are written in the order of the inputs.
* ``kill -9`` at any moment, the same call again: the same files as without it (see
  :mod:`codegen.data.journal`).
* No input is lost silently: each ends kept, skipped(reason) or failed(reason), is counted in the
  manifest, and if not kept stands in ``rejects.jsonl``.
* Memory that does not grow with the corpus: sources stream, chunks in flight are bounded, and the ids seen so
  far are kept on disk.

Limit: resuming reads the source again from its start, to check that it is the same.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from codegen.data.card import card
from codegen.data.executors import Executor, LocalExecutor, Lost
from codegen.data.generators import TextGenerator, config_of
from codegen.data.journal import Journal, State, explain_full_disk
from codegen.data.manifest import (
    MANIFEST,
    Manifest,
    RunConfig,
    describe_run,
    load_manifest,
    refuse_changes,
    versions_in_use,
)
from codegen.data.outcomes import Result, Work
from codegen.data.sources.base import Item, Rejected, Source
from codegen.errors import ConfigError, InputError, ResumeError
from codegen.records import Example


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a run is carried out.

    Attributes:
        chunk_size: inputs that a worker gets at once; never changes the data.
        commit_every_s: the least time between two commits; what a crash can cost.
        shard_bytes: a data file is closed once it is this large.
        item_timeout_s: an example that takes longer fails with ``timeout``.
    """

    chunk_size: int = 16
    commit_every_s: float = 1.0
    shard_bytes: int = 256 * 2**20
    item_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("chunk_size", "shard_bytes", "item_timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: inputs done, and how many of them were done by earlier, interrupted runs.

    ``fraction`` is the share of the work that is done, in [0, 1], or None where it is not known.
    """

    inputs: int
    resumed: int
    kept: int
    skipped: int
    failed: int
    texts: int
    fraction: float | None


def run(
    generator: TextGenerator,
    source: Source,
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    workers: int | None = None,
    executor: Literal["local"] | Executor = "local",
    limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    options: EngineOptions | None = None,
) -> Manifest:
    """Runs ``generator`` over ``source`` into the directory ``out``, or goes on with an interrupted run.

    A finished directory with the same settings is left as it is and its manifest is returned.

    Args:
        generator: what makes the texts; picklable if there is more than one worker.
        source: where the examples come from.
        out: the directory, which must be new, empty or of the same run.
        seed: of all randomness.
        workers: processes; by default one for each usable CPU. With 1, the work runs in this process.
        executor: where the work runs.
        limit: take at most so many examples (rejected inputs among them don't count).
        on_progress: called after each chunk, in this process.
        options: the engine's own settings.

    Raises:
        ResumeError: if ``out`` was begun with other settings, or the source has changed since.
        InputError: if ``out`` or the source can't be used, or the disk is full.
    """
    out = Path(out)
    options = options or EngineOptions()
    if limit is not None and limit < 0:
        raise ConfigError(f"limit is {limit}; it must be at least 0.")
    workers = workers if workers is not None else usable_cpus()
    if executor == "local":
        # Beyond Work's own limit, which a hang in C code escapes.
        executor = LocalExecutor(workers, hang_s=2 * options.item_timeout_s + 5)
    elif isinstance(executor, str):
        raise ConfigError(f"There is no executor {executor!r}.", "There is: local.")
    config = RunConfig(
        generator=generator.name,
        config=config_of(generator),
        source=dict(source.describe()),
        seed=seed,
        limit=limit,
        shard_bytes=options.shard_bytes,
        item_timeout_s=options.item_timeout_s,
    )
    if finished := _finished(out, config):
        return finished
    versions = versions_in_use()
    header = {"run": describe_run(config), "versions": versions}
    with explain_full_disk(out), Journal(out, header, options.shard_bytes) as journal:
        # Another run may have ended between the first look and the lock.
        if finished := _finished(out, config):
            journal.discard()
            return finished
        refuse_changes(out, journal.header, header)
        if not journal.state.done:
            work = Work(generator, seed, options.item_timeout_s)
            _generate(journal, source, work, executor, limit, on_progress, options)
        manifest = _manifest(config, journal.state, versions, workers)
        text = card(manifest)
        # The hub and datasets read README.md.
        journal.publish({"card.md": text, "README.md": text, MANIFEST: manifest.to_json()})
        return manifest


def usable_cpus() -> int:
    """The number of CPUs that this process may run on."""
    return len(os.sched_getaffinity(0))


def is_finished(out: str | os.PathLike[str]) -> bool:
    """Whether a directory holds a finished run."""
    return Path(out, MANIFEST).is_file()


def _finished(out: Path, config: RunConfig) -> Manifest | None:
    if not is_finished(out):
        return None
    manifest = load_manifest(out)
    refuse_changes(out, describe_run(manifest.run), describe_run(config))
    return manifest


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the source stood after a chunk."""

    digest: str
    fraction: float | None


def _generate(
    journal: Journal,
    source: Source,
    work: Work,
    executor: Executor,
    limit: int | None,
    on_progress: Callable[[Progress], None] | None,
    options: EngineOptions,
) -> None:
    began = time.monotonic() - journal.state.seconds
    marks: deque[_Mark] = deque()  # of the chunks drawn and not yet written
    with closing(_Inputs(source, limit, journal.folder / "seen.sqlite")) as inputs:
        items = iter(inputs)
        _skip_done(items, inputs, journal)

        def chunks() -> Iterator[Sequence[Item]]:
            while chunk := list(islice(items, options.chunk_size)):
                marks.append(_Mark(inputs.digest, inputs.fraction()))
                yield chunk

        committed = time.monotonic()
        dirty = False
        try:
            for number, (ids, results) in enumerate(_mapped(executor, work, chunks())):
                del number, ids, results
        finally:
            del dirty, committed, began


