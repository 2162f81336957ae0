"""The data engine: runs a generator over a source into a data directory.

The engine guarantees for every generator:

* The same bytes for any number of workers, chunk size or executor: an example's randomness is
  derived from (seed, example id), and results are written in input order.
* After ``kill -9`` at any time, the same call produces the same files (see
  :mod:`codegen.data.output`).
* No input is lost silently: each is kept, skipped(reason) or failed(reason), is counted in the
  manifest, and is listed in ``rejects.jsonl`` if not kept.
* Memory does not grow with the corpus: sources stream, chunks in flight are bounded, and the ids
  seen so far are on disk.

Limit: resuming rereads the source from its start to check that it has not changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from codegen.core.cluster import usable_cpus
from codegen.core.errors import ConfigError, ResumeError
from codegen.data.executors import Executor, FailedItem, LocalExecutor, RayExecutor
from codegen.data.filters import Filter
from codegen.data.filters.decontamination import Decontamination
from codegen.data.filters.dedup import Dedup
from codegen.data.generators import TextGenerator
from codegen.data.manifest import (
    MANIFEST,
    PARTIAL,
    Manifest,
    RunConfig,
    Shard,
    load_manifest,
    refuse_other_run,
    versions_in_use,
)
from codegen.data.outcomes import InputOutcome, MapTask
from codegen.data.output import Output, State
from codegen.data.sources import Item, Rejected, Source, chained


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Execution options of a run.

    Attributes:
        chunk_size: inputs sent to a worker at once; does not affect the data.
        commit_every_s: minimum seconds between commits; a crash loses about this much work.
        shard_bytes: size in bytes at which a data file is closed.
        item_timeout_s: time limit in seconds per example; a slower one fails with ``timeout``.
        max_characters: maximum program length; a longer one is skipped as ``too_large``. Long
            programs are expensive: LintSeq took 3.7 GB and 42 s for one of 12 MB.
    """

    chunk_size: int = 32
    commit_every_s: float = 1.0
    shard_bytes: int = 256 * 2**20
    item_timeout_s: float = 60.0
    max_characters: int = 2**20

    def __post_init__(self) -> None:
        for name in ("chunk_size", "shard_bytes", "item_timeout_s", "max_characters"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run.

    ``inputs`` are done, ``resumed`` of them by earlier, interrupted runs. ``fraction`` is the
    completed fraction of the work, in [0, 1], or None if unknown.
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
    executor: Executor | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
    filters: Sequence[Filter] = (),
    dedup: Dedup | None = None,
    on_progress: Callable[[RunProgress], None] | None = None,
    options: EngineOptions | None = None,
    command: str = "",
) -> Manifest:
    """Runs ``generator`` over ``source`` into ``out``, or resumes an interrupted run.

    A finished directory with the same settings and source is left unchanged, and its manifest is
    returned. A run interrupted before its first input was done is restarted, even with other
    settings.

    Args:
        generator: the data generator; must be picklable for more than one worker.
        out: output directory; must be new, empty or from the same run.
        workers: number of processes; by default one per usable CPU, or all CPUs of a Ray
            cluster. With 1, this process does the work unless the executor is Ray.
        executor: the executor; by default processes on this machine.
        limit: maximum number of examples (rejected inputs do not count).
        shard: the part to generate; :func:`codegen.data.merge.merge` joins the parts and removes
            duplicates.
        filters: example filters, at most one :class:`Decontamination`.
        dedup: drops duplicates of earlier kept examples; None keeps them.
        on_progress: callback at the start and after each chunk, in this process.

    Raises:
        ResumeError: if ``out`` contains data made with other settings, or the source has changed.
            For a finished directory only :meth:`Source.describe` is compared: digests of files, but
            only the names of hub datasets.
        InputError: if ``out`` or the source cannot be used, or the disk is full.
    """
    out = Path(out)
    options = options or EngineOptions()
    decontamination, others = _describe(filters)
    shard = shard or Shard()
    if limit is not None and limit < 0:
        raise ConfigError(f"limit is {limit}; it must be at least 0.")
    # Longer than the task's own limit, which does not stop a hang in C code.
    hang_s = 3 * options.item_timeout_s + 5
    if executor is None:
        executor = LocalExecutor(workers if workers is not None else usable_cpus(), hang_s=hang_s)
    elif isinstance(executor, RayExecutor) and executor.hang_s is None:
        executor = replace(executor, workers=workers or executor.workers, hang_s=hang_s)
    config = RunConfig(
        generator=generator.name,
        config=config_of(generator),
        source=dict(source.describe()),
        seed=seed,
        limit=limit,
        shard_bytes=options.shard_bytes,
        item_timeout_s=options.item_timeout_s,
        decontamination=decontamination,
        dedup=dict(dedup.describe()) if dedup else None,
        max_characters=options.max_characters,
        shard=str(shard) if shard.of > 1 else None,
        filters=others,
    )
    if finished := find_finished(out, config):
        shutil.rmtree(out / PARTIAL, ignore_errors=True)  # left by a run killed at its last step
        return finished
    versions = versions_in_use()
    header = {"run": config.describe(), "versions": versions}
    whole_dedup = dedup if shard.of == 1 else None  # merging shards removes duplicates
    with Output(out, header, options.shard_bytes, shard, whole_dedup) as output:
        # Another run may have finished between the first check and the lock.
        if finished := find_finished(out, config):
            output.discard()
            return finished
        if not output.state.done:
            task = MapTask(
                generator, seed, options.item_timeout_s, options.max_characters, tuple(filters),
                dedup,
            )  # fmt: skip
            _generate(output, source, task, executor, limit, on_progress, options)
        return output.finish(config, versions, getattr(executor, "workers", None), command)


