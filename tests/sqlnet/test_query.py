"""Tables and sketches: names, equality by WikiSQL's rule, and records."""

from __future__ import annotations

import pytest

from codegen.core.errors import InputError
from codegen.sqlnet.query import Column, Condition, Query, Table, query_from_row, unique_names
from codegen.sqlnet.schema import Schema


def test_file_headers_become_distinct_names() -> None:
    assert unique_names(["a", "A", "", "a", " "]) == ("a", "A 2", "column 3", "a 3", "column 5")


def test_tables_and_columns_are_found_whatever_the_case() -> None:
    schema = Schema((Table("Cities", (Column("Name"), Column("Area", "real"))),))
    assert schema.table("CITIES").index("area") == 1
    with pytest.raises(InputError, match="no column 'size'"):
        schema.table().index("size")
    with pytest.raises(InputError, match="Unknown table 'x'"):
        schema.table("x")


def test_queries_match_by_the_official_rule() -> None:
    first = Query(1, 2, (Condition(0, 0, "Ann"), Condition(2, 1, "3")))
    assert first.matches(Query(1, 2, (Condition(2, 1, "3"), Condition(0, 0, "aNN"))))
    assert not first.matches(Query(1, 2, (Condition(2, 1, "3.0"), Condition(0, 0, "Ann"))))
    assert not first.matches(Query(1, 1, first.conditions))


def test_records_come_back_as_they_were_and_wrong_ones_are_named() -> None:
    query = Query(1, 2, (Condition(0, 0, "Ann"),))
    assert query_from_row(query.to_row(), columns=2) == query
    for row, what in [
        ({}, "not a WikiSQL query"),
        ({"sel": 0, "agg": 0, "conds": [[0, 0]]}, "not a WikiSQL query"),
        ({"sel": 2, "agg": 0, "conds": []}, "sel is 2"),
        ({"sel": 0, "agg": 9, "conds": []}, "agg is 9"),
        ({"sel": True, "agg": 0, "conds": []}, "sel is True"),
        ({"sel": 0, "agg": 0, "conds": [[0, 3, "x"]]}, "operator is 3"),
    ]:
        with pytest.raises(InputError, match=what):
            query_from_row(row, columns=2)
