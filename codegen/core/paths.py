"""Paths inside untrusted directories, and atomic writes.

A received run directory can contain symbolic links to a user's files, and its journals and
manifests can name files outside of it. All code that reads a file name from a file, or opens a
file in a run directory, uses these functions. Links in the user's path (``--out`` and its
parents) are followed; links below that are rejected.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError, cannot_read

_LONGEST = 255  # bytes of a file name
_SHOWN = 50  # characters of a file's name kept in the name of its partial file


def cache_folder() -> Path:
    """Returns the cache directory: ``$CODEGEN_CACHE``, else ``$XDG_CACHE_HOME/codegen``, else
    ``~/.cache/codegen``.
    """
    if folder := os.environ.get("CODEGEN_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codegen"


def child(folder: str | os.PathLike[str], name: Any, where: str) -> Path:
    """Returns the path of a file in ``folder`` whose name was read from a file.

    Args:
        folder: directory that must directly contain the file.
        name: decoded value of any type.
        where: the file that contains the name, for the error.

    Raises:
        InputError: if the name is not a plain file name, or the file is a symbolic link.
    """
    path = Path(folder, plain_name(name, where))
    if path.is_symlink():
        raise _is_link(path)
    return path


def plain_name(name: Any, where: str) -> str:
    """Returns a name that was read from a file, if it is a plain file name; see :func:`child`.

    Raises:
        InputError: if it is not a plain file name.
    """
    if _is_plain(name):
        return name
    shown = ascii(name)
    raise InputError(
        f"{where} names the file {shown if len(shown) <= 80 else shown[:77] + '...'}, which is not"
        " a plain file name.",
        "The file is corrupt or malicious; regenerate it.",
    )


_MOST_PARTS = 16


def inner_path(name: Any, where: str) -> str:
    """Returns a relative path from a client or a file, such as ``data/input.txt``.

    Args:
        name: decoded value of any type.
        where: source of the name, for the error.

    Raises:
        InputError: if it is absolute, leads out of the directory, or is not a path.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if 0 < len(parts) <= _MOST_PARTS and all(map(_is_plain, parts)):
        return name
    shown = ascii(name)
    raise InputError(
        f"{where} names {shown if len(shown) <= 80 else shown[:77] + '...'}, which is not a path "
        "below the working directory.",
        "Use a relative path without '..'.",
    )


def _is_plain(name: Any) -> bool:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        return False
    try:
        return len(os.fsencode(name)) <= _LONGEST
    except UnicodeEncodeError:
        return False


def own_folder(folder: str | os.PathLike[str]) -> Path:
    """Creates a directory that only codegen writes to, or checks an existing one.

    Raises:
        InputError: as :func:`refuse_links`.
    """
    refuse_links(folder)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_links(folder: str | os.PathLike[str]) -> None:
    """Checks a directory that only codegen writes to; does nothing if it does not exist.

    Raises:
        InputError: if it is a link or not a directory, or contains anything but plain files and
            directories at any depth.
    """
    folder = Path(folder)
    if not os.path.lexists(folder):
        return
    for path in (folder, *_below(folder)):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise _is_link(path)
        if not stat.S_ISDIR(mode) and (path == folder or not stat.S_ISREG(mode)):
            kind = "directory" if path == folder else "plain file"
            raise InputError(f"{path} is not a {kind}.", "Remove it, or choose another directory.")


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):  # does not follow links
        for name in (*folders, *files):
            yield Path(here, name)


def refuse_foreign(folder: Path, *names: str) -> None:
    """Rejects existing files in ``folder`` that no earlier run wrote.

    Raises:
        InputError: if such a file exists; names the first.
    """
    for name in names:
        if os.path.lexists(folder / name):
            raise InputError(
                f"{folder / name} was not written by an earlier run.",
                "Move it, or choose another directory.",
            )


def partial_name(name: str) -> str:
    """Returns a random name for an unfinished file or directory, later renamed to ``name``."""
    return f".{name[:_SHOWN]}.{os.getpid()}.{os.urandom(8).hex()}.partial"


