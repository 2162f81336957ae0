"""Values of a question and those of a table."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.features import encode_question
from codegen.sqlnet.linking import MOST_VALUES, Linker, date_in, links_of, nearest, spelled_out
from codegen.sqlnet.query import Column, Condition, Query, Table
from codegen.sqlnet.schema import Schema

CITIES = ["Toronto", "New York City", "York", "São Paulo", "St. John's", "2021-05-03", "12", "120"]
CITIES += ["Wales Airport"]


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("toronto", "Toronto"),
        ("TORONTO", "Toronto"),
        ("york", "York"),
        ("new york", "New York City"),
        ("sao paulo", "São Paulo"),
        ("st johns", "St. John's"),
        ("Tornto", "Toronto"),
        ("May 3, 2021", "2021-05-03"),
        ("3rd may 2021", "2021-05-03"),
        ("12", "12"),
        ("1", None),
        ("121", None),
        ("Paris", None),
        ("Angeles Airport", None),
        ("Whales Airport", "Wales Airport"),
        ("", None),
        ("???", None),
    ],
)
def test_the_value_that_is_meant_is_found(said: str, found: str | None) -> None:
    assert nearest(said, CITIES) == found


def test_of_several_that_hold_the_words_none_is_taken() -> None:
    assert nearest("lee", ["Ann Lee", "Bob Lee"]) is None


@given(st.text(max_size=20), st.lists(st.text(min_size=1, max_size=20), max_size=6))
def test_a_link_is_always_one_of_the_values(said: str, values: list[str]) -> None:
    found = nearest(said, values)
    assert found is None or found in values
    if said in values:
        assert found is not None and found.casefold() == said.casefold()


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2021-05-03", date(2021, 5, 3)),
        ("2021/5/3", date(2021, 5, 3)),
        ("September 30, 1999", date(1999, 9, 30)),
        ("30 sep 1999", date(1999, 9, 30)),
        ("2021-13-03", None),
        ("February 30, 1999", None),
        ("May", None),
        ("may be 3, 1999", None),
    ],
)
def test_days(text: str, day: date | None) -> None:
    assert date_in(text) == day


def linker() -> Linker:
    rows = [("Ann Lee", 30, "Toronto"), ("Bob Ray", 41, "New York"), ("Eve", 25, "York")]
    database = SqliteDatabase.from_rows(["name", "age", "city"], rows, "people")
    return Linker(database, Schema.of(database).table())


def test_conditions_are_linked_by_the_type_of_their_column() -> None:
    held = linker()
    conditions = (Condition(0, 0, "ann"), Condition(1, 1, "twenty"), Condition(2, 1, "toronto"))
    query = Query(0, 0, conditions)
    linked = held.link(query)
    assert [c.value for c in linked.conditions] == ["Ann Lee", "20", "toronto"]
    links = links_of(query, linked, held.table)
    assert [(link.column, link.said, link.found) for link in links] == [
        ("name", "ann", "Ann Lee"),
        ("age", "twenty", "20"),
    ]


def test_what_selects_nothing_is_known_without_running_it() -> None:
    held = linker()
    assert held.selects(Condition(2, 0, "toronto")) is True
    assert held.selects(Condition(2, 0, "Rome")) is False
    assert held.selects(Condition(1, 0, "30")) is None


def test_mentions_are_the_longest_spans_that_stand_in_a_column() -> None:
    held = linker()
    asked = encode_question("does bob ray of new york know Eve?", held.table)
    assert held.mentioned(asked.text, asked.tokens) == {0: [(1, 2), (7, 7)], 2: [(4, 5)]}


def test_a_column_of_too_many_values_is_left_alone() -> None:
    database = SqliteDatabase.from_rows(["name"], [(f"n{i}",) for i in range(MOST_VALUES + 1)])
    held = Linker(database, Schema.of(database).table())
    assert held.values(0) is None
    assert held.selects(Condition(0, 0, "nobody")) is None


@pytest.mark.parametrize(
    ("name", "question", "words"),
    [
        ("dep_delay", "the average departure delay", ("departure", "delay")),
        ("dep_delay", "the average departures", ("departure", "delay")),
        ("depDelay", "departure delay", ("departure", "delay")),
        ("dep_delay", "the dep delay, or departure delay", ("dep", "delay")),  # the question's own
        ("dep_delay", "the delay", ("dep", "delay")),
        ("deposit", "departure", ("deposit",)),
        ("tz", "which time zone is it in", ("time", "zone")),
        ("tz", "which zone is it in at that time", ("tz",)),
        ("temp_max", "the maximum temperature", ("temperature", "maximum")),
        ("temp_max", "the highest temperature", ("temperature", "highest")),
    ],
)
def test_a_short_form_is_read_as_the_long_one_of_the_question(
    name: str, question: str, words: tuple[str, ...]
) -> None:
    (column,) = spelled_out(Table("t", (Column(name, "real"),)), question).columns
    assert (column.name, column.type, column.words) == (name, "real", words)
