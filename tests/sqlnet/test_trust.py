"""The confidence means shares, and answers are judged as the data set says."""

from __future__ import annotations

import json
import math
import random
import sqlite3
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codegen.errors import InputError, ModelError
from codegen.sqlnet import SQLNet, trials, trust
from codegen.sqlnet.trials import Expected, read_trials, same_rows, without_a_column
from codegen.sqlnet.trust import SIGNS, Trust


def test_a_fit_finds_the_curve_that_made_the_answers() -> None:
    rng = random.Random(0)
    truth = {"bias": -0.5, "run": 1.2, "words_left": -0.8}
    made = Trust({"one": truth, "several": truth})
    signs = [
        {"run": rng.gauss(1, 2), "words_left": float(rng.randrange(5)), "who": rng.gauss(0, 1)}
        for _ in range(6000)
    ]
    right = [rng.random() < made.confidence("one", row) for row in signs]
    found = trust.fit(signs[:3000], right[:3000])
    for name, weight in truth.items():
        assert found[name] == pytest.approx(weight, abs=0.2)
    assert abs(found["who"]) < 0.15 and found["empty"] == 0
    fitted = Trust({"one": found, "several": found})
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, is_right in zip(signs[3000:], right[3000:], strict=True):
        confidence = fitted.confidence("one", row)
        bins.setdefault(int(confidence * 5), []).append((confidence, is_right))
    for pairs in bins.values():
        mean = sum(confidence for confidence, _ in pairs) / len(pairs)
        share = sum(is_right for _, is_right in pairs) / len(pairs)
        assert abs(mean - share) < 4 * math.sqrt(0.25 / len(pairs))


def test_a_confidence_is_kept_and_damage_is_named(tmp_path: Path) -> None:
    weights = {"one": dict.fromkeys(SIGNS, 0.25), "several": {"bias": -1.0}}
    Trust(weights, 0.7).save(tmp_path)
    assert trust.load(tmp_path / "none", tmp_path) == Trust(weights, 0.7)
    with pytest.raises(ModelError, match=r"holds trust\.json"):
        trust.load(tmp_path / "none")
    for text in ("{", "{}", '{"threshold": 0.5, "weights": {"one": {}}}', "[]", "[" * 10**5):
        (tmp_path / "trust.json").write_text(text)
        with pytest.raises(ModelError, match="can't be read"):
            trust.load(tmp_path)


cells = st.sampled_from([1, 2.0, "a", "A ", None, 0.33333])


@given(
    st.integers(1, 3).flatmap(lambda w: st.lists(st.tuples(*[cells] * w), max_size=4)), st.data()
)
def test_rows_in_any_order_are_the_same_answer(
    rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    width = len(rows[0]) if rows else 1
    order = data.draw(st.permutations(range(width)))
    moved = [tuple(row[i] for i in order) for row in shuffled]
    assert same_rows(moved, Expected(tuple(rows)))
    more = [(*row, "x") for row in moved]
    assert same_rows(more, Expected(tuple(rows), exact=False))
    assert not rows or not same_rows(more, Expected(tuple(rows)))
    other = [*moved[1:], tuple("other" for _ in range(width))] if moved else [("other",)]
    assert not same_rows(other, Expected(tuple(rows)))


def test_order_rounding_and_case() -> None:
    assert same_rows([("B",), ("a",)], Expected((("b",), ("A",)), ordered=True))
    assert not same_rows([("a",), ("B",)], Expected((("b",), ("A",)), ordered=True))
    assert same_rows([(0.333333,)], Expected(((0.33334,),)))
    assert not same_rows([(0.334,)], Expected(((0.3333,),)))
    assert not same_rows([("1",)], Expected(((1,),)))
    wide = [tuple(range(8))]
    assert same_rows(wide, Expected(tuple(wide)))
    for order in permutations(range(3)):
        assert same_rows([order], Expected(((0, 1, 2),)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, city in (("one", "Berlin"), ("two", "Paris")):
        with sqlite3.connect(tmp_path / f"{name}.sqlite") as connection:
            connection.executescript(
                "CREATE TABLE players (player_name TEXT, age INT, home_city TEXT);"
                "CREATE TABLE stadiums (stadium_name TEXT, capacity INT);"
                f"INSERT INTO players VALUES ('Ann Lee', 30, '{city}'), ('Bob Ray', 41, 'Rome');"
            )
        connection.close()
    return tmp_path


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


ASKED = {"question": "what is the home city of player Ann Lee?", "db_id": "one"}


def test_questions_are_asked_of_their_databases_and_judged(folder: Path) -> None:
    torch.set_num_threads(1)
    parser = SQLNet.from_pretrained()
    right = "SELECT home_city FROM players WHERE player_name = 'Ann Lee'"
    path = write(
        folder,
        {**ASKED, "query": right},
        {**ASKED, "db_id": "two", "query": right},
        {**ASKED, "answer": [["Berlin"]]},
        {**ASKED, "answer": [["Rome"]]},
        {**ASKED, "answer": [["x"]], "accepted": [{"answer": [["berlin"]]}]},
        {**ASKED},
        {"question": "will Ann Lee win?", "db_id": "one"},
        {"question": "which players won yesterday?", "db_id": "one", "query": right},
        {**ASKED, "query": "SELECT nope FROM players"},
    )
    asked = list(read_trials(path, folder))
    assert len(asked) == 8  # the query of the last can't be run
    outcomes = [trials.run(parser, trial, 0.05) for trial in asked]
    assert [outcome.verdict for outcome in outcomes] == [
        *("right", "right", "right", "wrong", "right", "wrong", "right", "abstained")
    ]
    assert [bool(outcome.code) for outcome in outcomes] == [False] * 6 + [True] * 2
    assert all(set(outcome.signs) >= set(SIGNS) for outcome in outcomes)


def test_a_question_without_its_column_can_not_be_answered(folder: Path) -> None:
    rng = random.Random(0)
    query = "SELECT home_city FROM players WHERE player_name = 'Ann Lee'"
    (trial,) = read_trials(write(folder, {**ASKED, "query": query}), folder)
    hidden = [without_a_column(trial, rng) for _ in range(20)]
    left = {
        frozenset(column.name for column in one.schema.table("players").columns)
        for one in hidden
        if one
    }
    assert left == {frozenset({"player_name", "age"}), frozenset({"home_city", "age"})}
    assert all(one and not one.expected for one in hidden)


def test_files_that_do_not_fit_are_named(folder: Path) -> None:
    for row, what in [
        ({"question": "x", "db_id": "nope"}, "holds no database 'nope'"),
        ({"question": "x", "db_id": "../one"}, "not a plain file name"),
        ({"db_id": "one"}, "not a question on a database"),
        ({"question": "x", "tables": {"a": []}}, "has no columns"),
    ]:
        with pytest.raises(InputError, match=what):
            list(read_trials(write(folder, row), folder))
