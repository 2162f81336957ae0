"""The model's server as a fixture."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def model() -> Iterator[Any]:
    """A server whose model does what UniCode's prompts ask."""
    from openai_server import serving
    from unicode_helpers import write

    with serving(write) as model:
        yield model
