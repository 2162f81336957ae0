"""Pseudo-programs: one Python function that may call undefined helpers.

Imports and defined helpers may precede the function, and it may contain others. It returns a
dictionary with the key ``answer``: a display, ``dict(...)``, or a name with such a value, to which
keys may have been added.

Source: Weir et al., "Learning to Reason via Program Generation, Emulation, and Search" (CoGEX),
NeurIPS 2024, arXiv 2405.16337. Programs are only parsed here, never run.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile

from codegen.cogex.literals import Invalid, parse_literal
from codegen.core.python_syntax import UNPARSABLE, parse, parse_expression, syntax_fault

ANSWER = "answer"
MOST_CHARACTERS = 20_000
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class PseudoProgram:
    """A function that follows the rules.

    Attributes:
        text: the program without surrounding blank lines.
        returns: the distinct key tuples, including ``answer``, of the dictionaries that it may
            return.
        undefined: the undefined helpers that it calls, sorted, dotted for attributes. Imports from
            outside the standard library count as undefined.
        digest: digest of its syntax tree without the docstring, so that comments, layout and
            docstring do not matter.
    """

    text: str
    name: str
    signature: inspect.Signature
    returns: tuple[tuple[str, ...], ...]
    undefined: tuple[str, ...]
    digest: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the last return."""
        return self.returns[-1]


def parse_program(text: str) -> PseudoProgram:
    """Parses a function and checks the rules for functions.

    Raises:
        Invalid: if a rule is broken; names the rule.
    """
    functions = parse_functions(text)
    function = functions[-1]
    return PseudoProgram(
        text=text.strip("\n").rstrip(),
        name=function.name,
        signature=_signature(function.args),
        returns=_returned_keys(function),
        undefined=tuple(sorted(undefined_calls(functions, imports_of(text)))),
        digest=_digest(functions),
    )


def parse_function(text: str) -> ast.FunctionDef:
    """Returns the syntax tree of a program's function; see :func:`parse_functions`."""
    return parse_functions(text)[-1]


def parse_functions(text: str) -> list[ast.FunctionDef]:
    """Returns the functions of a program: the helpers that it defines, then its main function.

    Raises:
        Invalid: if the text has anything but imports before its function.
    """
    body = _parse(text)
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    if not functions:
        raise Invalid("no_function", "the program defines no function")
    end = body.index(functions[-1])
    others = [node for node in body[:end] if not isinstance(node, ast.FunctionDef | _IMPORTS)]
    others += body[end + 1 :]
    others += [node for one in functions for node in ast.walk(one) if isinstance(node, _FORBIDDEN)]
    if others:
        kind = type(others[0]).__name__
        raise Invalid("more_than_function", f"line {others[0].lineno}: {kind}")
    return functions


def imports_of(text: str) -> list[ast.Import | ast.ImportFrom]:
    """Returns the import statements of a program's text, including those in its function."""
    return [node for item in _parse(text) for node in ast.walk(item) if isinstance(node, _IMPORTS)]


def split_session(text: str) -> tuple[str, str]:
    """Splits a text into its functions, with imports, and the statements after them."""
    try:
        body = _parse(text)
    except Invalid:
        return text, ""  # the program rules report the error
    first = takewhile(lambda node: isinstance(node, ast.FunctionDef | _IMPORTS), body)
    functions = [node for node in first if isinstance(node, ast.FunctionDef)]
    if not functions or body[-1] is functions[-1]:
        return text, ""
    lines = text.split("\n")
    end = functions[-1].end_lineno
    return "\n".join(lines[:end]), "\n".join(lines[end:]).strip()


def _parse(text: str) -> list[ast.stmt]:
    if len(text) > MOST_CHARACTERS:
        raise Invalid("too_long", f"the program has {len(text)} characters")
    try:
        return parse(text).body
    except SyntaxError as error:
        fault = syntax_fault(text, error)
        raise Invalid(fault.reason, f"{fault.detail} {fault.remedy}".strip()[:200]) from None
    except UNPARSABLE as error:
        raise Invalid("syntax_error", f"{type(error).__name__}: {error}"[:200]) from None


_IMPORTS = ast.Import | ast.ImportFrom
_FORBIDDEN = ast.Global | ast.Nonlocal | ast.ClassDef | ast.AsyncFunctionDef
_SCOPES = ast.FunctionDef | ast.Lambda


