"""The report: one HTML file that needs nothing else, and the same content as JSON.

The page makes no request (its content security policy forbids all), reads well without JavaScript,
and shows no text of a model or user unescaped. Its template, style sheet and script are files in
``report_assets``.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from itertools import combinations
from pathlib import Path
from string import Template
from typing import Any

import codegen
from codegen.errors import InputError
from codegen.evals.charts import (
    NARROW,
    WIDE,
    Axis,
    Band,
    Series,
    line_chart,
    stacked_bars,
    swatch,
)
from codegen.evals.markup import safe_text
from codegen.evals.scoring import STATUSES, Score
from codegen.evals.statistics import Comparison, Estimate, compare, holm
from codegen.records import Status, write_atomic

_ASSETS = Path(__file__).with_name("report_assets")
_SIGNIFICANT = 0.05
_ALL_PAIRS_UP_TO = 4  # runs; with more, each is compared with the first
_MOST_POINTS = 300  # of a loss curve; longer ones are averaged in bins


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A score under the name it has in the report."""

    name: str
    score: Score


@dataclass(frozen=True, slots=True)
class EditSteps:
    """One sample, action by action.

    Attributes:
        title: what to call it. prompt: what the model was given.
        states: the program after each action. verdict: how the last one was judged.
    """

    title: str
    prompt: str
    states: Sequence[str]
    verdict: Status


@dataclass(frozen=True, slots=True)
class LossCurve:
    """The loss of one fine-tuning run: (step, loss) by rising step."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class DataCounts:
    """What became of the inputs of one data set."""

    name: str
    kept: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One run in short: for a table in a terminal."""

    name: str
    task: str
    complete: bool
    problems: int
    samples_per_problem: int
    estimates: Mapping[int, Estimate]


@dataclass(frozen=True, slots=True)
class PairedResult:
    """Two runs compared; ``p_adjusted`` is Holm's for all comparisons of the report."""

    task: str
    first: str
    second: str
    comparison: Comparison
    p_adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the difference is, at the 5 % level, after adjustment."""
        return self.p_adjusted <= _SIGNIFICANT


def summary_rows(runs: Sequence[ScoredRun]) -> list[SummaryRow]:
    """The headline numbers as plain data, with the few k that the report's table shows."""
    ks = headline_ks(runs)
    return [
        SummaryRow(
            run.name,
            run.score.task,
            run.score.complete,
            len(run.score.problems),
            min(problem.n for problem in run.score.problems),
            {k: run.score.estimates[k] for k in ks if k in run.score.estimates},
        )
        for run in runs
    ]


def headline_ks(runs: Sequence[ScoredRun]) -> list[int]:
    """The k worth a column: 1, 10 and 100 as far as there are samples; else 1 and the largest."""
    known = {k for run in runs for k in run.score.estimates}
    chosen = [k for k in (1, 10, 100) if k in known]
    if len(chosen) < 2 and known:
        chosen = sorted({min(known), max(known)})
    return chosen


