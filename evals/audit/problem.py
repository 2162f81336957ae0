"""The audit of one problem, as a generator that yields sandbox jobs and receives their outcomes.

The jobs of all problems thus share one stream (:mod:`.run`), and the steps of a problem are in one
function: :func:`audit_problem`.
"""

from __future__ import annotations

import ast
import itertools
import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from codegen.core.python_syntax import UNPARSABLE, compiles, parse
from codegen.core.records import UNJUDGED, Verdict
from codegen.evals.counted_tests import constant_programs, counted, free_names
from codegen.evals.tasks import Problem, Task
from codegen.evals.tasks.base import modules_of
from codegen.evals.tasks.comparators import close, write_value
from codegen.sandbox import CallResult, Job, Limits, Outcome

from .inputs import INSIDE, CallArgs, constants_of, edges, find_view, read_calls, recorder, vary
from .programs import Harness, Mutant, in_harness, is_fooled, make_forgers, make_mutants
from .tests import assertion_text, choose_tests, find_assertions, spread_tests, with_assertions

T = TypeVar("T")
Steps = Generator[Sequence[Job], Sequence[Outcome], T]
MakeJob = Callable[[str], Job | Verdict]

RUNS = 3
MAX_PROGRAM = 1 << 18  # characters
MAX_TESTS = 1 << 23
_MAX_LINES = 3000  # maximum executed lines to record per call
_SPREAD = 12  # added tests per problem, unless its proved mutants need more
_TOTAL_S = 2.0  # CPU seconds of all calls in a job
_CALL_S = 0.1  # CPU seconds of the reference for one call; mutants get five times as much
# CPU limit of a mutant: a multiple of the reference's time, and the minimum in seconds.
_SLOWER, _LEAST_S = 10, 0.5


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """The settings of an audit.

    Attributes:
        mutants: maximum number per problem.
        inputs: maximum number of generated inputs per problem, in each of three rounds.
        seed: seed of mutants and inputs.
        harness: harness in which forgers run.
    """

    mutants: int = 30
    inputs: int = 200
    seed: int = 0
    harness: Harness = "isolated"


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant of the reference that passes all tests of its problem.

    Attributes:
        kind: class of the mistake.
        program: the mutant, formatted by :func:`ast.unparse`.
        proved_by: ``suite`` (a stronger suite rejects it) and ``inputs`` (it differs from the
            reference on a generated input); empty if it may be equivalent to the reference.
        input: a call with different results; empty if unproved.
        expected: the reference's result, as Python prints it.
        got: the mutant's result or failure.
        killed: whether the hardened tests reject the mutant.
    """

    kind: str
    program: str
    proved_by: tuple[str, ...] = ()
    input: str = ""
    expected: str = ""
    got: str = ""
    killed: bool = False

    @property
    def is_proved(self) -> bool:
        """True if the mutant is known to be wrong."""
        return bool(self.proved_by)


@dataclass(frozen=True, slots=True)
class AuditRow:
    """The audit of one problem.

    Attributes:
        state: ``audited``; or the reason for no audit, with the fields below empty:
            ``no_reference``, ``reference_fails``, ``flaky_reference`` (it passes only some runs),
            ``tests_nothing`` (the tests pass regardless of the program), ``bad_tests`` (they are
            not Python or cannot run), ``not_python`` (the reference is not),
            ``not_run`` (nothing to run, or packages are missing), ``too_large``, ``unreadable``,
            ``sandbox_failed`` (run the audit again).
        message: details of the state.
        reference: the reference solution, formatted like the mutants.
        cpu_s, limit_s: CPU seconds of the reference, and its limit.
        modules: modules outside the standard library that the reference and the tests import.
        unstable: calls on which the reference returned different results in two runs.
        assertions: number of assertions with twins.
        dead: assertions whose twins all pass, or that pass for all constant programs.
        constants: constant programs that pass.
        mutants: number of mutants by class of mistake.
        survivors: mutants that pass.
        suite: whether the stronger suite has the problem and accepts its reference.
        trust: grade of the tests, see :attr:`codegen.sandbox.Job.trust`.
        sites, open_sites: number of assertions about the program, and the forgeable ones.
        forgers: tricks that pass in the chosen harness.
        duplicates: similar problems in the set, and training examples that contain this one.
        added: assertions of the hardened tests.
    """

    id: str
    state: str = "audited"
    message: str = ""
    reference: str = ""
    cpu_s: float = 0.0
    limit_s: float = 0.0
    modules: tuple[str, ...] = ()
    unstable: tuple[str, ...] = ()
    assertions: int = 0
    dead: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    mutants: dict[str, int] = field(default_factory=dict)
    survivors: tuple[Survivor, ...] = ()
    suite: bool = False
    trust: str = ""
    sites: int = 0
    open_sites: tuple[str, ...] = ()
    forgers: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    @property
    def proved(self) -> list[Survivor]:
        """The wrong programs that the tests accept."""
        return [survivor for survivor in self.survivors if survivor.is_proved]


def audit_problem(
    task: Task[Any], problem: Problem, settings: AuditSettings, suite: MakeJob | None = None
) -> Steps[AuditRow]:
    """Audits one problem; yields batches of jobs and expects their outcomes in the same order.

    Args:
        suite: function that makes a stronger suite's job.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: for a reference that is nested too
            deeply.
    """
    program = task.reference(problem)
    job = task.job(problem, program) if program else None
    if not isinstance(job, Job):
        return AuditRow(
            problem.id, "not_run" if job else "no_reference", job.message if job else ""
        )
    if unfit := _unfit(program, job):
        return AuditRow(problem.id, *unfit)
    subject = _Subject(task, problem, replace(job, plain=job.plain or job.mechanism == "isolated"))
    names = [job.entry_point] if job.entry_point else sorted(set(free_names(job)))
    names = names or [n.name for n in parse(program).body if isinstance(n, ast.FunctionDef)]
    forgers = make_forgers(names)
    tried = [in_harness(replace(job, program=text), settings.harness) for text in forgers.values()]
    outcomes = yield [*[subject.job] * RUNS, recorder(job, names), *tried]
    runs, (recorded, *others) = outcomes[:RUNS], outcomes[RUNS:]
    fooled = [is_fooled(outcome, settings.harness) for outcome in others]
    if fault := _fault(runs):
        return AuditRow(problem.id, *fault)
    rng = random.Random(f"{settings.seed}:{problem.id}")
    mutants = make_mutants(program, settings.mutants, rng)
    buggy = (ast.unparse(parse(text)) for text in task.buggy(problem) if compiles(text))
    mutants += [Mutant("given", text) for text in buggy]
    cpu_s = max(run.cpu_s for run in runs)
    row = AuditRow(
        problem.id,
        reference=ast.unparse(parse(program)),
        cpu_s=round(cpu_s, 4),
        limit_s=job.limits.cpu_s,
        modules=tuple(sorted(task.modules(problem) | modules_of(program, job.setup, job.test))),
        mutants=dict(sorted(Counter(mutant.kind for mutant in mutants).items())),
        trust=job.trust,
        sites=job.blinded.sites if job.blinded else 0,
        open_sites=job.blinded.open if job.blinded else (),
        forgers=tuple(itertools.compress(forgers, fooled)),
    )
    row = yield from _check_assertions(subject, row)
    outcomes = yield [_limited(subject.make(mutant.program), cpu_s) for mutant in mutants]
    survivors = [m for m, outcome in zip(mutants, outcomes, strict=True) if outcome.passed]
    subject.seen = read_calls(recorded.values[0] if recorded.values else None)
    subject.view = find_view(job.test, names)
    explored = subject.explore(settings.inputs if survivors else 0, rng)
    known, unstable = (yield from explored) if subject.seen else ({}, [])
    row = replace(row, unstable=tuple(map(str, unstable)))
    row = yield from _prove(subject, row, survivors, known)
    return (yield from _prove_by_suite(suite, program, row)) if suite else row


def _unfit(program: str, job: Job) -> tuple[str, str] | None:
    """Returns state and message of a problem that cannot be audited, before anything runs."""
    if len(program) > MAX_PROGRAM or len(job.test) > MAX_TESTS:
        return "too_large", f"{len(program):,} characters of code, {len(job.test):,} of tests"
    if job.is_foreign or not compiles(program):
        return "not_python", "" if job.is_foreign else "the reference does not compile"
    return None


def _fault(runs: Sequence[Outcome]) -> tuple[str, str] | None:
    """Returns state and message if the reference's runs disqualify the problem."""
    failed = next((run for run in runs if not run.passed), None)
    if failed is None:
        return None
    bad = "tests_nothing" if "test nothing" in failed.message else "bad_tests"
    states = {"infra_error": "sandbox_failed", "bad_test": bad}
    state = "flaky_reference" if any(run.passed for run in runs) else "reference_fails"
    return states.get(failed.status, state), f"{failed.status}: {failed.message}"


