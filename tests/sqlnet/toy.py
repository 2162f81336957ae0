"""A small made-up world: questions on tables with rows, with their queries."""

from __future__ import annotations

import random

from codegen.sqlnet.examples import LabeledQuestion, Question, WikiTable, label
from codegen.sqlnet.query import Column, Condition, Query, Table

NAMES = ("Ann", "Bob", "Eve", "Ivan", "Kim", "Lee", "Ray", "Zoe")
CITIES = ("Berlin", "Paris", "Rome", "Tokyo")


def world(size: int, seed: int = 0) -> tuple[list[LabeledQuestion], dict[str, WikiTable]]:
    """Questions, and their tables; the columns of each table stand in another order."""
    rng = random.Random(seed)
    tables: dict[str, WikiTable] = {}
    questions = []
    for number in range(size):
        columns = [Column("player name"), Column("home city"), Column("age", "real")]
        rng.shuffle(columns)
        name, city, age = (
            [c.name for c in columns].index(n) for n in ("player name", "home city", "age")
        )
        table = Table(f"t{number}", tuple(columns))
        rows = []
        for _ in range(5):
            row: list[object] = [None, None, None]
            row[name], row[city] = rng.choice(NAMES), rng.choice(CITIES)
            row[age] = rng.randint(20, 40)
            rows.append(tuple(row))
        tables[table.name] = WikiTable(table, tuple(rows))
        who, where = str(rows[0][name]), str(rows[0][city])
        text, query = rng.choice(
            [
                (f"what is the age of {who}?", Query(age, 0, (Condition(name, 0, who),))),
                (f"which player lives in {where}", Query(name, 0, (Condition(city, 0, where),))),
                (f"home city of player {who}", Query(city, 0, (Condition(name, 0, who),))),
                ("what is the highest age?", Query(age, 1)),
                (
                    f"which player of {where} has an age over 25",
                    Query(name, 0, (Condition(city, 0, where), Condition(age, 1, "25"))),
                ),
            ]
        )
        questions.append(Question(str(number), text, table, query))
    return label(questions), tables
