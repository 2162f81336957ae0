"""The files of a run, safe against ``kill -9``.

A run writes into ``OUT/.partial``: ``data-00000.jsonl``, ..., ``rejects.jsonl``, and a journal; a
shard, or a run that drops duplicates, also writes ``kept.jsonl``: the kept examples' fields that
:mod:`codegen.data.merge` needs, and their signatures. At intervals it syncs the data and appends
the :class:`State` to the journal as a line: the number of inputs done, the length of each file, and
all counts so far. Resuming truncates the files to the last state and regenerates the rest; since
each input's texts depend only on the input, the bytes are the same. If the last state counts no
input, the run is restarted with the new settings.

A journal is untrusted: links in ``OUT/.partial`` are rejected, the names of the data files are
derived from their number, and files are truncated only after the settings were compared.

At the end the files move to ``OUT``, then ``manifest.json`` is written, then ``.partial`` is
removed. Each step can be repeated, so a run killed between two steps resumes with the second.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from typing_extensions import TypedDict

from codegen.core.errors import ResumeError
from codegen.core.paths import open_plain, own_folder, write_atomic
from codegen.core.records import conform
from codegen.core.runs import RunDirectory, fingerprint, refuse_changes
from codegen.data.filters.dedup import Dedup, DedupIndex, Signature
from codegen.data.manifest import (
    KEPT,
    MANIFEST,
    PARTIAL,
    REJECTS,
    DataFile,
    Manifest,
    RunConfig,
    Shard,
    Statistics,
    card,
)
from codegen.data.outcomes import InputOutcome

_JOURNAL = "journal.jsonl"


@dataclass(slots=True)
class State:
    """State of a run. ``position``: inputs done; ``digest``: running hash of the inputs."""

    position: int = 0
    digest: str = ""
    rejects_bytes: int = 0
    kept_bytes: int = 0
    files: list[DataFile] = field(default_factory=list)
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    licenses: dict[str, int] = field(default_factory=dict)
    texts: int = 0
    prompt_characters: int = 0
    trained_characters: int = 0
    statistics: Statistics = field(default_factory=Statistics)
    seconds: float = 0.0
    done: bool = False

    def to_json(self) -> str:
        """Returns a line of the journal."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> State:
        """Parses a line of the journal.

        Raises:
            ValueError: if the line is corrupt.
        """
        state = conform(cls, json.loads(line))
        if any(file["name"] != file_name(n) for n, file in enumerate(state.files)):
            raise ValueError("its data files have unexpected names")
        lengths = [length for file in state.files for length in (file["bytes"], file["texts"])]
        if min(state.position, state.rejects_bytes, state.kept_bytes, *lengths) < 0:
            raise ValueError("a number of bytes or inputs is negative")
        return state

    def count(self, result: InputOutcome) -> None:
        """Counts one input's outcome."""
        if result.outcome == "kept":
            self.kept += 1
            self.texts += len(result.measures)
            self.licenses[result.license] = self.licenses.get(result.license, 0) + 1
            self.prompt_characters += result.prompt_characters
            self.trained_characters += result.trained_characters
            for measured in result.measures:
                self.statistics.add(measured)
        else:
            counts = self.skipped if result.outcome == "skipped" else self.failed
            counts[result.reason] = counts.get(result.reason, 0) + 1


def file_name(number: int) -> str:
    """Returns the name of a data file, such as ``data-00000.jsonl``."""
    return f"data-{number:05d}.jsonl"


