"""A model's answer at an edit state: rivals, where it begins, and formats that never fit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from codegen.core.records import Change, Edit
from codegen.edits.formats import FORMATS
from codegen.server.completion.requests import DocumentKey
from codegen.server.next_edits import answers
from tests.server.next_edits.test_proposals import BLOCK, LONG, NONE, RIGHT, TEXT, Scripted

SAME = f"{BLOCK}1\ndef total(items):\n    sum_ = 0\n    for i in items:\n{BLOCK}2"
WRONG = f"{BLOCK}1\nno mark"
OTHER = f"{BLOCK}2\n        sum_ += 1\n    return sum_\n{BLOCK}3"


@pytest.mark.parametrize(
    ("first", "rivals", "answer"),
    [
        (RIGHT, [], RIGHT),
        (SAME, [SAME, WRONG, RIGHT], RIGHT),
        (SAME, [SAME, WRONG], SAME),  # nothing better
        (SAME, [SAME, NONE, RIGHT], SAME),  # it may be right that nothing is due
        (SAME, [SAME, LONG, RIGHT], SAME),  # the next most probable answer is too long
        (NONE, [RIGHT], NONE),
    ],
)
def test_an_edit_that_changes_nothing_gives_way_to_a_rival(
    first: str, rivals: list[str], answer: str
) -> None:
    """Unless "no edit" is an answer of the model. The program shows nothing."""
    edit = renamed(Change("shop.py", 4, "", "    return cost\n"))
    engine: Any = Scripted(first, rivals)
    assert answered(engine, edit) == answer
    ((id_, least),) = engine.asked[0].first_token_thresholds
    assert id_ == 7 and least == 0.55
    assert len(engine.asked) == 1 + (first == SAME)
    if first == SAME:
        most = [one.params.max_new_tokens for one in engine.asked]
        assert most[1] < most[0]
        ((id_, unlikely),) = engine.asked[1].first_token_thresholds
        assert id_ == 7 and 0 < unlikely < least


@pytest.mark.parametrize("is_sure", [False, True])
@pytest.mark.parametrize("is_idle", [False, True])
def test_where_a_line_is_due_the_answer_begins_there(is_sure: bool, is_idle: bool) -> None:
    """At once for a place far from the cursor, else if the model changed nothing."""
    edit = renamed(Change("shop.py", 1, "    cost = 0\n", "    sum_ = 0\n"))
    rest = f"\n{BLOCK}2" if is_idle else RIGHT.removeprefix(f"{BLOCK}2")
    engine: Any = Scripted(SAME, [SAME, WRONG, OTHER, RIGHT], rest)
    found = answered(engine, edit, is_sure=is_sure)
    assert found == (OTHER if is_idle and not is_sure else f"{BLOCK}2{rest}")
    begun = engine.asked.pop(0 if is_sure else 1)
    assert begun.tokens == ("prompt", f"{BLOCK}2") and not begun.first_token_thresholds
    # The renaming, continued from there, is what the model is to judge.
    assert begun.prediction == RIGHT.removeprefix(f"{BLOCK}2").replace("return cost", "return sum_")
    assert begun.acceptance_threshold > 0
    assert [one.candidates for one in engine.asked] == [1, 4][: (not is_sure) * (1 + is_idle)]
    for one in engine.asked:
        ((id_, least),) = one.first_token_thresholds
        assert id_ == 7 and least > 1  # never "no edit"


def renamed(change: Change) -> Edit:
    return Edit("", "shop.py", TEXT.replace("cost = 0", "sum_ = 0"), (change,), (0, 5), 0)


def answered(engine: Any, edit: Edit, **options: Any) -> str | None:
    key = DocumentKey("", "", "")
    asked = answers.answer(
        FORMATS["blocks"], engine, key, "prompt", edit, threshold=0.45, **options
    )
    found = asyncio.run(asked)
    return found.text if found else None


@pytest.mark.parametrize(
    ("name", "said"), [("instinct", "--context 4096"), ("auto", "Set --next-edits to the format")]
)
def test_a_format_that_never_fits_is_an_error_at_the_start(
    name: str, said: str, codegen: Any
) -> None:
    server = ["serve", "lsp", "--upstream", "http://127.0.0.1:9", "--next-edits", name]
    code, _, err = codegen(*server)
    assert code == 2 and said in err
