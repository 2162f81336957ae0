"""Hybrid execution: a program runs in the sandbox, and a model answers its undefined helpers.

After Chain of Code (Li et al. 2023, arXiv 2312.04474), which CoGEX cites. The program runs until it
calls an undefined helper; the model returns the call's value; the program restarts from the
beginning with the answers so far. Sandbox runs are deterministic, so it reaches the next helper.

Modules of the standard library that pseudo-programs use without importing them (``math``, ``re``,
...) are defined. The trace has the values that each top-level statement of the function set.

Limits: only calls reach the model, not other uses of undefined names. A bare ``except:`` in the
program catches a request. At most ``MOST_LEAVES`` requests per call.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.cogex.literals import Invalid, parse_literal
from codegen.cogex.model import ModelQuery, PseudoModel
from codegen.cogex.program import (
    ANSWER,
    PseudoProgram,
    check_call,
    dotted_name,
    imports_of,
    is_standard,
    parse_function,
    parse_functions,
)
from codegen.sandbox import Job, SandboxProtocol

MOST_LEAVES = 32
_MODULE_NAMES = (
    "collections datetime decimal fractions functools itertools math operator random re statistics "
    "string textwrap unicodedata"
)
_MODULES = frozenset(_MODULE_NAMES.split())


@dataclass(frozen=True, slots=True)
class LeafCall:
    """A call of an undefined helper.

    Attributes:
        name: helper name, dotted for an attribute.
        parameters: names for its positional arguments, from the program where possible.
        args, named: argument values.
    """

    name: str
    parameters: tuple[str, ...]
    args: tuple[object, ...]
    named: Mapping[str, object]

    def __str__(self) -> str:
        named = (f"{name}={value!r}" for name, value in self.named.items())
        return f"{self.name}({', '.join([*map(repr, self.args), *named])})"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A helper's call and the model's value for it."""

    call: str
    value: object


