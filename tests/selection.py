"""Which rows of a large table run by default."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def some(names: Iterable[str], every: int) -> list[Any]:
    """All names as parameters; every so many-th runs by default, the others are marked ``long``."""
    return [
        pytest.param(name, marks=pytest.mark.long if number % every else ())
        for number, name in enumerate(names)
    ]
