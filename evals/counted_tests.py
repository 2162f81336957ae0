"""Counts the tests that a program passes, and that a constant program passes.

A verdict says only whether a program passes all of its tests. To count them, the test source is
rewritten to run each test and record its result; it still fails if a test fails, with the results
in its message. The rewritten tests run isolated from the program, so the count cannot be
forged; a program that exits or hangs has passed none.

A test is an ``assert`` outside of loops, or one iteration of a loop that contains asserts (or
raises AssertionError). Tests in functions ``test…`` or classes, and tests that use ``try``, count
as one.

Limit: the fraction of passed tests rewards programs that return a constant, since some tests may
expect it. :func:`constant_programs` builds such programs, so that their fraction can serve as the
zero point (``share`` in ``codegen.rewards``).
"""

from __future__ import annotations

import ast
import builtins
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import floor

from codegen.core.records import Status
from codegen.sandbox import Job, Outcome

_MOST_NOTES = 1200  # characters; the limit of a message is 2000
# Random, so that a program's own messages are not parsed as results.
_MARK = f"tests {secrets.token_hex(8)}"
_NOTES = re.compile(rf"AssertionError: {_MARK} ([01,]*) \| (.*)", re.DOTALL)
_MOST_LITERALS = 8


@dataclass(frozen=True, slots=True)
class CountedTests:
    """Tests that report their individual results.

    Attributes:
        job: job with the rewritten tests.
        lines: line number of each test location in the source.
    """

    job: Job
    lines: tuple[int, ...]

    @property
    def places(self) -> int:
        """Number of test locations."""
        return len(self.lines)

    def notes(self, outcome: Outcome) -> tuple[list[list[bool]], str] | None:
        """Returns the test results at each location, and the first error; None if the program
        exited before they finished.
        """
        match = _NOTES.match(outcome.message) if outcome.status == "wrong" else None
        if not match:
            return None
        places = [[mark == "1" for mark in marks] for marks in match[1].split(",")]
        error = match[2].rpartition(" at line ")[0].strip()
        return (places, error) if len(places) == self.places else None


@dataclass(frozen=True, slots=True)
class TestResults:
    """A program's test results, visible to rewards and hidden.

    Attributes:
        seen, hidden: a flag per test; a single False for a killed program.
        status, message: the verdict's, if more specific than the outcome's.
    """

    __test__ = False  # not a pytest class

    seen: tuple[bool, ...]
    hidden: tuple[bool, ...] = ()
    status: Status | None = None
    message: str = ""

    @property
    def share(self) -> float:
        """Fraction of the visible tests that passed."""
        return sum(self.seen) / len(self.seen)


def is_hidden(place: int, number: int, share: float) -> bool:
    """Returns True if test ``number`` at a location is hidden from rewards.

    The first test is visible, and among N neighbors about ``share * N`` are hidden.
    """
    at = place + number
    return floor((at + 1) * share + 1e-9) > floor(at * share + 1e-9)


def results(counted: CountedTests | None, outcome: Outcome, hidden: float) -> TestResults:
    """Returns the results of a program's tests.

    Args:
        counted: the rewritten tests; None if not rewritten, which counts as one visible test.
        outcome: outcome of the job.
        hidden: fraction of the tests hidden from rewards.
    """
    if outcome.passed or counted is None:
        return TestResults((outcome.passed,), (True,) if counted and hidden else ())
    notes = counted.notes(outcome)
    if notes is None:
        return TestResults((False,), (False,) if hidden else ())
    places, error = notes
    seen: list[bool] = []
    unseen: list[bool] = []
    for place, marks in enumerate(places):
        for number, passed in enumerate(marks):
            if is_hidden(place, number, hidden):
                unseen.append(passed)
                continue
            seen.append(passed)
    status: Status = "wrong" if error.startswith("AssertionError") else "error"
    if seen and all(seen):
        status = "passed"  # only hidden tests fail
    failed, total = (*seen, *unseen).count(False), len(seen) + len(unseen)
    message = f"{failed} of {total} tests fail; the first: {error}"
    return TestResults(tuple(seen) or (False,), tuple(unseen), status, message)


def counted(job: Job) -> CountedTests | None:
    """Rewrites a job's tests to count them; None if impossible."""
    if job.mode != "isolated" or not job.test:
        return None
    rewritten = _rewritten(job.test, job.entry_point)
    return CountedTests(replace(job, test=rewritten[0]), rewritten[1]) if rewritten else None


