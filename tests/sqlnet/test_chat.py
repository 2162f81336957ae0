"""Follow-ups change the last plan as SQL written by hand says, or are refused."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codegen.errors import InputError
from codegen.sqlnet.answers import Expected, same_rows
from codegen.sqlnet.chat import Chat, Turn
from codegen.sqlnet.plan import (
    COUNT,
    Item,
    Order,
    PlanValue,
    QueryPlan,
    Selected,
    Test,
    to_statement,
)
from codegen.sqlnet.plan_features import LinkedSchema
from codegen.sqlnet.query import AGGREGATES
from codegen.sqlnet.schema import Schema

SCRIPT = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT, country TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers,
    ordered_on DATE, status TEXT, total REAL);
CREATE TABLE stores (id INTEGER PRIMARY KEY, name TEXT, city TEXT, size REAL);
INSERT INTO customers VALUES (1, 'Ann', 'Rome', 'Italy'), (2, 'Bo', 'Oslo', 'Norway'),
    (3, 'Cy', 'Rome', 'Italy'), (4, 'Di', 'Pisa', 'Italy'), (5, 'Ed', NULL, 'Norway');
INSERT INTO orders VALUES (1, 1, '2023-05-01', 'pending', 10), (2, 1, '2024-01-02', 'sent', 20),
    (3, 2, '2024-06-01', 'sent', 5), (4, 3, '2024-07-09', 'pending', 50),
    (5, 4, '2025-01-01', 'lost', 7), (6, 2, '2023-12-31', 'sent', 5);
INSERT INTO stores VALUES (1, 'North', 'Rome', 30), (2, 'South', 'Oslo', 20);
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat") / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCRIPT)
    connection.close()
    return path


class NoParser:
    """In place of a network: it understands no new question."""

    def __init__(self, schema: Schema) -> None:
        self.linked = LinkedSchema(schema.tables, schema.database)
        self.plans = SimpleNamespace(linked=lambda _: self.linked)

    def parse(self, question: str, *_: Any, **__: Any) -> Any:
        raise InputError("It is not understood.")


@pytest.fixture(scope="module")
def opened(database: Path) -> tuple[Schema, Any]:
    schema = Schema.open(database)
    return schema, NoParser(schema)


CUSTOMERS, ORDERS, STORES = 0, 1, 2
NAME, CITY, COUNTRY = (Item(CUSTOMERS, column) for column in (1, 2, 3))
ORDER_ID, STATUS, TOTAL = Item(ORDERS, 0), Item(ORDERS, 3), Item(ORDERS, 4)
PENDING = Test(STATUS, "=", (PlanValue("pending"),))
PLANS = {
    "customers": QueryPlan((Selected(NAME),)),
    "count": QueryPlan((Selected(Item(CUSTOMERS), COUNT),)),
    "orders": QueryPlan((Selected(ORDER_ID),)),
    "cities": QueryPlan((Selected(CITY),), distinct=True),
    "pending": QueryPlan((Selected(Item(ORDERS), COUNT),), where=(PENDING,)),
    "status": QueryPlan((Selected(STATUS), Selected(Item(ORDERS), COUNT)), group=(STATUS,)),
    "sum": QueryPlan((Selected(TOTAL, AGGREGATES.index("SUM")),)),
    "max": QueryPlan((Selected(TOTAL, AGGREGATES.index("MAX")),)),
    "sorted": QueryPlan((Selected(ORDER_ID), Selected(TOTAL)), order=Order(TOTAL)),
    "top": QueryPlan((Selected(ORDER_ID),), order=Order(TOTAL, 0, True), limit=2),
    "either": QueryPlan(
        (Selected(ORDER_ID),),
        where=(PENDING, Test(TOTAL, ">", (PlanValue("6"),))),
        any_of=True,
    ),
}  # fmt: skip


def thread(opened: tuple[Schema, Any], name: str) -> Chat:
    schema, parser = opened
    chat = Chat(parser, schema)
    plan = PLANS[name]
    assert schema.database
    rows = schema.database.execute(to_statement(plan, parser.linked.graph))
    chat.turns.append(Turn("before", plan, "what was asked", rows=rows))
    return chat


ROME = "SELECT name FROM customers WHERE city='Rome'"
ANSWERED = [
    ("customers", "only those from Rome", ROME),
    ("customers", "just the ones in Rome", ROME),
    ("customers", "Only those whose city is Rome.", ROME),
    ("customers", "which of them live in Rome?", ROME),
    ("customers", "only Rome or Pisa", "SELECT name FROM customers WHERE city IN ('Rome','Pisa')"),
    ("customers", "without those from Rome", "SELECT name FROM customers WHERE city != 'Rome'"),
    ("customers", "only those not from Rome", "SELECT name FROM customers WHERE city != 'Rome'"),
    ("customers", "how many are there?", "SELECT count(*) FROM customers"),
    ("customers", "also their city", "SELECT name, city FROM customers"),
    ("customers", "with the city and country", "SELECT name, city, country FROM customers"),
    ("customers", "what are their cities?", "SELECT name, city FROM customers"),
    ("count", "how many in Rome?", "SELECT count(*) FROM customers WHERE city='Rome'"),
    ("customers", "sorted by name descending", "SELECT name FROM customers ORDER BY name DESC"),
    ("count", "only from Italy", "SELECT count(*) FROM customers WHERE country='Italy'"),
    ("count", "and in Italy?", "SELECT count(*) FROM customers WHERE country='Italy'"),
    ("count", "by country", "SELECT country, count(*) FROM customers GROUP BY country"),
    ("count", "which ones?", "SELECT name FROM customers"),
    ("count", "list them", "SELECT name FROM customers"),
    ("pending", "what about sent?", "SELECT count(*) FROM orders WHERE status='sent'"),
    ("pending", "and the lost ones", "SELECT count(*) FROM orders WHERE status='lost'"),
    (
        "pending",
        "only those from Rome",
        "SELECT count(*) FROM orders JOIN customers c ON c.id=customer_id"
        " WHERE status='pending' AND city='Rome'",
    ),
    (
        "pending",
        "in 2024",
        "SELECT count(*) FROM orders WHERE status='pending' AND ordered_on LIKE '2024%'",
    ),
    (
        "pending",
        "only those before 2024",
        "SELECT count(*) FROM orders WHERE status='pending' AND ordered_on < '2024-01-01'",
    ),
    (
        "pending",
        "for each city",
        "SELECT city, count(*) FROM orders JOIN customers c ON c.id=customer_id"
        " WHERE status='pending' GROUP BY city",
    ),
    (
        "orders",
        "only those with a total above 6",
        "SELECT id FROM orders WHERE total > 6",
    ),
    (
        "orders",
        "only with total between 5 and 7",
        "SELECT id FROM orders WHERE total BETWEEN 5 AND 7",
    ),
    ("orders", "how many per status?", "SELECT status, count(*) FROM orders GROUP BY status"),
    ("orders", "their average total", "SELECT avg(total) FROM orders"),
    ("orders", "what is the total total of them?", "SELECT sum(total) FROM orders"),
    (
        "orders",
        "which one has the highest total?",
        "SELECT id FROM orders ORDER BY total DESC LIMIT 1",
    ),
    (
        "status",
        "only those with more than 1",
        "SELECT status, count(*) FROM orders GROUP BY status HAVING count(*) > 1",
    ),
    (
        "status",
        "sort by number, highest first",
        "SELECT status, count(*) FROM orders GROUP BY status ORDER BY count(*) DESC",
    ),
    (
        "status",
        "by city instead",
        "SELECT city, count(*) FROM orders JOIN customers c ON c.id=customer_id GROUP BY city",
    ),
    ("sum", "only the pending ones", "SELECT sum(total) FROM orders WHERE status='pending'"),
    ("max", "the other way round", "SELECT min(total) FROM orders"),
    ("sorted", "reverse", "SELECT id, total FROM orders ORDER BY total DESC"),
    ("sorted", "top 2", "SELECT id, total FROM orders ORDER BY total LIMIT 2"),
    ("sorted", "just the first one", "SELECT id, total FROM orders ORDER BY total LIMIT 1"),
]
REFUSED = [
    ("customers", "only those from Hamburg"),  # no cell
    ("customers", "only the pending ones"),  # of the orders, of which a customer has several
    ("customers", "by city"),  # sorted or grouped?
    ("customers", "top 3"),  # by what?
    ("customers", "in reverse"),
    ("customers", "only those with a total above 6"),
    ("customers", "which one has the highest city?"),
    ("count", "by month"),
    ("count", "only those from North"),  # a store
    ("pending", "only the sent ones"),  # pending and sent?
    ("pending", "without the sent ones"),
    ("status", "by city"),  # too, or instead?
    ("status", "sort by number"),  # up or down?
    ("status", "how many?"),  # rows, or groups?
    ("top", "only the pending ones"),  # of the two, or the first two pending ones?
    ("top", "their average total"),
    ("either", "only the lost ones"),  # or, and?
    ("sum", "which ones?"),
    ("orders", "only those above 6"),  # of which number?
]


def gold(database: Path, query: str) -> Expected:
    with sqlite3.connect(database) as connection:
        rows = connection.execute(query).fetchall()
    connection.close()
    return Expected(tuple(map(tuple, rows)), "ORDER BY" in query)


@pytest.mark.parametrize("name, line, query", ANSWERED)
def test_a_follow_up_changes_one_thing(
    opened: tuple[Schema, Any], database: Path, name: str, line: str, query: str
) -> None:
    turn = thread(opened, name).ask(line)
    assert not turn.doubt, turn.doubt
    assert turn.rows and same_rows(turn.rows.rows, gold(database, query)), turn.statement
    assert turn.changed and turn.asked and not turn.is_new


@pytest.mark.parametrize("name, line", REFUSED)
def test_what_may_mean_two_things_is_refused(
    opened: tuple[Schema, Any], name: str, line: str
) -> None:
    chat = thread(opened, name)
    before = list(chat.turns)
    turn = chat.ask(line)
    assert turn.doubt and turn.rows is None and turn.statement is None
    assert chat.turns == before


def test_no_word_is_passed_over(opened: tuple[Schema, Any]) -> None:
    """A word that no pattern knows, anywhere in a follow-up, leaves it without an answer."""
    for number, (name, line, _) in enumerate(ANSWERED):
        words = line.split()
        for place in range(number % 3, len(words) + 1, 3):
            for word in ("zorblax", "never", "42"):
                changed = " ".join([*words[:place], word, *words[place:]])
                turn = thread(opened, name).ask(changed)
                assert turn.doubt or (word != "zorblax" and word in turn.changed), changed


def test_after_a_line_without_an_answer_only_its_rewording_continues(
    opened: tuple[Schema, Any],
) -> None:
    chat = thread(opened, "customers")
    assert chat.ask("only the Rome folks").doubt
    assert "got no answer" in chat.ask("how many are there?").doubt
    assert not chat.ask("only those from Rome").doubt
    assert not chat.ask("how many are there?").doubt
    assert chat.ask("which moons shine at night").doubt  # a new question
    assert "got no answer" in chat.ask("which ones?").doubt
    turn = chat.ask("undo")
    assert not turn.doubt and turn.plan == chat.turns[-1].plan
    assert not chat.ask("which ones?").doubt
    assert len(chat.turns) == 4


def test_a_thread_goes_back_and_begins_again(opened: tuple[Schema, Any]) -> None:
    chat = thread(opened, "customers")
    chat.ask("only those from Rome")
    chat.ask("how many are there?")
    assert chat.ask("undo").rows == chat.turns[1].rows
    chat.ask("start over")
    assert not chat.turns
    assert "no answer before it" in chat.ask("only those from Rome").doubt
    assert chat.ask("undo").doubt


def test_a_count_that_differs_from_its_list_is_not_given(opened: tuple[Schema, Any]) -> None:
    turn = thread(opened, "cities").ask("how many are there?")
    assert "4" in turn.doubt  # with the NULL; COUNT(DISTINCT city) is 3


@pytest.mark.long
def test_the_command_keeps_a_thread(database: Path) -> None:
    lines = "how many orders are pending?\nwhat about sent?\nwhich ones?\nonly the blue ones\n"
    done = subprocess.run(
        [sys.executable, "-m", "codegen", "sqlnet", "chat", str(database), "--json"],
        input=lines, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    turns = json.loads(done.stdout)["turns"]
    assert done.returncode == 1
    assert [turn["answered"] for turn in turns] == [True, True, True, False]
    assert turns[1]["answer"]["rows"] == [[3]] and len(turns[2]["answer"]["rows"]) == 3
