"""Reads the allowed files of a workspace folder.

These are plain files of known languages below the folder, never through a symbolic link and never
on another file system; except secrets (:mod:`codegen.core.secret_scan`), hidden and dependency
folders, files that a ``.gitignore`` in the folder excludes, and generated, binary and large files.
If the folder is a home directory or the root of the file system, no file is read.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from pathspec import GitIgnoreSpec

from codegen.core.errors import InputError
from codegen.core.paths import open_plain
from codegen.core.secret_scan import is_secret

log = logging.getLogger(__name__)

FILE_BYTES = 200_000
_IGNORE_BYTES = 65_536
_WILDCARDS = 6  # maximum per line of a .gitignore; matching more could take forever

_LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".mjs": "javascript",
    ".cjs": "javascript", ".jsx": "javascriptreact", ".ts": "typescript", ".mts": "typescript",
    ".cts": "typescript", ".tsx": "typescriptreact", ".go": "go", ".rs": "rust", ".java": "java",
    ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp", ".hpp": "cpp", ".cs": "csharp",
    ".rb": "ruby", ".php": "php", ".kt": "kotlin", ".swift": "swift", ".scala": "scala",
    ".dart": "dart", ".lua": "lua", ".sh": "shellscript", ".r": "r", ".jl": "julia",
}  # fmt: skip
WATCHED = "**/*.{" + ",".join(suffix[1:] for suffix in _LANGUAGES) + "}"
"""Glob of the files to read."""
_FAMILIES = {
    "javascriptreact": "javascript", "typescript": "javascript", "typescriptreact": "javascript",
    "c": "cpp", "objective-c": "cpp",
}  # fmt: skip
_SKIPPED = frozenset({
    "node_modules", "bower_components", "__pycache__", "site-packages", "venv", "env", "virtualenv",
    "build", "dist", "target", "out", "coverage", "htmlcov", "vendor", "third_party",
})  # fmt: skip
_GENERATED_NAME = re.compile(r"(?i)[._-](min|bundle|generated|pb2|pb2_grpc)\.\w+$|^_version\.py$")
_GENERATED = re.compile(r"(?i)@generated\b|\bdo not edit\b|\bautomatically generated\b")
_HEAD_CHARS = 1000
_LONG_LINES = 200  # average characters per line; longer lines are not written by hand


def local_path(uri: str) -> PurePosixPath | None:
    """Returns the path of a ``file:`` URI on this machine; None for other URIs."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    path = PurePosixPath(unquote(parts.path))
    return path if path.is_absolute() and ".." not in path.parts and "\0" not in str(path) else None


def language_of(path: str) -> str:
    """Returns the LSP language id of a file by its suffix; empty if unknown."""
    return _LANGUAGES.get(PurePosixPath(path).suffix.lower(), "")


def family(language: str) -> str:
    """Returns a language's family; languages that use each other's definitions share one."""
    return _FAMILIES.get(language, language)


class FileRejected(Exception):
    """A file must not be read; the message is a short reason."""


