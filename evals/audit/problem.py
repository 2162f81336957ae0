"""The audit of one problem, as a generator that yields sandbox jobs and gets their outcomes.

So the jobs of all problems share one stream (:mod:`.run`), and each problem's steps can be read
from top to bottom: :func:`audit_problem`.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codegen.evals.sandbox import Job, Limits, Outcome, Result
from codegen.evals.tasks import Problem, Task
from codegen.evals.tasks.base import modules_of
from codegen.evals.tasks.oracles import close, write_value
from codegen.python_syntax import UNPARSABLE, compiles, parse
from codegen.records import UNJUDGED, Verdict
from codegen.rewards.tests import constant_programs, counted, free_names

from .forgers import Harness, in_harness, is_fooled, make_forgers
from .harden import assertion_text, choose_tests, with_assertions
from .inputs import Input, find_view, read_calls, recorder, smaller, vary
from .mutants import Mutant, make_mutants
from .rows import Row, State, Survivor
from .stronger import StrongerSuite
from .twins import Assertion, find_assertions

RUNS = 3
MAX_PROGRAM = 1 << 18  # characters
MAX_TESTS = 1 << 23
_SHRINKS = 4
_SHRUNK = 5  # proofs per problem that are made smaller
_CALLS = Limits(output_bytes=1 << 20)  # of all calls of one program
# A mutant that takes ten times the reference's CPU time counts as killed.
_SLOWER = 10
_LEAST_S = 0.25

Steps = Generator[Sequence[Job], Sequence[Outcome], Row]
Calls = Generator[Sequence[Job], Sequence[Outcome], list[tuple[Input, Result]]]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an audit.

    Attributes:
        mutants: maximum number per problem.
        inputs: maximum number of generated inputs per problem.
        seed: of mutants and inputs.
        harness: in which forgers are tried.
    """

    mutants: int = 30
    inputs: int = 300
    seed: int = 0
    harness: Harness = "isolated"


def audit_problem(
    task: Task[Any], problem: Problem, settings: Settings, stronger: StrongerSuite | None
) -> Steps:
    """Audits one problem; yields batches of jobs and expects their outcomes in the same order.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: for programs that nest too deep.
    """
    program = task.reference(problem)
    made = task.job(problem, program) if program else None
    if not isinstance(made, Job) or (unfit := _unfit(program, made)):
        return Row(problem.id, *(unfit if isinstance(made, Job) else _not_a_job(made)))
    job = replace(made, plain=made.plain or made.mechanism == "isolated")
    names = [job.entry_point] if job.entry_point else sorted(set(free_names(job)))
    forgers = make_forgers(names)
    tried = [in_harness(replace(made, program=text), settings.harness) for text in forgers.values()]
    outcomes = yield [*[job] * RUNS, recorder(job, names), *tried]
    runs, (recorded, *fooled) = outcomes[:RUNS], outcomes[RUNS:]
    if fault := _fault(runs):
        return Row(problem.id, *fault)
    blinded = made.blinded
    cpu_s = max(run.cpu_s for run in runs)
    seen = read_calls(recorded.values[0] if recorded.values else None)
    rng = random.Random(f"{settings.seed}:{problem.id}")
    mutants = make_mutants(program, settings.mutants, rng)
    assertions, dead, constants = yield from _check_assertions(job)

    def make(text: str) -> Job:
        made = task.job(problem, text)
        assert isinstance(made, Job)  # as the reference's is
        return replace(made, plain=job.plain)

    search = _Search(job, make, seen, find_view(job.test, names))
    survivors = yield from _find_survivors(search, mutants, cpu_s)
    judged, added, unstable = yield from _prove(search, survivors, settings, rng)
    in_suite = False
    if stronger is not None and (other := stronger.find(problem)):
        in_suite, judged = yield from _prove_by_suite(stronger, other, judged)
    return Row(
        problem.id,
        reference=ast.unparse(parse(program)),
        cpu_s=round(cpu_s, 4),
        limit_s=job.limits.cpu_s,
        modules=tuple(sorted(task.modules(problem) | modules_of(program, job.setup, job.test))),
        unstable=tuple(map(str, unstable)),
        assertions=len(assertions),
        dead=tuple(a.text for a in assertions if a.line in dead),
        constants=tuple(constants),
        mutants=dict(sorted(Counter(mutant.kind for mutant in mutants).items())),
        survivors=tuple(judged),
        suite=in_suite,
        trust=made.trust,
        sites=blinded.sites if blinded else 0,
        open_sites=blinded.open if blinded else (),
        forgers=tuple(
            trick
            for trick, outcome in zip(forgers, fooled, strict=True)
            if is_fooled(outcome, settings.harness)
        ),
        added=tuple(added),
    )


