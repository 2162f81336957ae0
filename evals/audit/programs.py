"""Wrong programs that tests should reject: mutants of a reference, and forgers.

Mutants have one small mistake each, as in mutation testing (DeMillo, Lipton and Sayward 1978;
the operators follow mutmut and Cosmic Ray): another operator or constant, a negated condition, a
wrong branch, a dropped statement, an index off by one, swapped arguments. Mutants with equal
bytecode count once. Programs are parsed and compiled here, never run.

Forgers solve no problem and try to pass (``assets/forgers.yaml``), in a harness: ``in_process``
runs a program and its tests as one script and trusts its exit code; ``human_eval`` executes both in
one namespace and requires only that no exception is raised, as the harness of Chen et al. 2021
does. Both are imitated inside our sandbox. ``isolated`` is the task's own job, and ``blinded`` the
same with the tests in the program's process.
"""

from __future__ import annotations

import ast
import random
import types
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from codegen.core.config import read_yaml
from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.sandbox import Job, Outcome


class Mutant(NamedTuple):
    """A changed program and its class of mistake."""

    kind: str
    program: str


class _Change(NamedTuple):
    """One node of a syntax tree and its replacement.

    Attributes:
        at: position in the parent's field; None if the field is not a list.
    """

    kind: str
    parent: ast.AST
    field: str
    at: int | None
    new: ast.AST

    def render(self, tree: ast.Module) -> str:
        """Returns the changed program; the tree is unchanged."""
        value = getattr(self.parent, self.field)
        new = self.new
        if self.at is not None:
            new = [*value[: self.at], self.new, *value[self.at + 1 :]]
        setattr(self.parent, self.field, new)
        try:
            return ast.unparse(ast.fix_missing_locations(tree))
        finally:
            setattr(self.parent, self.field, value)


def make_mutants(program: str, count: int, rng: random.Random) -> list[Mutant]:
    """Samples mutants without duplicates, taking the classes in turn.

    Args:
        count: maximum number; a short program has fewer.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: if Python cannot parse the program.
    """
    tree = parse(program)
    classes: dict[str, list[_Change]] = {}
    for change in _changes(tree):
        classes.setdefault(change.kind, []).append(change)
    for changes in classes.values():
        rng.shuffle(changes)
    seen = {_bytecode(program)}
    mutants: list[Mutant] = []
    for change in (c for turn in zip_longest(*classes.values()) for c in turn if c):
        if len(mutants) == count:
            break
        text = change.render(tree)
        key = _bytecode(text)
        if key is not None and key not in seen:
            seen.add(key)
            mutants.append(Mutant(change.kind, text))
    return mutants


def _bytecode(program: str) -> object:
    """Returns a program's bytecode without line numbers; None if it does not compile."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return _normalized(compile(program, "<program>", "exec", dont_inherit=True))
    except (*UNPARSABLE, OverflowError):
        return None


def _normalized(code: types.CodeType) -> object:
    constants = tuple(
        _normalized(c) if isinstance(c, types.CodeType) else (type(c), repr(c))
        for c in code.co_consts
    )
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


_SKIPPED = frozenset({"annotation", "returns", "decorator_list", "type_params", "ctx"})
_INERT = (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)


def _changes(parent: ast.AST) -> Iterator[_Change]:
    for field, value in ast.iter_fields(parent):
        if field in _SKIPPED:
            continue
        items = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, node in items:
            if isinstance(node, ast.AST) and not _is_inert(node):
                for kind, new in _replacements(parent, field, node):
                    yield _Change(kind, parent, field, index, new)
                yield from _changes(node)


def _is_inert(node: ast.AST) -> bool:
    """Returns True for imports, docstrings and a script's main block."""
    match node:
        case ast.Expr(ast.Constant()) | ast.If(ast.Compare(ast.Name("__name__"))):
            return True
    return isinstance(node, _INERT)


TABLES = read_yaml(Path(__file__).parent / "assets" / "mistakes.yaml")


_DROPPED = (
    *(ast.Assign, ast.AugAssign, ast.Expr, ast.Break, ast.Continue, ast.If, ast.For, ast.While),
    *(ast.Delete, ast.Raise),
)