@dataclass(frozen=True, slots=True)
class TraceStep:
    """An executed statement: its line in the function, its text, the values it set."""

    line: int
    code: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class HybridRun:
    """The result of running a call.

    Attributes:
        output: the program's result; empty if it failed.
        steps: statements that Python executed.
        leaves: calls that the model answered.
        failure: the reason for a missing output: ``raised``, ``no_leaf`` (no usable value from the
            model), ``too_many_leaves``, ``not_literal``, or a rule of calls; empty for success.
        detail: description of the failure.
    """

    call: str
    output: Mapping[str, object]
    steps: tuple[TraceStep, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    failure: str = ""
    detail: str = ""

    @property
    def values(self) -> Mapping[str, object]:
        """Last value of each name in the function."""
        return {name: value for step in self.steps for name, value in step.values.items()}


AnswerLeaf = Callable[[LeafCall], object]


def run_hybrid(
    program: PseudoProgram, call: str, sandbox: SandboxProtocol, answer_leaf: AnswerLeaf
) -> HybridRun:
    """Runs a call of a program.

    Args:
        answer_leaf: returns the value, a literal, of a helper's call; raises :class:`Invalid`.
    """
    try:
        check_call(program, call)
    except Invalid as error:
        return HybridRun(call, {}, failure=error.reason, detail=error.detail)
    function = parse_function(program.text)
    statements = {node.lineno: ast.unparse(node) for node in function.body}
    known: dict[str, object] = {}
    leaves: list[Leaf] = []
    while True:
        text = _instrumented(program, function, call, known)
        ((_, outcome),) = sandbox.map([(0, Job(text, mode="calls", calls=[(_RUN, [])]))])
        found = outcome.results[0].value if outcome.results and outcome.results[0].ok else None
        if not isinstance(found, dict):
            error = outcome.results[0].error if outcome.results else outcome.message
            return _ended(call, (), leaves, "raised", error or outcome.status)
        try:
            steps = tuple(TraceStep(n, statements[n], dict(values)) for n, values in found["steps"])
            if "error" in found:
                return _ended(call, steps, leaves, "raised", str(found["error"]))
            if "output" in found:
                return _returned(call, steps, leaves, found["output"])
            name, args, named = found["asked"]
            parameters = _parameters(function, str(name), len(args))
            leaf = LeafCall(str(name), parameters, tuple(args), dict(named))
        except (TypeError, ValueError, KeyError):  # the program can access the trace's recorder
            return _ended(call, (), leaves, "raised", "the program changed its own trace")
        if len(leaves) >= MOST_LEAVES:
            detail = f"over {MOST_LEAVES} calls of helpers"
            return _ended(call, steps, leaves, "too_many_leaves", detail)
        try:
            value = answer_leaf(leaf)
        except Invalid as error:
            return _ended(call, steps, leaves, "no_leaf", f"{leaf}: {error.reason} {error.detail}")
        known[str(leaf)] = value
        leaves.append(Leaf(str(leaf), value))


def leaf_program(leaf: LeafCall) -> tuple[str, str]:
    """Converts a helper's call to a one-step program and a call of it, for emulation."""
    words = leaf.name.replace(".", " ").replace("_", " ").strip()
    parameters = ", ".join((*leaf.parameters, *leaf.named))
    passed = ", ".join((*leaf.parameters, *(f"{name}={name}" for name in leaf.named)))
    function = leaf.name.rpartition(".")[2]
    text = (
        f"def use_{function}({parameters}):\n"
        f'    """{words.capitalize()}.\n\n'
        "    Returns:\n        dict: answer.\n"
        '    """\n'
        f"    # Step 1: {words.capitalize()}.\n"
        f'    return {{"{ANSWER}": {leaf.name}({passed})}}'
    )
    values = ", ".join(map(repr, (*leaf.args, *leaf.named.values())))
    return text, f"use_{function}({values})"


def _ended(
    call: str, steps: tuple[TraceStep, ...], leaves: Sequence[Leaf], failure: str, detail: str
) -> HybridRun:
    return HybridRun(call, {}, steps, tuple(leaves), failure, detail[:300])


def _returned(
    call: str, steps: tuple[TraceStep, ...], leaves: Sequence[Leaf], output: Any
) -> HybridRun:
    try:
        parse_literal(repr(output))
    except Invalid as error:
        return _ended(call, steps, leaves, "not_literal", error.detail)
    return HybridRun(call, output, steps, tuple(leaves))


_RUN = "_cogex_run"

# Code before and after the program; its names begin with _cogex_.
_BEFORE = """\
import copy as _cogex_copy

class _cogex_Asked(BaseException):
    pass

class _cogex_Leaf:
    def __init__(self, name):
        self._cogex_name = name

    def __getattr__(self, attribute):
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return _cogex_Leaf(self._cogex_name + "." + attribute)

    def __call__(self, *args, **named):
        shown = [repr(arg) for arg in args] + [f"{n}={v!r}" for n, v in named.items()]
        key = self._cogex_name + "(" + ", ".join(shown) + ")"
        if key not in _cogex_known:
            raise _cogex_Asked(self._cogex_name, list(args), named)
        return _cogex_copy.deepcopy(_cogex_known[key])

_cogex_steps = []

def _cogex_note(line, names, values):
    kept = {}
    for name in names:
        if name in values:
            try:
                kept[name] = _cogex_copy.deepcopy(values[name])
            except Exception:
                kept[name] = repr(values[name])
    _cogex_steps.append([line, kept])

"""
_AFTER = """

def _cogex_run():
    try:
        output = _cogex_call()
    except _cogex_Asked as asked:
        return {"asked": list(asked.args), "steps": _cogex_steps}
    except Exception as error:
        return {"error": type(error).__name__ + ": " + str(error), "steps": _cogex_steps}
    return {"output": output, "steps": _cogex_steps}
"""


def _instrumented(
    program: PseudoProgram, function: ast.FunctionDef, call: str, known: Mapping[str, object]
) -> str:
    """Adds stubs for the helpers, and records the values after each statement."""
    roots = dict.fromkeys(name.partition(".")[0] for name in program.undefined)
    defined = "".join(
        f"import {root}\n" if root in _MODULES else f"{root} = _cogex_Leaf({root!r})\n"
        for root in roots
    )
    imports = [node for node in imports_of(program.text) if is_standard(node)]
    defined += "".join(ast.unparse(node) + "\n" for node in imports)
    body: list[ast.stmt] = []
    for node in _WithoutImports().visit(copy.deepcopy(function)).body:
        body.append(node)
        if not isinstance(node, ast.Return) and not _is_text(node):
            body.append(_note(node))
    noted = copy.copy(function)
    noted.body = body
    helpers = [_WithoutImports().visit(node) for node in parse_functions(program.text)[:-1]]
    text = ast.unparse(ast.fix_missing_locations(ast.Module([*helpers, noted], [])))
    called = f"\n\ndef _cogex_call():\n    return {call}\n"
    return f"{_BEFORE}_cogex_known = {dict(known)!r}\n{defined}\n{text}{called}{_AFTER}"


class _WithoutImports(ast.NodeTransformer):
    """Removes imports: standard ones move before the function, others become helpers."""

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _note(node: ast.stmt) -> ast.stmt:
    names = sorted(set(_stored(node)))
    return ast.parse(f"_cogex_note({node.lineno}, {names!r}, locals())").body[0]


def _stored(node: ast.AST) -> Iterator[str]:
    """Yields the names that a statement may change in the function's own scope."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    inner = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
    if not isinstance(node, inner):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # Methods such as append change their object.
            root = dotted_name(node.func).partition(".")[0]
            if root:
                yield root
        for child in ast.iter_child_nodes(node):
            yield from _stored(child)


def _parameters(function: ast.FunctionDef, name: str, count: int) -> tuple[str, ...]:
    """Names a helper's arguments after the variables in its first call with ``count`` arguments."""
    calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
    node = next((c for c in calls if dotted_name(c.func) == name and len(c.args) == count), None)
    taken: list[str] = []
    for number in range(count):
        argument = node.args[number] if node else None
        wanted = argument.id if isinstance(argument, ast.Name) else "value"
        while wanted in taken:
            wanted += "_2"
        taken.append(wanted)
    return tuple(taken)


INSTRUCTION = "Do what the name of the function says."


def emulated_leaf(model: PseudoModel, temperature: float, leaf: LeafCall) -> object:
    """Returns a helper's value from a model that emulates :func:`leaf_program`.

    Raises:
        Invalid: if the model's value cannot be read.
    """
    program, call = leaf_program(leaf)
    given = ", ".join(map(repr, (*leaf.args, *leaf.named.values())))
    query = ModelQuery(INSTRUCTION, given, program, call, key=f"leaf/{leaf}")
    ((_, emulation),) = model.emulate([query], temperature)
    if emulation.failure:
        raise Invalid(emulation.failure.partition(":")[0], emulation.text[:200])
    return emulation.answer