def _limited(job: Job, cpu_s: float) -> Job:
    """Lowers a mutant's time limit to a multiple of the reference's CPU seconds."""
    limit = min(job.limits.cpu_s, max(_LEAST_S, _SLOWER * cpu_s))
    return replace(job, limits=replace(job.limits, cpu_s=limit))


class _Subject:
    """A problem with its reference.

    Attributes:
        job: the reference's job.
        seen: recorded inputs.
        view: the form in which results are compared, see :func:`.inputs.find_view`.
        lines: lines that the reference executes, by input.
        odd: generated inputs that are empty or at the contract's edges, used last.
    """

    def __init__(self, task: Task[Any], problem: Problem, job: Job) -> None:
        self.task, self.problem, self.job = task, problem, job
        self.seen: Sequence[CallArgs] = ()
        self.view = "{}"
        self.lines: dict[CallArgs, set[int]] = {}
        self.odd: set[CallArgs] = set()

    def make(self, program: str) -> Job:
        """Returns the job for another program."""
        made = self.task.job(self.problem, program)
        assert isinstance(made, Job)  # the reference has one, too
        return replace(made, plain=self.job.plain)

    def calls(
        self, program: str, inputs: Sequence[CallArgs], seconds: float = _CALL_S, lines: int = 0
    ) -> Job:
        """Returns the job that calls a program on inputs, each for at most ``seconds`` of CPU time.

        Args:
            lines: maximum number of executed lines to record per call.
        """
        arguments = [[self.view.format(i) for i in inputs], seconds, _TOTAL_S, lines]
        limits = Limits(memory_mib=self.job.limits.memory_mib, output_bytes=1 << 20)
        text = f"{program}\n{INSIDE}"
        return Job(text, mode="calls", calls=[("_audit_call_all", arguments)], limits=limits)

    def known(
        self, inputs: Sequence[CallArgs], lines: int = 0
    ) -> Steps[tuple[dict[CallArgs, CallResult], list[CallArgs]]]:
        """Runs the reference twice.

        Returns:
            The inputs with plain, equal results, and the inputs whose results differ.
        """
        program = ast.unparse(parse(self.job.program))  # one statement per line
        job = self.calls(program, inputs, 5 * _CALL_S if lines else _CALL_S, lines)
        one, other = yield [job, self.calls(self.job.program, inputs)]
        pairs = zip(inputs, _results(one), _results(other), strict=False)
        returned = [(i, a, b) for i, a, b in pairs if a.ok and b.ok]
        same = {i: a for i, a, b in returned if _is_same(a.value, b.value)}
        known = {i: a for i, a in same.items() if _is_plain(a.value)}
        if one.passed:
            self.lines |= {i: set(row[-1]) for i, row in zip(inputs, one.values[0], strict=False)}
        return known, [i for i, _, _ in returned if i not in same]

    def explore(
        self, count: int, rng: random.Random
    ) -> Steps[tuple[dict[CallArgs, CallResult], list[CallArgs]]]:
        """Generates inputs similar to the recorded ones, then to inputs that the reference accepts,
        then at the edges of the recorded contract.
        """
        known: dict[CallArgs, CallResult] = {}
        unstable: list[CallArgs] = []
        alike = partial(vary, self.seen, constants=constants_of(self.job.program))
        for make in (alike, alike, edges)[: 3 if count else 1]:
            new = [i for i in make(count, rng, [*known]) if i not in known]
            found, other = yield from self.known(new, _MAX_LINES)
            known |= found
            is_odd = make is edges
            self.odd |= {i for i in found if is_odd or any(a in ("", [], (), {}) for a in i.args)}
            unstable += [] if is_odd else other
        order = sorted(known, key=lambda i: (i in self.odd, len(str(i))))
        return {i: known[i] for i in order}, unstable


