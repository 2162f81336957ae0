"""The programs on which LintSeq is measured.

``benchmark_programs``: 30 problems of HumanEval spread evenly over its 164 (prompt with canonical
solution) and 14 modules of the running Python's standard library, of 36 to 138 lines in CPython
3.11 to 3.13. They were chosen for a measurement of the published generator, before this code was
written.

``edit_programs``: three sets for the number of edits per sequence: all of HumanEval's solutions, 40
functions and 10 class modules of the standard library. The latter two are chosen by a fixed
rule: the first matches, sorted by the SHA-256 of their names, one function per module.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import symtable
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

HUMANEVAL = 30
STDLIB = (
    "bisect",
    "nturl2path",
    "tty",
    "turtledemo/minimal_hanoi",
    "turtledemo/fractalcurves",
    "turtledemo/forest",
    "json/tool",
    "json/scanner",
    "secrets",
    "email/base64mime",
    "email/encoders",
    "urllib/error",
    "_sitebuiltins",
    "sqlite3/dump",
)


class Program(NamedTuple):
    """A program and the name of its set."""

    id: str
    set: str
    text: str


def benchmark_programs() -> list[Program]:
    """Returns the corpus. Modules that this Python does not ship are omitted."""
    from codegen.evals.tasks import load

    task = load("humaneval")
    problems = task.problems()
    chosen = [problems[number * len(problems) // HUMANEVAL] for number in range(HUMANEVAL)]
    human = [Program(problem.id, "humaneval", task.reference(problem)) for problem in chosen]
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [(name, root / f"{name}.py") for name in STDLIB]
    library = [
        Program(f"stdlib/{name}", "stdlib", path.read_text(encoding="utf-8"))
        for name, path in paths
        if path.is_file()
    ]
    return human + library


def edit_programs() -> dict[str, list[Program]]:
    """Returns the three sets by name."""
    from codegen.evals.tasks import load

    task = load("humaneval")
    human = [Program(p.id, "humaneval", task.reference(p)) for p in task.problems()]
    modules = list(_library())
    functions = [found for name, text, tree in modules for found in _functions(name, text, tree)]
    classes = [
        Program(name, "classes", text)
        for name, text, tree in modules
        if 40 <= text.count("\n") <= 160 and _lines_of_classes(tree) >= text.count("\n") / 2
    ]
    return {"humaneval": human, "functions": _first(functions, 40), "classes": _first(classes, 10)}


def _library() -> Iterator[tuple[str, str, ast.Module]]:
    """Yields the standard library's modules that parse: name, text and tree."""
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip"}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if skipped.isdisjoint(name.split("/")):
            try:
                text = path.read_text(encoding="utf-8")
                yield name, text, ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                continue


def _functions(name: str, text: str, tree: ast.Module) -> Iterator[Program]:
    """Yields functions of 8 to 40 lines that use only absolute imports of their module."""
    imports = {
        (alias.asname or alias.name).split(".")[0]: node
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and not getattr(node, "level", 0)
        and getattr(node, "module", "") != "__future__"
        for alias in node.names
    }
    lines = text.split("\n")
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            continue
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        needed = {n for n in _globals(node) if not hasattr(builtins, n)}
        if 8 <= last - first <= 40 and needed <= imports.keys():
            above = dict.fromkeys(ast.unparse(imports[n]) + "\n" for n in sorted(needed))
            code = "".join(above) + ("\n\n" if above else "") + "\n".join(lines[first:last]) + "\n"
            yield Program(f"{name}:{node.name}", "functions", code)


def _globals(function: ast.FunctionDef) -> set[str]:
    """Returns the global names that a function uses."""
    tables = [symtable.symtable(ast.unparse(function), "function", "exec")]
    names: set[str] = set()
    for table in tables:  # grows during the loop
        names |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return names - {function.name}


def _lines_of_classes(tree: ast.Module) -> int:
    nodes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in nodes)


def _first(programs: Sequence[Program], count: int) -> list[Program]:
    """Returns n programs of different modules, sorted by the hash of their names."""
    chosen: dict[str, Program] = {}
    for program in sorted(programs, key=lambda p: hashlib.sha256(p.id.encode()).hexdigest()):
        chosen.setdefault(program.id.partition(":")[0], program)
    return list(chosen.values())[:count]
