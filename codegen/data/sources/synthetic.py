"""Sources without files: HumanEval, CoGEX's problem families, and planning puzzles.

Puzzles (``puzzles:NAME[:SPLIT[:COUNT]]``) are star graphs: which arm leads from the source to the
goal? Source: Patel et al., "Insertion Language Models", 2025 (arXiv 2505.05755), section 4.1, by
the rules of the released generator; the easy graphs are from Bachmann and Nagarajan, "The Pitfalls
of Next-Token Prediction", 2024 (arXiv 2403.06963). A model that writes the path from its source
must choose the correct arm at the center, before its own output shows which arm is correct.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from codegen.cogex.builtin_families import FAMILIES, find_family, source_of
from codegen.core.errors import ConfigError
from codegen.core.records import Example, Segment, TrainingText
from codegen.data.sources import Item, MeasuredSource, Rejected, SourceOptions
from codegen.data.sources.functions import without_docstring

if TYPE_CHECKING:
    from codegen.evals.tasks.humaneval import HumanEval, HumanEvalProblem

DEFAULT_COUNT = 2000


@dataclass(slots=True)
class SyntheticSource(MeasuredSource):
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


def puzzles(argument: str, _options: SourceOptions) -> SyntheticSource:
    """Opens ``puzzles:NAME[:SPLIT[:COUNT]]``: questions as instructions, answers as programs.

    Raises:
        ConfigError: for an unknown name or split, or an invalid count.
    """
    chosen = Puzzles.parse(f"puzzles:{argument}")
    description = {"kind": "puzzles", "puzzles": chosen.spec}
    return SyntheticSource(description, chosen.count, lambda: iter(chosen))


def families(argument: str, _options: SourceOptions) -> SyntheticSource:
    """Opens ``families[:name,...][:count]``: ``count`` records, from each family in turn.

    Raises:
        ConfigError: for an unknown or repeated family, or an invalid count.
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
    return SyntheticSource(description, count, lambda: _records(names, count))


