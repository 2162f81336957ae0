"""Families: sound records, right answers by another computation, halves that share nothing."""

from __future__ import annotations

import ast
import datetime
import re
from itertools import pairwise

import pytest

from codegen.cogex import check_record, read_record
from codegen.cogex.builtin_families import FAMILIES, ProblemFamily, find_family
from codegen.core.errors import ConfigError


@pytest.mark.parametrize("family", FAMILIES.values(), ids=list(FAMILIES))
def test_records_are_sound_and_halves_apart(family: ProblemFamily) -> None:
    train = {family.record(number).input for number in range(60)}
    for number in range(60):
        record = family.record(number)
        check_record(record)
        assert read_record(**record.to_row()).to_row() == record.to_row()
        assert record == family.record(number)
    test = {family.item("test", number).input for number in range(60)}
    assert not train & test


def test_all_programs_of_a_family_agree_with_its_answer() -> None:
    from codegen.cogex.literals import normalized

    for family in FAMILIES.values():
        for number in range(40):
            item = family.item("test", number)
            for program in family.programs:
                assert normalized(program(*item.args)["answer"]) == normalized(item.answer)


def test_answers_by_other_means() -> None:
    for number in range(200):
        words = FAMILIES["word_sorting"].item("train", number)
        given = words.input.removeprefix("List: ").split()
        ordered = words.answer.split()
        assert sorted(given) == sorted(ordered)
        assert all(a <= b for a, b in pairwise(ordered))
        coin = FAMILIES["coin_flip"].item("train", number)
        heads = True
        for act in re.findall(r"(flips|does not flip) the coin\.", coin.input):
            heads = heads != (act == "flips")
        assert coin.answer == ("yes" if heads else "no")
        total = FAMILIES["large_sum"].item("train", number)
        assert int(total.answer) == sum(map(int, total.input.split(" + ")))
        day = FAMILIES["date_after"].item("train", number)
        start, days = re.findall(r"\d{4}-\d\d-\d\d|\d+$", day.input)
        gone = datetime.date.fromisoformat(day.answer) - datetime.date.fromisoformat(start)
        assert gone.days == int(days)
        story = FAMILIES["arithmetic"].item("train", number)
        numbers = set(re.findall(r"\d+", story.input))
        call = ast.parse(FAMILIES["arithmetic"].record(number).call, mode="eval").body
        assert isinstance(call, ast.Call)
        assert {str(n) for n in story.args[:2]} <= numbers


def test_an_unknown_family() -> None:
    with pytest.raises(ConfigError, match="word_sorting"):
        find_family("word_sortin")
