"""A small database of several tables, with what makes queries on several tables go wrong.

Two patients of one name, a patient without visits, visits without a doctor (NULL), two keys between
one pair of tables, a table without a key, dates as ISO texts.
"""

import itertools
import sqlite3
from pathlib import Path

import numpy as np

from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.joins import JoinGraph
from codegen.sqlnet.plan_data import GoldQuestion, PlannedQuestion, gold_plan
from codegen.sqlnet.plan_features import PlanQuestion
from codegen.sqlnet.plan_network import PlanNetwork
from codegen.sqlnet.training import PlanTargets

SCRIPT = """
CREATE TABLE patients (
  id INTEGER PRIMARY KEY, first_name TEXT, last_name TEXT, city TEXT, born DATE, phone TEXT);
CREATE TABLE doctors (id INTEGER PRIMARY KEY, name TEXT, salary REAL, specialty TEXT);
CREATE TABLE visits (
  id INTEGER PRIMARY KEY, patient_id INTEGER REFERENCES patients(id),
  doctor_id INTEGER REFERENCES doctors(id), substitute_id INTEGER REFERENCES doctors(id),
  day DATE, fee REAL);
CREATE TABLE rooms (number INTEGER, floor INTEGER);
INSERT INTO patients VALUES
  (1, 'Ann', 'Lee', 'Oslo', '1990-03-01', '1'), (2, 'Ann', 'Lee', 'Rome', '1985-07-20', NULL),
  (3, 'Bob', 'Fox', 'Rome', '1990-12-31', '3'), (4, 'Cyd', 'Ray', NULL, NULL, '4');
INSERT INTO doctors VALUES
  (1, 'Dr. Hill', 5000, 'eyes'), (2, 'Dr. Park', 7000, 'heart'), (3, 'Dr. West', 6000, 'heart');
INSERT INTO visits VALUES
  (1, 1, 1, NULL, '2024-03-01', 10), (2, 1, 1, 2, '2024-03-31', 20),
  (3, 2, 2, NULL, '2024-04-01', 30),
  (4, 3, NULL, 3, '2025-01-01', 40), (5, 3, 2, 1, '2023-12-31', 50);
INSERT INTO rooms VALUES (1, 0), (2, 0), (3, 1);
"""


def clinic(folder: Path) -> SqliteDatabase:
    path = folder / "clinic.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(SCRIPT)
    connection.close()
    return SqliteDatabase.open(path)


ASKED = {
    "first names of patients from {city}": "SELECT first_name FROM patients WHERE city = '{city}'",
    "how many patients live in {city}?": "SELECT count(*) FROM patients WHERE city = '{city}'",
    "phones of patients not in {city}": "SELECT phone FROM patients WHERE city != '{city}'",
    "days of visits with a fee above {fee}": "SELECT day FROM visits WHERE fee > {fee}",
    "how many visits have a fee below {fee}?": "SELECT count(*) FROM visits WHERE fee < {fee}",
    "average fee of visits of patients in {city}": "SELECT avg(T1.fee) FROM visits AS T1"
    " JOIN patients AS T2 ON T1.patient_id = T2.id WHERE T2.city = '{city}'",
    "names of {field} doctors with a salary over {pay}": "SELECT name FROM doctors"
    " WHERE specialty = '{field}' AND salary > {pay}",
    "the {top} doctors with the highest salary": "SELECT name FROM doctors"
    " ORDER BY salary DESC LIMIT {top}",
    "patients without a phone, by city": "SELECT first_name FROM patients WHERE phone IS NULL",
    "number of patients per city": "SELECT city, count(*) FROM patients GROUP BY city",
    "doctors with a salary above the average": "SELECT name FROM doctors"
    " WHERE salary > (SELECT avg(salary) FROM doctors)",
    "patients who never had visits": "SELECT first_name FROM patients"
    " WHERE id NOT IN (SELECT patient_id FROM visits)",
    "the different cities of patients": "SELECT DISTINCT city FROM patients",
    "cities with at least {top} patients": "SELECT city FROM patients GROUP BY city"
    " HAVING count(*) >= {top}",
}


def planned_questions(database: SqliteDatabase) -> list[PlannedQuestion]:
    """Questions on the clinic with their plans."""
    graph, found = JoinGraph(database.tables), {}
    choices = {"city": ("Oslo", "Rome"), "fee": (15, 25, 35), "pay": (4500, 5500), "top": (2, 3)}
    choices["field"] = ("eyes", "heart")
    for values in itertools.product(*choices.values()):
        filled = dict(zip(choices, values, strict=True))
        for question, query in ASKED.items():
            gold = GoldQuestion("", "clinic", question.format(**filled), query.format(**filled))
            if gold.question not in found:
                plan = gold_plan(gold, graph, database)
                found[gold.question] = PlannedQuestion("clinic", gold.question, plan)
    return [*found.values()]


def sure_scores(
    question: PlanQuestion, targets: PlanTargets, network: PlanNetwork
) -> dict[str, np.ndarray]:
    """The scores of a network that is sure of the targets."""
    scores = network.read([question])[0]
    sure = {name: np.full_like(value, -20.0) for name, value in scores.items()}
    for members in (targets.sets, targets.pointers):
        for name, found in members.items():
            for item, kind in found:
                sure[name][item, kind] = 20.0
    for name, kind in targets.whole.items():
        sure[name][max(kind, 0)] = 20.0
    if targets.limit >= 0:
        sure["limit"][targets.limit] = 20.0
    for name in ("takes_part", "second_takes_part", "key"):
        for item in getattr(targets, name):
            sure[name][item, 0] = 20.0
    return sure
