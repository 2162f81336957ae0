"""The programs that the LintSeq figures are measured on.

``benchmark_programs``: 30 problems of HumanEval spread evenly over its 164 (prompt with canonical
solution) and 14 modules of the running Python's standard library, of 36 to 138 lines in CPython
3.11 to 3.13. They were chosen, before any of this code was written, for a measurement of the
published generator.

``third_party_programs``: modules of installed packages that no rule was tuned on.
"""

from __future__ import annotations

import random
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
    """A program, and the set it belongs to."""

    id: str
    set: str
    text: str


def benchmark_programs() -> list[Program]:
    """The corpus. A module that this Python does not ship is left out."""
    from codegen.evals.tasks.humaneval import humaneval

    task = humaneval("humaneval", "")
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


def third_party_programs(
    count: int, seed: int, roots: Sequence[Path] | None = None
) -> list[Program]:
    """Modules of 20 to 200 lines that compile, drawn at random from the installed packages."""
    if roots is None:
        roots = [Path(sysconfig.get_paths()["purelib"])]
    paths = sorted(path for root in roots for path in _modules(root))
    random.Random(seed).shuffle(paths)
    found: list[Program] = []
    for path in paths:
        if len(found) == count:
            break
        if text := _usable(path):
            found.append(Program("/".join(path.parts[-3:]), "third_party", text))
    return found


def _modules(root: Path) -> Iterator[Path]:
    for path in root.rglob("*.py"):
        inside = path.relative_to(root).parts
        if not any(part.startswith(("test", "__pycache__")) for part in inside):
            yield path


def _usable(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if not 20 <= lines <= 200:
            return None
        compile(text, path.name, "exec", dont_inherit=True)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    return text
