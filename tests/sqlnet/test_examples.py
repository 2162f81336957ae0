"""WikiSQL's measures by hand, and tables on one side of a split."""

from __future__ import annotations

from dataclasses import replace

from codegen.sqlnet.examples import LabeledQuestion, databases_of, score, split_by_table
from codegen.sqlnet.query import Condition, Query
from tests.sqlnet.test_training import ITEMS, NEW, NEW_TABLES


def test_scores_are_shares_of_what_is_equal() -> None:
    items = [item for item in NEW if len(item.query.conditions) == 1][:4]
    gold = [item.query for item in items]
    condition = gold[1].conditions[0]
    other = 1 - min(condition.column, 1)
    predicted = [
        gold[0],
        replace(gold[1], conditions=(replace(condition, column=other),)),
        replace(gold[2], conditions=(replace(gold[2].conditions[0], value="x"),)),
        replace(gold[3], aggregate=3, conditions=()),
    ]
    scores = score(predicted, items)
    assert (scores.n, scores.query_match, scores.select) == (4, 0.25, 1.0)
    assert (scores.aggregate, scores.where) == (0.75, 0.25)
    assert scores.execution is None


def test_execution_compares_answers_and_counts_failures_as_wrong() -> None:
    databases = databases_of(NEW, NEW_TABLES)
    assert databases is not None
    item = next(i for i in NEW if i.query.aggregate == 1)
    age = item.query.select
    same = Query(age, 1, (Condition(age, 1, "0"),))
    for query, expected in [(item.query, 1.0), (same, 1.0), (Query(age, 2), 0.0)]:
        assert score([query], [item], databases).execution == expected


def test_a_table_is_on_one_side_of_a_split_alone() -> None:
    def names(items: list[LabeledQuestion]) -> set[str]:
        return {item.question.table.name for item in items}

    train_part, held = split_by_table(ITEMS + NEW, 0.2, seed=3)
    assert not names(train_part) & names(held)
    assert 0.1 < len(held) / len(ITEMS + NEW) < 0.3
    assert split_by_table(ITEMS + NEW, 0.2, seed=3)[1] == held
