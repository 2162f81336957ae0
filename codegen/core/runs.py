"""Run directories: locked, bound to one set of settings, journaled, resumable.

Data generation, sampling, fine-tuning, program search and the quickstart each keep their results
in a directory. They can be killed at any time and resumed with the same command, all in the same
way::

    directory = RunDirectory(out)
    with directory.open("log.jsonl") as journal:        # one process at a time
        directory.claim(settings, begun=journal.size > 0)  # the same settings as before
        done = list(read_rows(journal.path))            # whole lines, even after a kill
        ...
        journal.append(json.dumps(result))              # whole lines, or none on a full disk
        directory.write("result.json", text)            # the whole file, or the old one

A journal's complete lines are the finished results; a result that was interrupted is recomputed.
A result must therefore depend only on its settings and its position in the run.

Directories may be untrusted: links in them are never followed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError, MachineError, ResumeError, cannot_read
from codegen.core.paths import child, open_plain, write_atomic

OnProgress = Callable[[int, int], None]
"""Receives the progress of a run: (items done, all items)."""

LOCK = ".lock"
"""Lock file of runs without a journal: an empty file."""


class Journal:
    """An append-only file of lines that survives ``kill -9``: a partial last line is removed.

    It is locked while open, so only one process can use it. Use it as a context manager.

    Args:
        path: the file; created if missing.
        option: command-line option that sets the path, for errors.

    Raises:
        InputError: if another process has it open, or the path is not a plain file.
    """

    def __init__(self, path: str | os.PathLike[str], option: str = "--out") -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = open_plain(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        self._file = os.fdopen(descriptor, "a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise InputError(
                f"{self.path} is being written by another process.",
                f"Wait for it to end, or choose another {option}.",
            ) from None
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        end = size = self.size
        while end > 0:
            start = max(0, end - 65536)
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._file.seek(0, os.SEEK_END)

    def append(self, *lines: str) -> None:
        """Appends lines, passed without line ends; all of them or, on an error, none."""
        start = self.size
        view = memoryview("".join(line + "\n" for line in lines).encode("utf-8"))
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:
            self._file.truncate(start)  # a full disk must not leave a partial line
            raise

    def clear(self) -> None:
        """Removes all lines."""
        self._file.truncate(0)

    def close(self) -> None:
        """Syncs to disk, closes and unlocks the file."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Returns True if a process has a journal open.

    Reads the kernel's list of locks, since taking a lock could stop a run from starting. False if
    the file or the list is missing.
    """
    try:
        status = Path(path).lstat()
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return False
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(" FLOCK " in line and f" {device} " in line for line in locks.splitlines())


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The directory of one run.

    Attributes:
        folder: the directory. Links in its path are followed, links inside it are rejected.
        settings_file: the JSON file with the run's settings.
        option: command-line option that sets the directory, for errors.
    """

    folder: Path
    settings_file: str = "run.json"
    option: str = "--out"

    @contextmanager
    def open(self, journal: str = LOCK) -> Iterator[Journal]:
        """Creates the directory if missing, and locks it against other processes.

        Args:
            journal: name of the journal, which is locked.

        Raises:
            InputError: if another process uses it, it is not writable, or it is a link.
            MachineError: if the disk becomes full, also in the ``with`` body.
        """
        with explain_full_disk(self.folder):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                opened = Journal(self.folder / journal, self.option)
            except (FileExistsError, NotADirectoryError):
                raise InputError(
                    f"{self.folder} is a file.", f"Pass a directory to {self.option}."
                ) from None
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                raise InputError(
                    f"Cannot write to {self.folder}: {error.strerror}.",
                    f"Check the permissions, or choose another {self.option}.",
                ) from None
            with opened:
                yield opened

    def claim(
        self,
        settings: Mapping[str, Any],
        *,
        begun: bool,
        section: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Stores the settings, or checks that the run was started with the same ones.

        Call it with the directory locked. Settings without results are replaced: the first try may
        have failed because of them.

        Args:
            settings: all settings that determine the results (JSON values).
            begun: True if there are any results, even partial.
            section: key of the settings in the settings file; "" if they are the whole file.
            more: with a section: extra keys of the file, stored but not compared.

        Raises:
            ResumeError: if settings differ (names each), or the settings file is missing or
                corrupt.
        """
        now = json.loads(json.dumps(settings))  # as read back: tuples become lists
        stored = self.read(self.settings_file)
        if begun and stored is None:
            raise ResumeError(
                f"{self.folder} contains results but no {self.settings_file}, so their settings "
                "are unknown.",
                f"Choose another {self.option}.",
            )
        then = stored
        if section and isinstance(stored, dict):
            then = stored.get(section)
        if stored is not None and not isinstance(then, dict):
            raise self._damaged()
        if then and now and not then.keys() & now.keys():  # another program's file
            raise self._damaged()
        if begun:
            refuse_changes(self.folder, then or {}, now, self.option)
        elif then != now:
            content = {section: now, **(more or {})} if section else now
            self.write(self.settings_file, json.dumps(content, indent=2) + "\n")

    def read(self, name: str) -> Any:
        """Reads one of the run's JSON files; None if it is missing.

        Raises:
            InputError: if it cannot be read, or is a link.
            ResumeError: if it is not JSON, or null.
        """
        path = child(self.folder, name, str(self.folder))
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise cannot_read(path, error) from None
        except (ValueError, RecursionError):
            value = None
        if value is None:
            raise self._damaged(name)
        return value

    def _damaged(self, name: str = "") -> ResumeError:
        return ResumeError(
            f"{self.folder / (name or self.settings_file)} is corrupt.",
            f"Choose another {self.option}, or delete that directory.",
        )

    def write(self, name: str, content: str | bytes | Iterable[str]) -> Path:
        """Writes one of the run's files atomically and returns its path."""
        write_atomic(self.folder / name, content)
        return self.folder / name

    def refuse_nonempty(self, *own: str) -> None:
        """Rejects a nonempty directory without any of a run's files.

        Args:
            own: file names of which every started run has at least one. Other hidden files are
                ignored.

        Raises:
            InputError: if the directory has other files; names one.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file.", f"Pass a directory to {self.option}.")
        if not self.folder.exists() or any((self.folder / name).exists() for name in own):
            return
        there = sorted(path.name for path in self.folder.iterdir())
        if foreign := [name for name in there if not name.startswith(".")]:
            raise InputError(
                f"{self.folder} is not empty ({foreign[0]!r} is in it) and contains no earlier "
                "run.",
                f"Choose a new directory for {self.option}.",
            )


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Returns the SHA-256 (hex) of settings (JSON values), independent of key order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def refuse_changes(
    where: str | os.PathLike[str],
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    option: str = "--out",
) -> None:
    """Compares an earlier run's settings with the current ones, at any depth.

    Args:
        where: the earlier run's output, for the error.
        then, now: JSON values; a tuple equals the list that it becomes on disk.
        option: command-line option that sets the directory.

    Raises:
        ResumeError: if settings differ; names each with both values.
    """
    flat_then, flat_now = (flatten(json.loads(json.dumps(side))) for side in (then, now))
    changed = [
        key
        for key in dict.fromkeys([*flat_then, *flat_now])
        if _shown(flat_then, key) != _shown(flat_now, key)
    ]
    if changed:
        changes = dict.fromkeys(_change(key, flat_then, flat_now) for key in changed)
        raise ResumeError(
            f"{where} was started with other settings. Changed: {'; '.join(changes)}.",
            f"Choose another {option}, or restore the old settings.",
        )


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens settings (JSON values): the keys of inner objects are joined by dots."""
    return dict(_flat(settings))


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


_CONTENTS = {
    "model_fingerprint": "the model's weights",
    "data_digest": "the data's content",
    "prompts_sha256": "the prompts",
}


def _change(key: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describes a changed setting; digests by the content that they identify."""
    prefix, _, name = key.rpartition(".")
    if name in _CONTENTS:
        return _CONTENTS[name]
    if prefix and name in ("sha256", "digest"):
        return f"the content of {prefix}"
    return f"{key} from {_shown(then, key)} to {_shown(now, key)}"


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return json.dumps(flat[key], ensure_ascii=False) if key in flat else "(not set)"


_NO_SPACE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Raise the file-size limit (ulimit -f)",
}


@contextmanager
def explain_full_disk(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Converts the errors of a full disk, including SQLite's, to one clear line.

    Raises:
        MachineError: if the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise _full_disk(folder, error.errno) from None
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in ("SQLITE_FULL", "SQLITE_IOERR_WRITE"):
            raise
        raise _full_disk(folder, errno.ENOSPC) from None


def _full_disk(folder: str | os.PathLike[str], code: int) -> MachineError:
    return MachineError(
        f"Cannot write to {os.fspath(folder)}: {os.strerror(code)}.",
        f"{_NO_SPACE[code]} and run the same command again to resume.",
    )