def _results(outcome: Outcome) -> list[CallResult]:
    return [CallResult(*result[:3]) for result in outcome.values[0]] if outcome.passed else []


def _is_plain(value: object) -> bool:
    try:
        return len(write_value(value)) < 1 << 16
    except (TypeError, ValueError, RecursionError):
        return False


def _is_same(got: object, expected: object) -> bool:
    try:
        return close(got, expected, 1e-6)
    except (TypeError, ValueError, ArithmeticError, RecursionError):
        return False


def _differences(outcome: Outcome, known: Mapping[CallArgs, CallResult]) -> dict[CallArgs, str]:
    """Returns a mutant's wrong results as strings."""
    wrong = {}
    for (call, expected), got in zip(known.items(), _results(outcome), strict=False):
        if got.ok and not _is_same(got.value, expected.value):
            wrong[call] = repr(got.value)
        elif not got.ok and got.error != "skipped":
            wrong[call] = f"raises {got.error}"
    return wrong


def _check_assertions(subject: _Subject, row: AuditRow) -> Steps[AuditRow]:
    """Finds dead assertions, and the constant programs that pass all tests."""
    job = subject.job
    try:
        assertions = find_assertions(job.test)
    except UNPARSABLE:
        return row
    left = {a.line: list(a.twins) for a in assertions}
    while lines := [line for line, twins in left.items() if twins]:
        outcomes = yield [replace(job, test=left[line].pop(0)) for line in lines]
        for line, outcome in zip(lines, outcomes, strict=True):
            if not outcome.passed:
                del left[line]
    tests, accepted = counted(job), []
    always = set(tests.lines) if tests else set()
    programs = constant_programs(job) if tests else []
    outcomes = yield [replace(tests.job, program=text) for text in programs if tests]
    for text, outcome in zip(programs, outcomes, strict=True):
        notes = tests.notes(outcome) if tests else None
        if outcome.passed:
            accepted.append(text)
        elif tests:
            marks = map(all, notes[0] if notes else [])
            always &= set(itertools.compress(tests.lines, marks))
    dead = tuple(a.text for a in assertions if a.line in left or a.line in always)
    return replace(row, assertions=len(assertions), dead=dead, constants=tuple(accepted))