def _not_a_job(verdict: Job | Verdict | None) -> tuple[State, str]:
    if verdict is None:
        return "no_reference", ""
    return "not_run", getattr(verdict, "message", "")


def _unfit(program: str, job: Job) -> tuple[State, str] | None:
    """Explains why a problem cannot be audited, before anything runs."""
    if len(program) > MAX_PROGRAM or len(job.test) > MAX_TESTS:
        return "too_large", f"{len(program):,} characters of code, {len(job.test):,} of tests"
    if job.is_foreign:
        return "not_python", f"its language is {job.language}"
    return None if compiles(program) else ("not_python", "the reference is not valid Python")


def _fault(runs: Sequence[Outcome]) -> tuple[State, str] | None:
    """Explains why the reference's runs disqualify the problem."""
    failed = next((run for run in runs if not run.passed), None)
    if failed is None:
        return None
    message = f"{failed.status}: {failed.message}"
    if failed.status == "infra_error":
        return "sandbox_failed", message
    if failed.status == "bad_test":
        return "tests_nothing", failed.message
    return "flaky_reference" if any(r.passed for r in runs) else "reference_fails", message


def _check_assertions(
    job: Job,
) -> Generator[Sequence[Job], Sequence[Outcome], tuple[list[Assertion], set[int], list[str]]]:
    """Finds the lines of dead assertions, and the constant programs that pass all tests."""
    try:
        assertions = find_assertions(job.test)
    except UNPARSABLE:
        return [], set(), []
    dead = {a.line: list(a.twins) for a in assertions}  # with the twins that are left to run
    while any(dead.values()):
        lines = [line for line, twins in dead.items() if twins]
        outcomes = yield [replace(job, test=dead[line].pop(0)) for line in lines]
        for line, outcome in zip(lines, outcomes, strict=True):
            if not outcome.passed:
                del dead[line]
    tests = counted(job)
    constants = constant_programs(job) if tests else []
    outcomes = (yield [replace(tests.job, program=text) for text in constants]) if tests else []
    accepted = []
    always = set(tests.lines) if tests else set()
    for text, outcome in zip(constants, outcomes, strict=True):
        notes = tests.notes(outcome) if tests else None
        if outcome.passed:
            accepted.append(text)
        elif tests and notes:
            always &= {
                line for line, marks in zip(tests.lines, notes[0], strict=True) if all(marks)
            }
        elif outcome.status not in UNJUDGED:
            always.clear()
    return assertions, {*dead, *always}, accepted


def _find_survivors(
    search: _Search, mutants: Sequence[Mutant], cpu_s: float
) -> Generator[Sequence[Job], Sequence[Outcome], list[Mutant]]:
    outcomes = yield [_limited(search.make(mutant.program), cpu_s) for mutant in mutants]
    return [m for m, outcome in zip(mutants, outcomes, strict=True) if outcome.passed]


# Executed in the sandbox, behind the program. A call that takes too long ends by itself, so that
# the others are made; after some of these the rest is skipped.
_CALL_ALL = """
def _call_all(calls, seconds):
    import copy, signal
    class Late(BaseException):
        pass
    def stop(*_):
        raise Late
    signal.signal(signal.SIGVTALRM, stop)
    found, late = [], 0
    for call in calls:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds if late < 8 else 1e-6)
            value = eval(call, globals())
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            found.append((True, copy.deepcopy(value), ""))
        except Late:
            found.append((False, None, "timeout" if late < 8 else "skipped"))
            late += 1
        except Exception as error:
            found.append((False, None, f"{type(error).__name__}: {error}"[:200]))
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return found
"""
_CALL_S = 0.1  # CPU seconds of the reference for one call; mutants get more


