"""The sections about the scores: results, curves over k, comparisons, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape

from codegen.evals.charts import NARROW, WIDE, Axis, Band, Series, line_chart, stacked_bars
from codegen.evals.markup import safe_text
from codegen.evals.report.comparisons import PairedResult, by_task, headline_ks
from codegen.evals.report.content import ScoredRun
from codegen.evals.report.further import Further
from codegen.evals.report.html import (
    interval,
    legend,
    p_value,
    percent,
    section,
    signed,
    table,
    th,
)
from codegen.evals.scoring import STATUSES
from codegen.evals.statistics import Estimate
from codegen.records import Status


def warnings(runs: Sequence[ScoredRun]) -> str:
    """What stands above all else if a score is not complete."""
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


def results(runs: Sequence[ScoredRun], comparisons: Sequence[PairedResult]) -> str:
    """The headline table, and in words what it says."""
    ks = headline_ks(runs)
    several = len(by_task(runs)) > 1
    head = [th("Run"), *([th("Task")] if several else [])]
    head += [th(f"pass@{k}", "num") for k in ks]
    head += [th("Problems", "num"), th("Samples of each", "num")]
    rows = []
    for run in runs:
        sizes = sorted({problem.n for problem in run.score.problems}) or [0]
        each = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}\N{EN DASH}{sizes[-1]}"
        cells = [th(safe_text(run.name), scope="row")]
        if several:
            cells.append(f'<td data-label="Task">{safe_text(run.score.task)}</td>')
        cells += [_estimate_cell(k, run.score.estimates.get(k)) for k in ks]
        cells.append(f'<td class="num" data-label="Problems">{len(run.score.problems)}</td>')
        cells.append(f'<td class="num" data-label="Samples of each">{each}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    kind = "cards sortable" if len(runs) > 2 else "cards"
    return section(
        "Results",
        f'<p class="lead">{_in_short(runs, comparisons)}</p>',
        table(head, rows, kind=kind, label="Results"),
        '<p class="note">Under each score are two 95% intervals. <em>Tasks</em>: where the score '
        "on other problems like these would lie. <em>Samples</em>: where it would lie on these "
        "very problems with many more samples each.</p>",
        id_="results",
    )


def _estimate_cell(k: int, estimate: Estimate | None) -> str:
    if estimate is None:
        return f'<td class="num muted" data-label="pass@{k}">fewer than {k} samples</td>'
    return (
        f'<td class="num" data-label="pass@{k}" data-value="{estimate.value:.6g}"><div>'
        f'<span class="value">{percent(estimate.value)}</span>'
        f'<span class="interval"><i>tasks</i> '
        f"{interval(estimate.tasks_low, estimate.tasks_high)}</span>"
        f'<span class="interval"><i>samples</i> '
        f"{interval(estimate.samples_low, estimate.samples_high)}</span></div></td>"
    )


def _in_short(runs: Sequence[ScoredRun], comparisons: Sequence[PairedResult]) -> str:
    sentences = []
    for task, group in by_task(runs).items():
        known = [run for run in group if 1 in run.score.estimates]
        parts = [
            f"<strong>{safe_text(run.name)}</strong> solves "
            f"{percent(run.score.estimates[1].value)}"
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
    difference = f"{signed(comparison.difference)} points"
    if pair.significant:
        p = f"p\N{NO-BREAK SPACE}{_equals(pair.p_adjusted)}"
        return f"The difference of {difference} is significant ({p})."
    return (
        f"There is no significant difference between the two ({difference}, "
        f"p\N{NO-BREAK SPACE}{_equals(pair.p_adjusted)})."
    )


def _equals(p: float) -> str:
    text = p_value(p) if p < 0.001 else f"= {p_value(p)}"
    return escape(text.replace(" ", "\N{NO-BREAK SPACE}"))


def curves(
    number: int, task: str, runs: Sequence[ScoredRun], further: Mapping[str, Further]
) -> str:
    """pass@k over k for the runs of one task, the ``number``-th on the page."""
    shown = [run for run in runs if len(run.score.estimates) > 1]
    if not shown:
        return ""
    chart = "".join(
        line_chart(
            [_pass_series(run, further[run.name]) for run in shown],
            Axis("Attempts k", lambda value: f"{value:,.0f}", log=True),
            Axis("Problems solved in k attempts", lambda value: percent(value, 0)),
            id_=f"pass-{number}-{width}",
            title=f"pass@k on {task}",
            description="; ".join(_described(run, further[run.name]) for run in shown),
            width=width,
        )
        for width in (WIDE, NARROW)
    )
    beyond = any(further[run.name].extrapolated for run in shown)
    return section(
        f"Attempts needed on {safe_text(task)}",
        "<p>The share of problems solved by at least one of k samples.</p>",
        legend([run.name for run in shown]),
        f"<figure>{chart}<figcaption>The dark band is the <em>samples</em> interval, the light one "
        "the <em>tasks</em> interval. Where k is more than half of the samples made, the line is "
        "dotted: there the estimate rests on few distinct draws."
        + (
            " Right of the border nothing was measured: a beta-binomial model of how success rates "
            "spread over problems, fitted to these samples, says what more attempts would give."
            if beyond
            else ""
        )
        + "</figcaption></figure>",
        _numbers(shown, further),
        id_=f"curve-{number}",
    )


def _numbers(runs: Sequence[ScoredRun], further: Mapping[str, Further]) -> str:
    """The curve as a table, with pass^k and what is extrapolated, run by run."""
    parts = []
    for run in runs:
        more = further[run.name]
        rows = [
            f"<tr>{th(str(k), scope='row')}{_full_cells(e)}{_full_cells(more.all_pass.get(k))}</tr>"
            for k, e in sorted(run.score.estimates.items())
        ]
        rows += [
            f'<tr class="computed">{th(f"{e.k:,}", scope="row")}<td class="num">{percent(e.value)}'
            f'</td><td class="num">{interval(e.low, e.high)}</td>'
            '<td colspan="4"><strong>extrapolated</strong>, not measured</td></tr>'
            for e in more.extrapolated
        ]
        head = [th("k")]
        for name in ("pass@k: one of k passes", "pass^k: all of k pass"):
            head += [th(name, "num"), th("tasks", "num"), th("samples", "num")]
        name = safe_text(run.name)
        fit = ""
        if more.coverage is not None:
            both = (more.coverage.a, more.coverage.b)
            a, b = (f"{x:.3f}".replace("-", "\N{MINUS SIGN}") for x in both)
            fit = (
                f'<p class="note">The measured curve lies within {100 * more.coverage.worst:.1f} '
                f"points of exp({a} k<sup>{b}</sup>).</p>"
            )
        listed = table(head, rows, kind="figures", label=f"Figures of {name}")
        parts.append(f"<details><summary>The figures of {name}</summary>{listed}{fit}</details>")
    return "".join(parts)


def _full_cells(estimate: Estimate | None) -> str:
    if estimate is None:
        return '<td class="num muted" colspan="3">not defined</td>'
    return (
        f'<td class="num">{percent(estimate.value)}</td>'
        f'<td class="num muted">{interval(estimate.tasks_low, estimate.tasks_high)}</td>'
        f'<td class="num muted">{interval(estimate.samples_low, estimate.samples_high)}</td>'
    )


def measured_series(run: ScoredRun, place: Callable[[float], float] = float) -> Series:
    """pass@k with its intervals, each k at ``place(k)``."""
    estimates = sorted(run.score.estimates.items())
    bands = []
    for kind in ("tasks", "samples"):
        edges = [
            (place(k), low, high)
            for k, e in estimates
            for low, high in [(getattr(e, f"{kind}_low"), getattr(e, f"{kind}_high"))]
            if low is not None
        ]
        bands.append(Band(kind, edges))  # type: ignore[arg-type]
    half = min(estimate.n for _, estimate in estimates) / 2
    points = [(place(k), e.value) for k, e in estimates]
    return Series(run.name, points, bands, place(max(1.0, half)))


def _pass_series(run: ScoredRun, further: Further) -> Series:
    series = measured_series(run)
    last = series.points[-1]
    beyond = [e for e in further.extrapolated if e.k > last[0]]
    if not beyond:
        return series
    edge = [(float(e.k), e.low, e.high) for e in beyond]
    band = Band("extrapolated", [(*last, last[1]), *edge])
    return replace(
        series,
        bands=[*series.bands, band],
        extrapolated=[(float(e.k), e.value) for e in beyond],
    )


def _described(run: ScoredRun, further: Further) -> str:
    values = [f"pass@{k} {percent(e.value)}" for k, e in sorted(run.score.estimates.items())]
    values += [f"pass@{e.k} {percent(e.value)} (extrapolated)" for e in further.extrapolated]
    return f"{run.name}: {', '.join(values)}"


def comparison_table(comparisons: Sequence[PairedResult]) -> str:
    """The paired comparisons."""
    if not comparisons:
        return ""
    several = len(comparisons) > 1
    head = [th("Comparison"), th("Score"), th("Difference", "num")]
    head += [th("Problems", "num"), th("p", "num"), th("Reading")]
    names = [(pair.task, pair.first, pair.second) for pair in comparisons]
    rows = [
        _comparison_row(pair, repeated=number > 0 and names[number - 1] == names[number])
        for number, pair in enumerate(comparisons)
    ]
    exact = all(pair.comparison.method == "exact" for pair in comparisons)
    test = "exact" if exact else "by 50,000 random sign patterns where not exact"
    adjusted = "; adjusted by Holm’s method for the comparisons of this table" if several else ""
    return section(
        "Comparison",
        "<p>Runs are compared problem by problem, which tells more than whether two intervals "
        "overlap.</p>",
        table(head, rows, kind="cards", label="Comparison of runs"),
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
    ends = "" if c.low is None or c.high is None else f"{signed(c.low)} to {signed(c.high)}"
    adjusted = (
        f"{escape(p_value(pair.p_adjusted))} adjusted" if pair.p_adjusted != c.p_value else ""
    )
    reading = "No significant difference"
    if pair.significant:
        reading = f"<strong>Significantly {'better' if c.difference > 0 else 'worse'}</strong>"
    return (
        f"<tr>{th(name, scope='row')}"
        f'<td data-label="Score">pass@{c.k}</td>'
        f'<td class="num" data-label="Difference"><div>{signed(c.difference)} points'
        f'<span class="interval">{ends}</span></div></td>'
        f'<td class="num" data-label="Problems"><div>{c.better} better, {c.worse} worse'
        f'<span class="interval">of {c.m}</span></div></td>'
        f'<td class="num" data-label="p"><div>{escape(p_value(c.p_value))}'
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
    "empty": "nothing was written",
    "no_answer": "no program was found in the answer",
    "bad_test": "the problem's test is unusable or tests nothing",
    "infra_error": "not judged: the sandbox failed",
}


def verdicts(runs: Sequence[ScoredRun]) -> str:
    """How many samples ended in which status."""
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
    head = [th("Run"), *(th(safe_text(status), "num") for status in seen), th("Samples", "num")]
    counts = [
        f"<tr>{th(safe_text(run.name), scope='row')}"
        + "".join(f'<td class="num">{run.score.statuses.get(status, 0)}</td>' for status in seen)
        + f'<td class="num">{run.score.samples}</td></tr>'
        for run in runs
    ]
    return section(
        "How samples ended",
        f'<ul class="legend keys">{legend}</ul>',
        f"<figure>{chart}</figure>",
        f"<details><summary>The counts</summary>{table(head, counts, label='Verdict counts')}"
        "</details>",
        id_="verdicts",
    )
