"""The small database of several tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codegen.sqlnet.databases.files import SqliteDatabase

from .clinic import clinic


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteDatabase]:
    found = clinic(tmp_path_factory.mktemp("clinic"))
    yield found
    found.close()