def check_call(program: PseudoProgram, call: str) -> inspect.BoundArguments:
    """Returns the arguments of a call of the program, such as ``sort_words(['b', 'a'])``.

    Raises:
        Invalid: if it calls something else, or does not match the signature.
    """
    node = _call_node(call)
    if not isinstance(node.func, ast.Name) or node.func.id != program.name:
        raise Invalid("wrong_name", f"{call[:80]!r} does not call {program.name}")
    unpacked = any(isinstance(argument, ast.Starred) for argument in node.args)
    if unpacked or any(keyword.arg is None for keyword in node.keywords):
        raise Invalid("bad_call", f"{call[:80]!r} unpacks its arguments")
    try:
        positional = [parse_literal(ast.unparse(argument)) for argument in node.args]
        named = {str(k.arg): parse_literal(ast.unparse(k.value)) for k in node.keywords}
    except Invalid as error:
        raise Invalid("bad_call", f"an argument is not a literal: {error.detail}") from None
    try:
        return program.signature.bind(*positional, **named)
    except TypeError as error:
        raise Invalid("call_mismatch", f"{call[:80]!r}: {error}") from None


def find_call(text: str, name: str) -> str:
    """Finds a function's first call in Python text: a call, doctest, session or assertion.

    Variables that the text assigns are replaced by their values in the call, up to a length.

    Raises:
        Invalid: if the text has no such call.
    """
    lines = [re.sub(r"^\s*(?:>>>|\.\.\.(?=\s|$)) ?", "", line) for line in text.splitlines()]
    for version in (lines, [line.strip() for line in lines]):
        with suppress(*UNPARSABLE):
            body = parse("\n".join(version)).body
            break
    else:
        raise Invalid("bad_call", f"{text[:80]!r} is not Python")
    known: dict[str, ast.expr] = {}
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and _is_name(node.func, name):
                return ast.unparse(_Substituted(known).visit(node))
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for target, value in _targets(statement):
                if isinstance(target, ast.Name):
                    found = _Substituted(known).visit(value)
                    # Each line may double the one before it.
                    if len(ast.unparse(found)) <= MOST_CHARACTERS:
                        known[target.id] = found
    raise Invalid("no_call", f"no call of {name} in {text[:80]!r}")


class _Substituted(ast.NodeTransformer):
    """Replaces names with expressions."""

    def __init__(self, known: Mapping[str, ast.expr]) -> None:
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.known.get(node.id, node)


def check_output(program: PseudoProgram, output: dict[str, object]) -> dict[str, object]:
    """Returns the output in the key order of the return statement with the same keys.

    Raises:
        Invalid: if no return statement has these keys.
    """
    for keys in program.returns:
        if set(output) == set(keys):
            return {key: output[key] for key in keys}
    raise Invalid("keys_differ", f"{list(output)} instead of {list(program.keys)}")


def undefined_calls(
    functions: Sequence[ast.FunctionDef], imports: Sequence[ast.Import | ast.ImportFrom] = ()
) -> set[str]:
    """Returns the called names that neither the functions, nor Python, nor imports define."""
    nodes = [node for function in functions for node in ast.walk(function)]
    bound = {*_bound_names(nodes), *(name for node in imports for name in _imported(node))}
    found = set()
    for node in nodes:
        if isinstance(node, ast.Call):
            name = dotted_name(node.func)
            root = name.partition(".")[0]
            if root and root not in bound and root not in _BUILTINS:
                found.add(name)
    return found


def dotted_name(node: ast.expr) -> str:
    """Returns ``a.b.c`` for such an expression, "" for any other."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _call_node(call: str) -> ast.Call:
    if not call.strip():
        raise Invalid("no_call", "the call is empty")
    if len(call) > MOST_CHARACTERS:
        raise Invalid("too_long", f"the call has {len(call)} characters")
    try:
        node = parse_expression(call.strip())
    except UNPARSABLE as error:
        raise Invalid("bad_call", f"{call[:80]!r}: {type(error).__name__}") from None
    if not isinstance(node, ast.Call):
        raise Invalid("bad_call", f"{call[:80]!r} is not a call")
    return node


def is_standard(node: ast.Import | ast.ImportFrom) -> bool:
    """Returns True if a statement imports only from the standard library."""
    modules = (
        [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
    )
    return all(module.partition(".")[0] in sys.stdlib_module_names for module in modules)


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Returns the names that an import from the standard library binds."""
    if not is_standard(node):
        return []
    return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]


