"""Git histories as a source: the changed files of each commit, before and after.

``git:PATH`` reads a repository, or all repositories in a directory: the checked-out branch from its
first commit, without merges. An example's program is the file before the commit; ``meta`` has
``new`` (the content after it), ``path``, ``commit``, ``date`` (the author's, UTC), ``author`` and
``subject``. Renames are not followed.

A repository is untrusted input: libgit2 (pygit2) reads its objects and does not run hooks, filters
or programs from its configuration. A repository that references another one outside the user's
path is rejected. A file's license is its own ``SPDX-License-Identifier``, else the license
file at the top of the same commit, else the license that the user stated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from codegen.core.errors import InputError
from codegen.core.optional_deps import require
from codegen.core.records import Example
from codegen.data.sources import Item, MeasuredSource, Rejected, SourceOptions

MOST_BYTES = 2**20
"""Maximum file size in bytes; larger files are skipped unread."""

_LANGUAGES = {
    ".py": "python", ".pyi": "python", ".js": "javascript", ".jsx": "javascript",
    ".mjs": "javascript", ".ts": "typescript", ".tsx": "typescript", ".go": "go", ".rs": "rust",
    ".java": "java", ".kt": "kotlin", ".c": "c", ".h": "c", ".cc": "cpp", ".cpp": "cpp",
    ".hpp": "cpp", ".cs": "csharp", ".rb": "ruby", ".php": "php", ".swift": "swift",
    ".scala": "scala", ".lua": "lua", ".sh": "bash", ".sql": "sql",
}  # fmt: skip
_STATED = re.compile(r"SPDX-License-Identifier:\s*([\w.+-]+)\s*(?:\*/|-->)?\s*$", re.MULTILINE)
_LICENSE_FILE = re.compile(r"(?:LICEN[CS]E|COPYING|UNLICENSE)(?:[.-].*)?", re.IGNORECASE)
_NOTICE = "redistribution and use in source and binary forms"
# A phrase of each license in lower case with single spaces; the first match counts.
_SENTENCES = (
    ("gnu affero general public license", "AGPL-3.0"),
    ("gnu lesser general public license", "LGPL"),
    ("gnu general public license", "GPL"),
    ("mozilla public license", "MPL-2.0"),
    ("apache license version 2.0", "Apache-2.0"),
    ("python software foundation license", "PSF-2.0"),
    ("this is free and unencumbered software released into the public domain", "Unlicense"),
)


@dataclass(slots=True)
class GitSource(MeasuredSource):
    """The changed files of one or more git histories."""

    path: Path
    options: SourceOptions = field(default_factory=SourceOptions)

    def describe(self) -> Mapping[str, Any]:
        """Returns the path as given and the latest commit of each history."""
        heads = {name: str(repository.head.target) for name, repository in self._repositories()}
        return {
            "kind": "git",
            "spec": str(self.path),
            "heads": heads,
            "license": self.options.license,
        }

    def __iter__(self) -> Iterator[Item]:
        """Streams the changed files."""
        import pygit2
        from pygit2.enums import SortMode

        order = SortMode.TOPOLOGICAL | SortMode.REVERSE
        repositories = list(self._repositories())
        for number, (name, repository) in enumerate(repositories):
            licenses: dict[str, str] = {}
            try:
                ids = [commit.id for commit in repository.walk(repository.head.target, order)]
            except (KeyError, ValueError, pygit2.GitError) as error:
                yield Rejected(name, "missing_object", " ".join(str(error).split()))
                continue
            for place, commit_id in enumerate(ids):
                self._fraction = (number + place / len(ids)) / len(repositories)
                try:
                    yield from self._changed(name, repository, repository[commit_id], licenses)
                except (KeyError, ValueError, pygit2.GitError) as error:
                    # A missing object, as in a shallow or partial clone, or a corrupt one.
                    detail = " ".join(str(error).split())
                    yield Rejected(f"{name}:{str(commit_id)[:12]}", "missing_object", detail)

    def _repositories(self) -> list[tuple[str, Any]]:
        require("pygit2")
        import pygit2

        if not self.path.is_dir():
            raise InputError(f"No directory at {str(self.path)!r}.", "Pass a git repository.")
        folders = [self.path]
        if not _is_repository(self.path):
            folders = sorted(p for p in self.path.iterdir() if p.is_dir() and _is_repository(p))
        if not folders:
            raise InputError(
                f"{self.path} is not a git repository and contains none.",
                "Pass a clone, or a directory of clones.",
            )
        found = []
        for folder in folders:
            _refuse_other_repositories(folder, self.path.resolve())
            try:
                repository = pygit2.Repository(str(folder))
                is_empty = repository.is_empty or repository.head_is_unborn
            except (pygit2.GitError, KeyError, ValueError) as error:
                raise InputError(
                    f"{folder} cannot be read as a git repository: {' '.join(str(error).split())}."
                ) from None
            if not is_empty:
                found.append((folder.resolve().name.removesuffix(".git"), repository))
        if not found:
            raise InputError(f"The repository {folders[0]} has no history.", "Commit something.")
        return found

    def _changed(
        self, name: str, repository: Any, commit: Any, licenses: dict[str, str]
    ) -> Iterator[Item]:
        if len(commit.parents) != 1:
            return
        from pygit2.enums import DeltaStatus

        diff = commit.parents[0].tree.diff_to_tree(commit.tree, context_lines=0)
        date = datetime.fromtimestamp(commit.author.time, UTC).isoformat()[:19]
        subject = commit.message.partition("\n")[0][:200]
        for delta in diff.deltas:
            path = delta.new_file.path
            language = _LANGUAGES.get(PurePosixPath(path).suffix.lower())
            if delta.status != DeltaStatus.MODIFIED or language is None:
                continue
            id_ = f"{name}:{str(commit.id)[:12]}:{path}"
            blobs = (delta.old_file.id, delta.new_file.id)
            if max(_size(repository, blob) for blob in blobs) > MOST_BYTES:
                yield Rejected(id_, "too_large", f"over {MOST_BYTES} bytes", "skipped")
                continue
            try:
                old, new = (repository[blob].data.decode("utf-8") for blob in blobs)
            except UnicodeDecodeError:
                yield Rejected(id_, "not_utf8", path, "skipped")
                continue
            stated = _STATED.search(new[:4000])
            license = stated[1] if stated else self._license(repository, commit, licenses)
            meta = {
                "new": new,
                "path": path,
                "commit": str(commit.id),
                "date": date,
                "author": commit.author.name,
                "subject": subject,
            }
            yield Example(id_, "", old, language, name, license, meta)

    def _license(self, repository: Any, commit: Any, licenses: dict[str, str]) -> str:
        for entry in commit.tree:
            if entry.type_str == "blob" and _LICENSE_FILE.fullmatch(entry.name or ""):
                key = str(entry.id)
                if key not in licenses:
                    is_short = _size(repository, entry.id) < 2**17
                    text = repository[entry.id].data.decode("utf-8", "replace") if is_short else ""
                    licenses[key] = license_of(text)
                if licenses[key]:
                    return licenses[key]
        return self.options.license


def _is_repository(folder: Path) -> bool:
    return (folder / ".git").exists() or (
        (folder / "HEAD").is_file() and (folder / "refs").is_dir()
    )


def _size(repository: Any, object_id: Any) -> int:
    """Returns an object's size in bytes without reading it, since it may be a compression bomb."""
    return repository.odb.read_header(object_id)[1]


