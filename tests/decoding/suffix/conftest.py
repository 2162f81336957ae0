"""Both structures, compiled and plain, under one fixture."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.decoding.suffix import COMPILED, SuffixIndex, plain

# pytest's importlib mode leaves the folders of the tests off the path.
sys.path.insert(0, str(Path(__file__).parent))

Make = Callable[..., Any]


@pytest.fixture(scope="session", params=["compiled", "plain"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes an index of either kind."""
    if request.param == "plain":
        return plain.SuffixIndex
    if not COMPILED:
        pytest.skip("the compiled core is not built here (no C++ compiler?)")
    return SuffixIndex
