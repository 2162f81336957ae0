"""Texts before and after an edit, up to a cursor, from a repository's history."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from codegen.benchmarks.tools.code_tokens import changed_files
from codegen.decoding.editing import read, reads_otherwise, tail_tokens

_FARTHEST = 20  # lines between an edit and the cursor
_SHORTEST = 64  # tokens of a context


@dataclass(frozen=True, slots=True)
class EditCase:
    """A context before and after an edit.

    Attributes:
        name: where it is from.
        before, after: token ids up to the cursor.
        tail: tokens to encode again at the end of ``after``.
        statement: those of the cursor's line and statement.
        otherwise: whether the text behind the edit reads otherwise.
    """

    name: str
    before: list[int]
    after: list[int]
    tail: int
    statement: int
    otherwise: bool


def make_case(tokenizer: Any, name: str, before: str, after: str) -> EditCase:
    """The case of two texts that end at the cursor."""
    old = tokenizer.backend_tokenizer.encode(before, add_special_tokens=False)
    new = tokenizer.backend_tokenizer.encode(after, add_special_tokens=False)
    ends = [end for _, end in new.offsets]
    start = read(after).statement
    tail, statement = tail_tokens(ends, start), tail_tokens(ends, start, least=0)
    return EditCase(name, old.ids, new.ids, tail, statement, reads_otherwise(before, after))


def history_cases(
    tokenizer: Any, repository: str, *, count: int, window: int, seed: int
) -> Iterator[EditCase]:
    """What commits did to Python files, newest first, one file a commit.

    All hunks of the file are applied; the cursor stands behind the last one, 0 to 20 lines further
    down, at the end of some word of its line. The context is whole lines before it, as many as fit
    into ``window`` tokens.
    """
    found = 0
    for name, before, after in changed_files(repository):
        if found == count:
            return
        rng = random.Random(f"{seed} {name}")
        texts = _at_cursor(before, after, rng)
        if texts is None:
            continue
        texts = _windowed(tokenizer, *texts, window)
        if texts is None or texts[0] == texts[1]:
            continue
        case = make_case(tokenizer, name, *texts)
        if min(len(case.before), len(case.after)) >= _SHORTEST:
            found += 1
            yield case


def _at_cursor(before: str, after: str, rng: random.Random) -> tuple[str, str] | None:
    """Both texts up to a cursor behind their last difference."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    shared = 0
    while shared < min(len(old), len(new)) and old[-1 - shared] == new[-1 - shared]:
        shared += 1
    if not shared or shared == len(old):
        return None
    line = shared - rng.randrange(min(shared, _FARTHEST + 1))  # counted from the end
    text = new[-line].rstrip()
    places = [i for i in range(1, len(text) + 1) if i == len(text) or text[i] == " "]
    places = [i for i in places if text[:i].strip()]
    column = rng.choice(places) if places else 0
    start_old, start_new = len(old) - line, len(new) - line
    return "".join(old[:start_old]) + text[:column], "".join(new[:start_new]) + text[:column]


def _windowed(tokenizer: Any, before: str, after: str, window: int) -> tuple[str, str] | None:
    """Both texts from the same line on, so that the new one fits into the window."""
    offsets = tokenizer.backend_tokenizer.encode(after, add_special_tokens=False).offsets
    if len(offsets) <= window:
        return before, after
    at = offsets[-window][0]
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    starts = [0]
    for text in new:
        starts.append(starts[-1] + len(text))
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for first, second, size in matcher.get_matching_blocks():
        for i in range(size):
            if starts[second + i] >= at:
                return "".join(old[first + i :]), "".join(new[second + i :])
    return None