def _prove(
    subject: _Subject,
    row: AuditRow,
    mutants: Sequence[Mutant],
    known: Mapping[CallArgs, CallResult],
) -> Steps[AuditRow]:
    """Looks for inputs on which surviving mutants differ from the reference, and chooses tests that
    kill them.
    """
    outcomes = yield [subject.calls(m.program, list(known), 5 * _CALL_S) for m in mutants]
    wrong = [_differences(outcome, known) for outcome in outcomes]
    survivors = []
    for mutant, differences in zip(mutants, wrong, strict=True):
        survivor = Survivor(mutant.kind, mutant.program)
        if differences:
            call, got = next(iter(differences.items()))  # the shortest call
            shown = {"input": str(call), "expected": repr(known[call].value), "got": got}
            survivor = replace(survivor, proved_by=("inputs",), **shown)
        survivors.append(survivor)
    texts = {i: assertion_text(subject.view.format(i), r.value) for i, r in known.items()}
    calls = [call for call, text in texts.items() if text]
    order = {call: at for at, call in enumerate(calls)}
    chosen = choose_tests([{order[i] for i in each if i in order} for each in wrong])
    if mutants:
        usual = [call for call in calls if call not in subject.odd]
        results = [repr(known[call].value) for call in usual]
        more = spread_tests([subject.lines[i] for i in usual], results, _SPREAD - len(chosen))
        chosen = sorted({*chosen, *more})
    row = replace(row, survivors=tuple(survivors))
    return (yield from _check_added(subject, row, [texts[calls[at]] for at in chosen]))


def _check_added(subject: _Subject, row: AuditRow, added: list[str]) -> Steps[AuditRow]:
    """Runs the hardened tests on the reference, which must pass, and on the proved survivors."""
    test = with_assertions(subject.job.test, added)
    jobs = [subject.job, *(subject.make(s.program) for s in row.proved)]
    own, *outcomes = yield [replace(job, test=test) for job in jobs]
    if not (added and own.passed):
        return row
    killed = {s.program for s, o in zip(row.proved, outcomes, strict=True) if not o.passed}
    survivors = tuple(replace(s, killed=s.program in killed) for s in row.survivors)
    return replace(row, survivors=survivors, added=tuple(added))


def _prove_by_suite(suite: MakeJob, reference: str, row: AuditRow) -> Steps[AuditRow]:
    """Runs a stronger suite on a problem's survivors, if it accepts the reference; a suite may have
    changed the problem.
    """
    jobs = [suite(program) for program in (reference, *(s.program for s in row.survivors))]
    first, *others = (job for job in jobs if isinstance(job, Job))
    (own,) = yield [first]
    if not own.passed:
        return row
    outcomes = yield [_limited(job, own.cpu_s / 3) for job in others]
    pairs = zip(row.survivors, outcomes, strict=True)
    return replace(row, suite=True, survivors=tuple(_judged(s, o) for s, o in pairs))


def _judged(survivor: Survivor, outcome: Outcome) -> Survivor:
    """Adds a suite's verdict to a survivor, with its message unless an input is the proof.

    A timeout proves nothing: the mutant may be slow.
    """
    if outcome.passed or outcome.status in (*UNJUDGED, "timeout"):
        return survivor
    got = survivor.got or f"stronger suite: {outcome.status}: {outcome.message}"
    return replace(survivor, proved_by=(*survivor.proved_by, "suite"), got=got)