def compare_runs(runs: Sequence[ScoredRun], *, seed: int = 0) -> list[PairedResult]:
    """All pairs of runs of one task (with many runs, each with the first), at the headline ks."""
    found: list[tuple[ScoredRun, ScoredRun, Comparison]] = []
    for group in _by_task(runs).values():
        pairs = list(combinations(group, 2))
        if len(group) > _ALL_PAIRS_UP_TO:
            pairs = [(group[0], other) for other in group[1:]]
        for first, second in pairs:
            shared = [r for r in (first, second) if r.score.estimates]
            for k in headline_ks(shared):
                result = compare(first.score.counts, second.score.counts, k, seed=seed)
                if result is not None:
                    found.append((first, second, result))
    adjusted = holm([comparison.p_value for _, _, comparison in found])
    return [
        PairedResult(first.score.task, first.name, second.name, comparison, p)
        for (first, second, comparison), p in zip(found, adjusted, strict=True)
    ]


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
    """Writes the report to ``out`` (HTML) and beside it, with the suffix ``.json``, its content.

    Args:
        runs: in the order they are shown; the first is the baseline of comparisons.
        notes: sentences of the caller, shown with the result's limits.
        versions: of what the caller used, beside those in the scores.

    Returns:
        The path of the HTML file.

    Raises:
        InputError: if there are no runs, two have one name, or ``out`` would be its own JSON.
    """
    out = Path(out)
    names = [run.name for run in runs]
    if not names:
        raise InputError("A report needs at least one scored run.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Two runs have the name {twice!r}.", "Give each run its own name.")
    if out.suffix == ".json":
        raise InputError(f"{out} would be overwritten by the report's own JSON.", "Use .html.")
    comparisons = compare_runs(runs)
    data = {
        "title": title,
        "subtitle": subtitle,
        "runs": [asdict(run) for run in runs],
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
        _warnings(runs),
        _results(runs, comparisons),
        *(_curves(number, task, group) for number, (task, group) in enumerate(_groups(runs))),
        _comparison_table(comparisons),
        _verdicts(runs),
        _steppers(edit_steps),
        _losses(losses),
        _data_table(data_counts),
        _per_problem(runs),
        _settings(runs, versions or {}),
        _reading(runs, comparisons, notes),
    ]
    write_atomic(out.with_suffix(".json"), json.dumps(data, indent=1, allow_nan=False) + "\n")
    write_atomic(out, _page(title, subtitle, "\n".join(part for part in body if part)))
    return out


# --- the page ----------------------------------------------------------------------------------


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
        "The same content is in the JSON file beside this page.",
    )


def _csp_hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _section(heading: str, *parts: str, id_: str) -> str:
    inside = "\n".join(part for part in parts if part)
    return f'<section aria-labelledby="{id_}">\n<h2 id="{id_}">{heading}</h2>\n{inside}\n</section>'


def _table(head: Sequence[str], rows: Iterable[str], *, kind: str = "", label: str) -> str:
    """A table in a region that scrolls by itself; ``head`` and ``rows`` are HTML."""
    columns = "".join(head)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="{kind}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _th(text: str, kind: str = "", scope: str = "col") -> str:
    return f'<th scope="{scope}" class="{kind}">{text}</th>'


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}%"


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "not defined"
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}%"


def _signed(value: float) -> str:
    sign = "\N{MINUS SIGN}" if round(value, 3) < 0 else "+"
    return f"{sign}{abs(100 * value):.1f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _by_task(runs: Sequence[ScoredRun]) -> dict[str, list[ScoredRun]]:
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        groups.setdefault(run.score.task, []).append(run)
    return groups


def _groups(runs: Sequence[ScoredRun]) -> Sequence[tuple[str, list[ScoredRun]]]:
    return list(_by_task(runs).items())


# --- sections ----------------------------------------------------------------------------------


def _warnings(runs: Sequence[ScoredRun]) -> str:
    broken = [run for run in runs if not run.score.complete]
    if not broken:
        return ""
    items = "".join(
        f"<li><strong>{safe_text(run.name)}</strong>: {safe_text(' '.join(run.score.notes))}</li>"
        for run in broken
    )
    which = "This score is" if len(broken) == len(runs) == 1 else "Some scores are"
    return (
        f'<div class="warning" role="note"><p><strong>{which} not complete and should not be '
        f"published.</strong></p><ul>{items}</ul></div>"
    )


def _results(runs: Sequence[ScoredRun], comparisons: Sequence[PairedResult]) -> str:
    ks = headline_ks(runs)
    several = len(_by_task(runs)) > 1
    head = [_th("Run"), *([_th("Task")] if several else [])]
    head += [_th(f"pass@{k}", "num") for k in ks]
    head += [_th("Problems", "num"), _th("Samples of each", "num")]
    rows = []
    for run in runs:
        sizes = sorted({problem.n for problem in run.score.problems})
        each = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}\N{EN DASH}{sizes[-1]}"
        cells = [_th(safe_text(run.name), scope="row")]
        if several:
            cells.append(f'<td data-label="Task">{safe_text(run.score.task)}</td>')
        cells += [_estimate_cell(k, run.score.estimates.get(k)) for k in ks]
        cells.append(f'<td class="num" data-label="Problems">{len(run.score.problems)}</td>')
        cells.append(f'<td class="num" data-label="Samples of each">{each}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return _section(
        "Results",
        f'<p class="lead">{_in_short(runs, comparisons)}</p>',
        _table(head, rows, kind="cards", label="Results"),
        '<p class="note">Under each score are two 95% intervals. <em>Tasks</em>: where the score '
        "on other problems like these would lie. <em>Samples</em>: where it would lie on these "
        "very problems with many more samples each.</p>",
        id_="results",
    )


