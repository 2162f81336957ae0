"""How work is spread: over processes of this machine, or over a Ray cluster."""

from codegen.data.executors.local import LocalExecutor
from codegen.data.executors.protocol import Executor, Lost
from codegen.data.executors.ray import RayExecutor

__all__ = ["Executor", "LocalExecutor", "Lost", "RayExecutor"]
