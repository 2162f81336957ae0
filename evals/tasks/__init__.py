"""The benchmarks, by name. One module per benchmark; tasks and their data are loaded on demand.

The table of names is in :mod:`codegen.core.plugins`, which adds the tasks of other packages.
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

# One line of description per built-in task.
_ABOUT = {
    "humaneval": "164 Python functions from signature and docstring (Chen et al. 2021)",
    "humaneval-short": "the 40 problems of humaneval with the shortest reference solutions",
    "humaneval-plus": (
        "HumanEval with 80 times the tests, 757 inputs per problem (EvalPlus, Liu et al. 2023)"
    ),
    "mbpp": "974 small Python problems, each stated in a sentence (Austin et al. 2021)",
    "mbpp-test": "the 500 problems of mbpp's test split",
    "mbpp-sanitized": "the 427 problems of mbpp that its authors verified by hand",
    "mbpp-plus": "378 problems of mbpp with 35 times the tests (EvalPlus, Liu et al. 2023)",
    "humaneval-single-line": "1033 missing lines of HumanEval's functions (Bavarian et al. 2022)",
    "humaneval-multi-line": "5815 missing blocks of lines of the same functions",
    "humaneval-random-span": "1640 missing spans of characters of the same functions",
    "humaneval-random-span-light": "164 of these spans, one per function",
    "humanevalfix": (
        "164 functions with a bug to repair, shown with their tests (Muennighoff et al. 2023)"
    ),
    "humanevalfix-docs": "the same, shown with their docstrings",
    "cruxeval-o": "predict what 800 functions return for an input (Gu et al. 2024)",
    "cruxeval-i": "predict an input for which 800 functions return an output",
    "bigcodebench": "1140 functions that use many libraries, tests in the program's process",
    "bigcodebench-hard": (
        "148 functions that use many libraries, tests in the program's process (Zhuo et al. 2024)"
    ),
    "editeval": "194 instructed edits, answered with the whole program (Li et al. 2024)",
    "editeval-diff": "the same, answered with search-and-replace blocks",
    "canitedit": "105 detailed instructed edits, answered with the program (Cassano et al. 2024)",
    "canitedit-diff": "the same, answered with search-and-replace blocks",
    "canitedit-lazy": "the same with a short instruction",
    "aider-polyglot": "34 exercises of aider's benchmark in Python, two tries (Gauthier 2024)",
    "aider-polyglot-diff": "the same, answered with search-and-replace blocks",
    "livecodebench": (
        "dated contest problems: programs with input and output, or methods (Jain et al. 2024)"
    ),
    "coderepeteval": (
        "512 prompts that make models repeat themselves: does the answer end? (Dong et al. 2025)"
    ),
    "humaneval-edits": (
        "humaneval by edit sequences: valid states, round trip, malformed hunks, tokens"
    ),
    "next-edit": (
        "next edits of real commits, and states where no edit is expected (docs/next_edits.md)"
    ),
    "next-edit-refactorings": "next edits of refactorings in files from unseen repositories",
    "next-edit-scenarios": "recorded and written editing sessions in seven languages",
    "spider": "questions on databases as SQL, compared by rows (Yu et al. 2018)",
    "bird": "the same with hints, on large databases: --source dev.json (Li et al. 2023)",
    "everyday": "40 everyday questions on three small databases, some unanswerable",
    "kolmogorov": (
        "500 sequences to reproduce with short programs (Yoran et al. 2025), random or from a file"
    ),
    "multipl_e": (
        "multipl_e:LANGUAGE, HumanEval in 12 languages, tests hidden (Cassano et al. 2023)"
    ),
    "multipl_e-mbpp": "multipl_e-mbpp:LANGUAGE, MBPP in the same languages",
    "humanevalpack": "humanevalpack:LANGUAGE, HumanEval in 5 languages (Muennighoff et al. 2023)",
    "mceval": "mceval:LANGUAGE, 50 problems per language in 14 languages (Chai et al. 2024)",
}


def names() -> list[tuple[str, str]]:
    """Returns every task's name with a one-line description. Loads no data."""
    return [(name, _about(name)) for name in plugins.names("tasks")]


def _about(name: str) -> str:
    if name in _ABOUT:
        return _ABOUT[name]
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
        InputError: for data that is missing or malformed, naming file, line and field.
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
