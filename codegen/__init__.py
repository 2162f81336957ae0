"""A toolkit for code language models whose programs are sequences of actions.

Importing this package is light: heavy libraries load inside the functions that need them. It has
one side effect: OpenMP's threads sleep while they wait, instead of spinning.

PyTorch on CPUs splits each operation among OpenMP threads. By default, GCC's runtime lets a thread
that has finished spin for some milliseconds until the others finish. When another process occupies
a core, all threads spin while one waits for a core, which costs three to five times the CPU
time. The runtime reads its settings from the environment once, when it is loaded, so they must be
set before ``import torch``. If torch was imported before codegen, they have no effect; ``codegen
doctor`` reports it.
"""

from __future__ import annotations

import os
import sys
from typing import Literal

__version__ = "0.1.0"

Policy = Literal["sleep", "own", "late"]

# If any is set, the user chose a policy (OpenMP standard, GCC, LLVM or Intel).
OPENMP_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def _sleep_while_waiting() -> Policy:
    """Sets ``OMP_WAIT_POLICY=PASSIVE`` for this process and its children, if possible.

    Returns:
        ``sleep`` if it was set, ``own`` if the environment already has a setting, which is kept,
        ``late`` if torch is already loaded, since a setting would have no effect.
    """
    if any(os.environ.get(name) for name in OPENMP_SETTINGS):
        return "own"
    if "torch" in sys.modules:
        return "late"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return "sleep"


OPENMP = _sleep_while_waiting()
