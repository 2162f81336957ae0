"""Real edits from the commits of repositories, with a cursor after them.

The data are file changes of commits (``commits_test.jsonl.gz`` and ``commits_train.jsonl.gz`` in
the folder ``next_edit``): the file before, and a diff. A case uses one change of one of six kinds:

- ``insert``, ``delete``: lines that are only added or only removed, by one hunk.
- ``top``: one hunk that begins within the first lines of the file.
- ``several``: all hunks of the change.
- ``paste``: a block of added lines that appears at once: at least three that occur elsewhere in the
  file (moved or copied), or at least six.
- ``rename``: all lines of the change that differ only by one identifier, the same in all.

The cursor is at the end of some word, 0 to 40 lines after the change's last line; the rest of its
line is removed, as if about to be typed.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from codegen.core.errors import ConfigError

KINDS = ("insert", "delete", "several", "top", "paste", "rename")
FILES = ("commits_train.jsonl.gz", "commits_test.jsonl.gz")
# These repositories are skipped, since the server's policy was chosen on them.
FITTED_ON = frozenset(
    {"fastapi/fastapi", "huggingface/peft", "pallets/click", "psf/black", "psf/requests",
     "pypa/pip", "scrapy/scrapy"}
)  # fmt: skip

_FARTHEST = 40  # lines between a change and the cursor
_TOP = 12  # lines that count as a file's top
_PASTED = 3  # minimum lines of a paste that also occur elsewhere
_BLOCK = 6  # minimum lines of other pastes
_WORD = re.compile(r"[^\W\d]\w*")

Hunk = tuple[int, int, int, int]  # lines [a, b) of the old text become lines [c, d) of the new one


@dataclass(frozen=True, slots=True)
class HistoryEdit:
    """Content before and after an edit, both split at the cursor.

    Attributes:
        name: repository, commit, path and kind.
        repository: owner and name.
        kind: one of :data:`KINDS`.
        before: text before and after the cursor, before the edit.
        after: the same after the edit.
    """

    name: str
    repository: str
    kind: str
    before: tuple[str, str]
    after: tuple[str, str]


def history_edits(folder: Path, *, a_kind: int, seed: int = 0) -> list[HistoryEdit]:
    """Samples cases of every kind from all repositories in turn.

    Args:
        folder: contains :data:`FILES`.
        a_kind: maximum number of cases per kind.
        seed: seed of the sample and of the cursors.

    Raises:
        ConfigError: if a file is missing.
    """
    found: dict[str, dict[str, list[HistoryEdit]]] = {kind: {} for kind in KINDS}
    for row in commit_rows(folder):
        repository = row["repository"]
        if repository in FITTED_ON:
            continue
        for kind in KINDS:
            rng = random.Random(f"{seed} {kind} {row['commit']} {row['path']}")
            edit = _edit(row, kind, rng)
            if edit is not None:
                found[kind].setdefault(repository, []).append(edit)
    chosen: list[HistoryEdit] = []
    for kind, by_repository in found.items():
        rng = random.Random(f"{seed} {kind}")
        for edits in by_repository.values():
            rng.shuffle(edits)
        order = sorted(by_repository)
        turns = [by_repository[name][i] for i in range(a_kind) for name in order
                 if i < len(by_repository[name])]  # fmt: skip
        chosen += turns[:a_kind]
    return chosen


def commit_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Reads the rows of the commit datasets.

    Raises:
        ConfigError: if a file is not in the folder.
    """
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise ConfigError(
                f"{path} does not exist.", "Set CODEGEN_TEST_DATA to the folder of datasets."
            )
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def patched(old: str, diff: str) -> tuple[list[str], list[Hunk]]:
    """Returns the lines with a unified diff applied, and the changed regions."""
    before = old.splitlines(keepends=True)
    after: list[str] = []
    hunks: list[Hunk] = []
    at = 0
    for line in diff.splitlines(keepends=True)[2:]:
        if found := re.match(r"@@ -(\d+)(?:,(\d+))? ", line):
            start = int(found[1]) - (found[2] != "0")
            after += before[at:start]
            at = start
        elif line[0] == " ":
            after.append(before[at])
            at += 1
        elif line[0] in "-+":
            if not hunks or hunks[-1][1] != at or hunks[-1][3] != len(after):
                hunks.append((at, at, len(after), len(after)))
            first, last, start, end = hunks[-1]
            if line[0] == "-":
                at += 1
                hunks[-1] = (first, at, start, end)
            else:
                after.append(line[1:])
                hunks[-1] = (first, last, start, len(after))
    return after + before[at:], hunks


