"""Directories of Python files, and the running Python's own standard library."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.data.sources.base import Item, Rejected, file_digest
from codegen.data.sources.functions import FunctionFilter, functions_of
from codegen.errors import InputError
from codegen.records import has_lone_surrogate

MAX_FILE_BYTES = 2 * 2**20
_NOT_SOURCE = frozenset({"__pycache__", "site-packages", "node_modules"})
_NOT_STDLIB = frozenset({"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"})


@dataclass(slots=True)
class PythonFilesSource:
    """The module-level functions with docstrings of all ``*.py`` files under a directory.

    Files come in the order of their paths. Hidden directories, caches and installed packages are
    left out, and links to directories are not followed.
    """

    root: Path
    spec: str
    wanted: FunctionFilter = field(default_factory=FunctionFilter)
    licence: str = ""
    kind: str = "python_files"
    prefix: str = ""
    skip: frozenset[str] = _NOT_SOURCE
    version: str = ""
    _fraction: float | None = None

    def describe(self) -> Mapping[str, Any]:
        """The directory as given, the filter, the files' digest and a version, if there is one."""
        return {
            "kind": self.kind,
            "spec": self.spec,
            "min_lines": self.wanted.min_lines,
            "max_lines": self.wanted.max_lines,
            "min_words": self.wanted.min_words,
            "keep_docstring": self.wanted.keep_docstring,
            "licence": self.licence,
            "sha256": self._digest(),
            **({"version": self.version} if self.version else {}),
        }

    def fraction(self) -> float | None:
        """The share of the files that has been read."""
        return self._fraction

    def __iter__(self) -> Iterator[Item]:
        """Streams the functions, file by file."""
        paths = sorted(_python_files(self.root, self.skip))
        for number, relative in enumerate(paths):
            self._fraction = number / len(paths)
            yield from self._functions(relative)
        self._fraction = 1.0

    def _digest(self) -> str:
        """A hash of the names and contents of all files that are read."""
        whole = hashlib.sha256()
        for relative in sorted(_python_files(self.root, self.skip)):
            try:
                digest = file_digest(self.root / relative)
            except InputError:
                digest = "unreadable"  # it will be rejected
            whole.update(f"{relative}\x00{digest}\x00".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()

    def _functions(self, relative: str) -> Iterator[Item]:
        name = self.prefix + relative
        if has_lone_surrogate(name):  # a file name that is not UTF-8
            name = name.encode("utf-8", "backslashreplace").decode()
        path = self.root / relative
        try:
            if (size := path.stat().st_size) > MAX_FILE_BYTES:
                yield Rejected(name, "file_too_large", f"{size} bytes", "skipped")
                return
            content = path.read_bytes()
        except OSError as error:
            yield Rejected(name, "unreadable", error.strerror or str(error))
            return
        yield from functions_of(content, name, self.wanted, self.spec, self.licence)


def _python_files(root: Path, skip: frozenset[str]) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise InputError(f"Cannot read the directory {error.filename}: {error.strerror}.")

    for folder, subfolders, files in os.walk(root, onerror=fail):
        subfolders[:] = [d for d in subfolders if d not in skip and not d.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") and path.is_file():  # not a pipe or a dangling link
                yield path.relative_to(root).as_posix()


def stdlib_source(wanted: FunctionFilter) -> PythonFilesSource:
    """The standard library of the running Python, without its tests, IDLE, lib2to3 and demos."""
    import platform

    return PythonFilesSource(
        root=Path(sysconfig.get_paths()["stdlib"]),
        spec="stdlib",
        wanted=wanted,
        licence="PSF-2.0",
        kind="stdlib",
        prefix="stdlib/",
        skip=_NOT_SOURCE | _NOT_STDLIB,
        version=platform.python_version(),
    )
