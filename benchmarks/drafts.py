"""Drafts without a model: tokens per step when the target writes a given text, against peers.

Drafted tokens that match the text are accepted, and the target adds one more
(:mod:`codegen.benchmarks.tools.drafting`). ``..._tokens_per_step`` counts tokens per forward pass
of the target, 1 without drafts; at most ``limit`` tokens are drafted. Workloads:

- ``edit_2pct``, ``edit_05pct``: modules of the standard library (1500 tokens each) are rewritten
  with 2% or 0.5% of the tokens replaced, inserted or deleted, equally often;
- ``traces`` (``-o traces=DIR``): the responses of a coding agent to its history; its earlier
  responses are in the store.

Drafters, each with a table under its name: ``chain`` (edit cursor, then suffix drafts; also at the
top level), ``cursor``, ``suffix``, and as a peer ``prompt_lookup`` (transformers' rule, n-grams of
up to 3, as many tokens as ours).

Intervals are bootstrap intervals over files, or agent steps. ``..._drafted_per_step`` is the
number of tokens that the target verifies, ``..._accepted`` the accepted fraction,
``..._cpu_us_per_step`` the drafter's own CPU time.

Limits: excludes a model's errors and the cost of verification.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.code_tokens import Code, random_edits, trace_steps
from codegen.benchmarks.tools.drafting import Case, Outcome, PromptLookup, teacher_forced
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.decoding.drafts import Context, CursorDrafter, Drafter, DrafterChain, SuffixDrafter
from codegen.decoding.suffix import SuffixStore

RATES = {"edit_2pct": 0.02, "edit_05pct": 0.005}
FACTOR = 4.0
_LENGTH = 1500  # tokens of a module
_STORE = 10_000_000

Make = Callable[[SuffixStore], Drafter]


@options(quick={"files": 12})
def run(
    *, seed: int = 0, files: int = 60, limit: int = 64, traces: str = ""
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        seed: seed of the modules and the edits.
        files: number of modules to edit.
        limit: maximum tokens of a draft.
        traces: a folder of SWE-agent trajectories (.traj.gz).
    """
    at_least(1, files=files, limit=limit)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit")
    code = Code()
    drafters = _drafters(code.line_ends())
    tables: dict[str, dict[str, Any]] = {name: {} for name in drafters}
    workloads = _workloads(code, seed, files, traces)
    for name, cases in workloads.items():
        say(f"{name}: {len(cases)} cases")
        found = {
            drafter: _outcomes(make, cases, limit, shared=name == "traces")
            for drafter, make in drafters.items()
        }
        for drafter, outcomes in found.items():
            tables[drafter] |= _row(name, outcomes)
        tokens, steps = ([getattr(o, k) for o in found["chain"]] for k in ("tokens", "steps"))
        ratio = ratio_of_sums(tokens, steps, None, seed)
        report.set(f"{name}_tokens_per_step", ratio, n=len(cases))
    if not traces:
        report.set("traces_tokens_per_step", None)
        report.notes.append("Traces were not measured. Pass -o traces=DIR.")
    report.figures |= tables
    return report.mapping()


def _drafters(line_ends: frozenset[int]) -> dict[str, Make]:
    """Maps each drafter's name to its constructor."""

    def chain(store: SuffixStore) -> DrafterChain:
        return DrafterChain(
            {"cursor": CursorDrafter(line_ends), "suffix": SuffixDrafter(store, factor=FACTOR)}
        )

    return {
        "chain": chain,
        "cursor": lambda _: CursorDrafter(line_ends),
        "suffix": lambda store: SuffixDrafter(store, factor=FACTOR),
        "prompt_lookup": lambda _: PromptLookup(3),
    }


def _workloads(code: Code, seed: int, files: int, traces: str) -> dict[str, list[Case]]:
    library = code.library(seed, 10**9 if files > 100 else 1_200_000)
    modules = [module[:_LENGTH] for module in library if len(module) >= _LENGTH][:files]
    rng = random.Random(seed)
    found = {
        name: [_rewrite(m, random_edits(m, rate, rng)) for m in modules]
        for name, rate in RATES.items()
    }
    if traces:
        found["traces"] = _trace_cases(code, Path(traces))
    return found


def _rewrite(before: list[int], after: list[int]) -> Case:
    return Case(before, after, Context(original=before))


def _trace_cases(code: Code, folder: Path) -> list[Case]:
    cases = []
    for steps in trace_steps(folder).values():
        row: list[int] = []
        for seen, answer in steps:
            row = row + code.encode(seen)
            written = code.encode(answer)
            if written:
                cases.append(Case(row, written))
            row = row + written
    return cases


def _outcomes(make: Make, cases: Sequence[Case], limit: int, shared: bool) -> list[Outcome]:
    """Returns the outcomes of all cases; ``shared``: the store keeps finished rows."""
    store = SuffixStore(_STORE)
    return [
        teacher_forced(make(store if shared else SuffixStore(_STORE)), case, limit)
        for case in cases
    ]


def _row(name: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    keys = ("tokens_per_step", "drafted_per_step", "accepted", "cpu_us_per_step")
    total = Outcome()
    for outcome in outcomes:
        total.add(outcome)
    values = (
        total.tokens / total.steps,
        total.drafted / total.steps,
        total.accepted / total.drafted if total.drafted else 0.0,
        total.cpu_s / total.steps * 1e6,
    )
    return {f"{name}_{key}": float(f"{x:.4g}") for key, x in zip(keys, values, strict=True)}