class Output:
    """The output of one run: opened or resumed, appended to, committed, and finished.

    A context manager that locks the directory against other processes.

    Args:
        header: the settings that determine the data files, and package versions; JSON values.
        shard_bytes: size in bytes at which a data file is closed.
        shard: part of the run; None for all of it.
        dedup: deduplication; None keeps duplicates.

    Raises:
        ResumeError: if ``out`` contains a run with another header, or its journal is corrupt.
        InputError: if ``out`` cannot be used, or contains links.
        MachineError: if the disk is full.
    """

    def __init__(
        self,
        out: Path,
        header: Mapping[str, Any],
        shard_bytes: int,
        shard: Shard | None = None,
        dedup: Dedup | None = None,
    ) -> None:
        self.out = out
        self.folder = out / PARTIAL
        self.header = header
        self.shard_bytes = shard_bytes
        self.shard = shard or Shard()
        self.dedup = dedup
        self.state = State()
        self.resumed = 0  # inputs done by earlier, interrupted runs
        self._index: DedupIndex | None = None
        self._whole = True  # True if the state matches the files
        self._stack = ExitStack()

    def __enter__(self) -> Output:
        RunDirectory(self.out).refuse_nonempty(PARTIAL, MANIFEST)
        self._is_new = not self.out.exists()
        own_folder(self.folder)
        with ExitStack() as stack:
            self.journal = stack.enter_context(RunDirectory(self.folder).open(_JOURNAL))
            found, self.state = self._load()
            if not self.state.position:  # no results yet, so new settings may replace these
                self.journal.clear()
                self.journal.append(json.dumps(self.header))
                found, self.state = self.header, State()
            refuse_changes(self.out, found, self.header)
            self.resumed = self.state.position
            stack.push(self._forget_failed_start)
            if not self.state.done:
                self._cut_back()
                self._open_index()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def _forget_failed_start(self, error: type[BaseException] | None, *_: object) -> None:
        """Deletes the directory if a run fails before its first input is done."""
        if error and not self.state.position:
            self.discard()
            if self._is_new:
                with suppress(OSError):  # another program put a file there
                    self.out.rmdir()

    def _load(self) -> tuple[Mapping[str, object], State]:
        with self.journal.path.open(encoding="utf-8") as file:
            first = file.readline()
            last = ""
            for last in file:  # noqa: B007 - only the last state counts
                pass
        if not last:
            return {}, State()
        try:
            return conform(dict[str, Any], json.loads(first)), State.from_json(last)
        except (ValueError, RecursionError) as error:
            raise ResumeError(
                f"The journal in {self.folder} is corrupt ({error}).",
                "Delete that directory to start over.",
            ) from None

    def _cut_back(self) -> None:
        sizes = {file["name"]: file["bytes"] for file in self.state.files}
        sizes |= {REJECTS: self.state.rejects_bytes, KEPT: self.state.kept_bytes}
        for path in self.folder.glob("data-*.jsonl"):
            if path.name not in sizes:
                path.unlink()
        for name, size in sizes.items():
            path = self.folder / name
            with _open(path) as file:
                if file.seek(0, os.SEEK_END) < size:
                    raise ResumeError(
                        f"{path} is shorter than in the journal.",
                        f"Delete {self.folder} to start over.",
                    )
                file.truncate(size)

    def _open_index(self) -> None:
        if self.dedup is None:
            return
        self._index = DedupIndex(self.dedup)
        with (self.folder / KEPT).open("rb") as file:
            for line in file:
                row = conform(KeptRow, json.loads(line))
                self._index.restore(row["id"], read_signature(row))

    def write(self, results: Sequence[InputOutcome], digest: str) -> None:
        """Appends the outcomes of inputs, in order, and counts them; skips duplicates.

        ``digest`` is the hash of all inputs so far.
        """
        unique = [self._unless_duplicate(result) for result in results]
        self._whole = False
        data, rejects, kept = [], [], []
        for result in unique:
            number = self.shard.number(self.state.position)
            self.state.count(result)
            self.state.position += 1
            if result.outcome != "kept":
                rejects.append(_reject_line(number, result))
                continue
            if self._has_kept:
                kept.append(_kept_line(number, result))
            file = self._file_with_room(data)
            file["bytes"] += len(result.data)
            file["texts"] += len(result.measures)
            data.append(result.data)
        self._flush(data)
        self.state.rejects_bytes += self._append(REJECTS, rejects)
        self.state.kept_bytes += self._append(KEPT, kept)
        self.state.digest = digest
        self._whole = True

    @property
    def _has_kept(self) -> bool:
        return self.shard.of > 1 or self.dedup is not None

    def _unless_duplicate(self, result: InputOutcome) -> InputOutcome:
        if self._index is None or result.signature is None:
            return result
        duplicate = self._index.add(result.id, result.signature)
        if duplicate is None:
            return result
        return InputOutcome(result.id, duplicate.outcome, duplicate.reason, duplicate.detail)

    def _file_with_room(self, pending: list[bytes]) -> DataFile:
        files = self.state.files
        if not files or files[-1]["bytes"] >= self.shard_bytes:
            self._flush(pending)
            files.append({"name": file_name(len(files)), "bytes": 0, "texts": 0})
        return files[-1]

    def _flush(self, pending: list[bytes]) -> None:
        if pending:
            self._append(self.state.files[-1]["name"], pending)
            pending.clear()

    def _append(self, name: str, lines: list[bytes]) -> int:
        data = b"".join(lines)
        if data:
            with _open(self.folder / name) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        return len(data)

    def commit(self) -> None:
        """Syncs written data to disk; does nothing if the last write was incomplete."""
        if not self._whole:
            return
        # The commit after a file's last line syncs it, so syncing the latest two is enough.
        beside = [REJECTS, KEPT] if self._has_kept else [REJECTS]
        for name in [*(file["name"] for file in self.state.files[-2:]), *beside]:
            _sync(self.folder / name)
        self.journal.append(self.state.to_json())

    def finish(
        self, config: RunConfig, versions: Mapping[str, str], workers: int | None, command: str
    ) -> Manifest:
        """Moves the files to the output directory, then writes the manifest."""
        manifest = _manifest(config, self.state, versions, workers, command)
        text = card(manifest)
        # card.md is the card's documented name. The hub and datasets read the YAML header, which
        # keeps rejects.jsonl out of the data, only from README.md. The manifest comes last.
        texts = {"card.md": text, "README.md": text, MANIFEST: manifest.to_json()}
        for name, content in texts.items():
            write_atomic(self.folder / name, content)
        data = [file["name"] for file in self.state.files]
        side = [REJECTS, KEPT] if self.shard.of > 1 else [REJECTS]
        for name in [*data, *side, *texts]:
            if (self.folder / name).exists():  # otherwise an interrupted run moved it
                (self.folder / name).replace(self.out / name)
        _sync(self.out)
        self.discard()
        return manifest

    def discard(self) -> None:
        """Removes the files of the run in progress."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _manifest(
    config: RunConfig,
    state: State,
    versions: Mapping[str, str],
    workers: int | None,
    command: str,
) -> Manifest:
    seconds = max(state.seconds, 1e-9)
    return Manifest(
        run=config,
        fingerprint=fingerprint(config.describe()),
        counts={
            "inputs": state.position,
            "kept": state.kept,
            "skipped": dict(sorted(state.skipped.items())),
            "failed": dict(sorted(state.failed.items())),
        },
        texts=state.texts,
        characters={"prompt": state.prompt_characters, "trained": state.trained_characters},
        licenses=dict(sorted(state.licenses.items())),
        files=tuple(state.files),
        versions=versions,
        throughput={
            "seconds": round(seconds, 3),
            "inputs_per_s": round(state.position / seconds, 2),
            "workers": workers,
        },
        statistics=state.statistics,
        command=command,
    )


class RejectRow(TypedDict):
    """A line of ``rejects.jsonl``."""

    id: str
    outcome: Literal["skipped", "failed"]
    reason: str
    detail: str
    input: int


def _reject_line(number: int, result: InputOutcome) -> bytes:
    row = {
        "id": result.id,
        "outcome": result.outcome,
        "reason": result.reason,
        "detail": result.detail,
        "input": number,
    }
    return json.dumps(row).encode() + b"\n"


class KeptRow(TypedDict):
    """A line of ``kept.jsonl``; the signature's parts are in base64."""

    id: str
    input: int
    texts: int
    license: str
    signature: list[str]


def _kept_line(number: int, result: InputOutcome) -> bytes:
    row: KeptRow = {
        "id": result.id,
        "input": number,
        "texts": len(result.measures),
        "license": result.license,
        "signature": [base64.b64encode(part).decode() for part in result.signature or ()],
    }
    return json.dumps(row).encode() + b"\n"


def read_signature(row: KeptRow) -> Signature:
    """Reads the signature of a line of ``kept.jsonl``.

    Raises:
        ValueError: if the signature is corrupt.
    """
    exact, minhash = (base64.b64decode(part) for part in row["signature"])
    return Signature(exact, minhash)


def _open(path: Path) -> IO[bytes]:
    """Opens a file of the run for appending, unbuffered so that errors are raised at once."""
    descriptor = open_plain(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    return os.fdopen(descriptor, "ab", buffering=0)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