class SourceFolder:
    """The files of one folder.

    Args:
        path: the editor's path of the folder.
        exclude: path patterns of files not to read, in addition to secrets.
        closed: whether to read files that are not open.
    """

    def __init__(self, path: PurePosixPath, exclude: tuple[str, ...], closed: bool) -> None:
        self.path, self.exclude = path, exclude
        self._root = os.path.realpath(path)
        self._rules: dict[str, GitIgnoreSpec | None] = {}
        self.is_read = closed
        if closed and self._root in ("/", os.path.realpath(Path.home())):
            log.warning("The workspace is a home directory or /, so only open documents are used.")
            self.is_read = False

    def forget_rules(self) -> None:
        """Clears the cached ``.gitignore`` rules."""
        self._rules.clear()

    def allowed(self, path: str, is_folder: bool = False) -> bool:
        """Returns True if a file's or folder's name and ``.gitignore`` rules allow reading it."""
        parts = PurePosixPath(path).parts
        for size in range(1, len(parts) + 1):
            folder = size < len(parts) or is_folder
            if folder and (parts[size - 1].startswith(".") or parts[size - 1] in _SKIPPED):
                return False
            if self._ignored(parts[:size], folder):
                return False
        name = f"{path}/x" if is_folder else path
        if is_secret(name, self.exclude) or is_secret(f"{self.path}/{name}", self.exclude):
            return False
        return is_folder or not _GENERATED_NAME.search(parts[-1])

    def _ignored(self, parts: tuple[str, ...], folder: bool) -> bool:
        """Returns True if a ``.gitignore`` excludes a name; the nearest one with a rule decides."""
        for size in range(len(parts) - 1, -1, -1):
            rules = self._rules_of("/".join(parts[:size]))
            if rules is not None:
                inner = "/".join(parts[size:]) + "/" * folder
                if (found := rules.check_file(inner).include) is not None:
                    return found
        return False

    def _rules_of(self, folder: str) -> GitIgnoreSpec | None:
        if folder not in self._rules:
            rules = None
            with suppress(OSError, InputError, FileRejected):
                data, _ = self._bytes(f"{folder}/.gitignore".lstrip("/"), _IGNORE_BYTES)
                lines = data.decode("utf-8", "replace").splitlines()
                rules = GitIgnoreSpec.from_lines(
                    line for line in lines if line.count("*") <= _WILDCARDS
                )
            self._rules[folder] = rules
        return self._rules[folder]

    def read(self, path: str) -> tuple[str, tuple[int, ...]]:
        """Returns a file's text and state.

        Raises:
            FileRejected: if the file must not be read, or is not text.
            OSError, InputError: if the file cannot be opened, or is a link or not a plain file.
        """
        if not self.allowed(path):
            raise FileRejected("ignored")
        data, state = self._bytes(path, FILE_BYTES)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise FileRejected("not UTF-8") from None
        if "\0" in text:
            raise FileRejected("binary")
        return text, state

    def _bytes(self, path: str, most: int) -> tuple[bytes, tuple[int, ...]]:
        with self._parent(path) as (directory, name):
            descriptor = open_plain(name, os.O_RDONLY, dir_fd=directory)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                data = file.read(most + 1) if found.st_size <= most else b""
        if found.st_size > most or len(data) > most:
            raise FileRejected("too large")
        return data, (found.st_mtime_ns, found.st_size, found.st_ino)

    def state(self, path: str) -> tuple[int, ...] | None:
        """Returns a value that changes with the file; None if the file is missing."""
        with suppress(OSError), self._parent(path) as (directory, name):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            return found.st_mtime_ns, found.st_size, found.st_ino
        return None

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Yields a path's directory descriptor, opened without following links, and file name."""
        *folders, name = path.split("/")
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        descriptor = os.open(self._root, flags)
        try:
            for folder in folders:
                inner = os.open(folder, flags | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor, name
        finally:
            os.close(descriptor)

    def entries(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Yields the allowed files and folders in a folder: path, and True for a folder.

        The path of other entries is empty, so that the caller can count them.
        """
        with suppress(OSError), self._parent(f"{folder}/x".lstrip("/")) as (directory, _):
            if os.fstat(directory).st_dev != Path(self._root).stat().st_dev:
                return
            with os.scandir(directory) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}".lstrip("/")
                    is_folder = entry.is_dir(follow_symlinks=False)
                    known = is_folder or (
                        entry.is_file(follow_symlinks=False) and language_of(entry.name)
                    )
                    # A file name that is not UTF-8 is not printable either.
                    fine = known and path.isprintable() and self.allowed(path, is_folder)
                    yield path if fine else "", is_folder


def is_generated(text: str) -> bool:
    """Returns True if a text was generated by a program."""
    lines = text.count("\n") + 1
    return len(text) > _LONG_LINES * lines or _GENERATED.search(text[:_HEAD_CHARS]) is not None