def _records(names: tuple[str, ...], count: int) -> Iterator[Example]:
    for number in range(count):
        name = names[number % len(names)]
        id_ = f"{name}/{number // len(names)}"
        row = find_family(name).record(number // len(names)).to_row()
        yield Example(
            id=id_,
            instruction=row.pop("instruction"),
            program=row.pop("code_prompt"),
            source="families",
            license="Apache-2.0",
            meta={**row, "place": id_},
        )


def humaneval(argument: str, options: SourceOptions) -> SyntheticSource:
    """Returns HumanEval's 164 problems with canonical solutions, imports and helpers.

    Chen et al. 2021, arXiv 2107.03374; with the wording of :mod:`codegen.evals.tasks.humaneval`.
    Only for inspecting a generator's output: training on it contaminates the test set.

    Raises:
        ConfigError: if ``argument`` is not empty.
    """
    if argument:
        raise ConfigError(f"Unknown source 'humaneval:{argument}'.", "Write only: humaneval")
    from codegen.evals.tasks.humaneval import HumanEval

    task = HumanEval.load("humaneval", "")
    problems = list(task.problems())
    keep_docstring = options.keep_docstring
    digest = hashlib.sha256(json.dumps([asdict(problem) for problem in problems]).encode())
    description = {
        "kind": "humaneval",
        "keep_docstring": keep_docstring,
        "sha256": digest.hexdigest(),
    }
    return SyntheticSource(
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


SCHEME = "puzzles"
BORDER = ":"  # separates question and answer
SPLITS = {"train": 50_000, "validation": 100, "test": 5_000}  # the paper's sizes
VERSION = 1  # part of the seed


@dataclass(frozen=True, slots=True)
class Star:
    """Graphs of ``degree`` arms that meet in one node.

    Attributes:
        shortest, longest: range of the number of nodes in an arm, sampled per arm.
        least_plan: minimum number of nodes after the center in each arm.
        nodes: exclusive upper bound of the nodes' numbers.
        from_centre: True if each arm begins at the center, which is then the source.
    """

    degree: int
    shortest: int
    longest: int
    least_plan: int
    nodes: int
    from_centre: bool = False

    def arms(self, rng: random.Random) -> list[list[int]]:
        """Samples the arms as chains of nodes that share one node; the first is the answer."""
        lengths = [rng.randint(self.shortest, self.longest) for _ in range(self.degree)]
        names = rng.sample(range(self.nodes), sum(lengths) - self.degree + 1)
        centre = names.pop()
        arms = []
        for length in lengths:
            at = 0 if self.from_centre else rng.randrange(length - self.least_plan)
            arm = [names.pop() for _ in range(length - 1)]
            arm.insert(at, centre)
            arms.append(arm)
        return arms

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """Samples a question (shuffled edges, source and goal) and its answer (the path)."""
        arms = self.arms(rng)
        edges = [edge for arm in arms for edge in _edges(arm)]
        rng.shuffle(edges)
        path = arms[0]
        question = [*_flat(edges), str(path[0]), str(path[-1]), BORDER]
        return " ".join(question), " ".join(_flat(_edges(path)))


STARS = {
    "star-easy": Star(3, 5, 5, 4, 20, from_centre=True),
    "star-medium": Star(3, 3, 6, 2, 20),
    "star-hard": Star(5, 6, 12, 5, 56),
}


def _edges(arm: list[int]) -> list[tuple[int, int]]:
    return list(pairwise(arm))


def _flat(edges: list[tuple[int, int]]) -> list[str]:
    return [str(node) for edge in edges for node in edge]


@dataclass(frozen=True, slots=True)
class Puzzles:
    """Puzzles of one kind; puzzle k of a split does not depend on ``count``."""

    name: str
    split: str
    count: int

    @classmethod
    def parse(cls, spec: str) -> Puzzles:
        """Reads ``puzzles:NAME:SPLIT[:COUNT]``.

        Raises:
            ConfigError: for an unknown name or split, or an invalid count.
        """
        _, *parts = spec.split(":")
        if not 1 <= len(parts) <= 3:
            raise ConfigError(
                f"{spec!r} is not a puzzle name.",
                f"Pass {SCHEME}:NAME:SPLIT, optionally with :COUNT.",
            )
        name, split, count = [*parts, "", ""][:3]
        split = split or "train"
        if name not in STARS:
            known = ", ".join(STARS)
            raise ConfigError(f"Unknown puzzles {name!r}.", f"Choose from: {known}.")
        if split not in SPLITS:
            raise ConfigError(f"Puzzles have no split {split!r}.", f"Use {' or '.join(SPLITS)}.")
        if count and not (count.isdecimal() and int(count)):
            raise ConfigError(f"{spec!r} has an invalid count {count!r}.", "Pass a number above 0.")
        return cls(name, split, int(count) if count else SPLITS[split])

    @property
    def spec(self) -> str:
        """The full name, with the version of the generator."""
        return f"{SCHEME}:{self.name}:{self.split}:{self.count}@{VERSION}"

    def __iter__(self) -> Iterator[Example]:
        """Yields the puzzles: the question is the instruction, the answer the program."""
        star = STARS[self.name]
        for number in range(self.count):
            rng = random.Random(f"{VERSION}\x00{self.name}\x00{self.split}\x00{number}")
            question, answer = star.draw(rng)
            yield Example(
                f"{self.name}-{self.split}-{number}", question, answer,
                language="puzzle", source=f"{SCHEME}:{self.name}",
            )  # fmt: skip

    def texts(self) -> Iterator[TrainingText]:
        """Yields the puzzles as training texts; only the answer is trained."""
        for example in self:
            segments = (Segment(example.instruction, False), Segment(example.program, True))
            yield TrainingText(f"{example.id}#plain", example.id, "plain", segments)


def is_puzzles(spec: object) -> bool:
    """Returns True if a path is a puzzle name."""
    return isinstance(spec, str) and spec.startswith(f"{SCHEME}:")
