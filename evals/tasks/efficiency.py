"""EvalPerf (Liu et al. 2024, arXiv 2408.06450): is a right program also a fast one?

A problem has an input that takes time, and several right programs of differing speed. A sample
passes if it gives the reference's result for that input; ``references_beaten`` is the share of the
references that it is at least as fast as (within 10 %), EvalPerf's normalized differential
performance score. A sample that does not pass beats none.

The data is the authors' (``hub:evalplus/evalperf``) or a file of their columns: ``task_id``,
``prompt``, ``entry_point``, ``reference`` (a list of programs) and ``pe_input`` (the arguments, or
a list of such lists, or the JSON text of either).

The measure is CPU time as counted by the kernel, out of the program's reach, minus the cost of the
same call of an empty function. Each run is a process of its own, so nothing is remembered between
runs. A sample and one of the references, the yardstick, run in turns, and the ratio of their
minimum times counts, since every disturbance makes a run longer. The references are compared with
each other in the same way, once per machine (kept in the cache folder). EvalPerf counts
instructions instead, which requires access to the processor's counters.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codegen.errors import InputError, SandboxError
from codegen.evals.sandbox import Job, Limits, Outcome, SandboxProtocol
from codegen.paths import cache_folder
from codegen.records import Verdict, write_atomic

from .base import CodeTask, Key
from .expected import write_value
from .extraction import imports_at_top
from .oracles import as_json, close, read_value
from .rows import Home, Problem, entry_point_field, text_fields, texts_field

REPEATS = 7
TOLERANCE = 0.1
_LEAST_S = 0.02  # the slowest reference takes longer, or the start of a process would be compared
_YARDSTICK_S = 0.1
_MEMORY_MIB = 4096
_OUTPUT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PerfProblem(Problem):
    """One row.

    Attributes:
        arguments: of the call that is timed.
    """

    entry_point: str
    references: tuple[str, ...]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a problem's references on this machine.

    Attributes:
        value: what they return.
        seconds: CPU seconds of each reference.
        empty_s: CPU seconds of the same call of an empty function.
    """

    value: Any
    seconds: tuple[float, ...]
    empty_s: float

    @property
    def yardstick(self) -> int:
        """The place of the fastest reference that takes long enough, else of the slowest."""
        places = sorted(range(len(self.seconds)), key=self.seconds.__getitem__)
        return next((i for i in places if self.seconds[i] >= _YARDSTICK_S), places[-1])


