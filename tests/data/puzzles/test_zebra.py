"""Zebra puzzles against brute force: one answer, and no clue in vain."""

from __future__ import annotations

import random
from itertools import permutations, product

import pytest

from codegen.data.sources.puzzles import Clue, Puzzles, Zebra, ZebraItem

pytest.importorskip("constraint")


def parse(question: str) -> tuple[int, int, list[Clue]]:
    houses, attributes, *words = question.split()
    clues: list[Clue] = []
    clue: list[str] = []
    for word in words[:-1]:
        if word == "CLUE_END":
            numbers = [int(number) for number in clue[1:]]
            items = zip(numbers[::2], numbers[1::2], strict=True)
            clues.append(Clue(clue[0], tuple(items)))
            clue = []
        else:
            clue.append(word)
    return int(houses), int(attributes), clues


def means(clue: Clue, place: dict[ZebraItem, int], houses: int) -> bool:
    """What a clue says, in words of its own."""
    at = [place[item] for item in clue.items]
    match clue.relation, at:
        case "=", [a, b]:
            return a == b
        case "!=", [a, b]:
            return a != b
        case "left-of", [a, b]:
            return a < b
        case "immediate-left", [a, b]:
            return b - a == 1
        case "nbr", [a, b]:
            return b - a in (1, -1)
        case "inbetween", [a, b, c]:
            return min(b, c) < a < max(b, c)
        case "ends", [a]:
            return a == 0 or a == houses - 1
    raise AssertionError(clue)


def answers(houses: int, attributes: int, clues: list[Clue]) -> list[dict[ZebraItem, int]]:
    found = []
    for orders in product(permutations(range(houses)), repeat=attributes):
        place = {(a, v): orders[a][v] for a in range(attributes) for v in range(houses)}
        if all(means(clue, place, houses) for clue in clues):
            found.append(place)
    return found


@pytest.mark.parametrize("name", ["zebra-3x3", "zebra-4x2", "zebra-2x3"])
def test_one_answer_and_no_clue_in_vain(name: str) -> None:
    for example in Puzzles(name, "train", 6):
        houses, attributes, clues = parse(example.instruction)
        (place,) = answers(houses, attributes, clues)
        words = [int(word) for word in example.program.split()]
        triples = list(zip(words[::3], words[1::3], words[2::3], strict=True))
        assert len(triples) == houses * attributes
        assert {(a, v): house for house, a, v in triples} == place
        for clue in clues:
            rest = [other for other in clues if other is not clue]
            assert len(answers(houses, attributes, rest)) > 1


def test_the_solver_agrees_with_brute_force() -> None:
    kind, rng = Zebra(3, 2), random.Random(0)
    seen = set()
    for _ in range(40):
        place = kind._places(rng)
        clues = rng.sample(kind._true(place), rng.randint(1, 6))
        unique = len(answers(3, 2, clues)) == 1
        assert kind.is_unique(clues) == unique
        seen.add(unique)
    assert seen == {True, False}


def test_all_relations_occur() -> None:
    relations = {
        clue.relation
        for example in Puzzles("zebra-4x3", "train", 30)
        for clue in parse(example.instruction)[2]
    }
    assert relations >= {"=", "!=", "left-of", "immediate-left", "nbr", "inbetween", "ends"}
