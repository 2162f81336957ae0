"""A toolkit for code language models whose programs are sequences of actions.

Importing this package is light: heavy libraries load inside the functions that need them. It has
one side effect: OpenMP's threads sleep while they wait, instead of spinning.

PyTorch on CPUs splits each operation among OpenMP threads. By default, GCC's runtime lets a thread
that has finished spin for some milliseconds until the others finish. When another process occupies
a core, all threads spin for as long as the one without a core waits: three to five times the CPU
time. The runtime reads its settings from the environment once, when it is loaded, so they must be
set before ``import torch``. If torch was imported before codegen, they have no effect; ``codegen
doctor`` reports it.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal

__version__ = "0.1.0"

Policy = Literal["sleep", "own", "late"]

# Any of these means that the user has chosen: the standard's, GCC's, and LLVM's or Intel's.
OPENMP_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def _sleep_while_waiting() -> Policy:
    """Sets ``OMP_WAIT_POLICY=PASSIVE`` for this process and its children, where that is possible.

    Returns:
        ``sleep`` if it was set, ``own`` if the environment has a setting already, which is kept,
        ``late`` if torch is loaded, so that a setting would have no effect.
    """
    if any(os.environ.get(name) for name in OPENMP_SETTINGS):
        return "own"
    if "torch" in sys.modules:
        return "late"
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return "sleep"


OPENMP = _sleep_while_waiting()

# Former names of public modules, which still import, with a warning.
MOVED = {
    "codegen.config": "codegen.core.config",
    "codegen.errors": "codegen.core.errors",
    "codegen.evals.sandbox": "codegen.sandbox",
    "codegen.generation.protocol": "codegen.core.generation",
    "codegen.plugins": "codegen.core.plugins",
    "codegen.records": "codegen.core.records",
    "codegen.sandbox_client": "codegen.sandbox.client",
}


class _MovedModules:
    """Imports a moved module or a submodule of it, as one object under both names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for old, new in MOVED.items() if name.startswith("codegen.") else ():
            if name == old or name.startswith(f"{old}."):
                loader: Any = self  # its base class would take a third of the time of this import
                return ModuleSpec(name, loader, origin=new + name[len(old) :])
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        assert spec.origin
        warnings.warn(f"{spec.name} is now {spec.origin}.", FutureWarning, stacklevel=2)
        module = importlib.import_module(spec.origin)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__
        module.__spec__ = module.__spec__.loader_state  # instead of the former name's


sys.meta_path.insert(0, _MovedModules())
