"""Names, types and look-ups of tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import codegen.sqlnet
from codegen.core.config import read_yaml
from codegen.core.errors import CodegenError
from codegen.sqlnet.linking import Linker, overlaps, spelled_out
from codegen.sqlnet.query import Condition, ForeignKey, Query
from codegen.sqlnet.schema import Schema, SemanticLayer, describe
from codegen.sqlnet.words import tokenize
from tests.databases import sqlite_file


def test_the_package_imports_what_is_asked_for_alone() -> None:
    """The process that reads a database starts with neither torch nor the SQL parser."""
    script = (
        "import sys, codegen.sqlnet, codegen.sqlnet.databases.child\n"
        "assert not {'torch', 'sqlglot', 'numpy'} & set(sys.modules)\n"
        "for name in codegen.sqlnet.__all__: getattr(codegen.sqlnet, name)\n"
        "names = [name for names in codegen.sqlnet._MODULES.values() for name in names]\n"
        "assert sorted(codegen.sqlnet.__all__) == sorted(names)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        codegen.sqlnet.Nothing  # noqa: B018


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    path = sqlite_file(
        tmp_path / "shop.db",
        'CREATE TABLE customers (id INTEGER PRIMARY KEY, "na:me # 1" TEXT);'
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INT, status TEXT, price REAL);"
        "CREATE TABLE log (line TEXT);",
        orders=[(1, 1, "pending", 2), (2, 1, "shipped", 3)],
    )
    return Schema.open(path)


def layer(tmp_path: Path, text: str) -> SemanticLayer:
    path = tmp_path / "layer.yaml"
    path.write_text(text)
    return SemanticLayer.read(path)


def test_a_layer_gives_names_values_keys_and_hides(tmp_path: Path, schema: Schema) -> None:
    text = """
tables: {orders: {synonyms: [purchases]}, LOG: {hidden: true}}
columns: {orders.price: {synonyms: [amount paid, cost]}, orders.id: {hidden: true}}
joins: [orders.customer_id = customers.id]
values: {orders.status: {open: pending}}
"""
    found = layer(tmp_path, text).apply(schema)
    assert [table.name for table in found.tables] == ["customers", "orders"]
    orders = found.table("orders")
    assert [column.name for column in orders.columns] == ["customer_id", "status", "price"]
    assert (orders.primary_key, orders.foreign_keys) == (
        (),
        (ForeignKey((0,), "customers", ("id",)),),
    )
    question = "what is the amount paid for open purchases?"
    spelled = spelled_out(orders, question)
    assert spelled.words == ("purchases",)
    assert [column.words for column in spelled.columns][-1] == ("amount", "paid")
    assert spelled_out(orders, "price of orders") is orders
    customers = spelled_out(found.table("customers"), question)
    few, many = overlaps(question, [customers, spelled])
    assert many > few == 0
    assert found.database
    linker = Linker(found.database, orders)
    assert linker.mentioned(question, tuple(tokenize(question))) == {1: [(6, 6)]}
    said = Query(2, 0, (Condition(1, 0, "Open"),))
    assert linker.link(said).conditions == (Condition(1, 0, "pending"),)
    assert linker.selects(said.conditions[0])


def test_a_measure_answers_what_asks_for_it_alone(tmp_path: Path, schema: Schema) -> None:
    text = "measures: {revenue: {sql: SELECT SUM(price) FROM orders, synonyms: [total turnover]}}"
    found = layer(tmp_path, text)
    schema = found.apply(schema)
    for question in ("What is our revenue?", "show me the total turnover", "revenue"):
        name, statement = found.measure(question, schema) or ("", None)
        assert name == "revenue" and statement and schema.database
        assert schema.database.execute(statement).rows == ((5.0,),)
    for question in ("revenue from coffee", "revenue per customer", "what is there?"):
        assert found.measure(question, schema) is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tables: {nope: {}}", "Unknown table 'nope'"),
        ("columns: {orders.nope: {}}", "no column 'nope'"),
        ("columns: {price: {}}", "is not TABLE.COLUMN"),
        ("tables: {orders: {synonym: [x]}}", "synonym"),
        (f"joins: ['{'a ' * 20000}']", "is invalid"),  # once a cubic pattern
        ("joins: [orders.customer_id]", "is invalid"),
        ("joins: [orders.nope = customers.id]", "no column 'nope'"),
        ("joins: [nope.customer_id = customers.id]", "Unknown table 'nope'"),
        ("joins: [orders.customer_id = nope.id]", "Unknown table 'nope'"),
        ("joins: [orders.customer_id = customers.nope]", "no column 'nope'"),
        ("measures: {x: {sql: DROP TABLE orders}}", "measure 'x' cannot run"),
        ("measures: {x: {sql: SELECT nope FROM orders}}", "measure 'x' cannot run"),
        ("measures: {x: {}}", "sql"),
        ("tables: [", "not valid YAML"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, schema: Schema, text: str, what: str) -> None:
    with pytest.raises(CodegenError, match=what):
        layer(tmp_path, text).apply(schema)


def test_a_described_database_is_a_layer_that_changes_nothing(
    tmp_path: Path, schema: Schema
) -> None:
    text = describe(schema)
    path = tmp_path / "first.yaml"
    path.write_text(text)
    row = read_yaml(path)
    assert set(row["columns"]) == {f"{t.name}.{c.name}" for t in schema.tables for c in t.columns}
    assert row["joins"] == ["orders.customer_id = customers.id"]
    applied = SemanticLayer.read(path).apply(schema)
    assert [t.columns for t in applied.tables] == [t.columns for t in schema.tables]
    assert applied.table("orders").foreign_keys == (ForeignKey((1,), "customers", ("id",)),)
    assert json.dumps("customers.na:me # 1") in text
