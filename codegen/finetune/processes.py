"""Which of a launch's processes this is."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0