def remove_partials(place: Path, directory: int) -> None:
    """Removes the partial files of processes that were killed while they wrote ``place``.

    Args:
        place: the file or directory that was being written.
        directory: an open descriptor of its directory.
    """
    pattern = re.compile(rf"\.{re.escape(place.name[:_SHOWN])}\.([0-9]+)(\.[0-9a-f]+)?\.partial")
    for left in os.listdir(directory):
        match = pattern.fullmatch(left)
        # Without /proc, on macOS, a living process could be writing it.
        if match and Path("/proc/self").exists() and not Path("/proc", match[1]).exists():
            try:
                os.unlink(left, dir_fd=directory)
            except IsADirectoryError:
                shutil.rmtree(left, ignore_errors=True, dir_fd=directory)
            except OSError:
                continue


def new_folder(place: Path) -> Path:
    """Creates a directory next to ``place``, with a random name, to be renamed when complete."""
    place.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_partials(place, directory)
    finally:
        os.close(directory)
    folder = place.with_name(partial_name(place.name))
    folder.mkdir()
    return folder


def open_plain(
    path: str | os.PathLike[str], flags: int, mode: int = 0o666, *, dir_fd: int | None = None
) -> int:
    """Opens a plain file with ``os.open``: no symbolic link, pipe or device.

    A file opened for writing must have no other name: a received directory may contain a hard link
    to one of the user's files, which would be changed.

    Raises:
        InputError: if it is not a plain file.
        OSError: as ``os.open``.
    """
    # O_NONBLOCK: opening a pipe without a writer would block forever.
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _is_link(Path(path)) from None
        if error.errno == errno.ENXIO:  # a pipe or a socket
            raise _is_no_file(path) from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise _is_no_file(path)
    if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
        os.close(descriptor)
        raise InputError(
            f"{os.fspath(path)} is a hard link to another file, which would be changed.",
            "Copy the directory without hard links (cp -r), or choose another.",
        )
    return descriptor


def write_atomic(
    path: str | os.PathLike[str],
    content: str | bytes | Iterable[str] | Iterable[bytes],
    mode: int = 0o666,
) -> None:
    """Writes a file so that the old or the whole new one exists, even after a crash.

    Text is written as UTF-8. The file is written under a random name in the same directory and
    renamed; a symbolic link at ``path`` is replaced, never followed.
    ``mode`` is the mode of a new file before the umask.

    Raises:
        InputError: if a device, pipe or socket is at ``path``; it would be replaced.
    """
    path = Path(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
            raise InputError(
                f"Cannot write {path}: it is not a regular file.", "Pass another file."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_partials(path, directory)
        partial = partial_name(path.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(open_plain(partial, flags, mode, dir_fd=directory), "wb") as file:
                parts = [content] if isinstance(content, (str, bytes)) else content
                file.writelines(p.encode("utf-8") if isinstance(p, str) else p for p in parts)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            error.filename, error.filename2 = os.fspath(path), None  # instead of the partial file
            raise
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=directory)
    finally:
        os.close(directory)


MOST_UNPACKED = 256 * 2**20
"""Maximum unpacked size in bytes: a few megabytes of gzip can expand to gigabytes."""


def read_packed(path: Path) -> bytes:
    """Returns a file's bytes, decompressed if they are gzip.

    Raises:
        InputError: if it cannot be read, is a pipe or a device, is corrupt, or expands to more than
            :data:`MOST_UNPACKED`.
    """
    try:
        refuse_endless(path)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return file.read()
            with gzip.GzipFile(fileobj=file) as unpacked:
                data = unpacked.read(MOST_UNPACKED + 1)
    except OSError as error:
        raise cannot_read(path, error) from None
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} is corrupt: {error}.") from None
    if len(data) > MOST_UNPACKED:
        raise InputError(
            f"{path} contains more than {MOST_UNPACKED >> 20} MiB.", "Unpack it, or split it."
        )
    return data


def refuse_endless(path: Path) -> None:
    """Rejects a pipe, a socket or a device, which might never end.

    Raises:
        InputError: if the path is one.
        OSError: if it does not exist.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _is_no_file(path)


def _is_link(path: Path) -> InputError:
    return InputError(
        f"{path} is a symbolic link; files of a run are never written or read through one.",
        "Remove the link, or choose another directory.",
    )


def _is_no_file(path: str | os.PathLike[str]) -> InputError:
    return InputError(f"{os.fspath(path)} is not a plain file.", "Remove it, or pass another path.")