def _describe(
    filters: Sequence[Filter],
) -> tuple[dict[str, object] | None, tuple[dict[str, object], ...]]:
    """Returns the descriptions of decontamination and of the other filters."""
    decontamination = [f for f in filters if isinstance(f, Decontamination)]
    if len(decontamination) > 1:
        raise ConfigError(
            "There is more than one decontamination filter.", "List all test sets in one filter."
        )
    others = tuple(
        {"filter": type(f).__name__, **f.describe()}
        for f in filters
        if not isinstance(f, Decontamination)
    )
    return dict(decontamination[0].describe()) if decontamination else None, others


def config_of(generator: TextGenerator) -> dict[str, Any]:
    """Returns a generator's configuration: the result of ``config()``, else its name and fields.

    Raises:
        ConfigError: if the generator has neither, since a resumed run could not detect a change.
    """
    describe = getattr(generator, "config", None)
    if callable(describe):
        return dict(describe())  # type: ignore[call-overload]
    from codegen.core.config import Config  # imports pydantic, which workers do not need

    if isinstance(generator, Config):
        return {"name": generator.name, **generator.model_dump()}
    if dataclasses.is_dataclass(generator) and not isinstance(generator, type):
        return dataclasses.asdict(generator)
    raise ConfigError(
        f"The generator {generator.name!r} has no configuration.",
        "Make it a dataclass, or add a method config().",
    )


def is_finished(out: str | os.PathLike[str]) -> bool:
    """Returns True if the directory contains a finished run."""
    return Path(out, MANIFEST).is_file()


def find_finished(out: Path, config: RunConfig) -> Manifest | None:
    """Returns the manifest of a finished run with these settings; None if not finished."""
    if not is_finished(out):
        return None
    manifest = load_manifest(out)
    refuse_other_run(out, manifest.run, config)
    return manifest