def _estimate_cell(k: int, estimate: Estimate | None) -> str:
    if estimate is None:
        return f'<td class="num muted" data-label="pass@{k}">fewer than {k} samples</td>'
    return (
        f'<td class="num" data-label="pass@{k}"><div>'
        f'<span class="value">{_percent(estimate.value)}</span>'
        f'<span class="interval"><i>tasks</i> '
        f"{_range(estimate.tasks_low, estimate.tasks_high)}</span>"
        f'<span class="interval"><i>samples</i> '
        f"{_range(estimate.samples_low, estimate.samples_high)}</span></div></td>"
    )


def _in_short(runs: Sequence[ScoredRun], comparisons: Sequence[PairedResult]) -> str:
    sentences = []
    for task, group in _groups(runs):
        known = [run for run in group if 1 in run.score.estimates]
        parts = [
            f"<strong>{safe_text(run.name)}</strong> solves "
            f"{_percent(run.score.estimates[1].value)}"
            + (" of the problems at the first attempt" if number == 0 else "")
            for number, run in enumerate(known)
        ]
        if parts:
            sentences.append(f"On {safe_text(task)}, {_join(parts)}.")
        first = [pair for pair in comparisons if pair.task == task and pair.comparison.k == 1]
        if len(group) == 2 and first:
            sentences.append(_verdict_sentence(first[0]))
    return " ".join(sentences)


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _verdict_sentence(pair: PairedResult) -> str:
    comparison = pair.comparison
    difference = f"{_signed(comparison.difference)} points"
    if pair.significant:
        return f"The difference of {difference} is significant (p {_equals(pair.p_adjusted)})."
    return (
        f"There is no significant difference between the two ({difference}, "
        f"p {_equals(pair.p_adjusted)})."
    )


def _equals(p: float) -> str:
    return escape(_p(p) if p < 0.001 else f"= {_p(p)}")


def _curves(number: int, task: str, runs: Sequence[ScoredRun]) -> str:
    shown = [run for run in runs if len(run.score.estimates) > 1]
    if not shown:
        return ""
    chart = "".join(
        line_chart(
            [_pass_series(run) for run in shown],
            Axis("Attempts k", lambda value: f"{value:g}", log=True),
            Axis("Problems solved in k attempts", lambda value: _percent(value, 0)),
            id_=f"pass-{number}-{width}",
            title=f"pass@k on {task}",
            description="; ".join(_described(run) for run in shown),
            width=width,
        )
        for width in (WIDE, NARROW)
    )
    return _section(
        f"Attempts needed on {safe_text(task)}",
        "<p>The share of problems solved by at least one of k samples.</p>",
        _legend([run.name for run in shown]),
        f"<figure>{chart}<figcaption>The dark band is the <em>samples</em> interval, the light one "
        "the <em>tasks</em> interval. Where k is more than half of the samples made, the line is "
        "dotted: there the estimate rests on few distinct draws.</figcaption></figure>",
        id_=f"curve-{number}",
    )


def _pass_series(run: ScoredRun) -> Series:
    estimates = sorted(run.score.estimates.items())
    bands = []
    for kind in ("tasks", "samples"):
        edges = [
            (float(k), low, high)
            for k, e in estimates
            for low, high in [(getattr(e, f"{kind}_low"), getattr(e, f"{kind}_high"))]
            if low is not None
        ]
        bands.append(Band(kind, edges))  # type: ignore[arg-type]
    half = min(estimate.n for _, estimate in estimates) / 2
    return Series(run.name, [(float(k), e.value) for k, e in estimates], bands, max(1.0, half))


