"""Selects the rows of a large table that run by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(rows: Iterable[Any], every: int) -> list[Any]:
    """All rows as parameters, tuples as several; every so many-th runs by default, the others are
    marked ``long``.
    """
    return [
        pytest.param(
            *(row if isinstance(row, tuple) else (row,)),
            marks=pytest.mark.long if number % every else (),
        )
        for number, row in enumerate(rows)
    ]
