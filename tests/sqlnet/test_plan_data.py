"""Gold SQL becomes plans that give the gold result; questions are linked before they are read."""

import json
from pathlib import Path

import pytest

from codegen.core.errors import InputError
from codegen.sqlnet.answers import equal_rows
from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.joins import JoinGraph
from codegen.sqlnet.plan import to_statement
from codegen.sqlnet.plan_data import GoldQuestion as Gold
from codegen.sqlnet.plan_data import (
    OutsideError,
    gold_plan,
    plan_of,
    read_gold,
    read_planned,
    run_rows,
)

SAID = [
    "SELECT city FROM patients",
    "SELECT DISTINCT city FROM patients WHERE first_name = 'Ann'",
    "SELECT count(*) FROM visits",
    "SELECT count() FROM visits",
    "SELECT max(fee), min(fee) FROM visits",
    "SELECT count(DISTINCT city) FROM patients",
    "SELECT T1.last_name FROM patients AS T1 JOIN visits AS T2 ON T1.id = T2.patient_id"
    " WHERE T2.fee > 30",
    "SELECT T2.name FROM visits AS T1 JOIN doctors AS T2 ON T1.substitute_id = T2.id",
    "SELECT T1.city, count(*) FROM patients AS T1 JOIN visits AS T2 ON T1.id = T2.patient_id"
    " GROUP BY T1.city HAVING count(*) >= 2",
    "SELECT name FROM doctors ORDER BY salary DESC LIMIT 1",
    "SELECT T2.name FROM visits AS T1 JOIN doctors AS T2 ON T1.doctor_id = T2.id"
    " GROUP BY T2.id ORDER BY sum(T1.fee) DESC LIMIT 2",
    "SELECT first_name FROM patients WHERE id NOT IN (SELECT patient_id FROM visits)",
    "SELECT city FROM patients EXCEPT SELECT city FROM patients WHERE phone IS NULL",
    "SELECT city FROM patients WHERE first_name = 'Ann'"
    " INTERSECT SELECT city FROM patients WHERE first_name = 'Bob'",
    "SELECT city FROM patients WHERE first_name = 'Ann'"
    " UNION SELECT city FROM patients WHERE first_name = 'Bob'",
    "SELECT name FROM doctors WHERE salary > (SELECT avg(salary) FROM doctors)",
    "SELECT name FROM doctors WHERE specialty = 'eyes' OR salary > 6500",
    "SELECT name FROM doctors WHERE specialty = 'eyes' OR specialty = 'heart'",
    "SELECT name FROM doctors WHERE salary BETWEEN 5500 AND 6500",
    "SELECT name FROM doctors WHERE salary >= 5500 AND salary <= 6500",
    "SELECT name FROM doctors WHERE name LIKE '%ar%'",
    'SELECT first_name FROM patients WHERE phone IS NOT NULL AND city = "Rome"',
    "SELECT * FROM rooms",
]
OUTSIDE = {
    "SELECT fee + 1 FROM visits": "an expression",
    "SELECT name FROM doctors WHERE salary > 5 AND (specialty = 'a' OR name = 'b')": "AND and OR",
    "SELECT count(*) FROM (SELECT city FROM patients)": "a query in FROM",
    "SELECT a.city FROM patients a JOIN patients b ON a.city = b.city": "a table twice",
    "DELETE FROM visits": "not a SELECT",
    "SELECT FROM WHERE (": "not SQL",
    "SELECT name FROM doctors ORDER BY salary LIMIT ?": "a limit that is not a number",
    "SELECT name FROM doctors ORDER BY salary LIMIT 1.5": "a limit that is not a number",
    "SELECT name FROM doctors ORDER BY salary LIMIT -1": "a limit that is not a number",
    "SELECT name FROM doctors ORDER BY salary LIMIT (SELECT 1)": "a limit that is not a number",
}


@pytest.mark.parametrize("query", SAID)
def test_a_gold_query_becomes_a_plan_with_its_result(database: SqliteDatabase, query: str) -> None:
    graph = JoinGraph(database.tables)
    plan = gold_plan(Gold("1", "clinic", "?", query), graph, database)
    statement = to_statement(plan, graph)
    rows = run_rows(database, statement.text, statement.parameters)
    wanted = run_rows(database, query)
    assert rows is not None and wanted and equal_rows(rows, wanted, ordered="ORDER" in query)


@pytest.mark.parametrize("query", OUTSIDE)
def test_what_no_plan_says_is_named(database: SqliteDatabase, query: str) -> None:
    with pytest.raises(OutsideError, match=OUTSIDE[query]):
        plan_of(query, JoinGraph(database.tables))


def test_a_plan_with_another_result_is_left_out(database: SqliteDatabase) -> None:
    """A mean over what the join repeats: gold counts one doctor's salary twice."""
    query = (
        "SELECT avg(T2.salary) FROM visits AS T1 JOIN doctors AS T2 ON T1.doctor_id = T2.id"
        " WHERE T1.fee < 40"
    )
    with pytest.raises(OutsideError, match="another result"):
        gold_plan(Gold("1", "clinic", "?", query), JoinGraph(database.tables), database)


@pytest.mark.parametrize("line", ['{"db_id": "x"}', "no JSON", "[]"])
def test_a_line_that_is_no_question_is_named(tmp_path: Path, line: str) -> None:
    good = json.dumps({"db_id": "x", "question": "q", "query": "SELECT 1"})
    (path := tmp_path / "questions.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match=f"{path}:2"):
        read_gold(path)
    (tmp_path / "plans.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"plans\.jsonl:1"):
        read_planned(tmp_path / "plans.jsonl")