def _described(run: ScoredRun) -> str:
    values = ", ".join(
        f"pass@{k} {_percent(e.value)}" for k, e in sorted(run.score.estimates.items())
    )
    return f"{run.name}: {values}"


def _legend(names: Sequence[str]) -> str:
    items = "".join(f"<li>{swatch(i)}{safe_text(name)}</li>" for i, name in enumerate(names))
    return f'<ul class="legend">{items}</ul>'


def _comparison_table(comparisons: Sequence[PairedResult]) -> str:
    if not comparisons:
        return ""
    several = len(comparisons) > 1
    head = [_th("Comparison"), _th("Score"), _th("Difference", "num")]
    head += [_th("Problems", "num"), _th("p", "num"), _th("Reading")]
    names = [(pair.task, pair.first, pair.second) for pair in comparisons]
    rows = [
        _comparison_row(pair, repeated=number > 0 and names[number - 1] == names[number])
        for number, pair in enumerate(comparisons)
    ]
    exact = all(pair.comparison.method == "exact" for pair in comparisons)
    test = "exact" if exact else "by 50,000 random sign patterns where not exact"
    adjusted = "; adjusted by Holm’s method for the comparisons of this table" if several else ""
    return _section(
        "Comparison",
        "<p>Runs are compared problem by problem, which tells more than whether two intervals "
        "overlap.</p>",
        _table(head, rows, kind="cards", label="Comparison of runs"),
        '<p class="note">Differences are in percentage points, with the 95% interval for other '
        f"problems like these. p is that of the two-sided paired sign-flip permutation test, {test}"
        f"{adjusted}. A difference is called significant if {'the adjusted p' if several else 'p'} "
        "is at most 0.05.</p>",
        id_="comparison",
    )


def _comparison_row(pair: PairedResult, *, repeated: bool) -> str:
    c = pair.comparison
    kind = "unseen" if repeated else ""
    name = (
        f'<div class="{kind}"><span class="pair">{safe_text(pair.second)}</span>'
        f'<span class="pair">against {safe_text(pair.first)}</span></div>'
    )
    ends = "" if c.low is None or c.high is None else f"{_signed(c.low)} to {_signed(c.high)}"
    adjusted = f"{escape(_p(pair.p_adjusted))} adjusted" if pair.p_adjusted != c.p_value else ""
    reading = "No significant difference"
    if pair.significant:
        reading = f"<strong>Significantly {'better' if c.difference > 0 else 'worse'}</strong>"
    return (
        f"<tr>{_th(name, scope='row')}"
        f'<td data-label="Score">pass@{c.k}</td>'
        f'<td class="num" data-label="Difference"><div>{_signed(c.difference)} points'
        f'<span class="interval">{ends}</span></div></td>'
        f'<td class="num" data-label="Problems"><div>{c.better} better, {c.worse} worse'
        f'<span class="interval">of {c.m}</span></div></td>'
        f'<td class="num" data-label="p"><div>{escape(_p(c.p_value))}'
        f'<span class="interval">{adjusted}</span></div></td>'
        f'<td data-label="Reading"><div>{reading}</div></td></tr>'
    )


_MEANING: Mapping[Status, str] = {
    "passed": "passed all tests",
    "wrong": "a test failed",
    "error": "raised an exception",
    "timeout": "used up its time",
    "memory": "used up its memory",
    "crashed": "the interpreter crashed",
    "exited": "ended itself before the tests were done",
    "output_limit": "wrote too much",
    "syntax_error": "not valid Python",
    "empty": "no program in the answer",
    "infra_error": "not judged: the sandbox failed",
}


