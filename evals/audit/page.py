"""The pages of an audit: HTML in the style of the report, and a Markdown card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.evals.report.page import as_text, diff_lines, templates
from codegen.runs import RunDirectory

from .rows import Row
from .summary import CHECKS

ASSETS = Path(__file__).parent / "assets"
MAX_SHOWN = 100  # problems with their proofs
_MAX_PROOFS = 3  # per problem


def write_pages(directory: RunDirectory, rows: Sequence[Row], summary: Mapping[str, Any]) -> None:
    """Writes ``audit.html`` and ``README.md``.

    Args:
        rows: in the task's order; the page sorts them.
    """
    worst = sorted(rows, key=badness, reverse=True)
    shown = {
        "title": f"Audit of {summary['task']}",
        "summary": summary,
        "checks": {name: words for name, (words, _) in CHECKS.items()},
        "shown": [row for row in worst if any(badness(row))][:MAX_SHOWN],
        "broken": [row for row in rows if row.state != "audited"],
        "diff": lambda row, s: diff_lines(row.reference.splitlines(), s.program.splitlines()),
        "proofs": lambda row: sorted(row.proved, key=lambda s: len(s.input))[:_MAX_PROOFS],
    }
    page = templates(as_text, ASSETS)
    directory.write("audit.html", page.get_template("audit.html").render(shown))
    directory.write("README.md", page.get_template("audit.md.jinja").render(shown))


def badness(row: Row) -> tuple[float, ...]:
    """Returns the sort key of a problem: proved mutants, dead assertions, forgers, and so on."""
    total = sum(row.mutants.values()) or 1
    dead = len(row.dead) + len(row.constants)
    others = len(row.forgers), len(row.unstable), len(row.duplicates)
    return len(row.proved) / total, dead, *others
