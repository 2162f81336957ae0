"""An audit's results with Wilson's 95% intervals, and its pages.

The HTML page has the report's style; ``README.md`` is the card.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import codegen
from codegen.core.errors import InputError
from codegen.core.python_syntax import parse
from codegen.core.records import read_json
from codegen.core.runs import RunDirectory
from codegen.evals.report.page import as_text, diff_lines, templates
from codegen.evals.statistics import wilson

from .problem import AuditRow

ASSETS = Path(__file__).parent / "assets"
MAX_SHOWN = 100  # maximum problems shown with proofs
_MAX_PROOFS = 3  # per problem

CHECKS: Mapping[str, tuple[str, Callable[[AuditRow], bool]]] = {
    "weak": ("accept a program that is proved wrong", lambda row: bool(row.proved)),
    "dead": ("have assertions that test nothing", lambda row: bool(row.dead or row.constants)),
    "forgeable": ("accept a forger", lambda row: bool(row.forgers)),
    "unstable": ("have a reference with changing results", lambda row: bool(row.unstable)),
    "duplicates": ("are similar to another problem", lambda row: bool(row.duplicates)),
}


def fraction(count: int, total: int) -> dict[str, Any]:
    """Returns a proportion with its 95% interval; None where the total is 0."""
    low, high = wilson(count / total, total) if total else (None, None)
    value = count / total if total else None
    return {"count": count, "of": total, "value": value, "low": low, "high": high}


def summarize(rows: Sequence[AuditRow], about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the summary as JSON values.

    Args:
        about: the task and the settings.
    """
    audited = [row for row in rows if row.state == "audited"]
    readable = sum(row.state not in ("no_reference", "unreadable") for row in rows)
    survivors = [survivor for row in audited for survivor in row.survivors]
    kinds = {kind for row in audited for kind in row.mutants}
    return {
        **about,
        "version": codegen.__version__,
        "problems": len(rows),
        "states": dict(Counter(row.state for row in rows)),
        "references": fraction(len(audited), readable),
        **{name: _count(audited, holds) for name, (_, holds) in CHECKS.items()},
        "trust": dict(Counter(row.trust for row in audited)),
        "made": sum(sum(row.mutants.values()) for row in audited),
        "survivors": len(survivors),
        "proved": sum(survivor.is_proved for survivor in survivors),
        "classes": {kind: _of_class(audited, kind) for kind in sorted(kinds)},
        "agreement": _agreement([row for row in audited if row.suite]),
        "added_tests": sum(len(row.added) for row in audited),
        "killed_by_added_tests": sum(survivor.killed for survivor in survivors),
    }


def _count(rows: Sequence[AuditRow], holds: Callable[[AuditRow], bool]) -> dict[str, Any]:
    return fraction(sum(map(holds, rows)), len(rows))


def _of_class(rows: Sequence[AuditRow], kind: str) -> dict[str, Any]:
    """Counts one class's mutants, and the fraction of their problems that accept one."""
    having = [row for row in rows if kind in row.mutants]
    survivors = [s for row in having for s in row.survivors if s.kind == kind]
    return {
        "mutants": sum(row.mutants[kind] for row in having),
        "survivors": len(survivors),
        "proved": sum(survivor.is_proved for survivor in survivors),
        "weak": _count(having, lambda row: any(s.kind == kind for s in row.proved)),
    }


def _agreement(rows: Sequence[AuditRow]) -> dict[str, Any] | None:
    """Compares the verdicts from generated inputs with a stronger suite's; None without one."""
    if not rows:
        return None
    verdicts = [[set(s.proved_by) for s in row.survivors] for row in rows]
    killed = [s.killed for row in rows for s in row.survivors if "suite" in s.proved_by]
    return {
        "problems": len(rows),
        "mutants": _compare(by for row in verdicts for by in row),
        "tasks": _compare(set[str]().union(*row) for row in verdicts),
        "hardened": fraction(sum(killed), len(killed)),
    }


def _compare(verdicts: Iterable[set[str]]) -> dict[str, Any]:
    counts = Counter(frozenset(by) for by in verdicts)
    kinds = ({"inputs", "suite"}, {"inputs"}, {"suite"})
    both, inputs, suite = (counts[frozenset(by)] for by in kinds)
    rates = {"recall": fraction(both, both + suite), "precision": fraction(both, both + inputs)}
    return {"both": both, "only_inputs": inputs, "only_suite": suite, **rates}


def write_pages(
    directory: RunDirectory, rows: Sequence[AuditRow], summary: Mapping[str, Any]
) -> None:
    """Writes ``audit.html`` and ``README.md``.

    Args:
        rows: audited problems in task order; the page sorts them.
    """
    worst = sorted(rows, key=badness, reverse=True)
    shown = {
        "title": f"Audit of {summary['task']}",
        "summary": summary,
        "checks": {name: words for name, (words, _) in CHECKS.items()},
        "shown": [row for row in worst if any(badness(row))][:MAX_SHOWN],
        "broken": [row for row in rows if row.state != "audited"],
        "diff": lambda row, s: diff_lines(_code(row.reference), _code(s.program)),
        "proofs": lambda row: sorted(row.proved, key=lambda s: len(s.input))[:_MAX_PROOFS],
    }
    page = templates(as_text, ASSETS)
    directory.write("audit.html", page.get_template("audit.html").render(shown))
    directory.write("README.md", page.get_template("audit.md.jinja").render(shown))


def _code(program: str) -> list[str]:
    """Returns the lines of a program without docstrings."""
    tree = parse(program)
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(body=[ast.Expr(ast.Constant(str())), *rest]):
                node.body = rest or [ast.Pass()]
    return ast.unparse(tree).splitlines()


def badness(row: AuditRow) -> tuple[float, ...]:
    """Returns a problem's sort key: proved mutants, dead assertions, forgers, and so on."""
    total = sum(row.mutants.values()) or 1
    dead = len(row.dead) + len(row.constants)
    others = len(row.forgers), len(row.unstable), len(row.duplicates)
    return len(row.proved) / total, dead, *others


def read_finding(folder: str | Path) -> tuple[str, str]:
    """Returns an audit's task, and a sentence for reports about scores on that task.

    Raises:
        InputError: if the directory has no audit.
    """
    try:
        summary = read_json(Path(folder) / "audit.json", 1 << 24)
        count, total = int(summary["weak"]["count"]), int(summary["weak"]["of"])
        return str(summary["task"]), (
            f"The tests of {count} of {total} problems of this task accept a program that an audit"
            " proved wrong, so the score may be too high."
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} has no audit.", "Run: codegen audit TASK --out DIR.") from None
