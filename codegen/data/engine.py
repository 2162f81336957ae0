"""The data engine: runs a generator over a source into a data directory.

What it promises, whatever the generator:

* The same bytes for any number of workers, chunk size or executor, since an example's randomness is
  derived from (seed, example id) and results are written in the order of the inputs.
* ``kill -9`` at any moment, the same call again: the same files as without it (see
  :mod:`codegen.data.journal`).
* No input is lost silently: each ends kept, skipped(reason) or failed(reason), is counted in the
  manifest, and if not kept stands in ``rejects.jsonl``.
* Memory that does not grow with the corpus: sources stream, chunks in flight are bounded, and the
  ids seen so far are kept on disk.

Limit: resuming reads the source again from its start, to check that it is the same.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from codegen.data.card import card
from codegen.data.executors import Executor, LocalExecutor, Lost
from codegen.data.generators import TextGenerator, config_of
from codegen.data.journal import PARTIAL, Journal, State, explain_full_disk
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
from codegen.data.sources.base import Item, Rejected, Source, chained
from codegen.errors import ConfigError, ResumeError


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a run is carried out.

    Attributes:
        chunk_size: inputs that a worker gets at once; never changes the data.
        commit_every_s: the least time between two commits; what a crash can cost.
        shard_bytes: a data file is closed once it is this large.
        item_timeout_s: an example that takes longer fails with ``timeout``.
    """

    chunk_size: int = 32
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
    """Runs ``generator`` over ``source`` into ``out``, or goes on with an interrupted run.

    A finished directory with the same settings and source is left as it is and its manifest is
    returned. One whose run ended before its first input was done is begun again, whatever its
    settings were.

    Args:
        generator: what makes the texts; picklable if there is more than one worker.
        source: where the examples come from.
        out: the directory, which must be new, empty or of the same run.
        seed: of all randomness.
        workers: processes; by default one for each usable CPU. With 1, this process does the work.
        executor: where the work runs.
        limit: take at most so many examples (rejected inputs among them don't count).
        on_progress: called after each chunk, in this process.
        options: the engine's own settings.

    Raises:
        ResumeError: if ``out`` holds data made with other settings, or the source has changed
            since. A finished directory knows its source by :meth:`Source.describe` alone: files are
            compared by content, a dataset of the hub by name.
        InputError: if ``out`` or the source can't be used, or the disk is full.
    """
    out = Path(out)
    options = options or EngineOptions()
    if limit is not None and limit < 0:
        raise ConfigError(f"limit is {limit}; it must be at least 0.")
    workers = workers if workers is not None else usable_cpus()
    if executor == "local":
        # Beyond Work's own limit, which a hang in C code escapes.
        executor = LocalExecutor(workers, hang_s=3 * options.item_timeout_s + 5)
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
        shutil.rmtree(out / PARTIAL, ignore_errors=True)  # of a run killed at its last step
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
        # card.md is the card's documented name; the hub and datasets take the YAML header, which
        # keeps rejects.jsonl out of the data, from a README.md alone.
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
class _Pending:
    """A chunk that was drawn and not yet written, and where the source stood after it."""

    items: Sequence[Item]
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
    state = journal.state
    began = time.monotonic() - state.seconds
    committed = time.monotonic()
    pending: deque[_Pending] = deque()
    with closing(_Inputs(source, limit, journal.folder / "seen.sqlite")) as inputs:
        items = iter(inputs)
        _skip_done(items, inputs, state, journal.out)

        def chunks() -> Iterator[Sequence[Item]]:
            while chunk := list(islice(items, options.chunk_size)):
                pending.append(_Pending(chunk, inputs.digest, inputs.fraction()))
                yield chunk

        try:
            with closing(executor.map(work, chunks())) as answers:
                for answer in answers:
                    chunk = pending.popleft()
                    results = [_result(*pair) for pair in zip(chunk.items, answer, strict=True)]
                    journal.write(results, chunk.digest)
                    state.seconds = time.monotonic() - began
                    if time.monotonic() - committed >= options.commit_every_s:
                        journal.commit()
                        committed = time.monotonic()
                    if on_progress:
                        on_progress(_progress(journal, chunk.fraction))
        except BaseException:
            journal.commit()  # keep what is whole: a broken source or Ctrl-C loses no work
            raise
    state.done = True
    journal.commit()


