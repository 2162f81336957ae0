"""Suites of programs and tests, kept as data in ``programs/NAME.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def suite(name: str) -> Any:
    """The content of a suite's file."""
    path = Path(__file__).parent / "programs" / f"{name}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))
