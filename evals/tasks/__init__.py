"""The benchmarks, by name. One file a benchmark; a task's module and data load when asked for."""

from __future__ import annotations

import importlib

from codegen.errors import ConfigError

from .base import Extraction, Problem, Task
from .styles import STYLES, PromptStyle, find_style

# name -> (module, factory in it, one line for the list of tasks)
_TASKS = {
    "humaneval": (
        "humaneval",
        "humaneval",
        "164 Python functions from signature and docstring (Chen et al. 2021)",
    ),
    "humaneval-short": (
        "humaneval",
        "humaneval_short",
        "the 40 problems of humaneval with the shortest reference solutions",
    ),
}


def names() -> list[tuple[str, str]]:
    """Every task's name with one line about it. Loads no data."""
    return [(name, about) for name, (_, _, about) in _TASKS.items()]


def load(name: str, source: str | None = None) -> Task:
    """Loads a task.

    Args:
        name: one of :func:`names`.
        source: where its data is, in place of the default: a path to ``.jsonl`` or ``.jsonl.gz``,
            or ``hub:org/name``.

    Raises:
        ConfigError: for an unknown name.
        InputError: for data that can't be found or read, naming file, line and field.
    """
    if name not in _TASKS:
        raise ConfigError(f"There is no task {name!r}.", f"Tasks are: {', '.join(_TASKS)}.")
    module, factory, about = _TASKS[name]
    make = getattr(importlib.import_module(f"{__name__}.{module}"), factory)
    return make(name, about, source)


__all__ = [
    "STYLES",
    "Extraction",
    "Problem",
    "PromptStyle",
    "Task",
    "find_style",
    "load",
    "names",
]
