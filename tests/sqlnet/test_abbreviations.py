"""Short forms in the names of columns."""

from __future__ import annotations

import pytest

from codegen.sqlnet.linking import spelled_out
from codegen.sqlnet.query import Column, Table


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
