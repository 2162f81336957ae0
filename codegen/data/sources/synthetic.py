"""Sources without files: HumanEval, CoGEX's problem families, and puzzles."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from codegen.cogex.builtin_families import FAMILIES, find_family, source_of
from codegen.core.errors import ConfigError
from codegen.core.records import Example
from codegen.data.sources import Item, PartlyRead, Rejected, SourceOptions
from codegen.data.sources.functions import without_docstring
from codegen.data.sources.puzzles import Puzzles
from codegen.evals.tasks.humaneval import HumanEval, HumanEvalProblem

DEFAULT_COUNT = 2000


@dataclass(slots=True)
class DrawnSource(PartlyRead):
    """A known number of items, generated on demand.

    Attributes:
        description: see :meth:`codegen.data.sources.Source.describe`.
        items: function that yields the items in order.
    """

    description: Mapping[str, object]
    count: int
    items: Callable[[], Iterator[Item]]

    def describe(self) -> Mapping[str, Any]:
        """Returns the description."""
        return self.description

    def __iter__(self) -> Iterator[Item]:
        """Yields the items."""
        for number, item in enumerate(self.items(), 1):
            self._fraction = number / self.count
            yield item


def puzzles(argument: str, _options: SourceOptions) -> DrawnSource:
    """The source ``puzzles:NAME[:SPLIT[:COUNT]]``: questions as instructions, answers as programs.

    Raises:
        ConfigError: for an unknown name or split, or a bad count.
    """
    chosen = Puzzles.parse(f"puzzles:{argument}")
    description = {"kind": "puzzles", "puzzles": chosen.spec}
    return DrawnSource(description, chosen.count, lambda: iter(chosen))


def families(argument: str, _options: SourceOptions) -> DrawnSource:
    """The source ``families[:name,...][:count]``: ``count`` records, from each family in turn.

    Raises:
        ConfigError: for an unknown family or a bad count.
    """
    parts = [part for part in argument.split(":") if part]
    count = DEFAULT_COUNT
    if parts and parts[-1].isdecimal():
        count = int(parts.pop())
    if len(parts) > 1:
        raise ConfigError(
            f"{'families:' + argument!r} is not a source.", "Write families[:name,...][:count]."
        )
    names = tuple(parts[0].split(",")) if parts else tuple(FAMILIES)
    digest = hashlib.sha256()
    for name in names:
        family = find_family(name)
        programs = [source_of(program) for program in family.programs]
        digest.update(repr((name, family.instructions, programs)).encode())
        digest.update(repr(family.record(0).to_row()).encode())
    if len(set(names)) < len(names):
        raise ConfigError(f"{'families:' + argument!r} repeats a family.")
    description = {
        "kind": "families",
        "names": list(names),
        "count": count,
        "sha256": digest.hexdigest(),
    }
    return DrawnSource(description, count, lambda: _records(names, count))


def _records(names: tuple[str, ...], count: int) -> Iterator[Example]:
    for number in range(count):
        name = names[number % len(names)]
        place = f"{name}/{number // len(names)}"
        row = find_family(name).record(number // len(names)).to_row()
        yield Example(
            id=place,
            instruction=row.pop("instruction"),
            program=row.pop("code_prompt"),
            source="families",
            license="Apache-2.0",
            meta={**row, "place": place},
        )


def humaneval(argument: str, options: SourceOptions) -> DrawnSource:
    """HumanEval's 164 problems with their canonical solutions, imports and helper functions.

    Chen et al. 2021, arXiv 2107.03374; with the wording of :mod:`codegen.evals.tasks.humaneval`.
    For inspecting a generator's output: a model trained on it has seen the test set.

    Raises:
        ConfigError: if ``argument`` is not empty.
    """
    if argument:
        raise ConfigError(f"Unknown source 'humaneval:{argument}'.", "Write humaneval alone.")
    task = HumanEval.load("humaneval", "")
    problems = list(task.problems())
    keep_docstring = options.keep_docstring
    digest = hashlib.sha256(json.dumps([asdict(problem) for problem in problems]).encode())
    description = {
        "kind": "humaneval",
        "keep_docstring": keep_docstring,
        "sha256": digest.hexdigest(),
    }
    return DrawnSource(
        description,
        len(problems),
        lambda: (_solution(task, problem, keep_docstring) for problem in problems),
    )


def _solution(task: HumanEval, problem: HumanEvalProblem, keep_docstring: bool) -> Item:
    program = task.reference(problem)
    if not keep_docstring:
        lines = program.splitlines(keepends=True)
        node = _entry_point(program, problem.entry_point)
        # HumanEval/115 has an import before its docstring, so Python treats it as a plain string.
        index = next((i for i, s in enumerate(node.body) if _is_string(s)), None) if node else None
        if node is None or index is None:
            return Rejected(problem.id, "no_docstring", problem.entry_point, "skipped")
        before, after = lines[: node.lineno - 1], lines[node.end_lineno :]
        program = "".join([*before, without_docstring(node, lines, index), *after])
    return Example(
        problem.id,
        task.instruction(problem),
        program.strip("\n") + "\n",
        source="humaneval",
        license="MIT",
        meta={"function": problem.entry_point},
    )


def _entry_point(program: str, name: str) -> ast.FunctionDef | None:
    functions = [node for node in ast.parse(program).body if isinstance(node, ast.FunctionDef)]
    return next((node for node in reversed(functions) if node.name == name), None)


def _is_string(statement: ast.stmt) -> bool:
    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
        return False
    return isinstance(statement.value.value, str)