def _refuse_other_repositories(folder: Path, within: Path) -> None:
    """Checks that an untrusted repository does not include another repository's history.

    Args:
        within: the user's directory; repositories inside it may share objects.

    Raises:
        InputError: if a file points outside the repository.
    """
    inner = folder / ".git"
    home = inner if inner.is_dir() else folder
    for path in (inner, home / "commondir"):  # a submodule or a linked worktree
        if path.is_file():
            raise _leads_away(path, Path(_text(path).strip()))
    for name in ("HEAD", "config", "packed-refs", "refs", "objects"):
        for path in (home / name, *(home / name).rglob("*")):
            if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
                raise _leads_away(path, path.resolve())
    alternates = home / "objects/info/alternates"
    for line in _text(alternates).splitlines() if alternates.exists() else ():
        if not (target := (home / "objects" / line).resolve()).is_relative_to(within):
            raise _leads_away(alternates, target)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(1 << 16).decode("utf-8", "replace")


def _leads_away(path: Path, target: Path | None) -> InputError:
    return InputError(
        f"{path} points outside its repository, to {target}.",
        "Pass the repository itself, or a clone made by: git clone --no-local",
    )


def license_of(text: str) -> str:
    """Returns the SPDX id of a license text, "" if unknown; GPL and LGPL without a version."""
    words = " ".join(re.sub(r"[^\w\s.]", " ", text.lower()).split())
    for sentence, id_ in _SENTENCES:
        if sentence in words:
            return id_
    if _NOTICE in words:
        endorsed = "endorse or promote products" in words
        return "BSD-3-Clause" if endorsed else "BSD-2-Clause"
    if "permission is hereby granted free of charge" in words:
        return "MIT"
    if "permission to use copy modify and or distribute this software for any purpose" in words:
        return "ISC" if "copyright notice and this permission notice appear" in words else "0BSD"
    return ""


def git(argument: str, options: SourceOptions) -> GitSource:
    """Opens the source ``git:PATH``."""
    if not argument:
        raise InputError("git: requires a path.", "Write it as git:../my-project.")
    return GitSource(Path(argument).expanduser(), options)
