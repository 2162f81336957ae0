"""Counts the size of the project: ``python tests/size.py``; ``--write`` updates CONTRIBUTING.md.

A code line has at least one token that is not a comment, a docstring or whitespace.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
APART = ("tests", "benchmarks")

BUDGETS = {
    "code lines, packages": 75_000,
    "modules, packages": 380,
    "code lines, benchmarks": 8_000,
    "code lines, tests": 50_000,
    "words, README.md and docs/*.md": 45_000,
    "options of the command line": 420,
}

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Size(NamedTuple):
    """Counts of the tree.

    Attributes:
        parts: (code lines, modules) by part, the largest first.
        totals: what :data:`BUDGETS` limits, under the same names.
    """

    parts: dict[str, tuple[int, int]]
    totals: dict[str, int]


def code_lines(source: str) -> int:
    """Number of code lines of a Python source."""
    texts = source.split("\n")
    lines = {
        number
        for number, line in enumerate(texts, 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Constant, ast.JoinedStr)):  # strings over several lines
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines - docstrings)


def commands(
    group: click.Group, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The commands of a group with their names, those of its groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, (*prefix, name))
        else:
            yield (*prefix, name), found


def measure() -> Size:
    """Counts the files that git tracks, and the options of every command."""
    from codegen.cli import cli

    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines, modules = Counter[str](), Counter[str]()
    for name in listed.stdout.split():
        path = ROOT / name
        if not path.is_file() or path.is_symlink():
            continue
        folders = name.split("/")[:-1]
        depth = 2 if folders[:1] in (["codegen"], ["evals"]) else 1
        part = "/".join(folders[:depth]) or "setup.py"
        lines[part] += code_lines(path.read_text(encoding="utf-8"))
        modules[part] += 1
    parts = {part: (count, modules[part]) for part, count in lines.most_common()}
    packages = [sizes for part, sizes in parts.items() if part not in APART]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    options = [
        option
        for _, command in commands(cli)
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]
    counts = (
        sum(code for code, _ in packages),
        sum(count for _, count in packages),
        lines["benchmarks"],
        lines["tests"],
        sum(len(page.read_text(encoding="utf-8").split()) for page in pages),
        len(options),
    )
    return Size(parts, dict(zip(BUDGETS, counts, strict=True)))


def table(size: Size) -> str:
    """Markdown tables of the totals with their budgets, and of the parts."""

    def about(count: int) -> str:
        return f"{round(count, -2) if count >= 5_000 else count:,}"

    rows = ["| | now | budget |", "|---|---|---|"]
    rows += [f"| {name} | {about(n)} | {BUDGETS[name]:,} |" for name, n in size.totals.items()]
    rows += ["", "| part | code lines | modules |", "|---|---|---|"]
    rows += [f"| `{part}` | {about(n)} | {count} |" for part, (n, count) in size.parts.items()]
    return "\n".join(rows)


MARKS = ("<!-- sizes -->\n", "<!-- end of sizes -->")


def main() -> None:
    """Prints the tables, or writes them to CONTRIBUTING.md."""
    made = table(measure())
    print(made)
    if "--write" in sys.argv:
        page = ROOT / "CONTRIBUTING.md"
        before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
        page.write_text(
            before + MARKS[0] + made + "\n" + MARKS[1] + rest.split(MARKS[1])[1], "utf-8"
        )


if __name__ == "__main__":
    main()
