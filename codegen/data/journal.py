"""The files of a run in progress, and how they survive ``kill -9``.

A run writes into ``OUT/.partial``: ``data-00000.jsonl``, ..., ``rejects.jsonl``, one shard of a run
also ``kept.jsonl`` (what :mod:`codegen.data.merge` must know of its examples), and a journal.
From time to time it syncs the data and appends one line to the journal, the :class:`State`: how
many inputs are done, how long each file is, all counts so far. Opening a run again cuts the files
back to the last state, so that what was written after it is made anew; since each input's texts are
a function of the input, the bytes are the same. A journal whose last state counts no input is begun
again, with the settings of the new run.

A journal may have come from a stranger: nothing in ``OUT/.partial`` may be a link, the names of the
data files follow from their number, and nothing is cut before the settings were compared.

At the end the files move to ``OUT``, then ``manifest.json`` is written, then ``.partial`` goes.
Each step may be done twice, so a run killed between two of them goes on there.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from codegen.data.inputs import Shard
from codegen.data.manifest import MANIFEST, refuse_changes
from codegen.data.outcomes import Result
from codegen.data.statistics import Statistics
from codegen.errors import InputError, ResumeError
from codegen.paths import child, own_folder
from codegen.records import AppendLog, write_atomic
from codegen.schema import conform

PARTIAL = ".partial"
REJECTS = "rejects.jsonl"
KEPT = "kept.jsonl"
_JOURNAL = "journal.jsonl"


class DataFile(TypedDict):
    """One file of training texts."""

    name: str
    bytes: int
    texts: int


@dataclass(slots=True)
class State:
    """How far a run is. ``position`` counts inputs; ``digest`` is a running hash of them all."""

    position: int = 0
    digest: str = ""
    rejects_bytes: int = 0
    kept_bytes: int = 0
    files: list[DataFile] = field(default_factory=list)
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    licences: dict[str, int] = field(default_factory=dict)
    texts: int = 0
    prompt_characters: int = 0
    trained_characters: int = 0
    statistics: Statistics = field(default_factory=Statistics)
    seconds: float = 0.0
    done: bool = False

    def to_json(self) -> str:
        """One line of the journal."""
        return json.dumps({**asdict(self), "statistics": self.statistics.to_json()})

    @classmethod
    def from_json(cls, line: str) -> State:
        """Back from :meth:`to_json`.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: if the line is damaged.
        """
        row = json.loads(line)
        state = conform(cls, {**row, "statistics": Statistics.from_json(row["statistics"])})
        if any(file["name"] != file_name(n) for n, file in enumerate(state.files)):
            raise ValueError("its data files have other names than a run gives")
        lengths = [length for file in state.files for length in (file["bytes"], file["texts"])]
        if min(state.position, state.rejects_bytes, state.kept_bytes, *lengths) < 0:
            raise ValueError("a number of bytes or inputs is negative")
        return state

    def count(self, result: Result) -> None:
        """Adds one input's outcome."""
        if result.outcome == "kept":
            self.kept += 1
            self.texts += len(result.measures)
            self.licences[result.licence] = self.licences.get(result.licence, 0) + 1
            self.prompt_characters += result.prompt_characters
            self.trained_characters += result.trained_characters
            for measured in result.measures:
                self.statistics.add(measured)
        else:
            counts = self.skipped if result.outcome == "skipped" else self.failed
            counts[result.reason] = counts.get(result.reason, 0) + 1


def file_name(number: int) -> str:
    """``data-00000.jsonl``, ..."""
    return f"data-{number:05d}.jsonl"


class Journal:
    """The output of one run: opens or resumes it, appends results, commits, and finishes.

    Use it as a context manager: it holds the directory against a second run.

    Raises:
        ResumeError: if ``out`` holds a run with another header, or its journal is damaged.
        InputError: if ``out`` can't be used, or holds links where files of ours should be.
    """

    def __init__(
        self, out: Path, header: Mapping[str, Any], shard_bytes: int, shard: Shard | None = None
    ) -> None:
        self.out = out
        self.folder = out / PARTIAL
        self.shard_bytes = shard_bytes
        self.shard = shard or Shard()
        _refuse_foreign(out)
        self._whole = True  # whether the state says what is in the files
        own_folder(self.folder)
        self.log = AppendLog(self.folder / _JOURNAL)
        try:
            found, self.state = self._load()
            if not self.state.position:  # nothing to mix with: a failed first try may be mended
                os.truncate(self.log.path, 0)
                self.log.append(json.dumps(header))
                found, self.state = header, State()
            refuse_changes(out, found, header)
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
            return conform(dict[str, Any], json.loads(first)), State.from_json(last)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ResumeError(
                f"The journal in {self.folder} is damaged ({error}).",
                "Delete that directory to begin anew.",
            ) from None

    def _cut_back(self) -> None:
        sizes = {file["name"]: file["bytes"] for file in self.state.files}
        sizes |= {REJECTS: self.state.rejects_bytes, KEPT: self.state.kept_bytes}
        for path in self.folder.glob("data-*.jsonl"):
            if path.name not in sizes:
                path.unlink()
        for name, size in sizes.items():
            path = child(self.folder, name, str(self.log.path))
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
        data, rejects, kept = [], [], []
        for result in results:
            number = self.shard.number(self.state.position)
            self.state.count(result)
            self.state.position += 1
            if result.outcome != "kept":
                rejects.append(_reject_line(number, result))
                continue
            if self.shard.of > 1:
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
        for name in [*(file["name"] for file in self.state.files[-2:]), *self._side_files()]:
            _sync(self.folder / name)
        self.log.append(self.state.to_json())

    def _side_files(self) -> list[str]:
        return [REJECTS, KEPT] if self.shard.of > 1 else [REJECTS]

    def find(self, name: str) -> Path:
        """Where a file is: in place already, if the run was killed while its files were moved."""
        path = self.folder / name
        return path if path.exists() else self.out / name

    def publish(self, texts: Mapping[str, str], more: Sequence[str] = ()) -> None:
        """Moves the data into place, then ``texts`` (name -> content, the manifest last).

        Args:
            texts: files to be written.
            more: names of further files that are in the folder already.
        """
        for name, text in texts.items():
            write_atomic(self.folder / name, text)
        data = [file["name"] for file in self.state.files]
        for name in [*data, *self._side_files(), *more, *texts]:
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


def _reject_line(number: int, result: Result) -> bytes:
    row = {
        "id": result.id,
        "outcome": result.outcome,
        "reason": result.reason,
        "detail": result.detail,
        "input": number,
    }
    return json.dumps(row).encode() + b"\n"


def _kept_line(number: int, result: Result) -> bytes:
    signature = [base64.b64encode(part).decode() for part in result.signature or ()]
    row = {
        "id": result.id,
        "input": number,
        "texts": len(result.measures),
        "bytes": len(result.data),
        "licence": result.licence,
        "signature": signature,
    }
    return json.dumps(row).encode() + b"\n"


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
    """Turns the errors of a full disk, SQLite's too, into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise _full_disk(out, error.errno) from None
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
            raise
        raise _full_disk(out, errno.ENOSPC) from None


def _full_disk(out: Path, code: int) -> InputError:
    return InputError(
        f"Cannot write to {out}: {os.strerror(code)}.",
        f"{_NO_SPACE[code]} and run the same command again: it goes on from there.",
    )