def _bound_names(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yields all names that functions bind, including parameters and inner functions."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _returned_keys(function: ast.FunctionDef) -> tuple[tuple[str, ...], ...]:
    """Returns the keys of the dictionaries with ``answer`` that the function returns.

    Other returns are allowed (``return None`` for bad input) if one of these exists.
    """
    refused: list[Invalid] = []
    found: dict[tuple[str, ...], None] = {}
    for node in returns_of(function):
        try:
            found[tuple(key for key, _ in entries(node, function))] = None
        except Invalid as error:
            refused.append(error)
    if with_answer := tuple(keys for keys in found if ANSWER in keys):
        return with_answer
    if found:
        raise Invalid("no_answer_key", f"{function.name} returns {list(next(iter(found)))}")
    raise refused[0] if refused else Invalid("no_return", f"{function.name} returns nothing")


def returns_of(function: ast.FunctionDef) -> list[ast.Return]:
    """Returns the function's own return statements, without those of inner functions."""
    return [node for node in _own(function) if isinstance(node, ast.Return)]


def entries(node: ast.Return, function: ast.FunctionDef) -> list[tuple[str, ast.expr]]:
    """Returns keys and values of the dictionary that a statement returns.

    A returned name has the keys of the dictionaries assigned to it, then the keys set later
    (``name["key"] = value``, ``name.update(...)``).

    Raises:
        Invalid: if it returns anything else.
    """
    found: dict[str, ast.expr] = {}
    for key, value in _pairs(node.value, function):
        if not isinstance(key, str):
            raise Invalid("return_no_dict", f"line {node.lineno}: a key is not a string")
        found[key] = value
    return list(found.items())


def _pairs(
    value: ast.expr | None, function: ast.FunctionDef, within: frozenset[str] = frozenset()
) -> Iterator[tuple[object, ast.expr]]:
    """Yields the entries of an expression that builds a dictionary; computed keys are None.

    ``within``: names whose entries are being read, as in ``out = {**out, "answer": x}``.
    """
    if isinstance(value, ast.Dict):
        keys = [key.value for key in value.keys if isinstance(key, ast.Constant)]
        if len(set(keys)) < len(keys):
            raise Invalid("return_no_dict", f"line {value.lineno}: a key occurs twice")
        for key, item in zip(value.keys, value.values, strict=True):
            if key is None:  # {**other}
                yield from _pairs(item, function, within)
            else:
                yield key.value if isinstance(key, ast.Constant) else None, item
        return
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        yield from _pairs(value.left, function, within)
        yield from _pairs(value.right, function, within)
        return
    if isinstance(value, ast.Call) and dotted_name(value.func) == "dict" and not value.args:
        yield from ((keyword.arg, keyword.value) for keyword in value.keywords)
        return
    if not isinstance(value, ast.Name):
        line = value.lineno if value else function.lineno
        raise Invalid("return_no_dict", f"line {line}: no dictionary is returned")
    if value.id in within:
        return
    within |= {value.id}
    made = [made for target, made in _assignments(function) if _is_name(target, value.id)]
    if not made or any(isinstance(item, ast.Name) for item in made):
        raise Invalid("return_no_dict", f"line {value.lineno}: {value.id} is not a dictionary")
    for item in made:
        yield from _pairs(item, function, within)
    for node in _own(function):
        if isinstance(node, ast.Call) and dotted_name(node.func) == f"{value.id}.update":
            yield from ((keyword.arg, keyword.value) for keyword in node.keywords)
            for argument in node.args:
                yield from _pairs(argument, function, within)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target, item in _targets(node):
                if isinstance(target, ast.Subscript) and _is_name(target.value, value.id):
                    key = target.slice
                    yield key.value if isinstance(key, ast.Constant) else None, item


def _assignments(function: ast.FunctionDef) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in _own(function):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            yield from _targets(node)


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.expr, ast.expr]]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if node.value is not None:
        yield from ((target, node.value) for target in targets)


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yields a function's nodes in textual order, excluding inner functions and lambdas."""
    pending: list[ast.AST] = [*reversed(function.body)]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _SCOPES):
            pending.extend(reversed([*ast.iter_child_nodes(node)]))


def _signature(arguments: ast.arguments) -> inspect.Signature:
    """Builds the signature; defaults are strings, as they are not evaluated."""
    kinds = inspect.Parameter
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [kinds.empty] * (len(positional) - len(arguments.defaults))
    defaults += [ast.unparse(default) for default in arguments.defaults]
    parameters = [
        kinds(
            argument.arg,
            kinds.POSITIONAL_ONLY
            if number < len(arguments.posonlyargs)
            else kinds.POSITIONAL_OR_KEYWORD,
            default=default,
        )
        for number, (argument, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    if arguments.vararg:
        parameters.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        shown = kinds.empty if default is None else ast.unparse(default)
        parameters.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=shown))
    if arguments.kwarg:
        parameters.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    try:
        return inspect.Signature(parameters)
    except ValueError as error:  # two parameters with the same name, which the parser accepts
        raise Invalid("syntax_error", str(error)) from None


def _digest(functions: Sequence[ast.FunctionDef]) -> str:
    parts: list[str] = []
    for function in functions:
        described = ast.get_docstring(function) is not None and len(function.body) > 1
        body = function.body[1:] if described else function.body
        parts += [function.name, ast.dump(function.args), *map(ast.dump, body)]
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).hexdigest()
