"""OpenMP's threads sleep while they wait, instead of spinning.

PyTorch's CPU build shares each operation among OpenMP threads. By the default of GCC's runtime, a
thread that is done spins for up to some milliseconds until the others are. When another process has
one of the cores, all the others spin for as long as the one without a core waits: three to five
times the CPU time. The runtime reads its settings from the environment once, when it is loaded, so
they must be there before ``import torch``; importing :mod:`codegen` puts them there.

Limit: where torch was imported before codegen nothing can be done; ``codegen doctor`` says so.
"""

from __future__ import annotations

import os
import sys
from typing import Literal

Policy = Literal["sleep", "own", "late"]

# Any of these says that the user has chosen: the standard's, GCC's, and LLVM's or Intel's.
SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def sleep_while_waiting() -> Policy:
    """Sets ``OMP_WAIT_POLICY=PASSIVE`` for this process and its children, where that is possible.

    Returns:
        ``sleep`` if it was set, ``own`` if the environment has a setting already, which is kept,
        ``late`` if torch is loaded, so that a setting would have no effect.
    """
    if any(os.environ.get(name) for name in SETTINGS):
        return "own"
    if "torch" in sys.modules:
        return "late"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return "sleep"