@dataclass(frozen=True, slots=True)
class _Ran:
    """The results of a program on some inputs, up to one that ended it, and how it ended."""

    results: Sequence[Result]
    status: str

    @classmethod
    def of_whole(cls, outcome: Outcome) -> _Ran:
        """Reads the value of ``_call_all``."""
        results = [Result(*result) for result in outcome.values[0]]
        return cls(results, outcome.status)


@dataclass(frozen=True, slots=True)
class _Search:
    """Runs programs on inputs.

    Attributes:
        job: the reference's.
        make: returns the job of another program.
        seen: recorded inputs.
        view: the form in which results are compared, see :func:`.inputs.find_view`.
    """

    job: Job
    make: Callable[[str], Job]
    seen: Sequence[Input]
    view: str

    def run(
        self, programs: Sequence[str], inputs: Sequence[Input], slower: int = 1
    ) -> Generator[Sequence[Job], Sequence[Outcome], list[_Ran]]:
        """Calls programs on all inputs at once; one that does not return, input by input.

        Args:
            slower: factor of the time limits.
        """
        limits = replace(_CALLS, memory_mib=self.job.limits.memory_mib)
        calls = [self.view.format(i) for i in inputs]
        whole = [("_call_all", [calls, slower * _CALL_S])]
        texts = [f"{program}\n{_CALL_ALL}" for program in programs]
        outcomes = yield [Job(text, mode="calls", calls=whole, limits=limits) for text in texts]
        found = [_Ran.of_whole(o) if o.passed else None for o in outcomes]
        left = [at for at, ran in enumerate(found) if ran is None]
        limits = replace(limits, cpu_s=float(slower))
        jobs = [Job(programs[at], mode="calls", calls=calls, limits=limits) for at in left]
        outcomes = (yield jobs) if jobs else []
        for at, outcome in zip(left, outcomes, strict=True):
            found[at] = _Ran(outcome.results, outcome.status)
        return [ran for ran in found if ran is not None]


def _agreed(one: _Ran, other: _Ran) -> dict[int, Result]:
    """Returns the results that are plain and equal in two runs of the reference, by position."""
    return {
        at: a
        for at, (a, b) in enumerate(zip(one.results, other.results, strict=False))
        if a.ok and b.ok and _is_plain(a.value) and _is_same(a.value, b.value)
    }


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


def _differences(ran: _Ran, known: Sequence[Result]) -> dict[int, str]:
    """Returns a mutant's wrong results as text, by position."""
    texts = {at: _difference(ran, at, expected) for at, expected in enumerate(known)}
    return {at: text for at, text in texts.items() if text}


def _difference(ran: _Ran, at: int, expected: Result) -> str:
    """Returns a mutant's result at a position as text, if it is wrong; else an empty string."""
    if at < len(ran.results):
        result = ran.results[at]
        if not result.ok:
            return "" if result.error == "skipped" else f"raises {result.error}"
        return "" if _is_same(result.value, expected.value) else repr(result.value)
    ended = ran.status not in ("passed", "error", *UNJUDGED)
    return ran.status if ended and at == len(ran.results) else ""