def _verdicts(runs: Sequence[ScoredRun]) -> str:
    seen: list[Status] = [
        status for status in STATUSES if any(run.score.statuses.get(status) for run in runs)
    ]
    rows = [(r.name, [(s, r.score.statuses.get(s, 0)) for s in seen]) for r in runs]
    rows = [(name, [part for part in parts if part[1]]) for name, parts in rows]
    described = "; ".join(
        f"{name}: {', '.join(f'{count} {kind}' for kind, count in parts)}" for name, parts in rows
    )
    chart = "".join(
        stacked_bars(
            rows,
            id_=f"verdict-bars-{width}",
            title="Verdicts by run",
            description=described,
            width=width,
        )
        for width in (WIDE, NARROW)
    )
    legend = "".join(
        f'<li><span class="key {status}"></span>{safe_text(status)}'
        f' <span class="muted">{_MEANING[status]}</span></li>'
        for status in seen
    )
    head = [_th("Run"), *(_th(safe_text(status), "num") for status in seen), _th("Samples", "num")]
    counts = [
        f"<tr>{_th(safe_text(run.name), scope='row')}"
        + "".join(f'<td class="num">{run.score.statuses.get(status, 0)}</td>' for status in seen)
        + f'<td class="num">{run.score.samples}</td></tr>'
        for run in runs
    ]
    return _section(
        "How samples ended",
        f'<ul class="legend keys">{legend}</ul>',
        f"<figure>{chart}</figure>",
        f"<details><summary>The counts</summary>{_table(head, counts, label='Verdict counts')}"
        "</details>",
        id_="verdicts",
    )


