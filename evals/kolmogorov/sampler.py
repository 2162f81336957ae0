"""Random programs of the language, for training models and for testing them on data without end.

The steps and chances are those of the paper's generator (Yoran et al., ICLR 2025; specification
section 4.3): initiators, list updates, arithmetic, running sums, a filter, pairs, and a fold into
one output. Two runs with one seed give the same programs.

Limits: the original has faults in places (its filter reads leftover loop variables). What it does
on average is kept, not its faults, and the statistics of its programs are what the tests compare
with.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from codegen.evals.kolmogorov import functions

from .language import INITIATORS, PREDICATES, Argument, Line, Program, Ref

LOWEST, HIGHEST = 0, 255
_SHORTEST, _LONGEST = 5, 25  # initiators
_GROUP = 0.4  # the chance of each group of changes


class _Draft:
    """A program being made: its lines, their values, and what has been done to them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[Line] = []
        self.values: list[list[int]] = []
        self.excluded: set[int] = set()  # from the output
        self.reversals: set[int] = set()  # reversed ones, and what they were reversed from

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def compute(self, function: str, *arguments: Argument) -> list[int]:
        values = [
            self.values[a.line]
            if isinstance(a, Ref)
            else getattr(functions, a)
            if isinstance(a, str)
            else a
            for a in arguments
        ]
        return getattr(functions, function)(*values)

    def add(self, function: str, *arguments: Argument) -> int:
        self.values.append(self.compute(function, *arguments))
        self.lines.append(Line(function, arguments))
        return len(self.lines) - 1

    def growing(self) -> Iterator[int]:
        """The numbers of all lines, those that are added on the way too."""
        number = 0
        while number < len(self.lines):
            yield number
            number += 1


def sample_program(rng: random.Random) -> Program:
    """Draws one program; its output's items are in [0, 255]."""
    draft = _Draft(rng)
    for _ in range(rng.randint(1, 5)):
        _initiate(draft)
    if draft.chance(_GROUP):
        _update_lists(draft)
    if draft.chance(_GROUP):
        _calculate(draft)
    for number in draft.growing():
        sums = functions.scan_add(draft.values[number])
        if draft.chance(0.1) and _rich(draft.values[number]) and max(sums) <= HIGHEST:
            draft.add("scan_add", Ref(number))
    if draft.chance(_GROUP):
        _filter(draft)
    if draft.chance(_GROUP):
        _pair(draft)
    output = _fold(draft)
    return Program(tuple(draft.lines), output)


def sample_programs(count: int, seed: int = 0) -> Iterator[Program]:
    """``count`` programs; the i-th depends on ``seed`` and i only."""
    for index in range(count):
        yield sample_program(random.Random(f"kolmogorov/{seed}/{index}"))


def _rich(values: list[int]) -> bool:
    return len(set(values)) > 2


def _initiate(draft: _Draft) -> None:
    rng = draft.rng
    size = rng.randint(_SHORTEST, _LONGEST)
    start = rng.randint(LOWEST, HIGHEST - size)
    function = rng.choice(INITIATORS)
    if function == "range_func_up":
        draft.add(function, start, start + size - 1)
    elif function == "range_func_interval":
        step = rng.randint(2, 5)
        draft.add(function, start, min(start + (size - 1) * step, HIGHEST) + 1, step)
    elif function == "repeat_num":
        draft.add(function, size, rng.randint(LOWEST, HIGHEST))
    else:
        draft.add(function, tuple(rng.randint(LOWEST, HIGHEST) for _ in range(size)))


def _update_lists(draft: _Draft) -> None:
    rng = draft.rng
    for number in draft.growing():
        plain = draft.lines[number].function not in ("repeat_num", "reverse_list")
        if plain and number not in draft.reversals and draft.chance(0.1):
            draft.reversals |= {number, draft.add("reverse_list", Ref(number))}
    for number in draft.growing():
        if draft.chance(0.1):
            draft.add("repeat_list", rng.randint(2, 4), Ref(number))
        if number in draft.reversals or number in draft.excluded:
            continue
        size = len(draft.values[number])
        if draft.chance(0.05):
            draft.add("get_subsequence_with_jumps", Ref(number), rng.randint(2, 5))
        if draft.chance(0.05) and size > 2:
            start = rng.randint(0, size - 2)
            end = rng.randint(start + 2, size)
            draft.add("get_subsequence_between_indices", Ref(number), start, end)
    for number in draft.growing():
        if draft.chance(0.1):
            pattern = rng.choice(draft.values[number])
            others = [value for value in range(LOWEST, HIGHEST + 1) if value != pattern]
            draft.add("substitute", Ref(number), pattern, rng.choice(others))
            if draft.chance(0.25):
                draft.excluded.add(number)


def _calculate(draft: _Draft) -> None:
    rng = draft.rng
    for number in range(len(draft.lines)):
        values, size = draft.values[number], len(draft.values[number])
        roll = rng.random()
        is_list = draft.lines[number].function == "set_list"
        if is_list and draft.chance(0.1) and size >= 5:
            draft.add(rng.choice(("max_n", "min_n")), Ref(number), rng.randint(3, size - 2))
        elif roll < 0.1:
            adds = draft.chance(0.5)
            room = HIGHEST - max(values) if adds else min(values) - LOWEST
            if room > 1:
                function = "add_item_list" if adds else "subtract_item_list"
                draft.add(function, Ref(number), rng.randint(1, room))
        elif roll < 0.2:
            third = sorted(values, reverse=True)[2] if size > 2 else 0
            if third > 2:
                draft.add("modulo_item_list", Ref(number), rng.randint(2, third))


def _filter(draft: _Draft) -> None:
    predicate, last = draft.rng.choice(PREDICATES), len(draft.lines) - 1
    kept = draft.compute("filter", predicate, Ref(last))
    if kept != draft.values[last] and len(kept) > 2 and draft.chance(0.3):
        draft.add("filter", predicate, Ref(last))


def _pair(draft: _Draft) -> None:
    count = len(draft.lines)
    for i in range(count):
        for j in range(i + 1, count):
            if len(draft.values[i]) != len(draft.values[j]):
                continue
            roll = draft.rng.random()
            if roll < 0.1:
                function = "add_two_lists" if draft.chance(0.5) else "subtract_two_lists"
            elif roll < 0.2:
                function = "modulo_two_lists"
            else:
                continue
            made = draft.compute(function, Ref(i), Ref(j))
            if _rich(made) and min(made) >= LOWEST and max(made) <= HIGHEST:
                draft.add(function, Ref(i), Ref(j))


def _fold(draft: _Draft) -> int:
    """Joins the sequences that are not excluded, some of them twice; returns the output."""
    used = [number for number in range(len(draft.lines)) if number not in draft.excluded]
    uses = dict.fromkeys(range(len(draft.lines)), 0)
    result = used[0]
    for number in used[1:]:
        result = _join(draft, result, number)
        uses[number] += 1
    uses[used[0]] += 1
    for _ in range(len(used)):
        again = [number for number, count in uses.items() if count < 2]
        if draft.chance(0.2) and again:
            number = draft.rng.choice(again)
            uses[number] += 1
            result = _join(draft, result, number)
    return result


def _join(draft: _Draft, one: int, other: int) -> int:
    function = "concatenate" if draft.chance(0.8) else "interleave"
    return draft.add(function, Ref(one), Ref(other))