def _prove(
    search: _Search, survivors: Sequence[Mutant], settings: Settings, rng: random.Random
) -> Generator[Sequence[Job], Sequence[Outcome], tuple[list[Survivor], list[str], list[Input]]]:
    """Looks for inputs on which survivors differ from the reference.

    Returns:
        The survivors with proofs, the tests that kill the proved ones, and the inputs on which the
        reference is not deterministic.
    """
    unproved = [Survivor(mutant.kind, mutant.program) for mutant in survivors]
    inputs = vary(search.seen, settings.inputs, rng) if search.seen else []
    if not inputs:
        return unproved, [], []
    inputs = inputs if survivors else inputs[: len(search.seen)]
    one, other = yield from search.run([search.job.program] * 2, inputs)
    both = zip(inputs, one.results, other.results, strict=False)
    unstable = [i for i, a, b in both if a.ok and b.ok and not _is_same(a.value, b.value)]
    agreed = _agreed(one, other)
    inputs, known = [inputs[at] for at in agreed], list(agreed.values())
    ran = yield from search.run([mutant.program for mutant in survivors], inputs, 5)
    got = [_differences(result, known) for result in ran]
    found: list[Survivor] = []
    for mutant, wrong in zip(unproved, got, strict=True):
        if not wrong:
            found.append(mutant)
            continue
        at = min(wrong)
        proof = inputs[at], known[at], wrong[at]
        if sum(s.is_proved for s in found) < _SHRUNK:
            proof = yield from _shrink(search, mutant.program, proof)
        smallest, expected, text = proof
        how = {"input": str(smallest), "expected": repr(expected.value), "got": text}
        found.append(replace(mutant, proved_by=("inputs",), **how))
    chosen = choose_tests([set(wrong) for wrong in got], lambda at: len(str(inputs[at])))
    added = [assertion_text(search.view.format(inputs[at]), known[at].value) for at in chosen]
    checked = yield from _check_added(search, found, [text for text in added if text])
    return (*checked, unstable)


def _shrink(
    search: _Search, program: str, proof: tuple[Input, Result, str]
) -> Generator[Sequence[Job], Sequence[Outcome], tuple[Input, Result, str]]:
    for _ in range(_SHRINKS):
        inputs = smaller(proof[0], search.seen)
        if not inputs:
            break
        one, other = yield from search.run([search.job.program] * 2, inputs)
        agreed = _agreed(one, other)
        inputs, known = [inputs[at] for at in agreed], list(agreed.values())
        (changed,) = yield from search.run([program], inputs, 5)
        wrong = _differences(changed, known)
        if not wrong:
            break
        at = min(wrong, key=lambda at: (len(str(inputs[at])), at))
        proof = inputs[at], known[at], wrong[at]
    return proof


def _check_added(
    search: _Search, survivors: Sequence[Survivor], added: list[str]
) -> Generator[Sequence[Job], Sequence[Outcome], tuple[list[Survivor], list[str]]]:
    """Runs the hardened tests on the reference, which must pass, and on the proved survivors."""
    if not added:
        return list(survivors), []
    test = with_assertions(search.job.test, added)
    proved = [survivor for survivor in survivors if survivor.is_proved]
    jobs = [search.job, *(search.make(survivor.program) for survivor in proved)]
    outcomes = yield [replace(job, test=test) for job in jobs]
    if not outcomes[0].passed:
        return list(survivors), []
    passed = {s.program: o.passed for s, o in zip(proved, outcomes[1:], strict=True)}
    return [replace(s, killed=not passed.get(s.program, True)) for s in survivors], added


def _prove_by_suite(
    stronger: StrongerSuite, problem: Problem, survivors: Sequence[Survivor]
) -> Generator[Sequence[Job], Sequence[Outcome], tuple[bool, list[Survivor]]]:
    """Runs a stronger suite on a problem's survivors, if it accepts the reference."""
    (own,) = yield [stronger.job(problem, stronger.task.reference(problem))]
    if not own.passed:
        return False, list(survivors)
    jobs = [stronger.job(problem, survivor.program) for survivor in survivors]
    outcomes = yield [_limited(job, own.cpu_s / 3) for job in jobs]
    pairs = zip(survivors, outcomes, strict=True)
    return True, [stronger.proved(problem, survivor, outcome) for survivor, outcome in pairs]


def _limited(job: Job, cpu_s: float) -> Job:
    """Lowers a mutant's time limit to a multiple of the reference's CPU seconds."""
    limit = min(job.limits.cpu_s, max(_LEAST_S, _SLOWER * cpu_s))
    return replace(job, limits=replace(job.limits, cpu_s=limit))


def guarded(id_: str, steps: Steps) -> Steps:
    """Ends a problem whose programs nest too deep in a state, so that the others are audited."""
    try:
        return (yield from steps)
    except UNPARSABLE as error:
        return Row(id_, "too_large", f"{type(error).__name__}: {error}")
