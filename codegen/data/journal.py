"""The files of a run in progress, and how they survive ``kill -9``.

A run writes into ``OUT/.partial``: ``data-00000.jsonl``, ..., ``rejects.jsonl``, and a journal.
From time to time it syncs the data and appends one line to the journal, the :class:`State`: how
many inputs are done, how long each file is, all counts so far. Opening a run again cuts the files
back to the last state, so that what was written after it is made anew; since each input's texts are
a function of the input, the bytes are the same. A journal whose last state counts no input is begun
again, with the settings of the new run.

At the end the files move to ``OUT``, then ``manifest.json`` is written, then ``.partial`` goes.
Each step may be done twice, so a run killed between two of them goes on there.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codegen.data.manifest import MANIFEST
from codegen.data.outcomes import Result
from codegen.errors import InputError, ResumeError
from codegen.records import AppendLog, write_atomic

PARTIAL = ".partial"
REJECTS = "rejects.jsonl"
_JOURNAL = "journal.jsonl"


@dataclass(slots=True)
class State:
    """How far a run is. ``position`` counts inputs; ``digest`` is a running hash of them all."""

    position: int = 0
    digest: str = ""
    rejects_bytes: int = 0
    files: list[dict[str, Any]] = field(default_factory=list)
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    licences: dict[str, int] = field(default_factory=dict)
    texts: int = 0
    prompt_characters: int = 0
    trained_characters: int = 0
    seconds: float = 0.0
    done: bool = False

    def count(self, result: Result) -> None:
        """Adds one input's outcome."""
        if result.outcome == "kept":
            self.kept += 1
            self.texts += len(result.lines)
            self.licences[result.licence] = self.licences.get(result.licence, 0) + 1
            self.prompt_characters += result.prompt_characters
            self.trained_characters += result.trained_characters
        else:
            counts = self.skipped if result.outcome == "skipped" else self.failed
            counts[result.reason] = counts.get(result.reason, 0) + 1


def shard_name(number: int) -> str:
    """``data-00000.jsonl``, ..."""
    return f"data-{number:05d}.jsonl"


class Journal:
    """The output of one run: opens or resumes it, appends results, commits, and finishes.

    Use it as a context manager: it holds the directory against a second run.
    """

    def __init__(self, out: Path, header: Mapping[str, Any], shard_bytes: int) -> None:
        self.out = out
        self.folder = out / PARTIAL
        self.shard_bytes = shard_bytes
        _refuse_foreign(out)
        self._whole = True  # whether the state says what is in the files
        self.log = AppendLog(self.folder / _JOURNAL)
        try:
            self.header, self.state = self._load()
            if not self.state.position:  # nothing to mix with: a failed first try may be mended
                os.truncate(self.log.path, 0)
                self.log.append(json.dumps(header))
                self.header, self.state = header, State()
            self.resumed = self.state.position
            if not self.state.done:
                self._cut_back()
        except BaseException:
            self.log.close()
            raise

    def _load(self) -> tuple[Mapping[str, Any], State]:
        with (self.folder / _JOURNAL).open(encoding="utf-8") as file:
            first = file.readline()
            last = ""
            for last in file:  # noqa: B007 - only the last state counts
                pass
        if not last:
            return {}, State()
        try:
            return json.loads(first), State(**json.loads(last))
        except (ValueError, TypeError) as error:
            raise ResumeError(
                f"The journal in {self.folder} is damaged ({error}).",
                "Delete that directory to begin anew.",
            ) from None

    def _cut_back(self) -> None:
        sizes = {file["name"]: file["bytes"] for file in self.state.files}
        sizes[REJECTS] = self.state.rejects_bytes
        for path in self.folder.glob("data-*.jsonl"):
            if path.name not in sizes:
                path.unlink()
        for name, size in sizes.items():
            path = self.folder / name
            with path.open("ab") as file:
                if file.tell() < size:
                    raise ResumeError(
                        f"{path} is shorter than the journal says.",
                        f"Delete {self.folder} to begin anew.",
                    )
                file.truncate(size)

    def write(self, results: list[Result], digest: str) -> None:
        """Appends the texts and rejections of some inputs, in order, and counts them.

        Args:
            results: one for each input.
            digest: the hash of all inputs up to the last of them.
        """
        self._whole = False
        rejects = []
        pending: list[str] = []
        for result in results:
            self.state.count(result)
            self.state.position += 1
            if result.outcome != "kept":
                rejects.append(_reject_line(result))
                continue
            self._new_shard_if_full(pending)
            pending.extend(result.lines)
            shard = self.state.files[-1]
            shard["bytes"] += sum(len(_encode(line)) for line in result.lines)
            shard["texts"] += len(result.lines)
        self._flush(pending)
        self.state.rejects_bytes += self._append(REJECTS, rejects)
        self.state.digest = digest
        self._whole = True

    def _new_shard_if_full(self, pending: list[str]) -> None:
        files = self.state.files
        if not files or files[-1]["bytes"] >= self.shard_bytes:
            self._flush(pending)
            files.append({"name": shard_name(len(files)), "bytes": 0, "texts": 0})

    def _flush(self, pending: list[str]) -> None:
        if pending:
            self._append(self.state.files[-1]["name"], pending)
            pending.clear()

    def _append(self, name: str, lines: list[str]) -> int:
        data = b"".join(_encode(line) for line in lines)
        if data:
            # Unbuffered, and whole or an error: nothing is left to fail at a later close.
            with (self.folder / name).open("ab", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        return len(data)

    def commit(self) -> None:
        """Makes what was written survive a crash; does nothing if the last write failed midway."""
        if not self._whole:
            return
        # A full file is synced by the commit after its last line; the newest ones are enough.
        for name in [file["name"] for file in self.state.files[-2:]] + [REJECTS]:
            _sync(self.folder / name)
        self.log.append(json.dumps(asdict(self.state)))

    def publish(self, texts: Mapping[str, str]) -> None:
        """Moves the data into place, writes ``texts`` (name -> content, the manifest last)."""
        for name, text in texts.items():
            write_atomic(self.folder / name, text)
        for name in [*(file["name"] for file in self.state.files), REJECTS, *texts]:
            if (self.folder / name).exists():  # else moved by a run that was then killed
                (self.folder / name).replace(self.out / name)
        _sync(self.out)
        self.discard()

    def discard(self) -> None:
        """Removes the files of the run in progress."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()


def _reject_line(result: Result) -> str:
    row = {
        "id": result.id,
        "outcome": result.outcome,
        "reason": result.reason,
        "detail": result.detail,
    }
    return json.dumps(row)


def _encode(line: str) -> bytes:
    return line.encode("utf-8") + b"\n"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_foreign(out: Path) -> None:
    """Refuses a directory that holds files which no run of ours left."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file.", "Give a directory to --out.")
    if not out.exists() or (out / PARTIAL).exists():
        return
    foreign = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if foreign and not (out / MANIFEST).exists():
        raise InputError(
            f"{out} is not empty ({foreign[0]!r} is in it) and holds no data of an earlier run.",
            "Choose a new directory for --out.",
        )


_NO_SPACE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Raise the file-size limit (ulimit -f)",
}


@contextmanager
def explain_full_disk(out: Path) -> Iterator[None]:
    """Turns the errors of a full disk into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise InputError(
            f"Cannot write to {out}: {error.strerror}.",
            f"{_NO_SPACE[error.errno]} and run the same command again: it goes on from there.",
        ) from None
