"""The benchmarks, by name. One file a benchmark; a task's module and data load when asked for."""

from __future__ import annotations

import importlib
from typing import Any

from codegen.errors import ConfigError

from .base import CodeTask, Task
from .extraction import Extraction
from .rows import Problem
from .styles import STYLES, PromptStyle, find_style, meta_of, read_styles, style_of

FILE = "file:"

# Name -> module of this package and class, and a line about it.
_TASKS: dict[str, tuple[str, str]] = {
    "humaneval": (
        "humaneval:HumanEval",
        "164 Python functions from signature and docstring (Chen et al. 2021)",
    ),
    "humaneval-short": (
        "humaneval:HumanEvalShort",
        "the 40 problems of humaneval with the shortest reference solutions",
    ),
    "humaneval-plus": (
        "evalplus:HumanEvalPlus",
        "HumanEval with 80 times the tests, 757 inputs a problem (EvalPlus, Liu et al. 2023)",
    ),
    "mbpp": ("mbpp:Mbpp", "974 small Python problems in a sentence (Austin et al. 2021)"),
    "mbpp-test": ("mbpp:MbppTest", "the 500 problems of mbpp's test split"),
    "mbpp-sanitized": (
        "mbpp:MbppSanitized",
        "the 427 problems of mbpp that its authors verified by hand",
    ),
    "mbpp-plus": (
        "evalplus:MbppPlus",
        "378 problems of mbpp with 35 times the tests (EvalPlus, Liu et al. 2023)",
    ),
    "humaneval-single-line": (
        "infilling:Infilling",
        "1033 missing lines of HumanEval's functions (Bavarian et al. 2022)",
    ),
    "humaneval-multi-line": ("infilling:Infilling", "5815 missing blocks of lines, likewise"),
    "humaneval-random-span": (
        "infilling:Infilling",
        "1640 missing spans of characters, likewise",
    ),
    "humaneval-random-span-light": ("infilling:Infilling", "164 of these, one a function"),
    "humanevalfix": (
        "humanevalfix:HumanEvalFix",
        "164 functions with a bug to mend, shown with their tests (Muennighoff et al. 2023)",
    ),
    "humanevalfix-docs": (
        "humanevalfix:HumanEvalFixDocs",
        "the same, shown with their docstrings",
    ),
    "cruxeval-o": (
        "cruxeval:CruxEval",
        "what 800 functions return for an input (Gu et al. 2024)",
    ),
    "cruxeval-i": ("cruxeval:CruxEvalInputs", "for what input they return an output"),
    "bigcodebench-hard": (
        "bigcodebench:BigCodeBench",
        "148 functions that use many libraries, tests beside the program (Zhuo et al. 2024)",
    ),
    "coderepeteval": (
        "coderepeteval:CodeRepetEval",
        "512 prompts after which models repeat themselves: does the answer end? (Dong et al. 2025)",
    ),
    "humaneval-edits": (
        "humaneval:HumanEvalEdits",
        "humaneval by edit sequences: valid states, round trip, malformed hunks, tokens",
    ),
    "wikisql": (
        "wikisql:WikiSql",
        "8421 questions about one table as SQL, judged by its form (Zhong et al. 2017)",
    ),
    "kolmogorov": (
        "kolmogorov:Kolmogorov",
        "500 sequences to be made by short programs (Yoran et al. 2025), drawn or of a file",
    ),
}


def names() -> list[tuple[str, str]]:
    """Every task's name with one line about it. Loads no data."""
    return [(name, about) for name, (_, about) in _TASKS.items()]


def load(name: str, source: str | None = None) -> Task[Any]:
    """Loads a task.

    Args:
        name: one of :func:`names`, or ``file:PATH`` for a task of your own: a JSONL file
            (``custom``) or a YAML file (``yaml_task``).
        source: where its data is, in place of the default: a path to ``.jsonl`` or ``.json``, with
            or without ``.gz``, or ``hub:org/name[:config][:split]``.

    Raises:
        ConfigError: for an unknown name.
        InputError: for data that can't be found or read, naming file, line and field.
    """
    if name.startswith(FILE):
        is_yaml = name.endswith((".yaml", ".yml"))
        place, about = "yaml_task:YamlTask" if is_yaml else "custom:Custom", "a task of your own"
    elif name in _TASKS:
        place, about = _TASKS[name]
    else:
        known = ", ".join(_TASKS)
        raise ConfigError(
            f"There is no task {name!r}.", f"Tasks are: {known}; or {FILE}PATH for your own."
        )
    module, _, kind = place.partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), kind).load(name, about, source)


__all__ = [
    "STYLES",
    "CodeTask",
    "Extraction",
    "Problem",
    "PromptStyle",
    "Task",
    "find_style",
    "load",
    "meta_of",
    "names",
    "read_styles",
    "style_of",
]