def _edit(row: dict[str, Any], kind: str, rng: random.Random) -> HistoryEdit | None:
    """Returns a case of a kind from one file change; None if unsuitable."""
    old = row["old"].splitlines(keepends=True)
    new, hunks = patched(row["old"], row["diff"])
    chosen = _chosen(kind, old, new, hunks, rng)
    if not chosen:
        return None
    # The hunks before the first chosen one are already applied.
    first = chosen[0][0]
    done = [] if kind == "rename" else [hunk for hunk in hunks if hunk[1] <= first]
    done = [hunk for hunk in done if hunk not in chosen]
    before = _applied(old, new, done)
    after = _applied(old, new, sorted([*done, *chosen]))
    last = chosen[-1][1]
    behind = len(old) - last  # lines that follow the edit, the same in both
    if behind < 2:
        return None
    line = rng.randrange(min(behind - 1, _FARTHEST + 1))
    words = after[len(after) - behind + line].rstrip("\n")
    ends = [*(i for i in range(1, len(words)) if words[i] in " (."), len(words)]
    places = [end for end in ends if words[:end].strip()]
    column = rng.choice(places) if places else 0
    rest = "\n" + "".join(after[len(after) - behind + line + 1 :])
    heads = ["".join(text[: len(text) - behind + line]) + words[:column]
             for text in (before, after)]  # fmt: skip
    if heads[0] == heads[1]:
        return None
    name = f"{row['repository']} {row['commit'][:12]} {row['path']} {kind}"
    return HistoryEdit(name, row["repository"], kind, (heads[0], rest), (heads[1], rest))


def _chosen(
    kind: str, old: Sequence[str], new: Sequence[str], hunks: Sequence[Hunk], rng: random.Random
) -> list[Hunk]:
    """Returns the hunks of an edit of this kind, ascending; empty if the change has none."""
    if kind == "several":
        return list(hunks) if len(hunks) >= 3 else []
    if kind == "rename":
        return _renamed(old, new, hunks)
    if kind == "top":
        found = [hunk for hunk in hunks if hunk[0] < _TOP]
    else:
        below = [hunk for hunk in hunks if hunk[0] >= _TOP]
        if kind == "delete":
            found = [h for h in below if h[2] == h[3] and "".join(old[h[0] : h[1]]).strip()]
        else:
            added = [h for h in below if h[0] == h[1] and "".join(new[h[2] : h[3]]).strip()]
            pasted = [h for h in added if h[3] - h[2] >= _BLOCK or _is_elsewhere(old, new, h)]
            found = pasted if kind == "paste" else [h for h in added if h not in pasted]
    return [rng.choice(found)] if found else []


def _is_elsewhere(old: Sequence[str], new: Sequence[str], hunk: Hunk) -> bool:
    """Returns True if a run of the added lines occurred elsewhere, at any indentation."""
    added = [line.strip() for line in new[hunk[2] : hunk[3]]]
    known = [line.strip() for line in old]
    match = SequenceMatcher(None, known, added, autojunk=False).find_longest_match()
    run = [line for line in added[match.b : match.b + match.size] if len(line) > 3]
    return len(run) >= _PASTED


def _renamed(old: Sequence[str], new: Sequence[str], hunks: Sequence[Hunk]) -> list[Hunk]:
    """Returns the hunks that only replace one identifier, the most frequent one."""
    by_pair: dict[tuple[str, str], list[Hunk]] = {}
    for hunk in hunks:
        lines, others = old[hunk[0] : hunk[1]], new[hunk[2] : hunk[3]]
        if len(lines) != len(others):
            continue
        pairs = {pair for one, two in zip(lines, others, strict=True) for pair in _pairs(one, two)}
        if len(pairs) == 1:
            by_pair.setdefault(pairs.pop(), []).append(hunk)
    by_pair.pop(("", ""), None)
    return max(by_pair.values(), key=len, default=[])


def _pairs(one: str, two: str) -> set[tuple[str, str]]:
    """Returns the identifiers that differ between two lines; an empty pair if other text does."""
    if _WORD.sub("_", one) != _WORD.sub("_", two):
        return {("", "")}
    words = zip(_WORD.findall(one), _WORD.findall(two), strict=True)
    return {pair for pair in words if pair[0] != pair[1]}


def _applied(old: Sequence[str], new: Sequence[str], hunks: Sequence[Hunk]) -> list[str]:
    """Returns the old text with some hunks applied."""
    found: list[str] = []
    at = 0
    for a, b, c, d in hunks:
        found += [*old[at:a], *new[c:d]]
        at = b
    return [*found, *old[at:]]
