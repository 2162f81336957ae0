"""Program search: successive halving against the published algorithm, on the same emulations.

What: ``emulations_full`` and ``emulations_halving`` are the mean numbers of emulations, ``share``
is the second over the first (``share_of_distinct`` if the published algorithm skips copies of a
program), ``same_program`` is the rate at which halving chooses the same program as the published
algorithm, or an indistinguishable one (the paired 95% interval of the difference, over all
problems, contains 0); ``same_program_exactly`` excludes indistinguishable programs, and
``score_lost`` is the mean score that halving loses. These are averages over trials on recorded
outcomes of a fine-tuned embedded model on four tasks (``tasks`` has them by task): each trial uses
the problems in a different order. The other results are the same measures on random outcomes,
without a model (problems of different difficulty): ``paper_scale_...`` with the paper's sizes, 300
programs on 700 problems, and program qualities Beta(2, 3); ``paper_scale_close_...`` with qualities
Beta(20, 30), many of them nearly equal; ``default_scale_...`` with the sizes of the command's
default budget and Beta(2, 3). ``us_per_emulation`` is our code's CPU time per emulation.

Against: Algorithm 1 of arXiv 2405.16337 (CoTACS), our implementation, since the authors' code is
not released.

Limits: the recorded tasks have few different programs and 28 problems, so intervals are wide: see
also ``same_program_exactly`` and ``score_lost``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean

from codegen.benchmarks.tools.cogex_replay import Outcomes, Trial, compare, drawn_outcomes, recorded
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import rate
from codegen.cogex.search import CANDIDATES, ITEMS, within_budget

_DEFAULT_BUDGET = 100  # default of `codegen cogex search`


@options(quick={"trials": 10, "paper_trials": 1})
def run(
    *, share: float = 0.2, trials: int = 200, paper_trials: int = 20, seed: int = 0
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        share: fraction of the emulations that halving may use.
        trials: trials per recorded task, and on random outcomes of the default size.
        paper_trials: trials per kind of random outcomes of the paper's size.
        seed: random seed.
    """
    at_least(1, trials=trials, paper_trials=paper_trials)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit")
    known = recorded()
    by_task = {o.name: _trials(o, share, trials, seed) for o in known}
    every = [trial for some in by_task.values() for trial in some]
    _report(report, "", every)
    report.figures["tasks"] = {
        outcomes.name: _by_task(outcomes, by_task[outcomes.name]) for outcomes in known
    }
    number, size = within_budget(_DEFAULT_BUDGET, "halving", share)
    sizes = (
        ("paper_scale_", CANDIDATES, ITEMS - CANDIDATES, False, paper_trials),
        ("paper_scale_close_", CANDIDATES, ITEMS - CANDIDATES, True, paper_trials),
        ("default_scale_", number, size - number, False, trials),
    )
    began = time.process_time()
    emulations = 0
    for prefix, programs, items, close, count in sizes:
        drawn: list[Trial] = []
        for n in range(seed, seed + count):
            drawn.append(compare(drawn_outcomes(programs, items, n, close), share, n))
            emulations += drawn[-1].distinct + drawn[-1].halving
        say(f"{prefix}: {count} trials")
        _report(report, prefix, drawn)
    spent = time.process_time() - began
    report.set("us_per_emulation", 1e6 * spent / emulations, emulations)
    return report.mapping()


def _trials(outcomes: Outcomes, share: float, trials: int, seed: int) -> list[Trial]:
    return [compare(outcomes, share, seed + number) for number in range(trials)]


def _report(report: Report, prefix: str, trials: Sequence[Trial]) -> None:
    count = len(trials)
    full, halving = fmean(t.full for t in trials), fmean(t.halving for t in trials)
    report.set(f"{prefix}emulations_full", full, count)
    report.set(f"{prefix}emulations_halving", halving, count)
    report.set(f"{prefix}share", halving / full, count)
    distinct = fmean(trial.distinct for trial in trials)
    report.set(f"{prefix}share_of_distinct", halving / distinct, count)
    within = sum(trial.within_noise for trial in trials)
    report.set(f"{prefix}same_program", rate(within, count), count)
    exactly = sum(trial.same for trial in trials)
    report.set(f"{prefix}same_program_exactly", rate(exactly, count), count)
    report.set(f"{prefix}score_lost", fmean(trial.lost for trial in trials), count)


def _by_task(outcomes: Outcomes, trials: Sequence[Trial]) -> dict[str, float]:
    scores = [sum(row) / len(row) for row in outcomes.right.values()]
    return {
        "programs": len(outcomes.right),
        "written": len(outcomes.programs),
        "problems": outcomes.items,
        "best_score": round(max(scores), 4),
        "worst_score": round(min(scores), 4),
        "share": round(sum(t.halving for t in trials) / sum(t.full for t in trials), 4),
        "same_program": round(fmean(trial.within_noise for trial in trials), 4),
        "same_program_exactly": round(fmean(trial.same for trial in trials), 4),
        "score_lost": round(fmean(trial.lost for trial in trials), 4),
    }
