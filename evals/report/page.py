"""Puts the sections together and writes the three files."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import Any

import codegen
from codegen.errors import InputError
from codegen.evals.markup import safe_text
from codegen.evals.report.background import (
    data_table,
    measures,
    reading,
    samples,
    settings,
    settings_fingerprint,
    training,
)
from codegen.evals.report.comparisons import by_task, compare_runs
from codegen.evals.report.content import DataCounts, EditSteps, LossCurve, ScoredRun
from codegen.evals.report.costs import costs, temperatures
from codegen.evals.report.explorer import problems
from codegen.evals.report.further import compute
from codegen.evals.report.markdown import MARK, markdown
from codegen.evals.report.results import comparison_table, curves, results, verdicts, warnings
from codegen.evals.report.stepper import steppers
from codegen.records import write_atomic

_ASSETS = Path(__file__).parents[1] / "report_assets"


def write_report(
    runs: Sequence[ScoredRun],
    out: str | Path,
    *,
    title: str = "Evaluation report",
    subtitle: str = "",
    losses: Sequence[LossCurve] = (),
    data_counts: Sequence[DataCounts] = (),
    edit_steps: Sequence[EditSteps] = (),
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Writes the report to ``out`` (HTML), and beside it as ``.json`` and as Markdown (``.md``).

    The JSON holds all numbers; the samples stand in the page, and in the runs' own files.

    Args:
        runs: in the order they are shown; the first is the baseline of comparisons.
        notes: sentences of the caller, shown with the result's limits.
        versions: of what the caller used, beside those in the scores.

    Returns:
        The path of the HTML file.

    Raises:
        InputError: if there are no runs, two have one name, or a file that is not an earlier
            report's JSON would be overwritten by this one's.
    """
    out = Path(out)
    names = [run.name for run in runs]
    if not names:
        raise InputError("A report needs at least one scored run.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Two runs have the name {twice!r}.", "Give each run its own name.")
    content, summary = out.with_suffix(".json"), out.with_suffix(".md")
    if out in (content, summary):
        kind = "JSON" if out == content else "Markdown"
        raise InputError(f"{out} would be overwritten by the report's own {kind}.", "Use .html.")
    _refuse_foreign(content)
    _refuse_foreign_markdown(summary)
    comparisons = compare_runs(runs)
    further = {run.name: compute(run) for run in runs}
    data = {
        "title": title,
        "subtitle": subtitle,
        "runs": [
            {
                "name": run.name,
                "score": asdict(run.score),
                "settings_fingerprint": settings_fingerprint(run.score),
                "further": _finite(asdict(further[run.name])),
            }
            for run in runs
        ],
        "comparisons": [{**asdict(pair), "significant": pair.significant} for pair in comparisons],
        "losses": [
            {"name": c.name, "points": [[s, v if math.isfinite(v) else None] for s, v in c.points]}
            for c in losses
        ],
        "data_counts": [asdict(counts) for counts in data_counts],
        "edit_steps": [asdict(steps) for steps in edit_steps],
        "notes": list(notes),
        "versions": {"codegen": codegen.__version__, **(versions or {})},
    }
    body = [
        warnings(runs),
        results(runs, comparisons),
        *(
            part
            for number, (task, group) in enumerate(by_task(runs).items())
            for part in (
                curves(number, task, group, further),
                costs(number, task, group),
                temperatures(number, task, group),
            )
        ),
        comparison_table(comparisons),
        verdicts(runs),
        measures(runs),
        steppers(edit_steps),
        training(losses),
        data_table(data_counts),
        problems(runs),
        samples(runs, further),
        settings(runs, versions or {}),
        reading(runs, comparisons, further, notes),
    ]
    write_atomic(content, json.dumps(data, indent=1, allow_nan=False) + "\n")
    said = markdown(runs, comparisons, further, title=title, subtitle=subtitle, notes=notes)
    write_atomic(summary, said)
    write_atomic(out, _page(title, subtitle, "\n".join(part for part in body if part)))
    return out


def _refuse_foreign(path: Path) -> None:
    """Refuses to overwrite a file that no report left, such as the ``score.json`` of a run."""
    try:
        there = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (ValueError, RecursionError):
        there = None
    if not (isinstance(there, dict) and {"title", "runs", "comparisons"} <= there.keys()):
        raise InputError(
            f"The report's content would overwrite {path}, which is not a report.",
            "Choose another --out.",
        )


def _refuse_foreign_markdown(path: Path) -> None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            ours = file.readline().strip() == MARK
    except FileNotFoundError:
        return
    if not ours:
        raise InputError(
            f"The report's summary would overwrite {path}, which is not a report.",
            "Choose another --out.",
        )


def _finite(value: Any) -> Any:
    """The same with null in place of what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(title: str, subtitle: str, body: str) -> str:
    style, script, template = (
        (_ASSETS / name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js", "report.html")
    )
    return Template(template).substitute(
        title=safe_text(title),
        subtitle=f'<p class="subtitle">{safe_text(subtitle)}</p>' if subtitle else "",
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
        body=body,
        footer=f"Made with codegen-toolkit {safe_text(codegen.__version__)}. "
        "The same numbers are in the JSON and Markdown files beside this page.",
    )


def _csp_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
