"""The benchmarks, by name. One file a benchmark; a task's module and data load when asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from codegen.errors import ConfigError

from .base import Extraction, Problem, Runs, Task
from .styles import STYLES, PromptStyle, find_style, meta_of, read_styles, style_of

FILE = "file:"


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a task is made: ``make(name, about, source)`` of a module of this package.

    ``tools`` are the further arguments that it takes.
    """

    module: str
    make: str
    about: str
    tools: tuple[str, ...] = ()


_TASKS: dict[str, _Entry] = {
    "humaneval": _Entry(
        "humaneval",
        "humaneval",
        "164 Python functions from signature and docstring (Chen et al. 2021)",
    ),
    "humaneval-short": _Entry(
        "humaneval",
        "humaneval_short",
        "the 40 problems of humaneval with the shortest reference solutions",
    ),
    "humaneval-plus": _Entry(
        "humaneval_plus",
        "humaneval_plus",
        "HumanEval with 80 times the tests, 757 inputs a problem (EvalPlus, Liu et al. 2023)",
    ),
    "mbpp": _Entry("mbpp", "mbpp", "974 small Python problems in a sentence (Austin et al. 2021)"),
    "mbpp-test": _Entry("mbpp", "mbpp_test", "the 500 problems of mbpp's test split"),
    "mbpp-sanitized": _Entry(
        "mbpp", "mbpp_sanitized", "the 427 problems of mbpp that its authors verified by hand"
    ),
    "mbpp-plus": _Entry(
        "mbpp_plus",
        "mbpp_plus",
        "378 problems of mbpp with 35 times the tests (EvalPlus, Liu et al. 2023)",
    ),
    "humaneval-single-line": _Entry(
        "infilling",
        "infilling",
        "1033 missing lines of HumanEval's functions (Bavarian et al. 2022)",
    ),
    "humaneval-multi-line": _Entry(
        "infilling", "infilling", "5815 missing blocks of lines, likewise"
    ),
    "humaneval-random-span": _Entry(
        "infilling", "infilling", "1640 missing spans of characters, likewise"
    ),
    "humaneval-random-span-light": _Entry("infilling", "infilling", "164 of these, one a function"),
    "humanevalfix": _Entry(
        "humanevalfix",
        "humanevalfix",
        "164 functions with a bug to mend, shown with their tests (Muennighoff et al. 2023)",
    ),
    "humanevalfix-docs": _Entry(
        "humanevalfix", "humanevalfix", "the same, shown with their docstrings"
    ),
    "cruxeval-o": _Entry(
        "cruxeval", "cruxeval", "what 800 functions return for an input (Gu et al. 2024)"
    ),
    "cruxeval-i": _Entry("cruxeval", "cruxeval", "for what input they return an output"),
    "bigcodebench-hard": _Entry(
        "bigcodebench",
        "bigcodebench_hard",
        "148 functions that use many libraries, tests beside the program (Zhuo et al. 2024)",
    ),
    "coderepeteval": _Entry(
        "coderepeteval",
        "coderepeteval",
        "512 prompts after which models repeat themselves: does the answer end? (Dong et al. 2025)",
    ),
    "humaneval-edits": _Entry(
        "edits",
        "humaneval_edits",
        "humaneval by edit sequences: valid states, round trip, malformed hunks, tokens",
        tools=("read_edits",),
    ),
    "wikisql": _Entry(
        "wikisql",
        "wikisql",
        "8421 questions about one table as SQL, judged by its form (Zhong et al. 2017)",
    ),
    "kolmogorov": _Entry(
        "kolmogorov",
        "kolmogorov",
        "500 sequences to be made by short programs (Yoran et al. 2025), drawn or of a file",
    ),
}


def names() -> list[tuple[str, str]]:
    """Every task's name with one line about it. Loads no data."""
    return [(name, entry.about) for name, entry in _TASKS.items()]


def load(name: str, source: str | None = None, **tools: Any) -> Task[Any]:
    """Loads a task.

    Args:
        name: one of :func:`names`, or ``file:PATH`` for a task of your own (see ``custom``).
        source: where its data is, in place of the default: a path to ``.jsonl`` or ``.json``, with
            or without ``.gz``, or ``hub:org/name[:config][:split]``.
        tools: what a task needs of other rooms (``read_edits``); tasks that don't need it ignore
            it. ``codegen.evaluate.load_task`` gives all.

    Raises:
        ConfigError: for an unknown name.
        InputError: for data that can't be found or read, naming file, line and field.
    """
    if name.startswith(FILE):
        from .custom import custom

        return custom(name, "a task of your own", source)
    if name not in _TASKS:
        known = ", ".join(_TASKS)
        raise ConfigError(
            f"There is no task {name!r}.", f"Tasks are: {known}; or {FILE}PATH for your own."
        )
    entry = _TASKS[name]
    make = getattr(importlib.import_module(f"{__name__}.{entry.module}"), entry.make)
    used = {tool: value for tool, value in tools.items() if tool in entry.tools}
    return make(name, entry.about, source, **used)


__all__ = [
    "STYLES",
    "Extraction",
    "Problem",
    "PromptStyle",
    "Runs",
    "Task",
    "find_style",
    "load",
    "meta_of",
    "names",
    "read_styles",
    "style_of",
]
