"""The benchmarks, by name. One module per benchmark; tasks and their data are loaded on demand.

The table of names is ``codegen/core/parts.toml``; other packages can add tasks.
"""

from __future__ import annotations

from typing import Any

from codegen.core import plugins
from codegen.core.errors import CodegenError, ConfigError, nearest
from codegen.evals.tasks.base import CodeTask, Task
from codegen.evals.tasks.dataset_rows import FILE, Problem
from codegen.evals.tasks.extraction import Extraction
from codegen.evals.tasks.styles import (
    STYLES,
    PromptStyle,
    find_style,
    meta_of,
    read_styles,
    style_of,
)


def names() -> list[tuple[str, str]]:
    """Returns every task's name with a one-line description. Loads no data."""
    return [(name, _about(name)) for name in plugins.names("tasks")]


def _about(name: str) -> str:
    if about := plugins.written_about("tasks", name):
        return about
    try:
        kind = plugins.load("tasks", name)
    except CodegenError as error:  # one broken package must not hide the other tasks
        return str(error)
    return getattr(kind, "about", "") or f"from the package {plugins.package_of('tasks', name)}"


def load(name: str, source: str | None = None) -> Task[Any]:
    """Loads a task.

    Args:
        name: one of :func:`names`, with a colon and a language if the task has several; or
            ``file:PATH`` for a custom task: a JSONL file (``custom``) or a YAML file
            (``yaml_task``).
        source: data to use instead of the default: a path to ``.jsonl`` or ``.json``, optionally
            with ``.gz``, or ``hub:org/name[:config][:split]``.

    Raises:
        ConfigError: for an unknown name.
        CodegenError: if the package that adds the task is broken.
        InputError: if data is missing or malformed; names file, line and field.
    """
    if name.startswith(FILE):
        from codegen.evals.tasks.custom import CustomTask
        from codegen.evals.tasks.yaml_task import YamlTask

        kind = YamlTask if name.endswith((".yaml", ".yml")) else CustomTask
        return kind.load(name, "a task of your own", source)
    task, colon, _ = name.partition(":")
    if task not in plugins.names("tasks"):
        near = nearest(task, plugins.names("tasks"))
        raise ConfigError(
            f"Unknown task {task!r}.",
            f"{near} List the tasks with `codegen eval tasks`, or pass {FILE}PATH.".lstrip(),
        )
    kind = plugins.load("tasks", task)
    if colon and not getattr(kind, "takes_language", False):
        raise ConfigError(f"The task {task!r} does not accept a language.", f"Use {task}.")
    return kind.load(name, _about(task), source)


__all__ = [
    "FILE", "STYLES", "CodeTask", "Extraction", "Problem", "PromptStyle", "Task", "find_style",
    "load", "meta_of", "names", "read_styles", "style_of",
]  # fmt: skip
