"""CoTACS: search for the program that a model emulates best on a task.

Source: arXiv 2405.16337, Algorithm 1 (§2.3; numbers from §3.1). For each of n problems the model
writes a program; the one with the most correct answers on the other problems, when the model
emulates it, is the task's program.

Differences from the published form: programs that differ only in comments are one (the first), each
emulation is made once and cached, a program that breaks a rule is rewritten up to ``tries`` times,
and ties go to the program that was written more often, then to the earlier one.

Besides the published ranking there is successive halving: most programs are dropped after a few
problems, and the best are tried on more. Source: Karnin, Koren, Somekh, "Almost Optimal Exploration
in Multi-Armed Bandits", ICML 2013: rounds of equal cost, each of which drops the worse programs.
Here results carry over to the next round, all programs get the same problems, and a round keeps a
third.

The task of a search is a family of :mod:`codegen.cogex.builtin_families`, without its training
problems, or a JSONL file of inputs and answers that can be compared as strings.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal, NamedTuple

from codegen.cogex.builtin_families import FAMILIES, find_family
from codegen.cogex.literals import Invalid, normalized
from codegen.cogex.model import ModelQuery, PseudoModel
from codegen.cogex.program import PseudoProgram, parse_program
from codegen.cogex.record import CogexRecord
from codegen.core.errors import ConfigError, InputError
from codegen.core.records import conform, has_lone_surrogate, read_rows
from codegen.core.runs import Journal, RunDirectory

SETTINGS = "search.json"
LOG = "log.jsonl"
CANDIDATES, ITEMS = 300, 1000
KEEP = 3  # one in KEEP programs survives a round

Method = Literal["halving", "full"]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of a program search.

    Attributes:
        candidates: n, the number of problems for which a program is written; the other problems
            rank them.
        method: ``full`` emulates each program on all ranking problems, as published; ``halving``
            drops most programs early.
        share: fraction of the published method's emulations that halving may use.
        threshold: alpha, for method ``full``: a program that scores less on the candidates'
            problems is rewritten. The paper does not state its value; 0 accepts all.
        tries: maximum attempts to write a program; the best is kept. The paper sets no bound.
        best: k, the number of programs that are kept and vote.
        program_temperature, answer_temperature: sampling temperatures.
    """

    candidates: int = CANDIDATES
    method: Method = "halving"
    share: float = 0.2
    threshold: float = 0.0
    tries: int = 5
    best: int = 3
    program_temperature: float = 0.7
    answer_temperature: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threshold and self.method != "full":
            raise ConfigError(
                f"threshold requires method full, not {self.method}.", "Add --method full."
            )


def within_budget(budget: int, method: Method, share: float) -> tuple[int, int]:
    """Returns numbers of candidates and problems, at most the paper's, for ``budget`` emulations.

    The ratio is the paper's, 300 to 1000: 0.3 D of D problems yield candidates, 0.7 D rank them.
    """
    ratio = CANDIDATES / ITEMS
    cost_of_one = ratio * (1 - ratio) * (share if method == "halving" else 1.0)
    items = max(4, min(ITEMS, int(sqrt(budget / cost_of_one))))
    return max(2, min(CANDIDATES, round(ratio * items))), items


class SearchRound(NamedTuple):
    """A number of programs, each emulated on the first ``items`` problems."""

    programs: int
    items: int


def plan_rounds(programs: int, items: int, budget: float, finalists: int = 1) -> list[SearchRound]:
    """Plans rounds with fewer programs and more problems each; the last ranks the finalists.

    Args:
        items: total number of problems.
        budget: maximum emulations; exceeded if below one per program.
    """
    if not programs or not items:
        return []
    sizes = [programs]
    while sizes[-1] > max(finalists, 2):
        sizes.append(max(finalists, 2, ceil(sizes[-1] / KEEP)))
    # The largest number of emulations per round that keeps within the budget.
    low, high = 0, int(budget)
    while low < high:
        middle = (low + high + 1) // 2
        if cost_of(_rounds(sizes, items, middle)) <= budget:
            low = middle
        else:
            high = middle - 1
    return _rounds(sizes, items, low)