@lru_cache(maxsize=4096)
def _rewritten(test: str, entry_point: str) -> tuple[str, tuple[int, ...]] | None:
    try:
        return _rewrite(ast.parse(test), entry_point)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _rewrite(tree: ast.Module, entry_point: str) -> tuple[str, tuple[int, ...]] | None:
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if any(name.startswith("test") for name in functions) or _has_own_ways(tree):
        return None
    guard = _Guard()
    guard.visit(tree)
    places, calls = len(guard.lines), ""
    if not 1 <= places <= _MOST_NOTES // 4:
        return None
    if check := functions.get("check"):
        if not (entry_point and check.args.args):
            return None
        check.name = "_counted_check"
        calls = _CALL.format(entry_point=entry_point)
    start = _START.format(places=places)
    end = calls + _END.format(mark=_MARK, most=_MOST_NOTES // places - 1)
    return f"{start}\n{ast.unparse(ast.fix_missing_locations(tree))}\n{end}", tuple(guard.lines)


def _has_own_ways(tree: ast.Module) -> bool:
    """Returns True if tests are in classes, or an AssertionError may be caught."""
    nodes = list(ast.walk(tree))
    if any(isinstance(n, (ast.AsyncFunctionDef, ast.ClassDef)) for n in nodes):
        return True
    asserting = {
        n.name for n in nodes if isinstance(n, ast.FunctionDef) and any(map(_is_test, ast.walk(n)))
    }
    tried = [
        inner
        for n in nodes
        if isinstance(n, (ast.Try, ast.TryStar))
        for statement in n.body
        for inner in ast.walk(statement)
    ]
    return any(_is_test(n) or (isinstance(n, ast.Name) and n.id in asserting) for n in tried)


def _is_test(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or _raises_assertion(node)


_START = "_counted, _counted_errors = [[] for _ in range({places})], []"
_CALL = """\
try:
    _counted_check({entry_point})
except Exception as _error:
    _counted_errors.append(f"{{type(_error).__name__}}: {{_error}}")
    for _place in _counted:
        _place or _place.append(False)
"""
_END = """\
if _counted_errors:
    for _place in _counted:
        if len(_place) > {most}:
            _place[{most} - 1 :] = [all(_place[{most} - 1 :])]
    _notes = ["".join("01"[_one] for _one in _place) for _place in _counted]
    raise AssertionError("{mark} " + ",".join(_notes) + " | " + _counted_errors[0])
"""
_TRY = """\
try:
    _counted[{place}].append(True)
except Exception as _error:
    _counted[{place}].append(False)
    _counted_errors.append(f"{{type(_error).__name__}}: {{_error}}")
"""


class _Guard(ast.NodeTransformer):
    """Wraps each test in a ``try`` that records its result."""

    def __init__(self) -> None:
        self.lines: list[int] = []

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return self._guarded([node])

    def visit_For(self, node: ast.For) -> ast.stmt:
        inside = [child for statement in node.body for child in ast.walk(statement)]
        leaves = (ast.Break, ast.Continue, ast.Return, ast.Yield, ast.FunctionDef)
        if any(map(_is_test, inside)) and not any(isinstance(child, leaves) for child in inside):
            node.body = [self._guarded(node.body)]
            return node
        self.generic_visit(node)
        return node

    def _guarded(self, body: list[ast.stmt]) -> ast.stmt:
        (guard,) = ast.parse(_TRY.format(place=len(self.lines))).body
        assert isinstance(guard, ast.Try)
        guard.body = [*body, *guard.body]
        self.lines.append(body[0].lineno)
        return guard


def _raises_assertion(node: ast.AST) -> bool:
    if not isinstance(node, ast.Raise):
        return False
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return isinstance(raised, ast.Name) and raised.id == "AssertionError"


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


_CONSTANTS = ("None", "True", "False", "0", "1", "''", "[]", "{}")


def constant_programs(job: Job) -> list[str]:
    """Returns programs whose functions return a constant or their first argument.

    The constants are common ones and values that the tests compare with. All names that the tests
    read but do not define become functions of the program.
    """
    names = sorted({job.entry_point} - {""} or set(free_names(job)))
    texts = [*_CONSTANTS, *_literals(job.test), "args[0] if args else None"]
    return [
        "\n".join(f"def {name}(*args, **kwargs):\n    return {text}\n" for name in names)
        for text in dict.fromkeys(texts)
    ]


def free_names(job: Job) -> Iterator[str]:
    """Yields the names that the tests read but do not define, so the program must."""
    nodes = [node for text in (job.setup, job.test) for node in _walk(text)]
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    stored |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    stored |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    for n in nodes:
        if isinstance(n, (ast.Import, ast.ImportFrom)):
            stored |= {(a.asname or a.name).partition(".")[0] for a in n.names}
    for n in nodes:
        if isinstance(n, ast.Name) and n.id not in stored and not hasattr(builtins, n.id):
            yield n.id


def _literals(test: str) -> list[str]:
    """Returns the values that calls are compared with, most frequent first."""
    counts: dict[str, int] = {}
    for node in _walk(test):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Call):
            for value in filter(_is_literal, node.comparators):
                text = ast.unparse(value)
                counts[text] = counts.get(text, 0) + 1
    return sorted(counts, key=lambda text: -counts[text])[:_MOST_LITERALS]


def _walk(text: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