def _losses(losses: Sequence[LossCurve]) -> str:
    curves = [curve for curve in losses if curve.points]
    if not curves:
        return ""
    thinned = any(len(curve.points) > _MOST_POINTS for curve in curves)
    described = "; ".join(
        f"{c.name}: from {c.points[0][1]:.3f} to {c.points[-1][1]:.3f}" for c in curves
    )
    chart = "".join(
        line_chart(
            [Series(curve.name, _thin(curve.points), markers=False) for curve in curves],
            Axis("Step", lambda value: f"{value:,.0f}"),
            Axis("Loss", lambda value: f"{value:g}"),
            id_=f"loss-{width}",
            title="Training loss",
            description=described,
            y_from_zero=False,
            width=width,
        )
        for width in (WIDE, NARROW)
    )
    rows = [
        f'<tr>{_th(safe_text(c.name), scope="row")}<td class="num">{c.points[-1][0]:,.0f}</td>'
        f'<td class="num">{c.points[0][1]:.3f}</td><td class="num">{c.points[-1][1]:.3f}</td></tr>'
        for c in curves
    ]
    head = [_th("Run"), _th("Steps", "num"), _th("First loss", "num"), _th("Last loss", "num")]
    return _section(
        "Training",
        _legend([curve.name for curve in curves]),
        f'<figure class="thin">{chart}'
        + ("<figcaption>Long curves are averaged in bins.</figcaption>" if thinned else "")
        + "</figure>",
        _table(head, rows, label="Training loss"),
        id_="training",
    )


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(step, loss) for step, loss in points if math.isfinite(loss)]
    size = -(-len(finite) // _MOST_POINTS) or 1
    bins = [finite[start : start + size] for start in range(0, len(finite), size)]
    return [(sum(s for s, _ in b) / len(b), sum(v for _, v in b) / len(b)) for b in bins]


def _data_table(data_counts: Sequence[DataCounts]) -> str:
    if not data_counts:
        return ""
    rows = []
    for counts in data_counts:
        total = counts.kept + sum(counts.skipped.values()) + sum(counts.failed.values())
        lines = [("kept", "", counts.kept)]
        lines += [("skipped", reason, n) for reason, n in _by_size(counts.skipped)]
        lines += [("failed", reason, n) for reason, n in _by_size(counts.failed)]
        for number, (outcome, reason, count) in enumerate(lines):
            name = _th(safe_text(counts.name), scope="row") if number == 0 else "<td></td>"
            share = _percent(count / total) if total else ""
            rows.append(
                f"<tr>{name}<td>{outcome}</td><td>{safe_text(reason.replace('_', ' '))}</td>"
                f'<td class="num">{count:,}</td><td class="num muted">{share}</td></tr>'
            )
    head = [_th("Data set"), _th("Outcome"), _th("Reason"), _th("Inputs", "num"), _th("", "num")]
    return _section(
        "Training data",
        "<p>Every input ends as kept, skipped or failed.</p>",
        _table(head, rows, label="Training data"),
        id_="data",
    )


def _by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _per_problem(runs: Sequence[ScoredRun]) -> str:
    tables = []
    for task, group in _groups(runs):
        scores = [{p.problem_id: p for p in run.score.problems} for run in group]
        ids = list(dict.fromkeys(id_ for score in scores for id_ in score))
        rows = []
        for id_ in ids:
            cells = []
            for score in scores:
                problem = score.get(id_)
                if problem is None or not problem.n:
                    cells.append('<td class="heat muted">none</td>')
                    continue
                heat = math.ceil(5 * problem.c / problem.n)
                cells.append(f'<td class="heat h{heat}">{problem.c} / {problem.n}</td>')
            rows.append(f"<tr>{_th(safe_text(id_), scope='row')}{''.join(cells)}</tr>")
        head = [_th("Problem"), *(_th(safe_text(run.name), "num") for run in group)]
        label = f"Passed samples by problem of {safe_text(task)}"
        table = _table(head, rows, kind="problems", label=label)
        tables.append(
            f"<details><summary>{safe_text(task)}: {_plural(len(ids), 'problem')}</summary>"
            f"{table}</details>"
        )
    return _section(
        "By problem",
        "<p>How many of the samples of each problem passed.</p>",
        *tables,
        id_="problems",
    )


def _settings(runs: Sequence[ScoredRun], versions: Mapping[str, str]) -> str:
    flat = [_flat_settings(run.score) for run in runs]
    names = list(dict.fromkeys(name for settings in flat for name in settings))
    rows = []
    for name in names:
        values = [settings.get(name, "") for settings in flat]
        kind = ' class="differs"' if len(set(values)) > 1 else ""
        cells = "".join(f"<td>{safe_text(value)}</td>" for value in values)
        rows.append(f"<tr{kind}>{_th(safe_text(name), scope='row')}{cells}</tr>")
    head = [_th("Setting"), *(_th(safe_text(run.name)) for run in runs)]
    gates = "".join(f"<li>{_gate(run)}</li>" for run in runs)
    others = ", ".join(f"{safe_text(name)} {safe_text(v)}" for name, v in sorted(versions.items()))
    return _section(
        "Settings",
        _table(head, rows, kind="settings", label="Settings"),
        '<p class="note">Rows that differ between runs are shaded.</p>' if len(runs) > 1 else "",
        f"<h3>Reference solutions</h3><ul>{gates}</ul>",
        f"<h3>Other versions</h3><p>{others}</p>" if others else "",
        id_="settings",
    )


def _flat_settings(score: Score) -> dict[str, str]:
    rows: dict[str, Any] = {"task": score.task, "task data": score.source, **score.settings}
    rows["samples judged"] = score.samples
    rows["distinct programs run"] = score.programs
    rows |= {f"sandbox {name.replace('_', ' ')}": value for name, value in score.sandbox.items()}
    rows |= {f"version of {name}": value for name, value in score.versions.items()}
    return {name.replace("_", " "): _plain(value) for name, value in rows.items()}


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _gate(run: ScoredRun) -> str:
    gate = run.score.reference
    text = f"{safe_text(run.name)}: {gate.passed} of {gate.total} passed here."
    if gate.failures:
        text += " Failed: " + "; ".join(
            f"{safe_text(i)} ({safe_text(w)})" for i, w in gate.failures.items()
        )
    if gate.exceptions:
        text += " Known to fail: " + "; ".join(
            f"{safe_text(id_)} ({safe_text(reason)})" for id_, reason in gate.exceptions.items()
        )
    return text


def _reading(
    runs: Sequence[ScoredRun], comparisons: Sequence[PairedResult], notes: Sequence[str]
) -> str:
    terms = [
        (
            "pass@k",
            "The chance that at least one of k samples passes all tests of a problem, averaged "
            "over problems; the unbiased estimate of Chen et al. (2021) from n samples.",
        ),
        (
            "The <em>tasks</em> interval",
            "With 95% confidence, the score on other problems of this kind lies in it. It is wide "
            "because a benchmark has few problems; more samples make it little narrower.",
        ),
        (
            "The <em>samples</em> interval",
            "With 95% confidence, the score on these very problems lies in it if many more samples "
            "were drawn. It says nothing about other problems. It needs more than k samples of "
            "each problem.",
        ),
    ]
    if comparisons:
        terms.append(
            (
                "No significant difference",
                "The data can’t tell the runs apart. It does not show that they are equal.",
            )
        )
    listed = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in terms)
    said = [f"{safe_text(run.name)}: {safe_text(note)}" for run in runs for note in run.score.notes]
    said += [safe_text(note) for note in notes]
    items = "".join(f"<li>{note}</li>" for note in said)
    return _section(
        "How to read this",
        f"<dl>{listed}</dl>",
        f"<h3>Notes</h3><ul>{items}</ul>" if said else "",
        id_="reading",
    )