def _rounds(sizes: list[int], items: int, allowance: int) -> list[SearchRound]:
    rounds: list[SearchRound] = []
    seen = 0
    for size in sizes:
        seen = min(items, max(1, seen + allowance // size))
        rounds.append(SearchRound(size, seen))
    return rounds


def cost_of(rounds: list[SearchRound]) -> int:
    """Returns the rounds' number of emulations."""
    seen, cost = 0, 0
    for programs, items in rounds:
        cost += programs * (items - seen)
        seen = items
    return cost


@dataclass(frozen=True, slots=True)
class SampledProgram:
    """The program that the model wrote for a problem in attempt ``index``, or the failure."""

    item: str
    index: int
    program: str
    failure: str = ""


@dataclass(frozen=True, slots=True)
class EmulationAttempt:
    """Emulation of a program (by digest) on a problem: the answer, and True if correct."""

    program: str
    item: str
    answer: str
    right: bool
    failure: str = ""


class SearchLog:
    """A log of programs by (item, index) and emulations by (digest, item); a context manager.

    Args:
        folder: folder of the log; None for memory only.
        settings: settings that affect the result (JSON values).

    Raises:
        ResumeError: if the folder contains another search.
        InputError: if it cannot be read or written.
    """

    def __init__(self, folder: str | Path | None, settings: Mapping[str, object]) -> None:
        self.resumed = 0  # entries of an earlier run
        self.draws: dict[tuple[str, int], SampledProgram] = {}
        self.tries: dict[tuple[str, str], EmulationAttempt] = {}
        self._journal: Journal | None = None
        self._stack = ExitStack()
        if folder is None:
            return
        directory = RunDirectory(Path(folder), SETTINGS)
        directory.refuse_nonempty(SETTINGS, LOG)
        with ExitStack() as stack:
            self._journal = stack.enter_context(directory.open(LOG))
            directory.claim(settings, begun=self._journal.size > 0)
            for where, row in read_rows(self._journal.path):
                try:
                    self._keep(conform(SampledProgram if "index" in row else EmulationAttempt, row))
                except (TypeError, ValueError) as error:
                    raise InputError(
                        f"{where} is not a search log entry: {error}.",
                        "Choose another --out, or correct the file.",
                    ) from None
            self._stack = stack.pop_all()
        self.resumed = len(self.draws) + len(self.tries)

    def add(self, entry: SampledProgram | EmulationAttempt) -> None:
        """Records an entry."""
        self._keep(entry)
        if self._journal:
            row = asdict(entry)
            text = json.dumps(row, ensure_ascii=False)
            self._journal.append(json.dumps(row) if has_lone_surrogate(text) else text)

    def __enter__(self) -> SearchLog:
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def _keep(self, entry: SampledProgram | EmulationAttempt) -> None:
        if isinstance(entry, SampledProgram):
            self.draws[entry.item, entry.index] = entry
        else:
            self.tries[entry.program, entry.item] = entry


@dataclass(slots=True)
class RankedProgram:
    """A program and its results.

    Attributes:
        written: number of times that the model wrote it.
        order: its number among the different programs, from 0.
        items: number of ranking problems that it was tried on.
        right: number of correct answers.
        failures: emulations without an answer, by reason.
    """

    program: PseudoProgram
    written: int = 0
    order: int = 0
    items: int = 0
    right: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def score(self) -> float:
        """Fraction of correct answers; 0 without items."""
        return self.right / self.items if self.items else 0.0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        ranking: all distinct programs, best first; programs dropped late before the earlier ones.
        best: the first k of them.
        rejected: counts of programs that broke a rule, by reason.
        emulations: number that this search used, new or from the log.
        emulations_full: number of emulations that the published method needs: each written program,
            including copies, on each ranking problem.
        failures: emulations without an answer, by reason.
        examples: one description per reason.
    """

    ranking: tuple[RankedProgram, ...]
    best: tuple[RankedProgram, ...]
    rejected: Counter[str]
    emulations: int
    emulations_full: int
    failures: Counter[str]
    examples: dict[str, str]


@dataclass(eq=False)
class ProgramSearch:
    """A program search on one task.

    Args:
        train: problems for which programs are written, one each.
        dev: problems that rank them.
        report: called with (stage, done, total).
    """

    instruction: str
    train: Sequence[TaskItem]
    dev: Sequence[TaskItem]
    model: PseudoModel
    settings: SearchSettings
    log: SearchLog
    report: Report = lambda *_: None
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    used: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> SearchResult:
        """Searches, or resumes from the log's entries."""
        candidates = self._candidates()
        if self.settings.method == "full":
            self._try(candidates, self.dev)
            ranking = _ranked(candidates)
        else:
            ranking = self._halve(candidates)
        best = tuple(ranking[: self.settings.best])
        failures = Counter[str]()
        for key in sorted(self.used):
            if failure := self.log.tries[key].failure:
                reason, _, detail = failure.partition(": ")
                failures[reason] += 1
                self.examples.setdefault(reason, detail)
        return SearchResult(
            ranking=tuple(ranking),
            best=best,
            rejected=self.rejected,
            emulations=len(self.used),
            emulations_full=self._published(candidates),
            failures=failures,
            examples={reason: text for reason, text in self.examples.items() if text},
        )

    def answers(
        self, programs: Sequence[RankedProgram], items: Sequence[TaskItem]
    ) -> list[list[EmulationAttempt]]:
        """Returns the programs' answers for each problem."""
        self._emulate([candidate.program for candidate in programs], items, "test")
        return [[self.log.tries[c.program.digest, i.id] for c in programs] for i in items]

    def _candidates(self) -> list[RankedProgram]:
        """Returns the distinct valid programs, one written for each problem of ``train``."""
        found: dict[str, RankedProgram] = {}
        closest: dict[str, tuple[float, PseudoProgram]] = {}  # problem -> best below the threshold

        def accept(program: PseudoProgram) -> None:
            known = found.setdefault(program.digest, RankedProgram(program, 0, len(found)))
            known.written += 1

        waiting = list(self.train)
        for index in range(self.settings.tries):
            if not waiting:
                break
            programs = self._sound(self._write(waiting, index))
            scores = self._train_scores(programs)
            again = []
            for item in waiting:
                program = programs.get(item.id)
                if program is None:
                    again.append(item)
                elif (score := scores[program.digest]) >= self.settings.threshold:
                    accept(program)
                else:
                    if score > closest.get(item.id, (-1.0, None))[0]:
                        closest[item.id] = score, program
                    again.append(item)
            waiting = again
        for item in waiting:
            if item.id in closest:
                accept(closest[item.id][1])
        return list(found.values())

    def _sound(self, draws: dict[str, SampledProgram]) -> dict[str, PseudoProgram]:
        """Returns the valid programs by problem, and counts the others."""
        programs = {}
        for item, draw in draws.items():
            try:
                if draw.failure:
                    reason, _, detail = draw.failure.partition(": ")
                    raise Invalid(reason, detail)
                programs[item] = parse_program(draw.program)
            except Invalid as error:
                self.rejected[error.reason] += 1
                self.examples.setdefault(error.reason, error.detail)
        return programs

    def _train_scores(self, programs: dict[str, PseudoProgram]) -> dict[str, float]:
        """Returns scores on the problems of ``train`` if there is a threshold, else 1."""
        distinct = {program.digest: program for program in programs.values()}
        if not self.settings.threshold:
            return dict.fromkeys(distinct, 1.0)
        self._emulate(list(distinct.values()), self.train, "threshold")
        scores = {}
        for digest in distinct:
            keys = [(digest, item.id) for item in self.train]
            self.used.update(keys)
            scores[digest] = sum(self.log.tries[key].right for key in keys) / len(keys)
        return scores

    def _write(self, items: Sequence[TaskItem], index: int) -> dict[str, SampledProgram]:
        missing = [item for item in items if (item.id, index) not in self.log.draws]
        done = len(self.log.draws)
        queries = [
            ModelQuery(self.instruction, i.input, key=f"write/{i.id}", index=index) for i in missing
        ]
        for number, text, failure in self.model.write(queries, self.settings.program_temperature):
            self.log.add(SampledProgram(missing[number].id, index, text, failure))
            done += 1
            self.report("programs", done, max(len(self.train), done))
        return {item.id: self.log.draws[item.id, index] for item in items}

    def _emulate(
        self, programs: Sequence[PseudoProgram], items: Sequence[TaskItem], stage: str
    ) -> None:
        pairs = [(program, item) for item in items for program in programs]
        missing = [(p, i) for p, i in pairs if (p.digest, i.id) not in self.log.tries]
        done = len(pairs) - len(missing)
        queries = [
            ModelQuery(self.instruction, i.input, p.text, key=f"{p.digest}/{i.id}")
            for p, i in missing
        ]
        for number, emulation in self.model.emulate(queries, self.settings.answer_temperature):
            program, item = missing[number]
            answer = "" if emulation.failure else normalized(emulation.answer)
            right = not emulation.failure and answer == normalized(item.answer)
            self.log.add(
                EmulationAttempt(program.digest, item.id, answer, right, emulation.failure)
            )
            done += 1
            self.report(stage, done, len(pairs))

    def _try(self, candidates: Sequence[RankedProgram], items: Sequence[TaskItem]) -> None:
        """Emulates the candidates on ranking problems and sets their results."""
        self._emulate([candidate.program for candidate in candidates], items, "ranking")
        for candidate in candidates:
            tries = [self.log.tries[candidate.program.digest, item.id] for item in items]
            self.used.update((candidate.program.digest, item.id) for item in items)
            candidate.items, candidate.right = len(tries), sum(one.right for one in tries)
            candidate.failures = Counter(
                one.failure.partition(":")[0] for one in tries if one.failure
            )

    def _published(self, candidates: Sequence[RankedProgram]) -> int:
        """Returns the emulations of the published ranking, which does not merge copies."""
        return sum(candidate.written for candidate in candidates) * len(self.dev)

    def _halve(self, candidates: list[RankedProgram]) -> list[RankedProgram]:
        settings = self.settings
        budget = settings.share * self._published(candidates)
        rounds = plan_rounds(len(candidates), len(self.dev), budget, settings.best)
        alive, dropped = candidates, list[RankedProgram]()
        for programs, items in rounds:
            ranked = _ranked(alive)
            alive, dropped = ranked[:programs], ranked[programs:] + dropped
            self._try(alive, self.dev[:items])
        return _ranked(alive) + dropped


def split_items(
    items: Sequence[TaskItem], candidates: int, seed: int
) -> tuple[list[TaskItem], list[TaskItem]]:
    """Splits problems at random: problems to write programs for, and problems to rank them."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    count = min(candidates, len(shuffled) - 1)
    return shuffled[:count], shuffled[count:]


def majority(tries: Sequence[EmulationAttempt], rng: random.Random) -> str:
    """Returns the most frequent answer, ties at random; empty without answers."""
    votes = Counter(one.answer for one in tries if not one.failure)
    if not votes:
        return ""
    most = max(votes.values())
    return rng.choice(sorted(answer for answer, count in votes.items() if count == most))


def _ranked(candidates: Sequence[RankedProgram]) -> list[RankedProgram]:
    return sorted(candidates, key=lambda c: (-c.score, -c.written, c.order))


def scores_on(
    search: ProgramSearch, found: SearchResult, items: Sequence[TaskItem]
) -> dict[str, int]:
    """Scores a result on other problems: returns their number ``items``, and the correct answers of
    the ``best`` program and of the best programs' majority ``vote``.
    """
    rows = search.answers(found.best, items)
    voted = 0
    for item, row in zip(items, rows, strict=True):
        rng = random.Random(f"{search.settings.seed}/{item.id}")
        voted += majority(row, rng) == normalized(item.answer)
    return {"items": len(items), "best": sum(row[0].right for row in rows), "vote": voted}


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
        """Returns a digest of everything that affects a search's result."""
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
        instruction: instruction of the task; families have a default.
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
        raise InputError(f"No such file: {name!r}.", f"Families: {', '.join(FAMILIES)}.")
    else:
        find_family(name)  # raises, with a list of the families
        raise AssertionError(name)
    if len(found) < 2:
        raise InputError(f"{name} has {len(found)} problems; a search needs at least 2.")
    return SearchTask(name, instruction, tuple(found[:items]), tuple(found[items : items + test]))


def _family_items(name: str, count: int) -> list[TaskItem]:
    family = find_family(name)
    found: dict[str, TaskItem] = {}
    for number in range(4 * count):  # a small family repeats problems
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
                    f"{where}: no column {column!r}; the columns are {', '.join(row) or 'none'}.",
                    f"Set it with -o {key}=.",
                )
        answer = row[answer_column]
        if not isinstance(row[input_column], str) or not isinstance(answer, (str, int, float)):
            raise InputError(
                f"{where}: the input must be a string, the answer a string or a number."
            )
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
