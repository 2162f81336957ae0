"""Lines of real code to predict, with what other files of the repository define for them.

**Of repositories** (folders of Python files), after RepoBench (Liu et al., arXiv 2306.03091). A
line's *needed* names are those that the file imports from another file of the repository, and the
attributes and keyword arguments that only other files define. Kinds: ``first`` (a line with a
needed name that is used for the first time in the file), ``again`` (with needed names, all used
above) and ``plain`` (none). Imports, comments, strings of several lines and test folders are left
out.

**Of histories** (``commits_*.jsonl.gz`` in the folder ``next_edit``): two files that one commit
changed. The first one is open in its new state, with its changed places as the latest edits; the
line is one that the commit adds to the second, whose text above it is new and behind it old. Kind
``history``; needed names are those of the changed lines of the first file which the second one has
nowhere.
"""

from __future__ import annotations

import ast
import io
import random
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from codegen.benchmarks.tools.history_edits import commit_rows, patched

KINDS = ("first", "again", "plain", "history")

_CHARS = (8, 120)  # of a line
_FIRST_LINE = 12
_MOST_BYTES = 200_000
_TESTS = frozenset({"test", "tests", "testing", "_vendor", "vendor", "site-packages"})
_AMBIGUOUS = 3  # files that define an attribute
_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Other:
    """A file that is open beside the one being edited.

    Attributes:
        path: from the repository's folder.
        text: all of it.
        lines: where it was edited, oldest first.
    """

    path: str
    text: str
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A line to predict.

    Attributes:
        name: what it is known by in results.
        repository: the name of the folder, or owner and name.
        kind: of :data:`KINDS`.
        path: of the file, from the repository's folder.
        prefix: the text before the line, with the line's indentation.
        suffix: the text after the line.
        target: the line, without indentation.
        needed: names that other files define.
        other: of a history.
    """

    name: str
    repository: str
    kind: str
    path: str
    prefix: str
    suffix: str
    target: str
    needed: tuple[str, ...]
    other: Other | None = None


# ------------------------------------------------------------------ repositories


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    text: str
    lines: list[str]
    tree: ast.Module
    defined: frozenset[str]


def repository_cases(folder: Path, rng: random.Random, most: int) -> list[Case]:
    """Up to ``most`` lines of each kind, at most three of a kind of one file."""
    files = list(_files(folder))
    where: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for name in file.defined:
            where[name].add(file.path)
    found: dict[str, list[Case]] = {kind: [] for kind in KINDS[:3]}
    rng.shuffle(files)
    for file in files:
        if set(PurePosixPath(file.path).parts[:-1]) & _TESTS:
            continue
        by_kind: dict[str, list[Case]] = {kind: [] for kind in found}
        for case in _cases(folder.name, file, where):
            by_kind[case.kind].append(case)
        for kind, cases in by_kind.items():
            found[kind] += rng.sample(cases, min(3, len(cases)))
    return [case for cases in found.values() for case in cases[:most]]


def _files(folder: Path) -> Iterator[_File]:
    for path in sorted(folder.rglob("*.py")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        name = path.relative_to(folder).as_posix()
        yield _File(name, text, text.split("\n"), tree, frozenset(_defined(tree)))


def _defined(tree: ast.Module) -> Iterator[str]:
    """Names of functions, classes, methods, fields and top-level variables."""
    bodies = [tree.body, *(n.body for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
    for statement in (one for body in bodies for one in body):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name
        targets = statement.targets if isinstance(statement, ast.Assign) else ()
        if isinstance(statement, ast.AnnAssign):
            targets = (statement.target,)
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _cases(repository: str, file: _File, where: dict[str, set[str]]) -> Iterator[Case]:
    imported, import_lines = _imported(file, where)
    seen: set[str] = set()
    for number, (names, tokens) in sorted(_names_by_line(file.text).items()):
        line = file.lines[number].strip()
        needed = [
            name
            for name, attribute in names
            if name in imported
            or (
                attribute
                and len(name) > 2
                and name not in file.defined
                and 1 <= len(where[name]) <= _AMBIGUOUS
            )
        ]
        first = [name for name in needed if name not in seen]
        if number in import_lines:
            continue
        seen |= set(needed)
        if tokens < 3 or number < _FIRST_LINE or not _CHARS[0] <= len(line) <= _CHARS[1]:
            continue
        kind = "first" if first else "again" if needed else "plain"
        head = "\n".join(file.lines[:number]) + "\n"
        indent = file.lines[number][: len(file.lines[number]) - len(file.lines[number].lstrip())]
        rest = "\n" + "\n".join(file.lines[number + 1 :])
        name = f"{repository} {file.path}:{number + 1}"
        yield Case(
            name, repository, kind, file.path, head + indent, rest, line,
            tuple(dict.fromkeys(first or needed)),
        )  # fmt: skip


def _imported(file: _File, where: dict[str, set[str]]) -> tuple[set[str], set[int]]:
    """Local names of what other files of the repository define, and the lines of all imports."""
    found: set[str] = set()
    lines: set[int] = set()
    for node in ast.walk(file.tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
        if isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".")
            top = PurePosixPath(file.path).parts[0]
            inside = node.level > 0 or top in parts
            for alias in node.names:
                if inside and where.get(alias.name, set()) - {file.path}:
                    found.add(alias.asname or alias.name)
    return found, lines


def _names_by_line(text: str) -> dict[int, tuple[list[tuple[str, bool]], int]]:
    """By line number: its names, whether each is an attribute or a keyword argument, and how many
    tokens begin there; without lines of comments and of strings of several lines.
    """
    found: dict[int, tuple[list[tuple[str, bool]], int]] = {}
    without: set[int] = set()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    depth = 0
    for place, token in enumerate(tokens):
        number = token.start[0] - 1
        if token.type == tokenize.COMMENT:
            without.add(number)
        if token.start[0] != token.end[0] and token.type != tokenize.NEWLINE:
            without |= set(range(number, token.end[0]))
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
            names, count = found.get(number, ([], 0))
            depth += token.string in "([{"
            depth -= token.string in ")]}"
            if token.type == tokenize.NAME:
                attribute = tokens[place - 1].string == "."
                keyword = depth > 0 and tokens[place + 1].string == "="
                names.append((token.string, attribute or keyword))
            found[number] = names, count + 1
    return {number: one for number, one in found.items() if number not in without}


# ------------------------------------------------------------------ histories


def history_cases(folder: Path, rng: random.Random, most: int) -> list[Case]:
    """Up to ``most`` lines, at most two of one pair of files.

    Raises:
        ConfigError: if a file is not in the folder.
    """
    commits: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    for row in commit_rows(folder):
        commits[row["repository"], row["commit"]].append(row)
    found: list[Case] = []
    for rows in commits.values():
        if len(rows) == 2:
            for first, second in (rows, rows[::-1]):
                cases = list(_history(first, second))
                found += rng.sample(cases, min(2, len(cases)))
    rng.shuffle(found)
    return found[:most]


def _history(first: dict[str, str], second: dict[str, str]) -> Iterator[Case]:
    before, hunks = second["old"].splitlines(keepends=True), patched(second["old"], second["diff"])
    after, changes = hunks
    text, edits = patched(first["old"], first["diff"])
    places = tuple(start for *_, start, end in edits if end > start)
    if not places:
        return
    other = Other(first["path"], "".join(text), places)
    changed = {name for *_, a, b in edits for name in _NAME.findall("".join(text[a:b]))}
    known = set(_NAME.findall(second["old"]))
    for _, old_end, start, end in changes:
        for number in range(start, end):
            line = after[number].strip()
            if not _CHARS[0] <= len(line) <= _CHARS[1] or line.startswith(
                ("#", "import ", "from ")
            ):
                continue
            prefix = "".join(after[:number])
            indent = after[number][: len(after[number]) - len(after[number].lstrip())]
            names = set(_NAME.findall(line)) & changed - known - set(_NAME.findall(prefix))
            yield Case(
                f"{second['repository']} {second['commit'][:12]} {second['path']}:{number + 1}",
                second["repository"],
                "history",
                second["path"],
                prefix + indent,
                "\n" + "".join(before[old_end:]),
                line,
                tuple(sorted(names)),
                other,
            )


def new_names(case: Case, shown: Sequence[str]) -> tuple[int, int]:
    """How many names of the target the file has nowhere else, and how many of them are shown."""
    there = set(_NAME.findall(case.prefix)) | set(_NAME.findall(case.suffix))
    words = {word for text in shown for word in _NAME.findall(text)}
    new = {name for name in _NAME.findall(case.target) if len(name) > 2} - there
    return len(new), len(new & words)