class EvalPerf(CodeTask[PerfProblem]):
    """The task over given problems."""

    home = Home("evalperf/evalperf.jsonl.gz", "evalplus/evalperf")
    whole_programs = True
    needs_preparation = True
    passing = "it returns the reference's result for the input that takes time"

    def __init__(
        self, name: str, description: str, problems: Sequence[PerfProblem], source: str
    ) -> None:
        super().__init__(name, description, problems, source)
        self._times: dict[str, Times] = {}

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, Any]) -> PerfProblem:
        """The problem of a row."""
        id_, prompt = text_fields(place, row, ("task_id", "prompt"))
        references = texts_field(place, row, "reference")
        if not references:
            raise InputError(f"{place}: the field 'reference' must be a list of programs.")
        given = row.get("pe_input")
        try:
            given = json.loads(given) if isinstance(given, str) else given
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: pe_input is not JSON ({error}).") from None
        if isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
            (given,) = given
        if not isinstance(given, list) or not given:
            raise InputError(f"{place}: pe_input must be a list of arguments.")
        return PerfProblem(id_, prompt, entry_point_field(place, row), references, tuple(given))

    def instruction(self, problem: PerfProblem) -> str:
        """EvalPerf's wording."""
        return (
            "Please provide an efficient and self-contained Python script that solves the "
            f"following problem in a markdown code block:\n```python\n{problem.prompt.strip()}\n```"
        )

    def preamble(self, problem: PerfProblem) -> str:
        """The imports of the prompt."""
        return imports_at_top(problem.prompt)

    def reference(self, problem: PerfProblem) -> str:
        """The first one."""
        return problem.references[0]

    def job(self, problem: PerfProblem, program: str) -> Job:
        """One call, with time for five times the slowest reference."""
        slowest = max(self._times[problem.id].seconds) if problem.id in self._times else 60.0
        return _call(problem, program, 2.0 + 5 * slowest)

    def prepare(self, problems: Sequence[PerfProblem], sandbox: SandboxProtocol) -> None:
        """Measures the references, once per machine.

        Raises:
            SandboxError: if one fails, or their results differ.
        """
        for problem in problems:
            if problem.id in self._times:
                continue
            file = cache_folder() / "efficiency" / f"{_digest(problem)}.json"
            try:
                row = json.loads(file.read_text(encoding="utf-8"))
                times = Times(read_value(row["value"]), tuple(row["seconds"]), row["empty_s"])
            except (OSError, ValueError, KeyError, TypeError):
                times = measure_references(problem, sandbox)
                kept = {"seconds": times.seconds, "empty_s": times.empty_s}
                text = json.dumps({**kept, "value": write_value(times.value)})
                write_atomic(file, text + "\n")
            self._times[problem.id] = times
            if max(times.seconds) < _LEAST_S:
                self.reference_exceptions = {
                    **self.reference_exceptions,
                    problem.id: f"its references take less than {_LEAST_S:g} s here",
                }

    def judge(
        self, programs: Iterable[tuple[Key, PerfProblem, str]], sandbox: SandboxProtocol
    ) -> Iterator[tuple[Key, Verdict | Outcome]]:
        """Whether each is right, and how long it takes (``cpu_s`` of the verdict)."""
        for key, problem, program in programs:
            yield key, self._judged(problem, program, sandbox)

    def _judged(self, problem: PerfProblem, program: str, sandbox: SandboxProtocol) -> Outcome:
        times = self._times[problem.id]
        job = self.job(problem, program)
        ((_, first),) = sandbox.map([(0, job)])
        if not first.passed:
            return first
        try:
            right = close(as_json(first.values[0]), as_json(times.value), 1e-6)
        except (TypeError, ValueError, ArithmeticError, RecursionError):
            right = False
        if not right:
            return replace(first, status="wrong", message=f"it returned {first.values[0]!r:.200}")
        yardstick = self.job(problem, problem.references[times.yardstick])
        found = _in_turns([job, yardstick], sandbox)
        if failed := next((one for one in found[0] if not one.passed), None):
            return failed
        own, other = (_net(runs, times.empty_s) for runs in found)
        return replace(first, cpu_s=own / other * times.seconds[times.yardstick])

    def measure_verdict(self, problem: PerfProblem, verdict: Verdict) -> Mapping[str, float]:
        """``references_beaten``; nothing where the references are too fast to be compared."""
        if problem.id in self.reference_exceptions:
            return {}
        seconds = self._times[problem.id].seconds
        beaten = sum(verdict.cpu_s <= (1 + TOLERANCE) * other for other in seconds)
        return {"references_beaten": beaten / len(seconds) if verdict.passed else 0.0}


def measure_references(problem: PerfProblem, sandbox: SandboxProtocol) -> Times:
    """Measures the references, in turns.

    Raises:
        SandboxError: as :meth:`EvalPerf.prepare`.
    """
    empty = f"def {problem.entry_point}(*arguments):\n    return 0\n"
    jobs = [_call(problem, program, 300.0) for program in (empty, *problem.references)]
    found = _in_turns(jobs, sandbox)
    for number, runs in enumerate(found):
        if failed := next((one for one in runs if not one.passed), None):
            raise SandboxError(
                f"Reference {number} of {problem.id} can't be run: {failed.status} "
                f"{failed.message}."
            )
    values = [as_json(runs[0].values[0]) for runs in found[1:]]
    if not all(close(value, values[0], 1e-6) for value in values):
        raise SandboxError(f"The references of {problem.id} return different results.")
    empty_s = min(run.cpu_s for run in found[0])
    return Times(values[0], tuple(_net(runs, empty_s) for runs in found[1:]), empty_s)


def _call(problem: PerfProblem, program: str, cpu_s: float) -> Job:
    return Job(
        program,
        mode="calls",
        calls=[(problem.entry_point, list(problem.arguments))],
        limits=Limits(cpu_s=cpu_s, memory_mib=_MEMORY_MIB, output_bytes=_OUTPUT_BYTES),
    )


def _in_turns(jobs: Sequence[Job], sandbox: SandboxProtocol) -> list[list[Outcome]]:
    """Each job :data:`REPEATS` times, in turns, so that load on the machine affects all alike."""
    found: list[list[Outcome]] = [[] for _ in jobs]
    turns = ((place, job) for _ in range(REPEATS) for place, job in enumerate(jobs))
    for place, outcome in sandbox.map(turns):
        found[place].append(outcome)
    return found


def _net(runs: Sequence[Outcome], empty_s: float) -> float:
    return max(min(run.cpu_s for run in runs) - empty_s, 1e-4)


def _digest(problem: PerfProblem) -> str:
    parts = [
        *problem.references, write_value(list(problem.arguments)), platform.node(),
        platform.python_version(),
    ]  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
