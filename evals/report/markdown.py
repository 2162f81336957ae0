"""The report in short as Markdown: for a pull request, a model card, a note."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from codegen.evals.markup import visible
from codegen.evals.report.comparisons import PairedResult, headline_ks
from codegen.evals.report.content import ScoredRun
from codegen.evals.report.further import Further
from codegen.evals.report.html import interval, p_value, percent, signed
from codegen.evals.scoring import STATUSES
from codegen.records import Status

MARK = "<!-- codegen eval report -->"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:-])")


def markdown(
    runs: Sequence[ScoredRun],
    comparisons: Sequence[PairedResult],
    further: Mapping[str, Further],
    *,
    title: str,
    subtitle: str,
    notes: Sequence[str],
) -> str:
    """The whole text; what models and users wrote is escaped."""
    parts = [MARK, f"# {text(title)}"]
    if subtitle:
        parts.append(text(subtitle))
    for run in runs:
        if not run.score.complete:
            said = text(" ".join(run.score.notes))
            parts.append(f"> **The score of {text(run.name)} is not complete and should not be "
                         f"published.** {said}")  # fmt: skip
    parts.append("## Results")
    parts.append("\n".join(_results(runs)))
    parts.append(
        "In brackets the two 95% intervals: for other problems like these; for these problems with "
        "more samples."
    )
    if lines := list(_extrapolated(runs, further)):
        parts.append("## Extrapolated, not measured")
        parts.append("\n".join(lines))
    if comparisons:
        parts.append("## Comparison")
        parts.append("\n".join(_comparisons(comparisons)))
    parts.append("## Verdicts")
    parts.append("\n".join(_verdicts(runs)))
    said = [f"- {text(run.name)}: {text(note)}" for run in runs for note in run.score.notes]
    said += [f"- {text(note)}" for note in notes]
    said += [
        f"- {text(run.name)}: {run.score.reference.passed} of {run.score.reference.total} "
        "reference solutions passed here."
        for run in runs
    ]
    parts += ["## Notes", "\n".join(said)]
    return "\n\n".join(parts) + "\n"


def text(value: object) -> str:
    """One line in which nothing is Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(visible(str(value)).split()))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _results(runs: Sequence[ScoredRun]) -> Iterator[str]:
    ks = headline_ks(runs)
    rows = []
    for run in runs:
        cells = [text(run.name), text(run.score.task)]
        for k in ks:
            e = run.score.estimates.get(k)
            cells.append(
                "fewer samples"
                if e is None
                else f"{percent(e.value)} ({interval(e.tasks_low, e.tasks_high)}; "
                f"{interval(e.samples_low, e.samples_high)})"
            )
        cells += [str(len(run.score.problems)), str(run.score.samples)]
        rows.append(cells)
    head = ["Run", "Task", *(f"pass@{k}" for k in ks), "Problems", "Samples"]
    return _table(head, rows)


def _extrapolated(runs: Sequence[ScoredRun], further: Mapping[str, Further]) -> Iterator[str]:
    for run in runs:
        if found := further[run.name].extrapolated:
            values = ", ".join(
                f"pass@{e.k} {percent(e.value)} ({interval(e.low, e.high)})" for e in found
            )
            model = f"by a beta-binomial model from {found[0].n} samples of each problem"
            yield f"- {text(run.name)}, {model}: {values}"


def _comparisons(comparisons: Sequence[PairedResult]) -> Iterator[str]:
    rows = []
    for pair in comparisons:
        c = pair.comparison
        ends = "" if c.low is None or c.high is None else f" ({signed(c.low)} to {signed(c.high)})"
        reading = "no significant difference"
        if pair.significant:
            reading = f"significantly {'better' if c.difference > 0 else 'worse'}"
        rows.append(
            [
                f"{text(pair.second)} against {text(pair.first)}",
                f"pass@{c.k}",
                f"{signed(c.difference)} points{ends}",
                text(p_value(pair.p_adjusted)),
                reading,
            ]
        )
    return _table(["Runs", "Score", "Difference", "p, adjusted", "Reading"], rows)


def _verdicts(runs: Sequence[ScoredRun]) -> Iterator[str]:
    seen: list[Status] = [s for s in STATUSES if any(run.score.statuses.get(s) for run in runs)]
    rows = [[text(r.name), *(str(r.score.statuses.get(s, 0)) for s in seen)] for r in runs]
    return _table(["Run", *(text(status) for status in seen)], rows)
