"""Which of a launch's processes this is, and what they share."""

from __future__ import annotations

import os

# The remedy where rows can't be shared.
UNSHARED = "Set parallelism_config_sp_size: 1 in accelerate's configuration."


def is_first() -> bool:
    """Whether this is the process that writes."""
    return int(os.environ.get("RANK", "0")) == 0


def processes_a_row() -> int:
    """How many processes share each row of tokens: accelerate's ``parallelism_config_sp_size``."""
    if os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "false").lower() != "true":
        return 1
    return int(os.environ.get("PARALLELISM_CONFIG_SP_SIZE", "1"))
