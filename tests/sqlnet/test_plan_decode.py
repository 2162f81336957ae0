"""Questions on several tables go to the plan network, and its plans through the same checks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.network import random_vectors
from codegen.sqlnet.parser import Parse, SQLNet
from codegen.sqlnet.plan import COUNT, OrderBy, PlanCondition, PlanValue, QueryPlan, SecondBlock
from codegen.sqlnet.plan_decode import PlanParser
from codegen.sqlnet.plan_features import LinkedSchema, read_question
from codegen.sqlnet.plan_network import PlanConfig, PlanNetwork
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.training import new_network, plan_targets
from tests.databases import sqlite_file

from .clinic import sure_scores
from .test_plan import Clinic

Ask = Callable[..., Parse]


@pytest.fixture
def ask(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return asks(database, monkeypatch)


def asks(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks a parser whose plan network is sure of the plan that it is given."""
    small = PlanConfig(width=32, layers=1, heads=2)
    said = "which doctors have no visits how many patients live in the city were"
    network = new_network(small, random_vectors(said.split(), 16, 0), [], seed=0)
    parser = SQLNet(SQLNet.from_pretrained().network, plans=PlanParser(network))
    schema = LinkedSchema(database.tables, database)
    read = PlanNetwork.read

    def ask(question: str, plan: QueryPlan) -> Parse:
        asked = read_question(question, schema, network.likeness)
        targets = plan_targets(asked, plan)
        assert targets
        with monkeypatch.context() as patch:
            patch.setattr(PlanNetwork, "read", read)
            sure = sure_scores(asked, targets, network)
            patch.setattr(PlanNetwork, "read", lambda _self, _questions: [sure])
            return parser.parse(question, Schema.of(database), min_confidence=1e-12)

    return ask


def test_a_plan_is_run_said_in_words_and_trusted(database: SqliteDatabase, ask: Ask) -> None:
    db = Clinic(database)
    plan = QueryPlan(
        db.show("doctors.name"),
        companion=SecondBlock("never", (db.table("visits"),)),
        keys=(db.item("visits.doctor_id"),),
    )
    parse = ask("which doctors have no visits?", plan)
    assert parse.rows is not None and parse.rows.rows == (("Dr. West",),)
    assert not parse.doubts
    assert "without visits" in parse.best.sentence
    assert "NOT EXISTS" in parse.statement().text
    assert "NOT EXISTS" in parse.statement("postgres").text


def test_a_cue_that_the_plan_leaves_out_is_a_doubt(database: SqliteDatabase, ask: Ask) -> None:
    db = Clinic(database)
    parse = ask("which doctors have no visits?", QueryPlan(db.show("doctors.name")))
    assert "no" in parse.abstained


def test_a_value_that_is_no_cell_is_a_doubt_with_the_nearest(
    database: SqliteDatabase, ask: Ask
) -> None:
    db = Clinic(database)
    plan = QueryPlan(
        db.show("patients", aggregate=COUNT), where=(db.test("patients.city", "=", "Roma"),)
    )
    parse = ask("how many patients live in the city Roma?", plan)
    assert any("No city is 'Roma'; did you mean 'Rome'?" in doubt.text for doubt in parse.doubts)


def test_a_period_reaches_the_statement(database: SqliteDatabase, ask: Ask) -> None:
    db = Clinic(database)
    march = PlanValue("March 2024", "2024-03-01", "2024-04-01")
    test = PlanCondition(db.item("visits.day"), "=", (march,))
    plan = QueryPlan(db.show("visits", aggregate=COUNT), where=(test,))
    parse = ask("how many visits were in March 2024?", plan)
    assert parse.rows is not None and parse.rows.rows == ((2,),)
    assert parse.statement().parameters == ("2024-03-01", "2024-04-01")


SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE products (id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE reviews (
  customer_id INTEGER REFERENCES customers(id), product_id INTEGER REFERENCES products(id));
INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob');
INSERT INTO products VALUES (1, 'Tea Pot'), (2, 'Yoga Mat');
INSERT INTO reviews VALUES (1, 2), (2, 1);
"""
ORDERS = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id));
CREATE TABLE items (
  order_id INTEGER REFERENCES orders(id), product_id INTEGER REFERENCES products(id));
"""


@pytest.mark.parametrize(
    ("script", "verb", "is_doubted"),
    [(SHOP + ORDERS, "buy", True), (SHOP + ORDERS, "review", False), (SHOP, "buy", False)],
)
def test_a_table_that_another_could_replace_must_be_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, verb: str, is_doubted: bool
) -> None:
    shop = SqliteDatabase.open(sqlite_file(tmp_path / "shop.sqlite", script))
    db = Clinic(shop)
    plan = QueryPlan(
        db.show("products.title"),
        where=(db.test("customers.name", "=", "Ann"),),
        tables=(db.table("reviews"),),
    )
    counted = QueryPlan(
        db.show("products.title"), order=OrderBy(db.item("reviews"), COUNT, True), limit=1
    )
    ask = asks(shop, monkeypatch)
    for question, one in (
        (f"which products did customers called Ann {verb}?", plan),
        (f"which products did customers {verb} most often?", counted),
    ):
        parse = ask(question, one)
        assert parse.rows is not None and parse.rows.rows
        found = [doubt.text for doubt in parse.doubts if doubt.code == "joins"]
        assert bool(found) is is_doubted
        assert all("reviews" in text for text in found)
    shop.close()


def test_without_running_no_row_is_read(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = PlanConfig(width=32, layers=1, heads=2)
    network = new_network(small, random_vectors(["doctors"], 16, 0), [], seed=0)
    parser = SQLNet(SQLNet.from_pretrained().network, plans=PlanParser(network))
    monkeypatch.setattr(database.engine, "query", None)
    parse = parser.parse("which doctors have no visits?", Schema.of(database), execute=False)
    assert parse.rows is None


def test_a_question_in_another_language_or_about_nothing_is_a_doubt(
    database: SqliteDatabase, ask: Ask
) -> None:
    plan = QueryPlan(Clinic(database).show("doctors.name"))
    assert "unknown" in ask("wo wohnen die teuersten", plan).abstained
    assert any(doubt.code == "subject" for doubt in ask("zzz", plan).doubts)


def test_names_alone_give_sql_that_is_not_run(database: SqliteDatabase) -> None:
    network = new_network(
        PlanConfig(width=32, layers=1, heads=2), random_vectors(["a"], 16, 0), [], seed=0
    )
    answer = PlanParser(network).parse("names of doctors", Schema(database.tables))
    assert answer.rows is None and (answer.statement or answer.choice.failure)


@pytest.mark.parametrize(
    ("question", "shown", "by", "down", "ties"),
    [
        ("which room number has the lowest floor?", "rooms.number", "rooms.floor", False, True),
        ("which room number has the highest floor?", "rooms.number", "rooms.floor", True, False),
        ("which patients have the most visits?", "patients.last_name", "visits", True, True),
        ("which patients have the fewest visits?", "patients.last_name", "visits", False, False),
    ],
)
def test_a_row_like_the_last_one_shown_is_noted(
    database: SqliteDatabase, ask: Ask, question: str, shown: str, by: str, down: bool, ties: bool
) -> None:
    of = Clinic(database)
    group = (of.item("patients.id"),) if by == "visits" else ()
    order = OrderBy(of.item(by), COUNT if group else 0, descending=down)
    parse = ask(question, QueryPlan(of.show(shown), group=group, order=order, limit=1))
    assert parse.rows and len(parse.rows.rows) == 1
    assert any("same value" in note for note in parse.notes) == ties