# --- edit sequences ----------------------------------------------------------------------------


def _steppers(edit_steps: Sequence[EditSteps]) -> str:
    shown = [steps for steps in edit_steps if steps.states]
    if not shown:
        return ""
    return _section(
        "Programs, action by action",
        "<p>How a sample came to be: the program after each action of the model. New lines are "
        "marked with a plus.</p>",
        *(_stepper(number, steps) for number, steps in enumerate(shown)),
        id_="steps",
    )


def _stepper(number: int, steps: EditSteps) -> str:
    items = []
    before: list[str] = []
    for i, state in enumerate(steps.states, 1):
        lines = list(diff_lines(before, state.splitlines()))
        added = sum(kind == "add" for kind, _ in lines)
        removed = sum(kind == "del" for kind, _ in lines)
        change = [f"{_plural(added, 'line')} added"] if added else []
        change += [f"{_plural(removed, 'line')} removed"] if removed else []
        caption = f"Step {i} of {len(steps.states)}: {', '.join(change) or 'no change'}"
        code = "".join(f'<span class="{kind}">{safe_text(line)}</span>' for kind, line in lines)
        code = code or '<span class="none">(empty)</span>'
        items.append(
            f"<li><details{' open' if i == len(steps.states) else ''}><summary>{caption}</summary>"
            f'<pre class="code" tabindex="0">{code}</pre></details></li>'
        )
        before = state.splitlines()
    kind = steps.verdict if steps.verdict in STATUSES else ""
    return (
        f'<article class="stepper" data-stepper aria-labelledby="stepper-{number}">'
        f'<div class="stepper-head"><h3 id="stepper-{number}">{safe_text(steps.title)}</h3>'
        f'<span class="badge {kind}"><span>{safe_text(steps.verdict)}</span></span></div>'
        f"<details><summary>The prompt</summary><pre>{safe_text(steps.prompt)}</pre></details>"
        '<div class="controls" hidden>'
        '<button type="button" aria-label="Previous step">← Back</button>'
        f'<input type="range" min="0" max="{len(items) - 1}" value="0" aria-label="Step">'
        '<button type="button" aria-label="Next step">Next →</button>'
        '<output aria-live="polite"></output></div>'
        f'<ol class="steps">{"".join(items)}</ol></article>'
    )


def diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The lines of ``after`` as ``keep`` or ``add``, with those gone from ``before`` as ``del``."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield from (("keep", line) for line in after[j1:j2])
        else:
            yield from (("del", line) for line in before[i1:i2])
            yield from (("add", line) for line in after[j1:j2])


__all__ = [
    "DataCounts",
    "EditSteps",
    "LossCurve",
    "PairedResult",
    "ScoredRun",
    "SummaryRow",
    "compare_runs",
    "summary_rows",
    "write_report",
]
