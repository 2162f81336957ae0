"""The sections behind the scores: training, data, single problems, settings, how to read it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.evals.charts import NARROW, WIDE, Axis, Series, line_chart, standalone
from codegen.evals.markup import safe_text
from codegen.evals.report.comparisons import PairedResult
from codegen.evals.report.content import DataCounts, LossCurve, ScoredRun
from codegen.evals.report.further import Further
from codegen.evals.report.html import legend, percent, section, table, th
from codegen.evals.scoring import Score

_MOST_POINTS = 300  # of a loss curve; longer ones are averaged in bins


def training(losses: Sequence[LossCurve]) -> str:
    """The loss curves, and their first and last values as a table."""
    curves = [curve for curve in losses if curve.points]
    if not curves:
        return ""
    thinned = any(len(curve.points) > _MOST_POINTS for curve in curves)
    chart = "".join(_loss_chart(curves, width) for width in (WIDE, NARROW))
    rows = [
        f'<tr>{th(safe_text(c.name), scope="row")}<td class="num">{c.points[-1][0]:,.0f}</td>'
        f'<td class="num">{c.points[0][1]:.3f}</td><td class="num">{c.points[-1][1]:.3f}</td></tr>'
        for c in curves
    ]
    head = [th("Run"), th("Steps", "num"), th("First loss", "num"), th("Last loss", "num")]
    return section(
        "Training",
        legend([curve.name for curve in curves]),
        f'<figure class="thin">{chart}'
        + ("<figcaption>Long curves are averaged in bins.</figcaption>" if thinned else "")
        + "</figure>",
        table(head, rows, label="Training loss"),
        id_="training",
    )


def loss_picture(losses: Sequence[LossCurve], quantity: str = "Loss") -> str:
    """Curves over the steps as an SVG file of its own; each needs at least one point."""
    return standalone(_loss_chart(losses, WIDE, quantity))


def _loss_chart(curves: Sequence[LossCurve], width: int, quantity: str = "Loss") -> str:
    described = "; ".join(
        f"{c.name}: from {c.points[0][1]:.3g} to {c.points[-1][1]:.3g}" for c in curves
    )
    return line_chart(
        [Series(curve.name, _thin(curve.points), markers=False) for curve in curves],
        Axis("Step", lambda value: f"{value:,.0f}"),
        Axis(quantity, lambda value: f"{value:g}"),
        id_=f"loss-{width}",
        title="Training loss" if quantity == "Loss" else quantity,
        description=described,
        y_from_zero=False,
        width=width,
    )


def _thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    finite = [(step, loss) for step, loss in points if math.isfinite(loss)]
    size = -(-len(finite) // _MOST_POINTS) or 1
    bins = [finite[start : start + size] for start in range(0, len(finite), size)]
    return [(sum(s for s, _ in b) / len(b), sum(v for _, v in b) / len(b)) for b in bins]


def data_table(data_counts: Sequence[DataCounts]) -> str:
    """What became of the inputs of the training data."""
    if not data_counts:
        return ""
    rows = []
    for counts in data_counts:
        total = counts.kept + sum(counts.skipped.values()) + sum(counts.failed.values())
        lines = [("kept", "", counts.kept)]
        lines += [("skipped", reason, n) for reason, n in _by_size(counts.skipped)]
        lines += [("failed", reason, n) for reason, n in _by_size(counts.failed)]
        for number, (outcome, reason, count) in enumerate(lines):
            name = th(safe_text(counts.name), scope="row") if number == 0 else "<td></td>"
            share = percent(count / total) if total else ""
            rows.append(
                f"<tr>{name}<td>{outcome}</td><td>{safe_text(reason.replace('_', ' '))}</td>"
                f'<td class="num">{count:,}</td><td class="num muted">{share}</td></tr>'
            )
    head = [th("Data set"), th("Outcome"), th("Reason"), th("Inputs", "num"), th("", "num")]
    return section(
        "Training data",
        "<p>Every input ends as kept, skipped or failed.</p>",
        table(head, rows, label="Training data"),
        id_="data",
    )


def _by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def measures(runs: Sequence[ScoredRun]) -> str:
    """What the tasks measure of each sample beside its verdict."""
    names = list(dict.fromkeys(name for run in runs for name in run.score.measures))
    if not names:
        return ""
    head = [th("Measure"), *(th(safe_text(run.name), "num") for run in runs)]
    rows = []
    for name in names:
        cells = []
        for run in runs:
            measure = run.score.measures.get(name)
            if measure is None:
                cells.append('<td class="num muted">none</td>')
                continue
            error = "" if measure.stderr is None else f"\N{PLUS-MINUS SIGN} {measure.stderr:.3g}"
            cells.append(
                f'<td class="num">{measure.mean:.4g}<span class="interval">{error}</span></td>'
            )
        rows.append(
            f"<tr>{th(safe_text(name.replace('_', ' ')), scope='row')}{''.join(cells)}</tr>"
        )
    return section(
        "Further measures",
        table(head, rows, label="Further measures"),
        '<p class="note">Means over problems, with their standard errors.</p>',
        id_="measures",
    )


# Title, note, and the field of Further.diversity or .repetition; all but the last are shares.
_SAMPLE_ROWS = (
    ("Distinct programs", "", "unique_text"),
    ("Distinct after renaming locals", "no comments, docstrings, layout", "unique_form"),
    ("Dissimilarity of two samples", "1 − token edit similarity", "dissimilarity"),
    ("Effective share of samples", "Vendi score / samples", "vendi"),
    ("Compile", "", "compiles"),
    ("Ended by themselves", "EGP", "egp"),
    ("Repeated 4-grams", "TR-N", "tr_n"),
    ("Repeated statements", "TR-S", "tr_s"),
    ("Repeated shapes of statements", "names and values ignored", "tr_shape"),
    ("End in a loop", "3 or more copies", "looping"),
    ("Length in lexer tokens", "mean", "tokens"),
)


def _field(further: Further, name: str) -> str:
    for group in (further.diversity, further.repetition):
        if hasattr(group, name):
            value = getattr(group, name)
            return f"{value:,.1f}" if name == "tokens" else percent(value)
    return '<span class="muted">none</span>'


def samples(runs: Sequence[ScoredRun], further: Mapping[str, Further]) -> str:
    """How much the samples differ from one another, and repeat themselves."""
    known = [run for run in runs if further[run.name].repetition is not None]
    if not known:
        return ""
    head = [th("Of the samples"), *(th(safe_text(run.name), "num") for run in known)]
    rows = []
    for name, note, field in _SAMPLE_ROWS:
        values = [_field(further[run.name], field) for run in known]
        cells = "".join(f'<td class="num">{value}</td>' for value in values)
        title = f'{name}<span class="interval">{note}</span>'
        rows.append(f"<tr>{th(title, scope='row')}{cells}</tr>")
    looked = ", ".join(f"{safe_text(run.name)} {further[run.name].measured:,}" for run in known)
    ks = {d.k for run in known if (d := further[run.name].diversity) is not None}
    drawn = f" among {ks.pop()} drawn from each problem’s" if len(ks) == 1 else ""
    return section(
        "Diversity and repetition",
        table(head, rows, label="Diversity and repetition"),
        f'<p class="note">Distinct shares are expected ones{drawn}, so that runs with differing '
        "numbers of samples compare. Repetition is measured on the output alone, as in RPG’s "
        f"paper, with a lexer’s tokens; means over samples. Samples looked at: {looked}.</p>",
        id_="diversity",
    )


def settings(runs: Sequence[ScoredRun], versions: Mapping[str, str]) -> str:
    """The settings of all runs side by side, how their references did, and versions."""
    flat = [_flat_settings(run.score) for run in runs]
    names = list(dict.fromkeys(name for values in flat for name in values))
    rows = []
    for name in names:
        found = [values.get(name, "") for values in flat]
        kind = ' class="differs"' if len(set(found)) > 1 else ""
        cells = "".join(f"<td>{safe_text(value)}</td>" for value in found)
        rows.append(f"<tr{kind}>{th(safe_text(name), scope='row')}{cells}</tr>")
    head = [th("Setting"), *(th(safe_text(run.name)) for run in runs)]
    gates = "".join(f"<li>{_gate(run)}</li>" for run in runs)
    others = ", ".join(f"{safe_text(name)} {safe_text(v)}" for name, v in sorted(versions.items()))
    return section(
        "Settings",
        table(head, rows, kind="settings", label="Settings"),
        '<p class="note">Rows that differ between runs are shaded.</p>' if len(runs) > 1 else "",
        f"<h3>Reference solutions</h3><ul>{gates}</ul>",
        f"<h3>Other versions</h3><p>{others}</p>" if others else "",
        id_="settings",
    )


def _flat_settings(score: Score) -> dict[str, str]:
    rows: dict[str, Any] = {"task": score.task, "task data": score.source, **score.settings}
    rows["fingerprint of these settings"] = settings_fingerprint(score)[:16]
    rows["samples judged"] = score.samples
    rows["distinct programs run"] = score.programs
    rows |= {f"sandbox {name.replace('_', ' ')}": value for name, value in score.sandbox.items()}
    rows |= {f"version of {name}": value for name, value in score.versions.items()}
    return {name.replace("_", " "): _plain(value) for name, value in rows.items()}


def settings_fingerprint(score: Score) -> str:
    """A hash of all that should be equal for two scores to be of one experiment."""
    said = [score.task, score.source, dict(score.settings), dict(score.sandbox)]
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


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


def reading(
    runs: Sequence[ScoredRun],
    comparisons: Sequence[PairedResult],
    further: Mapping[str, Further],
    notes: Sequence[str],
) -> str:
    """What the terms mean, and the notes of the scores and the caller."""
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
    if any(run.score.estimates for run in runs):
        terms.append(
            (
                "pass^k",
                "The chance that all of k samples pass: how far a single answer can be relied on.",
            )
        )
    if any(further[run.name].extrapolated for run in runs):
        terms.append(
            (
                "Extrapolated",
                "Computed for more attempts than were made, from a beta-binomial model. Its "
                "interval takes the model as right.",
            )
        )
    if any(e.clusters < e.m for run in runs for e in run.score.estimates.values()):
        terms.append(
            (
                "Clusters",
                "Some problems are variants of one task. Intervals and tests take each task as one "
                "draw, however many variants it has.",
            )
        )
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
    return section(
        "How to read this",
        f"<dl>{listed}</dl>",
        f"<h3>Notes</h3><ul>{items}</ul>" if said else "",
        id_="reading",
    )
