"""Both structures, compiled and plain, under one fixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codegen.decoding.suffix import COMPILED, SuffixIndex, plain

Make = Callable[..., Any]


@pytest.fixture(scope="session", params=["compiled", "plain"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes an index of either kind."""
    if request.param == "plain":
        return plain.SuffixIndex
    if not COMPILED:
        pytest.skip("the compiled core is not built here (no C++ compiler?)")
    return SuffixIndex
