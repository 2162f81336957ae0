"""Fixtures of the tasks' tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache folder."""
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
