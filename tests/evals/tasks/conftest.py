"""Fixtures of the tasks' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codegen.core.errors import SandboxError
from codegen.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """An open sandbox; where the machine offers none, the test is skipped."""
    try:
        with Sandbox(workers=2) as opened:
            yield opened
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder."""
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
