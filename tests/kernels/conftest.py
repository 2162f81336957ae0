"""Numerics of the kernels run where a kernel can: in Triton's interpreter or on a GPU.

The interpreter has to be chosen before Triton is imported, so ``test_interpreter.py`` runs the
files of ``interpreted/`` in a process of their own; in the main one they are not collected.
"""

from __future__ import annotations

import os

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
    collect_ignore = ["interpreted"]


@pytest.fixture
def device() -> str:
    """Where the kernels run."""
    return "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
