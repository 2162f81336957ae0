"""What a question demands of its query: each demand is met or named, and names are no demands."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.sqlnet.calibration import doubts as unmet
from codegen.sqlnet.calibration import explained, grounding, named_but_unused, words_left
from codegen.sqlnet.explain import clauses_of, sentence
from codegen.sqlnet.plan import ColumnRef, OrderBy, PlanValue, QueryPlan, SecondBlock, SelectItem
from codegen.sqlnet.plan import PlanCondition as Condition_
from codegen.sqlnet.query import AGGREGATES, Clause, Column, Condition, ForeignKey, Query, Table
from codegen.sqlnet.question_checks import QuestionContext

PRODUCTS = Table(
    "products",
    (
        *(Column("id", "real"), Column("name"), Column("price", "real"), Column("copies", "real")),
        *(Column("status"), Column("added_on"), Column("last name"), Column("zip", "real")),
    ),
    primary_key=(0,),
)
ORDERS = Table(
    "orders",
    (Column("id", "real"), Column("product_id", "real"), Column("quantity", "real")),
    primary_key=(0,),
    foreign_keys=(ForeignKey((1,), "products", ("id",)),),
)
ID, NAME, PRICE, COPIES, STATUS, ADDED, LAST, ZIP = range(8)
MAX, MIN, COUNT, SUM, AVG = map(AGGREGATES.index, ("MAX", "MIN", "COUNT", "SUM", "AVG"))


def asked(question: str, query: Query, others: tuple[Table, ...] = (ORDERS,)) -> QuestionContext:
    return QuestionContext(question, query.clauses(PRODUCTS), (PRODUCTS,), others)


def codes(question: str, query: Query) -> list[str]:
    return [doubt.code for doubt in unmet(asked(question, query))]


def where(column: int, operator: int, value: str) -> tuple[Condition, ...]:
    return (Condition(column, operator, value),)


UNDERSTOOD = [
    ("how many products are there?", Query(ID, COUNT, counts_rows=True)),
    ("what is the highest price?", Query(PRICE, MAX)),
    ("show me the lowest price of all products", Query(PRICE, MIN)),
    ("what is the average price of products", Query(PRICE, AVG)),
    ("total price of products with status sold", Query(PRICE, SUM, where(STATUS, 0, "sold"))),
    ("names of products with a price over 20", Query(NAME, 0, where(PRICE, 1, "20"))),
    ("which products cost less than $1,000?", Query(NAME, 0, where(PRICE, 2, "1,000"))),
    ("what is the last name of the product Moka Pot?", Query(LAST, 0, where(NAME, 0, "Moka Pot"))),
    (
        "price of the product 'No 5 or Best of West'",
        Query(PRICE, 0, where(NAME, 0, "No 5 or Best of West")),
    ),
    ("how many copies does the Moka Pot have?", Query(COPIES, 0, where(NAME, 0, "Moka Pot"))),
    ("name of products added before 2023", Query(NAME, 0, where(ADDED, 2, "2023"))),
    ("what is the zip of the Moka Pot", Query(ZIP, 0, where(NAME, 0, "Moka Pot"))),
]


@pytest.mark.parametrize(("question", "query"), UNDERSTOOD)
def test_a_query_that_says_it_all_meets_its_question(question: str, query: Query) -> None:
    assert [doubt.text for doubt in unmet(asked(question, query))] == []


@pytest.mark.parametrize(
    "demand",
    """
    never {}
    {} without orders
    {} that were not sold
    {} or the status
    either {}
    {} for each status
    {} per status
    {} in every shop
    {} grouped by status
    different {}
    distinct {}
    {} sorted by status
    {} in alphabetical order
    {} with the highest status
    the cheapest {}
    the top 5 {}
    the first three {}
    the most popular {}
    {} with at least some copies
    {} with no more than some copies
    {} with more than some copies
    {} between some copies and others
    {} added since then
    {} added before then
    {} added in March
    {} added today
    {} of the last month
    {} with 7 copies
    {} of "Moka Pot"
    {} in Berlin
    the average {}
    the percentage of {}
    the difference between {}
    why {}
    should we sell {}
    the {} that he bought
    """.strip().split("\n"),
)
def test_no_demand_is_left_out_silently(demand: str) -> None:
    """The plain list of names meets none of these."""
    question = demand.strip().format("product names")
    assert codes("show product names", Query(NAME)) == []
    assert codes(question, Query(NAME)), question


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (Query(PRICE, MAX), "unasked"),
        (Query(PRICE, AVG), "unasked"),
        (Query(PRICE, SUM), "unasked"),
        (Query(NAME, COUNT), "unasked"),
        (Query(ID, MAX), "unasked"),
        (Query(ID), "identifier"),
        (Query(STATUS, 0, where(STATUS, 0, "name")), "unasked"),
        (Query(NAME, 0, where(PRICE, 1, "name")), "unasked"),
    ],
)
def test_a_query_does_nothing_unasked(query: Query, code: str) -> None:
    assert code in codes("show the product name", query)


SAID = """
who which never no. not per each 5 1,000 $3 top first two 'a' " Best of than or more price İ ß -
"""
words = st.sampled_from(SAID.split())


@given(
    st.one_of(st.text(max_size=60), st.lists(words, max_size=12).map(" ".join)),
    st.sampled_from(range(8)),
    st.sampled_from(range(6)),
    st.lists(
        st.tuples(st.sampled_from(range(8)), st.sampled_from(range(3)), st.text(max_size=8)),
        max_size=2,
    ),
)
def test_any_question_gets_an_answer_from_the_checks(
    question: str, select: int, aggregate: int, conditions: list[tuple[int, int, str]]
) -> None:
    query = Query(select, aggregate, tuple(Condition(*one) for one in conditions))
    for is_read in (True, False):
        said = QuestionContext(question, query.clauses(PRODUCTS), (PRODUCTS,), (ORDERS,), is_read)
        assert all(doubt.text.endswith(".") and doubt.code for doubt in unmet(said))
        assert len(said.rest) == len(question)
        assert {word for word, _ in explained(said)} <= {token.text for token in said.tokens}
        assert set(words_left(said)) <= {word for word, _ in explained(said)}
        assert all(value >= 0 for value in grounding(said).values())


def test_identifiers_are_no_quantities() -> None:
    for column in (ID, ZIP):
        for aggregate in (MAX, MIN, SUM, AVG):
            clause = Query(column, aggregate).clauses(PRODUCTS)[0]
            assert clause.identifier
            question = "the highest lowest total average product"
            assert "identifier" in codes(question, Query(column, aggregate))
    plain = ("price", "paid", "bid", "grid", "width", "orchid_count")
    assert not any(Clause("select", "t", Column(name, "real")).identifier for name in plain)
    keyed = Table("t", (Column("a", "real"), Column("b", "real")), primary_key=(0,))
    assert [Query(n).clauses(keyed)[0].identifier for n in (0, 1)] == [True, False]


def test_the_holder_of_a_superlative_is_not_its_quantity() -> None:
    assert codes("what is the highest price?", Query(PRICE, MAX)) == []
    assert codes("which product has the highest price?", Query(PRICE, MAX)) == ["cue"]
    assert codes("what is the highest price?", Query(PRICE, MIN)) == ["cue"]
    assert codes("what is the highest price?", Query(COPIES, MAX)) == ["cue"]


def test_a_cue_in_a_name_is_none() -> None:
    rooms = Table("rooms", (Column("capacity", "real"), Column("average", "real")))
    both = QuestionContext(
        "maximum capacity and the average", Query(0, MAX).clauses(rooms), (rooms,)
    )
    assert [doubt.code for doubt in unmet(both)] == ["cue"]
    table = Table(
        "cars",
        (Column("miles per gallon", "real"), Column("home city"), Column("No. of wins", "real")),
    )
    average = Query(0, AVG).clauses(table)
    for question, met in [
        ("the average miles per gallon of cars", True),
        ("the average miles per  Gallon of cars", True),
        ("the average miles per gallon per city", False),
        ("the average miles per gallon without cars", False),
    ]:
        assert (not list(unmet(QuestionContext(question, average, (table,))))) is met, question
    wins = Query(2, 0, (Condition(1, 0, "Best"),)).clauses(table)
    assert not list(unmet(QuestionContext("No. of wins of the cars of Best", wins, (table,))))


def test_what_a_column_counts_is_not_counted_in_rows() -> None:
    rows = Query(ID, COUNT, counts_rows=True)
    assert codes("how many copies do we own?", rows) == ["cue"]
    assert codes("how many products do we own?", rows) == []
    assert codes("how many orders do our products have?", rows) == ["cue"]


def test_a_value_of_another_wording_hides_no_cue() -> None:
    query = Query(NAME, 0, where(STATUS, 0, "Sold Out"))
    for said, found in (("sold", []), ("not sold", ["cue"]), ("sold or lost", ["cue"])):
        clauses = query.clauses(PRODUCTS, replace(query, conditions=where(STATUS, 0, said)))
        doubts = unmet(QuestionContext(f"names of products that are {said}", clauses, (PRODUCTS,)))
        assert [doubt.code for doubt in doubts] == found, said
    exact = Query(NAME, 0, where(STATUS, 0, "never or not"))
    assert codes("names of products that are never or not", exact) == []


def test_words_that_nothing_explains_are_named() -> None:
    query = Query(PRICE, 0, where(NAME, 0, "Moka Pot"))
    said = asked("what is the shipping price of the Moka Pot for our product club?", query)
    assert words_left(said) == ["shipping", "club"]
    assert dict(explained(said))["price"] == "column price"
    assert dict(explained(said))["Moka"] == "a value"
    alike = QuestionContext(said.question, said.clauses, said.tables, alike=lambda one, other: 0.9)
    assert words_left(alike) == []
    near = {"shipping": ("orders",), "club": ("products",)}
    assert words_left(replace(said, nearest=near)) == ["shipping"]


V = PlanValue
SHOWN = (SelectItem(ColumnRef(0, NAME)),)
PLANS = [
    (
        "which products have no orders?",
        QueryPlan(SHOWN, companion=SecondBlock("never", (1,))),
        "the name of products without orders",
    ),
    (
        "number of orders per product",
        QueryPlan((*SHOWN, SelectItem(ColumnRef(1), COUNT)), group=(ColumnRef(0, NAME),)),
        "the name and the number of orders of products, for each name",
    ),
    (
        "the three most expensive products by price",
        QueryPlan(SHOWN, order=OrderBy(ColumnRef(0, PRICE), 0, True), limit=3),
        "the name of products, sorted by price, highest first, only the first 3",
    ),
    (
        "products whose status is sold or lost",
        QueryPlan(SHOWN, where=(Condition_(ColumnRef(0, STATUS), "=", (V("sold"), V("lost"))),)),
        "the name of products whose status is 'sold' or 'lost'",
    ),
    (
        "how many different status are there among products?",
        QueryPlan((SelectItem(ColumnRef(0, STATUS), COUNT, True),)),
        "the number of different values of status of products",
    ),
    (
        "which products have more than 5 orders?",
        QueryPlan(SHOWN, where=(Condition_(ColumnRef(1), ">", (V("5"),), COUNT),)),
        "the name of products, where the number of orders is more than '5'",
    ),
]


def test_names_and_cells_stand_for_their_columns_in_a_plan() -> None:
    def signs(question: str, query: Query, of_plan: bool = True) -> tuple[float, ...]:
        found = grounding(asked(question, query), of_plan=of_plan)
        return tuple(found[sign] for sign in ("table_named", "select_named", "columns_unnamed"))

    pot = where(NAME, 0, "Moka Pot")
    assert signs("what is the price of the moka pot?", Query(PRICE, 0, pot)) == (1, 1, 0)
    assert signs("what is the price of the moka pot?", Query(PRICE, 0, pot), False) == (0, 1, 1)
    assert signs("what is the price of the pot?", Query(PRICE, 0, pot)) == (0, 1, 1)
    assert signs("which products cost 5?", Query(NAME, 0, where(PRICE, 0, "5"))) == (1, 1, 1)
    assert signs("which products are sold?", Query(STATUS)) == (1, 0, 0)
    assert signs("which orders are sold?", Query(NAME)) == (0, 0, 0)


@pytest.mark.parametrize(("question", "plan", "words"), PLANS)
def test_plans_meet_what_a_sketch_cannot_and_say_it(
    question: str, plan: QueryPlan, words: str
) -> None:
    clauses = clauses_of(plan, (PRODUCTS, ORDERS))
    said = QuestionContext(question, clauses, (PRODUCTS, ORDERS))
    assert [doubt.text for doubt in unmet(said)] == []
    assert sentence(clauses) == words
    assert codes(question, Query(NAME)), "the sketch can't say it"


HOTELS = Table(
    "hotels",
    (
        *(Column("id", "real"), Column("first_name"), Column("last_name"), Column("stadium")),
        *(Column("opened", "real"), Column("age", "real"), Column("size", "real")),
        *(Column("is_business", "real"), Column("quantity", "real")),
    ),
    primary_key=(0,),
)
FIRST, SURNAME, STADIUM, OPENED, AGE, SIZE, BUSINESS, QUANTITY = range(1, 9)


def demands(question: str, plan: QueryPlan) -> bool:
    """Whether the question demands what the plan lacks."""
    return bool([*unmet(QuestionContext(question, clauses_of(plan, (HOTELS,)), (HOTELS,)))])


def listed(*shown: int, by: int | None = None, down: bool = False) -> QueryPlan:
    order = None if by is None else OrderBy(ColumnRef(0, by), descending=down)
    limit = 1 if order else None
    return QueryPlan(tuple(SelectItem(ColumnRef(0, c)) for c in shown), order=order, limit=limit)


@pytest.mark.parametrize(
    ("word", "column", "down"),
    [
        *(("oldest", OPENED, False), ("newest", OPENED, True), ("earliest", OPENED, False)),
        *(("oldest", AGE, True), ("youngest", AGE, False)),
        *(("biggest", SIZE, True), ("smallest", SIZE, False)),
    ],
)
def test_a_superlative_is_sorted_its_own_way(word: str, column: int, down: bool) -> None:
    question = f"what is the stadium of the {word} hotel?"
    assert not demands(question, listed(STADIUM, by=column, down=down))
    assert demands(question, listed(STADIUM, by=column, down=not down))
    assert demands("the stadium of the biggest hotel", listed(STADIUM, by=STADIUM, down=True))


def test_all_rows_do_not_answer_for_some() -> None:
    rows = QueryPlan((SelectItem(ColumnRef(0), COUNT),))
    assert not demands("how many hotels are there?", rows)
    for question in ("how many hotels are unpaid?", "how many spa hotels are there?"):
        assert demands(question, rows), question
    assert demands("what is the age of the pool of hotels?", listed(AGE))
    never = QueryPlan((SelectItem(ColumnRef(0), COUNT),), companion=SecondBlock("never", (0,)))
    assert demands("how many hotels were no-shows?", never)


ROOMS = Table(
    "rooms",
    (Column("id", "real"), Column("hotel_id", "real"), Column("label"), Column("bought")),
    primary_key=(0,),
    foreign_keys=(ForeignKey((1,), "hotels", ("id",)),),
)
LABEL, BOUGHT = 2, 3


def test_what_was_asked_for_is_a_thing_of_the_query() -> None:
    def doubted(question: str, plan: QueryPlan) -> bool:
        tables = (HOTELS, ROOMS)
        used = tuple(tables[t] for t in sorted(plan.required()))
        return bool([*unmet(QuestionContext(question, clauses_of(plan, tables), used))])

    big = (Condition_(ColumnRef(0, SIZE), ">", (PlanValue("29"),)),)
    labels = QueryPlan((SelectItem(ColumnRef(1, LABEL)),), where=big)
    assert doubted("hotels with a size over 29", labels), "shows rooms, which nobody spoke of"
    assert not doubted("labels of rooms whose hotels have a size over 29", labels)

    most = OrderBy(ColumnRef(0), COUNT, descending=True)
    crowded = QueryPlan(
        (SelectItem(ColumnRef(0, STADIUM)),), group=(ColumnRef(0, STADIUM),), order=most
    )
    assert doubted("which stadium has the most accidents?", crowded)
    assert not doubted("which stadium has the most hotels?", crowded)

    some = QueryPlan((SelectItem(ColumnRef(0), COUNT),), where=big)
    assert doubted("how many employees do hotels of a size above 29 have?", some)
    given = (Condition_(ColumnRef(1, BOUGHT), "is not null"),)
    assert doubted("how many rooms were bought this year?", QueryPlan(some.select, where=given))


def test_count_counts_rows_unless_a_column_is_meant() -> None:
    from codegen.sqlnet.sql import to_sql, validate

    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE products (id, name, price, copies, status, added_on, 'last name', zip)"
    )
    connection.execute("INSERT INTO products (id, name) VALUES (1, 'a'), (2, NULL)")
    counts = []
    for query in (Query(NAME, COUNT), Query(NAME, COUNT, counts_rows=True)):
        text = to_sql(query, PRODUCTS).text
        validate(text, [PRODUCTS])
        counts += connection.execute(text).fetchone()
    connection.close()
    assert counts == [1, 2]


def test_columns_and_tables_that_are_named_and_not_used() -> None:
    said = asked("price and status of products in orders", Query(PRICE))
    assert named_but_unused(said) == ["status", "orders"]
    both = asked("price of products by status sold", Query(PRICE, 0, where(STATUS, 0, "sold")))
    assert named_but_unused(both) == []
