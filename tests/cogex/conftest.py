"""A sandbox for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codegen.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as sandbox:
        yield sandbox