class Inputs:
    """The items of a source up to a limit of examples; repeated ids are rejected.

    ``digest`` is a hash of the contents of all items so far, including other shards' items.
    """

    def __init__(
        self, source: Source, limit: int | None, seen_path: Path, shard: Shard | None = None
    ) -> None:
        self.source = source
        self.limit = limit
        self.shard = shard or Shard()
        self.digest = ""
        self.examples = 0
        self.seen = _seen_ids(seen_path)

    def __iter__(self) -> Iterator[Item]:
        for number, item in enumerate(self._all()):
            if number % self.shard.of == self.shard.index:
                yield item

    def _all(self) -> Iterator[Item]:
        if self.limit == 0:
            return
        for item in self.source:
            self.digest = chained(self.digest, item)
            if isinstance(item, Rejected):
                yield item
                continue
            self.examples += 1
            if self._is_new(item.id):
                yield item
            else:
                yield Rejected(item.id, "duplicate_id", "an earlier input has this id", "skipped")
            if self.examples == self.limit:
                return

    def fraction(self) -> float | None:
        """Returns the fraction of the inputs read so far, in [0, 1]; None if unknown."""
        of_source = self.source.fraction()
        if not self.limit:
            return of_source
        return max(of_source or 0.0, self.examples / self.limit)

    def close(self) -> None:
        """Closes the set of ids."""
        self.seen.close()

    def _is_new(self, id_: str) -> bool:
        """Adds an id; returns True if it is new."""
        key = hashlib.blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        statement = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self.seen.execute(statement, (key,)).rowcount == 1


def _seen_ids(path: Path) -> sqlite3.Connection:
    """Creates a set of ids on disk to bound memory; a resumed run rebuilds it."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    # Never committed or recovered, so it needs no journal or syncs.
    for statement in (
        "PRAGMA journal_mode = OFF",
        "PRAGMA synchronous = OFF",
        "CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID",
        "BEGIN",
    ):
        connection.execute(statement)
    return connection


@dataclass(frozen=True, slots=True)
class _Pending:
    """A chunk read but not yet written, and the source's state after it."""

    items: Sequence[Item]
    digest: str
    fraction: float | None


def _generate(
    output: Output,
    source: Source,
    task: MapTask,
    executor: Executor,
    limit: int | None,
    on_progress: Callable[[RunProgress], None] | None,
    options: EngineOptions,
) -> None:
    state = output.state
    began = time.monotonic() - state.seconds
    committed = time.monotonic()
    pending: deque[_Pending] = deque()
    if on_progress:
        on_progress(_progress(output, None))
    with closing(Inputs(source, limit, output.folder / "seen.sqlite", output.shard)) as inputs:
        items = iter(inputs)
        _skip_done(items, inputs, state, output.out)

        def chunks() -> Iterator[Sequence[Item]]:
            while chunk := list(islice(items, options.chunk_size)):
                pending.append(_Pending(chunk, inputs.digest, inputs.fraction()))
                yield chunk

        try:
            with closing(executor.map(task, chunks())) as answers:
                for answer in answers:
                    chunk = pending.popleft()
                    results = [_result(*pair) for pair in zip(chunk.items, answer, strict=True)]
                    output.write(results, chunk.digest)
                    state.seconds = time.monotonic() - began
                    if time.monotonic() - committed >= options.commit_every_s:
                        output.commit()
                        committed = time.monotonic()
                    if on_progress:
                        on_progress(_progress(output, chunk.fraction))
        except BaseException:
            output.commit()  # keep finished work after a source error or Ctrl-C
            raise
    state.done = True
    output.commit()


def _result(item: Item, answer: InputOutcome | FailedItem) -> InputOutcome:
    if isinstance(answer, FailedItem):
        return InputOutcome(item.id, "failed", answer.reason, answer.detail)
    return answer


def _skip_done(items: Iterator[Item], inputs: Inputs, state: State, out: Path) -> None:
    """Rereads the inputs that an interrupted run finished; checks that they are unchanged."""
    number = sum(1 for _ in islice(items, state.position))
    if number < state.position or inputs.digest != state.digest:
        raise ResumeError(
            f"The source has changed: its first {state.position} inputs differ from those that "
            f"{out} was started with.",
            "Choose another --out, or restore the source.",
        )


def _progress(output: Output, fraction: float | None) -> RunProgress:
    state = output.state
    return RunProgress(
        inputs=state.position,
        resumed=output.resumed,
        kept=state.kept,
        skipped=sum(state.skipped.values()),
        failed=sum(state.failed.values()),
        texts=state.texts,
        fraction=fraction,
    )
