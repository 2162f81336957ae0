"""Cache editing against full recompute, plain PIE, conflict encoding and llama.cpp's server.

What, with the embedded model:

- ``related_within_half_logit``: definitions that change while a use of them is being typed; share
  in which the lead of the right over the wrong continuation, in logits of their first tokens, is
  that of a full recompute to within 0.5. Table ``related`` by method.
- ``real_next_line_same``: edits from commits of repositories, in six kinds
  (:mod:`history_edits`), each followed by a request to the server's engine behind it, as users get
  it (:mod:`settled_edits`), with prompts of the prefix alone and with prefix, suffix, middle
  forced; share of answers that are the line of a full recompute. Table ``real`` by layout and kind,
  with what it costs. The doubt threshold was chosen on other repositories.
- ``speedup_4k``: CPU time of encoding 4096 tokens over that of an update after one edit in their
  first half (median of five kinds of edits), the statement at the cursor encoded again, no doubt.
- ``tokens_encoded``: by layout and workload of an editor (:mod:`editor_workloads`), the tokens
  encoded after the first state; ``ours`` and llama.cpp's server, ``llama_N`` with cache-reuse N.
  ``workload_kl``: for those of one edit, in the prefix layout, the mean divergence from a full
  recompute over its next line, in nats, by method; what llama.cpp reuses beyond prefixes it reuses
  as ``pie`` does.

Methods: ``ignored`` (the old cache), ``conflict`` (PIE without its rotation), ``pie``, ``ours``
(PIE, moved text found again, the cursor's statement encoded again). Related edits and workloads are
measured in float32, the rest in the dtype a user gets.

Limits: one small model, and for it sentinels that it was not trained on; Python only;
``tokens_encoded`` does not depend on the weights and is counted with small ones, for llama.cpp with
the model's first layer.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.cache_methods import compare, logits_behind
from codegen.benchmarks.tools.cache_peers import REUSE, tokens_encoded
from codegen.benchmarks.tools.cache_speed import speed
from codegen.benchmarks.tools.edit_cases import make_case
from codegen.benchmarks.tools.editor_workloads import workloads
from codegen.benchmarks.tools.history_edits import KINDS, history_edits
from codegen.benchmarks.tools.llama import INSTALL, find_llama
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.related_edits import RELATED, RelatedEdit
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.settled_edits import outcomes, table
from codegen.benchmarks.tools.statistics import rate
from codegen.errors import ConfigError

_FIGURES = (
    "related_within_half_logit", "real_next_line_same", "speedup_4k", "full_4k_cpu_s",
    "tokens_encoded", "speed_4k", "related", "workload_kl", "real",
)  # fmt: skip
PARTS = ("tokens", "speed", "related", "workloads", "real")
LAYOUTS = ("prefix", "psm")
_LENGTH = 4096
_WITHIN = 0.5  # logits
_SPARE = 1.5  # more edits than are wanted are drawn: some are not in the window


def run(
    quick: bool = False, *, seed: int = 0, parts: str = "", data: str = "", edits: int = 50,
    results: str = "",
) -> Mapping[str, object]:  # fmt: skip
    """Measures.

    Args:
        quick: some related edits, one real edit of each kind in a window of 512 tokens, llama.cpp
            with cache-reuse 8 only; a full recompute is timed as the cache's own first update.
        seed: of the draw of edits and of their cursors.
        parts: which figures, of tokens, speed, related, workloads and real, separated by commas;
            all if empty. Figures of others are null.
        data: the folder of data sets; by default what CODEGEN_TEST_DATA names.
        edits: real ones of each kind.
        results: a file that gets one JSON line for each real edit, from which a run is resumed.
    """
    import torch

    from codegen.models import load

    at_least(1, edits=edits)
    wanted = _wanted(parts) - ({"workloads"} if quick else set())
    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.figures |= dict.fromkeys(_FIGURES)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    llama = find_llama()
    if llama is None:
        report.install["llama.cpp"] = INSTALL
    else:
        report.versions |= {f"peer {name}": text for name, text in llama.versions.items()}
    if "real" in wanted:
        a_kind, context = (1, 512) if quick else (edits, 1024)
        _real(report, data, a_kind, context, seed, results)
    loaded = load("embedded")
    tokenizer = loaded.tokenizer
    if "tokens" in wanted:
        say("tokens encoded by workload")
        reuse = (8,) if quick else REUSE
        report.figures["tokens_encoded"] = tokens_encoded(tokenizer, llama, reuse)
    if "speed" in wanted:
        _speed(report, loaded.model, tokenizer, quick)
    model = loaded.model.float()
    if "related" in wanted:
        _related(report, model, tokenizer, RELATED[::3] if quick else RELATED)
    if "workloads" in wanted:
        line_ends = frozenset(i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i]))
        _workload_quality(report, model, tokenizer, line_ends)
    return report.mapping()


def _wanted(parts: str) -> set[str]:
    names = {name for name in parts.split(",") if name}
    if unknown := sorted(names - set(PARTS)):
        raise ConfigError(f"There is no part {unknown[0]!r}.", f"Parts are: {', '.join(PARTS)}.")
    return names or set(PARTS)


def _speed(report: Report, model: Any, tokenizer: Any, quick: bool) -> None:
    """CPU time after one edit at 4096 tokens, against encoding them all."""
    say(f"speed at {_LENGTH} tokens")
    full, table = speed(model, tokenizer, _LENGTH, repeats=1 if quick else 3)
    ratios = [row["ratio"] for row in table.values()]
    report.set("speedup_4k", statistics.median(ratios), n=len(ratios))
    report.set("full_4k_cpu_s", full)
    report.figures["speed_4k"] = _rounded(table)
    report.samples["speed_dtype"] = str(model.dtype).removeprefix("torch.")


def _related(report: Report, model: Any, tokenizer: Any, edits: Sequence[RelatedEdit]) -> None:
    """The lead of the right continuation over the wrong one, by method."""
    say("related edits")
    leads: dict[str, list[float]] = {}
    for edit in edits:
        case = make_case(tokenizer, edit.name, edit.before + edit.rest, edit.after + edit.rest)
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


def _workload_quality(
    report: Report, model: Any, tokenizer: Any, line_ends: frozenset[int]
) -> None:
    """Divergence from a full recompute after the workloads of one edit."""
    table = {}
    for name, states in workloads().items():
        if len(states) != 2:
            continue
        say(f"quality after: {name}")
        case = make_case(tokenizer, name, states[0][0], states[1][0])
        found = compare(model, line_ends, case)
        table[name] = {method: agreement.kl for method, agreement in found.items()}
    report.figures["workload_kl"] = _rounded(table)


def _real(report: Report, data: str, a_kind: int, context: int, seed: int, results: str) -> None:
    """Answers after edits of repositories, as served, against a full recompute."""
    named = data or os.environ.get("CODEGEN_TEST_DATA", "")
    folder = Path(named, "next_edit")
    if not named or not folder.is_dir():
        if data:
            raise ConfigError(f"There is no folder {folder}.", "Give -o data=DIR that holds it.")
        report.install["data"] = "-o data=DIR, the folder that holds next_edit/"
        return
    drawn = history_edits(folder, fitted=False, a_kind=round(_SPARE * a_kind) + 1, seed=seed)
    found = outcomes(drawn, LAYOUTS, a_kind, results, context)
    same = sum(one.same for one in found)
    report.set("real_next_line_same", rate(same, len(found)), n=len(found))
    report.samples["repositories"] = len({one.repository for one in found})
    by_layout: dict[str, Any] = {}
    for layout in LAYOUTS:
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