def _replacements(parent: ast.AST, field: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yields replacements of a node, each with the class of the mistake."""
    is_early = isinstance(node, ast.Return) and isinstance(parent, (ast.If, ast.For, ast.While))
    if is_early or isinstance(node, _DROPPED):
        yield "statement", ast.Pass()
    if isinstance(node, ast.expr):
        if field == "ifs" or (field == "test" and not isinstance(parent, ast.Assert)):
            yield "condition", ast.UnaryOp(ast.Not(), node)
        if _is_index(parent, field, node):
            yield from (
                ("off_by_one", ast.BinOp(node, op(), ast.Constant(1))) for op in (ast.Add, ast.Sub)
            )
    match node:
        case ast.operator() | ast.boolop() | ast.cmpop():
            kinds = {ast.operator: "arithmetic", ast.boolop: "boolean", ast.cmpop: "comparison"}
            kind = kinds[type(node).__base__ or ast.operator]
            name = type(node).__name__
            for new in TABLES["swaps"].get(name, "").split():
                yield kind, getattr(ast, new)()
            if new := TABLES["boundaries"].get(name):
                yield "boundary", getattr(ast, new)()
        case ast.BinOp(left):
            yield "arithmetic", left
        case ast.UnaryOp(ast.USub() | ast.Not() as op, operand):
            yield "boolean" if isinstance(op, ast.Not) else "arithmetic", operand
        case ast.BoolOp(op, values):
            for at in range(len(values)):
                yield "boolean", ast.BoolOp(op, [*values[:at], *values[at + 1 :]])
        case ast.If(_, body, orelse):
            yield from (("branch", ast.If(ast.Constant(c), body, orelse)) for c in (True, False))
        case ast.IfExp(_, body, orelse):
            yield from (("branch", body), ("branch", orelse))
        case ast.Constant(bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield from (("constant", ast.Constant(value + step)) for step in (1, -1))
        case ast.Constant(str() as text):
            yield "constant", ast.Constant("" if text else "a")
        case ast.Call(function, arguments, keywords):
            yield from _of_call(function, arguments, keywords)


def _is_index(parent: ast.AST, field: str, node: ast.expr) -> bool:
    """Returns True for indices, bounds of slices and ranges, and lengths."""
    match parent, field, node:
        case (_, _, ast.Slice() | ast.Tuple() | ast.Constant(str())):
            return False
        case (ast.Slice(), _, _) | (_, "slice", _) | (ast.Call(ast.Name("range")), "args", _):
            return True
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "len"


def _of_call(
    function: Any, arguments: list[ast.expr], keywords: list[ast.keyword]
) -> Iterator[tuple[str, ast.AST]]:
    if new := TABLES["calls"].get(getattr(function, "id", getattr(function, "attr", ""))):
        is_name = isinstance(function, ast.Name)
        changed = ast.Name(new) if is_name else ast.Attribute(function.value, new)
        yield "call", ast.Call(changed, arguments, [] if new == "list" else keywords)
    for at in range(len(keywords)):
        yield "argument", ast.Call(function, arguments, [*keywords[:at], *keywords[at + 1 :]])
    for at in range(len(arguments) - 1):
        swapped = [*arguments[:at], arguments[at + 1], arguments[at], *arguments[at + 2 :]]
        yield "argument", ast.Call(function, swapped, keywords)


Harness = Literal["isolated", "blinded", "human_eval", "in_process"]
HARNESSES: tuple[Harness, ...] = get_args(Harness)
_OURS = ("isolated", "blinded")

# Raises an error if a test method fails, as a runner does.
_COLLECT = """
for _test in [value for value in list(globals().values()) if hasattr(value, "assertEqual")]:
    import unittest
    _run = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(_test).run(_run)
    if not _run.wasSuccessful():
        raise RuntimeError("a test failed")
"""


@cache
def _tricks() -> dict[str, Any]:
    return read_yaml(Path(__file__).parent / "assets" / "forgers.yaml")


def make_forgers(names: Sequence[str]) -> dict[str, str]:
    """Returns forgers by the name of their trick.

    Args:
        names: the functions that the tests call.
    """

    def program(start: str, body: str) -> str:
        functions = (f"def {name}(*args, **options):\n    {body}\n" for name in names)
        return "\n".join((start, *functions))

    return {trick: program(**parts) for trick, parts in _tricks().items()}


def in_harness(job: Job, harness: Harness) -> Job:
    """Returns the job that runs a job's program and tests as a harness does."""
    if harness in _OURS:
        return replace(job, mode="blinded", plain=False) if harness == "blinded" else job
    called = f"check({job.entry_point})" if "def check(" in job.test else ""
    text = "\n".join((job.setup, job.program, job.test, called, _COLLECT))
    text = f"exec({text!r}, {{}})" if harness == "human_eval" else text
    text = f"{text}\nverdict = 'passed'"
    return Job(text, mode="calls", calls=[("verdict", None)], limits=job.limits)


def is_fooled(outcome: Outcome, harness: Harness) -> bool:
    """Returns True if a harness accepts a forger as a correct program."""
    if harness == "in_process" and outcome.status == "exited":
        return outcome.message in ("exit code 0", "SystemExit: 0", "SystemExit: None")
    return outcome.passed and (harness in _OURS or outcome.values == ("passed",))
