"""Which table a question is about."""

from __future__ import annotations

import pytest

from codegen.sqlnet.linking import overlaps, rank
from codegen.sqlnet.query import Column, Table

TABLES = (
    Table("customers", (Column("customer_id", "real"), Column("city"))),
    Table("orders", (Column("order_id", "real"), Column("customer_id", "real"))),
    Table("products", (Column("product_id", "real"), Column("unitPrice", "real"))),
)


@pytest.mark.parametrize(
    ("question", "table"),
    [
        ("how many customers are there?", "customers"),
        ("what is the price of each unit", "products"),
        ("list all orders", "orders"),
        ("which city", "customers"),
    ],
)
def test_shared_words_tell_the_table(question: str, table: str) -> None:
    ranked = rank(TABLES, overlaps(question, TABLES), [0.0, 0.0, 0.0])
    assert ranked[0].table.name == table
    assert sum(item.probability for item in ranked) == pytest.approx(1)
    probabilities = [item.probability for item in ranked]
    assert probabilities == sorted(probabilities, reverse=True)


def test_without_shared_words_the_network_decides() -> None:
    ranked = rank(TABLES, overlaps("zzz", TABLES), [-9.0, -1.0, -9.0])
    assert ranked[0].table.name == "orders"


def test_a_table_whose_whole_name_is_asked_for_comes_first() -> None:
    names = ("downloads", "downloads_slices", "downloads_url_chains", "urls")
    tables = [Table(name, (Column("id"), Column("url"))) for name in names]
    for asked, number in (("how many downloads are there", 0), ("how many urls are there", 3)):
        shares = overlaps(asked, tables)
        assert max(range(4), key=shares.__getitem__) == number
