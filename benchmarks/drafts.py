"""Drafts without a model: tokens per step when the target writes a given text, against peers.

What: a drafter drafts, the tokens that the text has are accepted, one more comes from the target
(:mod:`codegen.benchmarks.tools.drafting`). ``..._tokens_per_step`` is what one forward pass of the
target yields, 1 without drafts; at most ``limit`` tokens are drafted. Workloads:

- ``edit_2pct``, ``edit_05pct``: modules of the standard library (1500 tokens each) are written
  again with 2 % or 0.5 % of the tokens edited: replaced, inserted or deleted, alike often;
- ``history`` (``-o repository=DIR``): Python files that commits of a git repository modified, the
  newest first, written again as the commit left them, the old file being prompt and original;
- ``traces`` (``-o traces=DIR``): what a coding agent answered, given all it saw before; responses
  of earlier steps and of earlier trajectories are in the store of past responses;
- ``new``: modules that nothing is known of, from their 101st token; others are in the store.

Drafters, each a table under its name: ours are ``chain`` (edit cursor, then suffix drafts; also at
the top level), ``chain_tree`` (both as trees), ``cursor``, ``suffix``, ``suffix_tree``. Peers:
``prompt_lookup`` (the rule of transformers, n-grams of up to 3, as many tokens as ours),
``prompt_lookup_default`` (its default: n-grams of up to 2, 10 tokens), ``arctic`` and ``arctic_1``
(suffix drafts of arctic-inference, depth 64, 4 drafted tokens for each of the match, or its default
of 1; no ``new``, where its cache would have to be filled through responses).

Intervals are bootstrap intervals over files, or steps of agents. ``..._drafted_per_step`` is what
the target verifies for it, ``..._accepted`` the share of drafted tokens that were right,
``..._cpu_us_per_step`` the drafter's own CPU time.

Limits: a model's errors are not in it, nor what verifying costs; token recycling needs a model's
logits and is not measured here. The agent traces are four, two of them of one task.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.arctic import INSTALL, find_arctic
from codegen.benchmarks.tools.code_tokens import Code, random_edits, trace_steps
from codegen.benchmarks.tools.drafting import Case, Outcome, PromptLookup, teacher_forced
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.decoding.drafts import Context, CursorDrafter, Drafter, DrafterChain, SuffixDrafter
from codegen.decoding.suffix import SuffixStore

RATES = {"edit_2pct": 0.02, "edit_05pct": 0.005}
FACTOR = 4.0
_LENGTH = 1500  # tokens of a module
_PROMPT = 100
_LONGEST = 6000  # tokens of a file from a repository's history
_STORE = 10_000_000

Make = Callable[[SuffixStore], Drafter]


@dataclass(frozen=True, slots=True)
class _Workload:
    cases: list[Case]
    past: list[list[int]]  # what is in the store at the start
    grows: bool = False  # whether finished rows go into the store


def run(
    quick: bool = False, *, seed: int = 0, files: int = 60, limit: int = 64, repository: str = "",
    commits: int = 150, traces: str = "",
) -> Mapping[str, object]:  # fmt: skip
    """Measures.

    Args:
        quick: 12 files, 20 commits.
        seed: of the choice of modules and of the edits.
        files: modules that are edited, and new ones.
        limit: tokens of a draft.
        repository: a git repository whose history is replayed.
        commits: of it.
        traces: a folder of SWE-agent's trajectories (.traj.gz).
    """
    at_least(1, files=files, limit=limit, commits=commits)
    if quick:
        files, commits = min(files, 12), min(commits, 20)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit")
    code = Code()
    drafters = _drafters(code.line_ends())
    peer = find_arctic()
    if peer is None:
        report.install["arctic-inference"] = INSTALL
    else:
        report.versions |= {f"peer {name}": text for name, text in peer.versions.items()}
    tables: dict[str, dict[str, Any]] = {name: {} for name in (*drafters, "arctic", "arctic_1")}
    for name, workload in _workloads(code, seed, files, repository, commits, traces).items():
        say(f"{name}: {len(workload.cases)} cases")
        found: dict[str, list[Outcome] | None] = {}
        for drafter, (make, most) in drafters.items():
            found[drafter] = _ours(make, workload, most or limit)
        for drafter, factor in (("arctic", FACTOR), ("arctic_1", 1.0)):
            found[drafter] = None
            if peer is not None and not workload.past:
                found[drafter] = peer.outcomes(
                    workload.cases, depth=64, factor=factor, limit=limit, shared=workload.grows
                )
        for drafter, outcomes in found.items():
            tables[drafter] |= _row(name, outcomes)
        chain = found["chain"]
        assert chain is not None
        report.set(
            f"{name}_tokens_per_step",
            ratio_of_sums([o.tokens for o in chain], [o.steps for o in chain], None, seed),
            n=len(chain),
        )
        report.samples[f"{name}_tokens"] = sum(outcome.tokens for outcome in chain)
    report.figures |= tables
    report.samples["limit"] = limit
    return report.mapping()


def _drafters(line_ends: frozenset[int]) -> dict[str, tuple[Make, int]]:
    """By name: how to make one, and its own limit, 0 for none."""

    def chain(store: SuffixStore, tree: bool) -> DrafterChain:
        return DrafterChain(
            {
                "cursor": CursorDrafter(line_ends, tree=tree),
                "suffix": SuffixDrafter(store, factor=FACTOR, tree=tree),
            }
        )

    return {
        "chain": (lambda store: chain(store, False), 0),
        "chain_tree": (lambda store: chain(store, True), 0),
        "cursor": (lambda _: CursorDrafter(line_ends), 0),
        "suffix": (lambda store: SuffixDrafter(store, factor=FACTOR), 0),
        "suffix_tree": (lambda store: SuffixDrafter(store, factor=FACTOR, tree=True), 0),
        "prompt_lookup": (lambda _: PromptLookup(3), 0),
        "prompt_lookup_default": (lambda _: PromptLookup(2), 10),
    }


def _workloads(
    code: Code, seed: int, files: int, repository: str, commits: int, traces: str
) -> dict[str, _Workload]:
    library = code.library(seed, 10**9 if files > 100 else 1_200_000)
    modules = [module[:_LENGTH] for module in library if len(module) >= _LENGTH][: 2 * files]
    edited, new = modules[:files], modules[files:]
    rng = random.Random(seed)
    found = {
        name: _Workload([_rewrite(m, random_edits(m, rate, rng)) for m in edited], [])
        for name, rate in RATES.items()
    }
    if repository:
        history = code.history(repository, commits, _LONGEST)
        found["history"] = _Workload([_rewrite(h.before, h.after) for h in history], [])
    if traces:
        found["traces"] = _Workload(_trace_cases(code, Path(traces)), [], grows=True)
    cases = [Case(module[:_PROMPT], module[_PROMPT:]) for module in new]
    found["new"] = _Workload(cases, edited)
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


def _ours(make: Make, workload: _Workload, limit: int) -> list[Outcome]:
    def filled() -> SuffixStore:
        store = SuffixStore(_STORE)
        for text in workload.past:
            store.add(text)
        return store

    if workload.grows:
        store = filled()
        return [teacher_forced(make(store), case, limit) for case in workload.cases]
    found = []
    store = filled()
    for case in workload.cases:
        if not workload.past:
            store = SuffixStore(_STORE)
        found.append(teacher_forced(make(store), case, limit))
    return found


def _row(name: str, outcomes: Sequence[Outcome] | None) -> dict[str, float | None]:
    keys = ("tokens_per_step", "drafted_per_step", "accepted", "cpu_us_per_step")
    if not outcomes:
        return {f"{name}_{key}": None for key in keys}
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
