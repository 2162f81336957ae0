"""Cache editing: answers after an edit against a full recompute, and their cost.

With the embedded model:

- ``related_within_half_logit``: a definition changes while the user types a use of it; the fraction
  of cases whose margin of the correct over the wrong continuation, in logits of their first tokens,
  is within 0.5 of a full recompute's. Table ``related`` is by method: ``ignored`` (the old cache),
  ``conflict`` (PIE without its rotation), ``pie``, ``ours`` (PIE, moved text reused, the statement
  at the cursor re-encoded). In float32.
- ``real_next_line_same``: six kinds of edits from repository commits, each followed by a
  request to the server's engine, with prompts of only the prefix and with the forced order prefix,
  suffix, middle; the fraction of answers that equal a full recompute's. Table ``real`` is by
  layout and kind, with the cost. Needs ``-o data=DIR`` or CODEGEN_TEST_DATA.
- ``speedup_4k``: CPU time to encode 4096 tokens over the time of an update after one edit in their
  first half (median of five kinds of edits), with the statement at the cursor re-encoded, but
  nothing recomputed for doubtful answers.
- ``tokens_encoded``: tokens encoded after the first state, by editor workload.

Limits: one small model, which was not trained on its sentinels; Python only.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.cache_cases import (
    RELATED,
    RelatedEdit,
    logits_behind,
    make_case,
    speed,
    tokens_encoded,
)
from codegen.benchmarks.tools.certain_edits import LAYOUTS, outcomes, table
from codegen.benchmarks.tools.history_edits import KINDS, history_edits
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, chosen_parts, options
from codegen.benchmarks.tools.statistics import rate
from codegen.core.errors import ConfigError

_FIGURES = (
    "related_within_half_logit", "real_next_line_same", "speedup_4k", "full_4k_cpu_s",
    "tokens_encoded", "speed_4k", "related", "real",
)  # fmt: skip
PARTS = ("tokens", "speed", "related", "real")
_LENGTH = 4096
_WITHIN = 0.5  # logits
_SPARE = 1.5  # oversampling factor, since some edits are not in the window


@options(
    quick={"edits": 1},
    needs={
        "data edits seed": (
            "without -o parts=real",
            lambda o: "real" in chosen_parts(o["parts"], PARTS),
        )
    },
)
def run(
    quick: bool = False, *, seed: int = 0, parts: str = "", data: str = "", edits: int = 50
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: fewer related edits, one real edit per kind with prefix-only prompts, in a window of
            512 tokens; the full recompute is timed as the cache's first update.
        seed: seed of the sampled edits and cursors.
        parts: some of tokens, speed, related and real; all if empty.
        data: folder of datasets; by default CODEGEN_TEST_DATA.
        edits: real edits per kind.
    """
    import torch

    from codegen.models import load

    at_least(1, edits=edits)
    wanted = chosen_parts(parts, PARTS)
    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.figures |= dict.fromkeys(_FIGURES)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    if "real" in wanted:
        context = 512 if quick else 1024
        layouts = ("prefix",) if quick else tuple(LAYOUTS)
        _real(report, data, layouts, edits, context, seed)
    loaded = load("embedded")
    tokenizer = loaded.tokenizer
    if "tokens" in wanted:
        say("tokens encoded by workload")
        report.figures["tokens_encoded"] = tokens_encoded(tokenizer)
    if "speed" in wanted:
        _speed(report, loaded.model, tokenizer, quick)
    if "related" in wanted:
        _related(report, loaded.model.float(), tokenizer, RELATED[::3] if quick else RELATED)
    return report.mapping()


def _speed(report: Report, model: Any, tokenizer: Any, quick: bool) -> None:
    """Measures the CPU time of an update in 4096 tokens, against encoding them all."""
    say(f"speed at {_LENGTH} tokens")
    full, table = speed(model, tokenizer, _LENGTH, repeats=1 if quick else 3)
    ratios = [row["ratio"] for row in table.values()]
    report.set("speedup_4k", statistics.median(ratios), n=len(ratios))
    report.set("full_4k_cpu_s", full)
    report.figures["speed_4k"] = _rounded(table)
    report.samples["speed_dtype"] = str(model.dtype).removeprefix("torch.")


def _related(report: Report, model: Any, tokenizer: Any, edits: Sequence[RelatedEdit]) -> None:
    """Measures the margin of the correct over the wrong continuation, by method."""
    say("related edits")
    leads: dict[str, list[float]] = {}
    for edit in edits:
        case = make_case(tokenizer, edit.before + edit.rest, edit.after + edit.rest)
        right, wrong = (
            tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids[0]
            for text in (edit.right, edit.wrong)
        )
        for name, logits in logits_behind(model, case).items():
            leads.setdefault(name, []).append(float(logits[right] - logits[wrong]))
    table = {}
    for name, found in leads.items():
        off = [abs(a - b) for a, b in zip(found, leads["full"], strict=True)]
        within = sum(value <= _WITHIN for value in off)
        table[name] = {
            "within_half_logit": within / len(off),
            "largest_difference": max(off),
            "right_leads": sum(lead > 0 for lead in found) / len(found),
        }
        if name == "ours":
            report.set("related_within_half_logit", rate(within, len(off)), n=len(off))
    report.figures["related"] = _rounded(table)


def _real(
    report: Report, data: str, layouts: Sequence[str], a_kind: int, context: int, seed: int
) -> None:
    """Compares the server's answers after edits from repositories with a full recompute."""
    named = data or os.environ.get("CODEGEN_TEST_DATA", "")
    folder = Path(named, "next_edit")
    if not named or not folder.is_dir():
        if data:
            raise ConfigError(f"{folder} does not exist.", "Pass -o data=DIR that contains it.")
        report.install["data"] = "-o data=DIR, the folder with next_edit/"
        return
    drawn = history_edits(folder, a_kind=round(_SPARE * a_kind) + 1, seed=seed)
    found = outcomes(drawn, layouts, a_kind, context)
    same = sum(one.same for one in found)
    report.set("real_next_line_same", rate(same, len(found)), n=len(found))
    report.samples["repositories"] = len({one.repository for one in found})
    by_layout: dict[str, Any] = {}
    for layout in layouts:
        rows = [one for one in found if one.layout == layout]
        kinds = {kind: [one for one in rows if one.kind == kind] for kind in KINDS}
        tables = {kind: table(some) for kind, some in kinds.items() if some}
        by_layout[layout] = _rounded(tables | {"all": table(rows)})
    report.figures["real"] = by_layout


def _rounded(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(f"{value:.4g}") for key, value in row.items()}
        for name, row in table.items()
    }
