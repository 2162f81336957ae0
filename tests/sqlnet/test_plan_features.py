"""What of a question is linked to tables: numbers, periods, quotations and cells."""

from datetime import date

import pytest

from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.plan import ColumnRef
from codegen.sqlnet.plan_features import LinkedSchema, Mention, mentions_of
from codegen.sqlnet.words import tokenize


def mentions(database: SqliteDatabase, text: str) -> dict[str, Mention]:
    schema = LinkedSchema(database.tables, database)
    found = mentions_of(text, tokenize(text), schema, date(2025, 6, 30))
    return {mention.text: mention for mention in found}


def test_mentions_are_numbers_periods_quotations_and_cells(database: SqliteDatabase) -> None:
    found = mentions(
        database, "Did dr. park or 'X y' earn 1,250.5 in March 2024 or last month, or two?"
    )
    assert found["dr. park"].signs >= {"cell"}
    assert set(found["dr. park"].cells.values()) == {"Dr. Park"}
    assert "quoted" in found["X y"].signs
    assert found["1,250.5"].number == 1250.5
    assert (found["March 2024"].start, found["March 2024"].end) == ("2024-03-01", "2024-04-01")
    assert (found["last month"].start, found["last month"].end) == ("2025-05-01", "2025-06-01")
    assert found["two"].number == 2


@pytest.mark.parametrize(
    ("said", "start", "end"),
    [
        ("2024", "2024-01-01", "2025-01-01"),
        ("December 2023", "2023-12-01", "2024-01-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        ("May 3, 2021", "2021-05-03", "2021-05-04"),
        ("today", "2025-06-30", "2025-07-01"),
        ("yesterday", "2025-06-29", "2025-06-30"),
        ("this week", "2025-06-30", "2025-07-07"),
        ("last year", "2024-01-01", "2025-01-01"),
    ],
)
def test_periods(database: SqliteDatabase, said: str, start: str, end: str) -> None:
    found = mentions(database, f"visits of {said}")
    assert (found[said].start, found[said].end) == (start, end)


@pytest.mark.parametrize("said", ["9999-12-31", "December 9999", "March 0000", "0000-00-00"])
def test_a_period_that_no_calendar_has_is_none(database: SqliteDatabase, said: str) -> None:
    assert not any(mention.start for mention in mentions(database, f"visits of {said}").values())


def test_a_year_is_a_period_on_days_and_a_number_elsewhere(database: SqliteDatabase) -> None:
    (mention,) = mentions(database, "visits of 2024").values()
    tables = database.tables
    visits = [table.name for table in tables].index("visits")
    day, fee = (ColumnRef(visits, tables[visits].index(name)) for name in ("day", "fee"))
    assert mention.value_for(day, tables[visits], True).start == "2024-01-01"
    assert mention.value_for(fee, tables[visits], False).start == ""
