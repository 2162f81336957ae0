"""The model's server as a fixture."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# pytest's importlib mode leaves the folders of the tests off the path.
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "generation")]


@pytest.fixture
def model() -> Iterator[Any]:
    """A server whose model does what UniCode's prompts ask."""
    from openai_server import serving  # pyright: ignore[reportMissingImports]
    from unicode_helpers import write

    with serving(write) as model:
        yield model
