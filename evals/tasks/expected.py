"""The expected results of HumanEval+ and MBPP+, which their files lack.

The references run once in the sandbox, and their results are kept in the cache folder
(:func:`codegen.paths.cache_folder`); of very large results, such as a list of a million numbers,
only a digest.

Python values are written as JSON text (:func:`write_value`): lists, text and numbers as in JSON;
``{"t": [...]}`` is a tuple, and so on. Equal values have equal texts (sets are sorted), since the
text is part of a verdict's key. :func:`codegen.evals.tasks.oracles.read_value` reads it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.errors import SandboxError
from codegen.evals.sandbox import Job, Limits, SandboxProtocol
from codegen.paths import cache_folder
from codegen.records import write_atomic

from .oracles import is_digest, read_value, with_digests

if TYPE_CHECKING:
    from .evalplus import PlusProblem

_MAX_OUTPUT_BYTES = 4 << 20
_CPU_S = 240.0
_MEMORY_MIB = 8192
_JSON_INT_BITS = 1024  # decimal digits take quadratic time, and Python refuses to read many


@dataclass(frozen=True, slots=True)
class Expected:
    """The reference's result for each input, and its CPU seconds in all."""

    results: tuple[Any, ...]
    cpu_s: float

    @property
    def has_digests(self) -> bool:
        """Whether some results are so large that only digests of them are kept."""
        return any(is_digest(result) for result in self.results)


def expected_results(
    problems: Mapping[str, tuple[PlusProblem, str]], sandbox: SandboxProtocol
) -> Iterator[tuple[str, Expected]]:
    """The expected results of problems, from the cache or by running; each is kept as it comes.

    Args:
        problems: by id, a problem and its reference.

    Raises:
        SandboxError: if a reference can't be run; names the problem.
    """
    missing = {}
    for id_, (problem, program) in problems.items():
        if (cached := _read(cache_file(problem, program))) is None:
            missing[id_] = (problem, program)
        else:
            yield id_, cached
    for id_, expected in compute(missing, sandbox):
        row = {"cpu_s": expected.cpu_s, "results": write_value(list(expected.results))}
        write_atomic(cache_file(*missing[id_]), json.dumps(row) + "\n")
        yield id_, expected


def cache_file(problem: PlusProblem, program: str) -> Path:
    """The cache file of a problem's results; depends on the reference, the inputs and Python."""
    parts = (program, write_value(list(problem.inputs)), problem.oracle, platform.python_version())
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return cache_folder() / "expected" / f"{problem.id.replace('/', '-')}-{digest}.json"


def _read(path: Path) -> Expected | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        return Expected(tuple(read_value(row["results"])), float(row["cpu_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing, or not ours: computed again


# --- running the references --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """Some inputs of a problem, to run the reference on."""

    problem: PlusProblem
    program: str
    start: int
    end: int

    def job(self) -> Job:
        inputs = self.problem.inputs[self.start : self.end]
        return Job(
            with_digests(self.program, self.problem.entry_point),
            mode="calls",
            calls=[("kept_call", arguments) for arguments in inputs],
            limits=Limits(cpu_s=_CPU_S, memory_mib=_MEMORY_MIB, output_bytes=_MAX_OUTPUT_BYTES),
        )

    def halves(self) -> list[_Part]:
        """The same inputs in two parts."""
        middle = (self.start + self.end) // 2
        return [replace(self, end=middle), replace(self, start=middle)]


def compute(
    problems: Mapping[str, tuple[PlusProblem, str]], sandbox: SandboxProtocol
) -> Iterator[tuple[str, Expected]]:
    """Runs the references on all inputs; yields a problem's results when they are complete.

    Raises:
        SandboxError: if a reference can't be run; names the problem.
    """
    results: dict[str, list[Any]] = {}
    seconds = dict.fromkeys(problems, 0.0)
    left = {id_: len(problem.inputs) for id_, (problem, _) in problems.items()}
    waiting = [_Part(p, program, 0, len(p.inputs)) for p, program in problems.values()]
    while waiting:
        jobs = [(part, part.job()) for part in waiting]
        waiting = []
        for part, outcome in sandbox.map(jobs):
            id_ = part.problem.id
            # One answer has limited size.
            if outcome.status == "output_limit" and part.end - part.start > 1:
                waiting += part.halves()
                continue
            if not outcome.passed:
                raise SandboxError(
                    f"The reference of {id_} can't be run on its inputs: {outcome.status} "
                    f"{outcome.message}."
                )
            made = results.setdefault(id_, [None] * len(part.problem.inputs))
            made[part.start : part.end] = [_kept(part.problem, v) for v in outcome.values]
            seconds[id_] += outcome.cpu_s
            left[id_] -= part.end - part.start
            if not left[id_]:
                yield id_, Expected(tuple(results.pop(id_)), seconds[id_])


def _kept(problem: PlusProblem, answer: tuple[str, object]) -> object:
    """A result as it is kept; for oracle ``not_none`` whether there is one."""
    kind, value = answer
    if kind == "digest":
        return answer
    if problem.oracle == "not_none":
        return value if isinstance(value, bool) else value is not None
    try:
        write_value(value)
    except TypeError as error:
        raise SandboxError(f"The reference of {problem.id} returned {error}.") from None
    return value


# --- values as text ---------------------------------------------------------------------------


def write_value(value: object) -> str:
    """The text of a value.

    Raises:
        TypeError: for a value that is not plain.
    """
    return json.dumps(_tree(value), separators=(",", ":"))


def _tree(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if value.bit_length() <= _JSON_INT_BITS else {"i": hex(value)}
    if kind is list:
        return [_tree(item) for item in value]
    if kind is tuple:
        return {"t": [_tree(item) for item in value]}
    if kind in (set, frozenset):
        return {"s" if kind is set else "z": sorted((_tree(v) for v in value), key=json.dumps)}
    if isinstance(value, dict):  # a Counter or an OrderedDict equals a dict of its items
        return {"d": [[_tree(key), _tree(item)] for key, item in value.items()]}
    if kind is complex:
        return {"c": [value.real, value.imag]}
    if kind is bytes:
        return {"b": value.hex()}
    if kind is range:
        return {"r": [value.start, value.stop, value.step]}
    raise TypeError(f"a value of type {kind.__name__} is not plain")
