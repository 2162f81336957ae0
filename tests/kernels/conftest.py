"""Numerics of the kernels run where a kernel can: in Triton's interpreter or on a GPU.

The interpreter has to be chosen before Triton is imported, so ``test_interpreter.py`` runs the
files of ``gpu/`` in a process of their own; in the main one they are not collected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from codegen.kernels.backend import without_trials

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    collect_ignore = ["gpu"]


@pytest.fixture
def device() -> Iterator[str]:
    """Where the kernels run, without trials: the tests compare them themselves."""
    with without_trials():
        yield "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
