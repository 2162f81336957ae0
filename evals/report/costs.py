"""Coverage over the computation spent: what attempts of models of different sizes are worth.

A small model may solve more than a large one for the same computation, since it can try more often.
Source: Brown et al. 2024 (arXiv 2407.21787); computation as :func:`sampling_flops`
counts it.

Limits: computation is by the usual rule of two operations a parameter and token. Tokens that were
drafted and rejected are not counted, nor attention over long contexts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from codegen.evals.charts import NARROW, WIDE, Axis, line_chart
from codegen.evals.markup import safe_text
from codegen.evals.report.content import ScoredRun
from codegen.evals.report.html import legend, percent, section, table, th
from codegen.evals.report.results import measured_series
from codegen.evals.scoring import Cost
from codegen.evals.statistics import sampling_flops

_UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP"))


def costs(number: int, task: str, runs: Sequence[ScoredRun]) -> str:
    """pass@k over the computation of k samples, for the runs of one task that say what theirs took;
    over tokens, if one does not say how large its model is.
    """
    known = [(run, run.score.cost) for run in runs if run.score.cost and run.score.estimates]
    shown = [(run, cost) for run, cost in known if cost]
    if not any(len(run.score.estimates) > 1 for run, _ in shown):
        return ""
    by_flops = all(cost.parameters for _, cost in shown)
    spent = [_spent(cost, by_flops) for _, cost in shown]
    unit, name = 1.0, "Tokens"
    if by_flops:
        least = min(take(1) for take in spent)
        unit, name = next(pair for pair in _UNITS if least >= pair[0] or pair[0] == 1.0)
    takes = [_in_unit(take, unit) for take in spent]
    chart = "".join(
        line_chart(
            [measured_series(run, take) for (run, _), take in zip(shown, takes, strict=True)],
            Axis(f"{name} for a problem", lambda value: f"{value:,.3g}", log=True),
            Axis("Problems solved", lambda value: percent(value, 0)),
            id_=f"cost-{number}-{width}",
            title=f"Coverage over computation on {task}",
            description="; ".join(
                f"{run.name}: {take(1):.3g} {name} for one sample, {_last(run)}"
                for (run, _), take in zip(shown, takes, strict=True)
            ),
            width=width,
        )
        for width in (WIDE, NARROW)
    )
    rows = [
        f"<tr>{th(safe_text(run.name), scope='row')}"
        f'<td class="num">{_count(cost.parameters)}</td>'
        f'<td class="num">{cost.prompt_tokens:,.0f}</td>'
        f'<td class="num">{cost.completion_tokens:,.0f}</td>'
        f'<td class="num">{take(1):,.3g}</td></tr>'
        for (run, cost), take in zip(shown, takes, strict=True)
    ]
    head = [th("Run"), th("Parameters", "num"), th("Prompt tokens", "num")]
    head += [th("Written tokens", "num"), th(f"{name} for one sample", "num")]
    rule = (
        "Two operations for each parameter and token that passes through the model"
        if by_flops
        else "Tokens that pass through the model, whatever its size"
    )
    left = len(runs) - len(shown)
    return section(
        f"Computation needed on {safe_text(task)}",
        "<p>The same scores over what the k samples of a problem take.</p>",
        legend([run.name for run, _ in shown]),
        f"<figure>{chart}<figcaption>{rule}; a problem\u2019s prompt is counted once for all its "
        f"samples.{' Runs that do not say their tokens are left out.' if left else ''}"
        "</figcaption></figure>",
        f"<details><summary>What a sample takes</summary>{table(head, rows, label='Cost')}"
        "</details>",
        id_=f"cost-{number}",
    )


def _spent(cost: Cost, by_flops: bool) -> Callable[[float], float]:
    def flops(k: float) -> float:
        return sampling_flops(
            k,
            parameters=cost.parameters or 0,
            prompt_tokens=cost.prompt_tokens,
            completion_tokens=cost.completion_tokens,
        )

    def tokens(k: float) -> float:
        return cost.prompt_tokens + k * cost.completion_tokens

    return flops if by_flops else tokens


def _in_unit(take: Callable[[float], float], unit: float) -> Callable[[float], float]:
    return lambda k: take(k) / unit


def _last(run: ScoredRun) -> str:
    k, estimate = max(run.score.estimates.items())
    return f"pass@{k} {percent(estimate.value)}"


def _count(parameters: int | None) -> str:
    if not parameters:
        return "not known"
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:,.0f} M"


def temperatures(number: int, task: str, runs: Sequence[ScoredRun]) -> str:
    """The best temperature for each k, beside the best single one, where runs differ in nothing
    else.
    """
    parts = [_best_of(group) for group in _alike(runs)]
    if not parts:
        return ""
    return section(
        f"Temperatures on {safe_text(task)}",
        "<p>More attempts want more variety, so the best temperature depends on k. A score that "
        "takes the best for each k is chosen by looking at the results, and so a little too "
        "high.</p>",
        *parts,
        id_=f"temperature-{number}",
    )


def _alike(runs: Sequence[ScoredRun]) -> Iterator[list[ScoredRun]]:
    """Groups of runs whose settings differ in the temperature alone."""
    groups: dict[str, list[ScoredRun]] = {}
    for run in runs:
        said = {k: v for k, v in run.score.settings.items() if k != "temperature"}
        known = isinstance(run.score.settings.get("temperature"), (int, float))
        if known and run.score.estimates:
            key = json.dumps([said, [p.problem_id for p in run.score.problems]], sort_keys=True)
            groups.setdefault(key, []).append(run)
    for group in groups.values():
        if len({run.score.settings["temperature"] for run in group}) > 1:
            yield group


def _best_of(group: Sequence[ScoredRun]) -> str:
    ks = sorted(set.intersection(*(set(run.score.estimates) for run in group)))
    head = [th("k"), *(th(_temperature(run), "num") for run in group), th("Best", "num")]
    rows = []
    for k in ks:
        values = [run.score.estimates[k].value for run in group]
        best = max(range(len(group)), key=values.__getitem__)
        cells = "".join(
            f'<td class="num">{f"<strong>{percent(v)}</strong>" if i == best else percent(v)}</td>'
            for i, v in enumerate(values)
        )
        rows.append(
            f'<tr>{th(str(k), scope="row")}{cells}<td class="num">{_temperature(group[best])}</td>'
            "</tr>"
        )
    names = ", ".join(f"{safe_text(run.name)} {_temperature(run)}" for run in group)
    return table(head, rows, kind="figures", label="Scores by temperature") + (
        f'<p class="note">pass@k by temperature: {names}.</p>'
    )


def _temperature(run: ScoredRun) -> str:
    return safe_text(f"{run.score.settings['temperature']}")
