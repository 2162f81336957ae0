"""A small SQLite file with names that are hard to quote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.databases import sqlite_file

PEOPLE = [("Ann", 30, 1), ("ÉVA", 40, "2"), ("Bob", None, None)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    script = (
        'CREATE TABLE "Peo ple" ("Na""me" TEXT, age INT, x);'
        'CREATE VIEW older AS SELECT age + 1 AS next FROM "Peo ple";'
        "CREATE VIEW broken AS SELECT * FROM not_there;"
    )
    return sqlite_file(tmp_path / "a b?#%.db", script, **{'"Peo ple"': PEOPLE})
