"""The tasks of a search: an instruction with problems and their answers.

A task is a family of :mod:`codegen.cogex.builtin_families`, without its training problems, or a
JSONL file of inputs and answers that can be compared as texts
(:func:`codegen.cogex.literals.normalized`).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codegen.cogex.builtin_families import FAMILIES, find_family
from codegen.cogex.record import CogexRecord
from codegen.core.errors import ConfigError, InputError
from codegen.core.records import read_rows


@dataclass(frozen=True, slots=True)
class TaskItem:
    """A problem and its answer; ``id`` is unique in the task."""

    id: str
    input: str
    answer: str


@dataclass(frozen=True, slots=True)
class SearchTask:
    """A task with its problems.

    Attributes:
        name: name of the family or file.
        instruction: instruction for all problems.
        test: problems for scoring the found programs, disjoint from ``items``.
    """

    name: str
    instruction: str
    items: tuple[TaskItem, ...]
    test: tuple[TaskItem, ...] = ()

    def digest(self) -> str:
        """Digest of everything that affects a search's result."""
        parts = (self.instruction, *((i.input, i.answer) for i in (*self.items, *self.test)))
        return hashlib.blake2b(repr(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def load_task(
    name: str,
    *,
    items: int,
    test: int = 0,
    instruction: str = "",
    input_column: str = "input",
    answer_column: str = "answer",
    seed: int = 0,
) -> SearchTask:
    """Loads a task by name.

    Args:
        name: a family, or a path to a JSONL file.
        items: maximum number of problems to search on.
        test: maximum number of other problems to test on.
        instruction: instruction of the task; families have one.
        input_column, answer_column: column names in a file's rows.
        seed: shuffles a file's rows.

    Raises:
        ConfigError: for an unknown name, or a file without an instruction.
        InputError: for an unreadable file, or a row that lacks a column.
    """
    if name in FAMILIES:
        found = _family_items(name, items + test)
        instruction = instruction or find_family(name).instructions[0]
    elif Path(name).is_file():
        if not instruction:
            raise ConfigError(
                f"{name} does not describe the task.",
                "Pass --instruction 'Is the review positive or negative?'",
            )
        found = _file_items(name, input_column, answer_column)
        random.Random(seed).shuffle(found)
    elif "/" in name or "." in name:
        raise InputError(f"No such file: {name!r}.", f"Tasks are: {', '.join(FAMILIES)}.")
    else:
        find_family(name)  # raises, with a list of the families
        raise AssertionError(name)
    if len(found) < 2:
        raise InputError(f"{name} has {len(found)} problems; a search needs at least 2.")
    return SearchTask(name, instruction, tuple(found[:items]), tuple(found[items : items + test]))


def _family_items(name: str, count: int) -> list[TaskItem]:
    family = find_family(name)
    found: dict[str, TaskItem] = {}
    for number in range(4 * count):  # a small family repeats itself
        item = family.item("test", number)
        found.setdefault(item.input, TaskItem(f"{name}/{number}", item.input, item.answer))
        if len(found) == count:
            break
    return list(found.values())


def _file_items(path: str, input_column: str, answer_column: str) -> list[TaskItem]:
    items = []
    for where, row in read_rows(path):
        if not isinstance(row, dict):
            raise InputError(f"{where}: expected a JSON object.")
        for column, key in ((input_column, "input_column"), (answer_column, "answer_column")):
            if column not in row:
                raise InputError(
                    f"{where}: no column {column!r}; there are {', '.join(row) or 'none'}.",
                    f"Set it with -o {key}=.",
                )
        answer = row[answer_column]
        if not isinstance(row[input_column], str) or not isinstance(answer, (str, int, float)):
            raise InputError(f"{where}: the input must be text, the answer text or a number.")
        items.append(TaskItem(where.rpartition(":")[2], row[input_column], str(answer)))
    return items


def shot_records(count: int, avoid: Sequence[str] = ()) -> list[CogexRecord]:
    """Returns few-shot records from families other than ``avoid``.

    Raises:
        ConfigError: if there are fewer families.
    """
    names = [name for name in _SHOWN if name not in avoid]
    if count > len(names):
        raise ConfigError(f"{count} example records are too many.", f"Pass at most {len(names)}.")
    return [find_family(name).record(0) for name in names[:count]]


_SHOWN = ("largest", "last_letters", "plural", "weekday_after", "even_numbers", "opinion")