def _result(item: Item, answer: Result | Lost) -> Result:
    if isinstance(answer, Lost):
        return Result(item.id, "failed", answer.reason, answer.detail)
    return answer


def _skip_done(items: Iterator[Item], inputs: _Inputs, state: State, out: Path) -> None:
    """Reads the inputs that an interrupted run has done, and checks that they are the same."""
    number = sum(1 for _ in islice(items, state.position))
    if number < state.position or inputs.digest != state.digest:
        raise ResumeError(
            f"The source has changed: its first {state.position} inputs are not those that {out} "
            "was begun with.",
            "Choose another --out, or restore the source.",
        )


class _Inputs:
    """The items of a source up to a limit of examples, with second uses of an id rejected.

    ``digest`` is a hash of all items so far, each with its content.
    """

    def __init__(self, source: Source, limit: int | None, seen_path: Path) -> None:
        self.source = source
        self.limit = limit
        self.digest = ""
        self.examples = 0
        self.seen = _SeenIds(seen_path)

    def __iter__(self) -> Iterator[Item]:
        if self.limit == 0:
            return
        for item in self.source:
            self.digest = chained(self.digest, item)
            if isinstance(item, Rejected):
                yield item
                continue
            self.examples += 1
            if self.seen.add(item.id):
                yield item
            else:
                yield Rejected(item.id, "duplicate_id", "an earlier input has this id", "skipped")
            if self.examples == self.limit:
                return

    def fraction(self) -> float | None:
        of_source = self.source.fraction()
        if not self.limit:
            return of_source
        return max(of_source or 0.0, self.examples / self.limit)

    def close(self) -> None:
        self.seen.close()


class _SeenIds:
    """A set of ids on disk, so that memory stays flat. It is rebuilt when a run is resumed."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.connection = sqlite3.connect(path, isolation_level=None)
        # Never committed, never recovered: no journal, no syncs; pages spill only if they must.
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID",
            "BEGIN",
        ):
            self._execute(statement)

    def add(self, id_: str) -> bool:
        """Adds an id; False if it was there."""
        key = hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return self._execute("INSERT OR IGNORE INTO seen VALUES (?)", (key,)).rowcount == 1

    def _execute(self, statement: str, values: tuple[bytes, ...] = ()) -> sqlite3.Cursor:
        try:
            return self.connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname not in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None

    def close(self) -> None:
        self.connection.close()


def _progress(journal: Journal, fraction: float | None) -> Progress:
    state = journal.state
    return Progress(
        inputs=state.position,
        resumed=journal.resumed,
        kept=state.kept,
        skipped=sum(state.skipped.values()),
        failed=sum(state.failed.values()),
        texts=state.texts,
        fraction=fraction,
    )


def _manifest(
    config: RunConfig, state: State, versions: Mapping[str, str], workers: int
) -> Manifest:
    seconds = max(state.seconds, 1e-9)
    return Manifest(
        run=config,
        fingerprint=config.fingerprint(),
        counts={
            "inputs": state.position,
            "kept": state.kept,
            "skipped": dict(sorted(state.skipped.items())),
            "failed": dict(sorted(state.failed.items())),
        },
        texts=state.texts,
        characters={"prompt": state.prompt_characters, "trained": state.trained_characters},
        licences=dict(sorted(state.licences.items())),
        files=tuple(state.files),
        versions=versions,
        throughput={
            "seconds": round(seconds, 3),
            "inputs_per_s": round(state.position / seconds, 2),
            "workers": workers,
        },
    )
