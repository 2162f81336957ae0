"""Reference sets: the problems that training data must not contain.

``humaneval``; ``mbpp`` (all 974 problems, from the hub); ``hub:org/name[:config][:split]``; or a
``.jsonl``, ``.json`` (a list, or an object of rows by id), either gzipped, or a ``.parquet`` file.
Columns are recognized by their names in published sets; see ``COLUMNS``.

A reference set is read whole, and a damaged row ends the run, because a problem that isn't read
can't be kept out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from codegen.data.sources import Rejected
from codegen.data.sources.rows import MBPP, jsonl_rows, open_hub, parquet_rows
from codegen.errors import InputError
from codegen.hub import parse_hub
from codegen.paths import read_packed

_MBPP_SPLITS = ("prompt", "test", "validation", "train")

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("task_id", "id", "problem_id", "question_id"),
    "prompt": (
        "prompt",
        "text",
        "instruction",
        "question",
        "question_content",
        "problem",
        "problem_statement",
        "description",
        "complete_prompt",
        "instruct_prompt",
    ),
    "solution": ("canonical_solution", "code", "solution", "solutions", "program", "reference"),
    "tests": ("test", "tests", "test_list", "challenge_test_list", "test_code", "assertion"),
}
"""Names of columns by content, in any case. They cover HumanEval, MBPP, their Plus versions,
BigCodeBench, LiveCodeBench, DS-1000 and this toolkit's files."""

_REMEDY = (
    "A reference set is humaneval, mbpp, hub:org/name[:config][:split], or a .jsonl, .json or "
    ".parquet file; .gz too."
)


@dataclass(frozen=True, slots=True)
class Reference:
    """One problem. Each part may have several forms."""

    id: str
    prompt: tuple[str, ...] = ()
    solution: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """The problems of one set; ``name`` holds no spaces."""

    name: str
    problems: tuple[Reference, ...]

    def digest(self) -> str:
        """SHA-256 (hex) of the problems' texts."""
        state = hashlib.sha256()
        for problem in self.problems:
            state.update(json.dumps(astuple(problem)).encode() + b"\n")
        return state.hexdigest()


def open_reference(spec: str) -> ReferenceSet:
    """Reads a reference set.

    Raises:
        InputError: if it can't be found or read, is empty, or has none of the columns.
    """
    if spec == "humaneval":
        return ReferenceSet(spec, tuple(_humaneval()))
    if spec == "mbpp":
        rows = (row for split in _MBPP_SPLITS for row in _hub_rows(f"{MBPP}:full:{split}"))
        return ReferenceSet(spec, _problems(rows, spec))
    if spec.startswith("hub:"):
        rows = _hub_rows(spec.removeprefix("hub:"))
        return ReferenceSet("_".join(spec.removeprefix("hub:").split()), _problems(rows, spec))
    path = Path(spec)
    if not path.is_file():
        raise InputError(f"No reference set {spec!r}.", _REMEDY)
    name = "_".join(path.name.split())
    for suffix, rows_of in _READERS.items():
        if path.name.endswith(suffix):
            return ReferenceSet(name.removesuffix(suffix), _problems(rows_of(path), spec))
    raise InputError(f"The reference set {spec!r} has an unknown kind.", _REMEDY)


def _humaneval() -> Iterator[Reference]:
    from codegen.evals.tasks.humaneval import HumanEval  # loads pydantic: not in every worker

    task = HumanEval.load("humaneval", "")
    for problem in task.problems():
        yield Reference(
            problem.id,
            (problem.prompt, task.instruction(problem)),
            (task.reference(problem), problem.canonical_solution),
            (problem.test,),
        )


def _problems(rows: Iterable[tuple[str, object]], spec: str) -> tuple[Reference, ...]:
    found = []
    columns: dict[str, None] = {}
    known = False
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}.")
        columns.update(dict.fromkeys(row))
        problem = _problem(place, row)
        known = known or bool(problem.prompt or problem.solution)
        found.append(problem)
    if not found:
        raise InputError(f"The reference set {spec!r} holds no problem.", _REMEDY)
    if not known:
        raise InputError(
            f"The reference set {spec!r} has neither prompts nor solutions. Its columns are: "
            f"{', '.join(columns) or '(none)'}.",
            f"Name a column one of: {', '.join(COLUMNS['prompt'] + COLUMNS['solution'])}.",
        )
    return tuple(found)


def _problem(place: str, row: Mapping[str, Any]) -> Reference:
    by_name = {name.lower(): value for name, value in row.items()}
    id_ = next((by_name[name] for name in COLUMNS["id"] if by_name.get(name) is not None), place)
    prompt, solution, tests = (
        tuple(_texts(by_name, COLUMNS[part], place)) for part in ("prompt", "solution", "tests")
    )
    if "canonical_solution" in by_name:
        # There it is the rest of a function that the prompt begins.
        solution += tuple(p + s for p in prompt[:1] for s in solution[:1])
    return Reference(str(id_), prompt, solution, ("\n".join(tests),) if tests else ())


def _texts(row: Mapping[str, object], names: Iterable[str], place: str) -> Iterator[str]:
    for name in names:
        value = row.get(name)
        values = value if isinstance(value, (list, tuple)) else [value]
        for text in values:
            if isinstance(text, str):
                if text.strip():
                    yield text
            elif text is not None and not isinstance(value, (list, tuple)):
                raise InputError(
                    f"{place}: column {name!r} holds {type(value).__name__}, not text."
                )


_WHY = {
    "bad_json": "not valid JSON",
    "not_utf8": "not valid UTF-8",
    "not_an_object": "expected a JSON object",
    "damaged_archive": "damaged",
    "row_too_long": "too long",
}


def _jsonl_rows(path: Path) -> Iterator[tuple[str, object]]:
    yield from _sound(jsonl_rows(path), path)


def _parquet_rows(path: Path) -> Iterator[tuple[str, object]]:
    yield from _sound(parquet_rows(path, str(path)), path)


def _sound(rows: Iterable[tuple[str, object, float]], path: Path) -> Iterator[tuple[str, object]]:
    for place, row, _ in rows:
        if isinstance(row, Rejected):
            why = _WHY.get(row.reason, row.reason)
            raise InputError(f"{path.parent / place}: {why} ({row.detail}).")
        yield str(path.parent / place), row


def _json_rows(path: Path) -> Iterator[tuple[str, object]]:
    try:
        rows = json.loads(read_packed(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON in UTF-8 ({error}).") from None
    if isinstance(rows, dict) and all(isinstance(value, dict) for value in rows.values()):
        rows = list(rows.values())
    if not isinstance(rows, list):
        raise InputError(f"{path} holds no list of rows.", "Save it as JSON Lines.")
    return ((f"{path}[{number}]", row) for number, row in enumerate(rows))


_READERS = {
    ".jsonl": _jsonl_rows,
    ".jsonl.gz": _jsonl_rows,
    ".json": _json_rows,
    ".json.gz": _json_rows,
    ".parquet": _parquet_rows,
}


def _hub_rows(argument: str) -> Iterator[tuple[str, object]]:
    name, config, split = parse_hub(argument)
    for number, row in enumerate(open_hub(name, config, split, f"hub:{argument}")):
        yield f"hub:{argument}:{number}", row
