"""Cache editing against full recompute, plain PIE, conflict encoding and llama.cpp's server.

What, with the embedded model:

- ``related_within_half_logit``: definitions that change while a use of them is being typed; share
  in which the lead of the right over the wrong continuation, in logits of their first tokens, is
  that of a full recompute to within 0.5. Table ``related`` by method.
- ``real_next_line_same`` (``-o repositories=DIR,DIR``): commits' edits of Python files, cursor 0 to
  20 lines behind the last hunk; share with the same greedy next line as a full recompute. Table
  ``real`` by method: ``top1`` and ``kl`` (nats) over that line's tokens, tokens encoded and CPU
  seconds of the update, means. ``real_stale``: the same over those edits after which ours_fast has
  stale states, that is, where there is something to get wrong.
- ``speedup_4k``: CPU time of encoding 4096 tokens over that of an update after one edit in their
  first half (median of five kinds of edits), the statement at the cursor encoded again.
- ``tokens_encoded``: by layout and workload of an editor (:mod:`editor_workloads`), the tokens
  encoded after the first state; ``ours`` and llama.cpp's server, ``llama_N`` with cache-reuse N.
  ``workload_kl``: for those of one edit, in the prefix layout, ``kl`` as in ``real`` by method;
  what llama.cpp reuses beyond prefixes it reuses as ``pie`` does.

Methods: ``ignored`` (the old cache), ``conflict`` (PIE without its rotation), ``pie``,
``ours_fast`` (PIE, moved text found again, the cursor's statement encoded again), ``ours`` (the
same, and a line with a token that leads by less than 0.3 logits while states are stale is decoded
again after a recompute, whose cost is counted). Quality is measured in float32, speed in the dtype
a user gets.

Limits: one small model; ``tokens_encoded`` does not depend on the weights and is counted with small
ones, for llama.cpp with the model's first layer; its lines (``llama_real``, Q4_1 weights) are
compared with its own cold ones.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.cache_methods import compare, logits_behind
from codegen.benchmarks.tools.cache_peers import REUSE, llama_lines, tokens_encoded
from codegen.benchmarks.tools.cache_speed import speed
from codegen.benchmarks.tools.edit_cases import EditCase, history_cases, make_case
from codegen.benchmarks.tools.editor_workloads import workloads
from codegen.benchmarks.tools.llama import INSTALL, find_llama
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.related_edits import RELATED, RelatedEdit
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import rate
from codegen.errors import ConfigError

_FIGURES = (
    "related_within_half_logit", "real_next_line_same", "speedup_4k", "full_4k_cpu_s",
    "tokens_encoded", "speed_4k", "related", "workload_kl", "real", "real_stale", "llama_real",
)  # fmt: skip
PARTS = ("tokens", "speed", "related", "workloads", "real", "llama")
_LENGTH = 4096
_WITHIN = 0.5  # logits


def run(
    quick: bool = False, *, seed: int = 0, parts: str = "", repositories: str = "",
    edits: int = 40, window: int = 512, peer_edits: int = 6, results: str = "",
) -> Mapping[str, object]:  # fmt: skip
    """Measures.

    Args:
        quick: some related edits, two real ones of each repository, llama.cpp with cache-reuse 8
            only and without its lines; a full recompute is timed as the cache's own first update.
        seed: of the cursors.
        parts: which figures, of tokens, speed, related, workloads, real and llama, separated by
            commas; all if empty. Figures of others are null.
        repositories: git repositories whose history is used, separated by commas.
        edits: of each repository.
        window: tokens of a context of a real edit.
        peer_edits: real edits whose lines llama.cpp is asked for, in all.
        results: a file that gets one JSON line for each real edit and is gone on from.
    """
    import torch

    from codegen.models import load

    at_least(1, edits=edits, window=window, peer_edits=peer_edits)
    wanted = _wanted(parts) - ({"workloads", "llama"} if quick else set())
    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.figures |= dict.fromkeys(_FIGURES)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    llama = find_llama()
    if llama is None:
        report.install["llama.cpp"] = INSTALL
    else:
        report.versions |= {f"peer {name}": text for name, text in llama.versions.items()}
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
    line_ends = frozenset(i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i]))
    if "workloads" in wanted:
        _workload_quality(report, model, tokenizer, line_ends)
    folders = [name for name in repositories.split(",") if name]

    def cases(count: int) -> Iterator[EditCase]:
        found = [
            history_cases(tokenizer, folder, count=count, window=window, seed=seed)
            for folder in folders
        ]
        return (case for row in zip_longest(*found) for case in row if case is not None)

    if not folders:
        report.notes.append("Real edits need -o repositories=DIR,DIR: git repositories of Python.")
    elif "real" in wanted:
        _real(report, model, line_ends, cases(2 if quick else edits), results)
    if folders and llama and "llama" in wanted:
        say(f"lines of llama.cpp after {peer_edits} real edits")
        chosen = list(islice(cases(peer_edits), peer_edits))
        report.figures["llama_real"] = _rounded(llama_lines(llama, chosen))
        report.samples["llama_real"] = len(chosen)
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
        if name == "ours_fast":
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


def _real(
    report: Report,
    model: Any,
    line_ends: frozenset[int],
    cases: Iterable[EditCase],
    results: str,
) -> None:
    """Agreement with a full recompute on edits of repositories."""
    known = _read(results)
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(cases, start=1):
        if case.name not in known:
            say(f"real edit {number}: {case.name}")
            found = compare(model, line_ends, case)
            known[case.name] = {name: asdict(value) for name, value in found.items()}
            if results:
                with Path(results).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"name": case.name, "found": known[case.name]}) + "\n")
        rows.append(known[case.name])
    stale = [row for row in rows if not row["ours_fast"]["exact"]]
    same = sum(row["ours"]["same_line"] for row in rows)
    report.set("real_next_line_same", rate(same, len(rows)), n=len(rows))
    report.figures["real"] = _means(rows)
    report.figures["real_stale"] = _means(stale) if stale else None
    report.samples["real_stale"] = len(stale)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    keys = ("same_line", "top1", "kl", "encoded", "cpu_s")
    return _rounded(
        {
            name: {key: statistics.fmean(float(row[name][key]) for row in rows) for key in keys}
            for name in rows[0]
        }
    )


def _read(results: str) -> dict[str, dict[str, Any]]:
    path = Path(results)
    if not results or not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {row["name"]: row["found"] for row in map(json.loads, lines)}


def _rounded(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: float(f"{value:.4g}") for key, value in row.items()}
        for name, row in table.items()
    }
