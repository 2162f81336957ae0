"""A large corpus available on every machine: functions, methods and classes of its Python.

Every definition of the standard library and the installed packages becomes an example, extracted
from its file and dedented; nested definitions are part of the enclosing one. Files are parsed,
never imported. Names that a definition takes from its module are undefined in the example, which
LintSeq's checks accept, since the finished program has the same error.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.core.records import Example
from codegen.data.sources import Item, Rejected

MOST_FILE_BYTES = 2**20
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def installed_roots() -> tuple[Path, ...]:
    """Returns the standard library and the folder of installed packages."""
    paths = sysconfig.get_paths()
    return Path(paths["stdlib"]), Path(paths["purelib"])


@dataclass(slots=True)
class DefinitionsSource:
    """A ``Source`` of definitions within a line range, sorted by file path."""

    roots: Sequence[Path] = field(default_factory=installed_roots)
    min_lines: int = 3
    max_lines: int = 120
    _fraction: float | None = None

    def __iter__(self) -> Iterator[Item]:
        """Streams the examples, file by file."""
        files = self._files()
        for number, (root, path) in enumerate(files):
            self._fraction = number / len(files)
            yield from self._definitions(path, f"{root.name}/{path.relative_to(root)}")
        self._fraction = 1.0

    def describe(self) -> Mapping[str, Any]:
        """Returns the limits, and a digest of the file names and sizes."""
        names = "\n".join(f"{path}\t{path.stat().st_size}" for _, path in self._files())
        return {
            "kind": "definitions",
            "min_lines": self.min_lines,
            "max_lines": self.max_lines,
            "sha256": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest(),
        }

    def fraction(self) -> float | None:
        """Returns the fraction of files read."""
        return self._fraction

    def _files(self) -> list[tuple[Path, Path]]:
        found: dict[Path, Path] = {}
        for root in self.roots:
            for path in sorted(root.rglob("*.py")):
                inside = path.relative_to(root).parts
                # The packages' folder may be inside the library's; each file is included once.
                if "site-packages" not in inside and "__pycache__" not in inside:
                    found.setdefault(path, root)
        return [(root, path) for path, root in found.items()]

    def _definitions(self, path: Path, name: str) -> Iterator[Item]:
        try:
            if path.stat().st_size > MOST_FILE_BYTES:
                yield Rejected(name, "file_too_large", "", "skipped")
                return
            text = path.read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
            yield Rejected(name, "unparsable", type(error).__name__)
            return
        lines = text.split("\n")
        for node in _definitions(tree):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            last = node.end_lineno or node.lineno
            if self.min_lines <= last - first + 1 <= self.max_lines:
                program = textwrap.dedent("\n".join(lines[first - 1 : last]) + "\n")
                yield Example(
                    f"{name}::{node.name}@{first}", f"Write {node.name}.", program, source="corpus"
                )


def _definitions(tree: ast.Module | ast.ClassDef) -> Iterator[_Definition]:
    for node in tree.body:
        if isinstance(node, _Definition):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node)
