"""Pseudo-programs: one Python function that may call helpers which nothing defines.

Source: Weir et al., "Learning to Reason via Program Generation, Emulation, and Search" (CoGEX),
NeurIPS 2024, arXiv 2405.16337. The texts are parsed, never run, here.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from codegen.cogex.errors import Invalid
from codegen.cogex.literals import parse_literal, quietly
from codegen.python_syntax import syntax_fault

ANSWER = "answer"
MOST_CHARACTERS = 20_000
_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, slots=True)
class PseudoProgram:
    """A function that keeps the rules.

    Attributes:
        text: as it was written, without blank lines around it.
        name: of the function.
        signature: its parameters.
        keys: of the dictionary that it returns, in their order; the last is ``answer``.
        undefined: the helpers that it calls and that nothing defines, sorted; dotted where an
            attribute is called.
        digest: of its syntax tree without the docstring: programs that differ in comments, layout
            or docstring alone have the same.
    """

    text: str
    name: str
    signature: inspect.Signature
    keys: tuple[str, ...]
    undefined: tuple[str, ...]
    digest: str


def parse_program(text: str) -> PseudoProgram:
    """Reads a function and checks the rules that it alone can break.

    Raises:
        Invalid: with the rule.
    """
    function = parse_function(text)
    keys = _returned_keys(function)
    return PseudoProgram(
        text=text.strip("\n").rstrip(),
        name=function.name,
        signature=_signature(function.args),
        keys=keys,
        undefined=tuple(sorted(undefined_calls(function))),
        digest=_digest(function),
    )


def parse_function(text: str) -> ast.FunctionDef:
    """The syntax tree of a text that is one function and nothing else.

    Raises:
        Invalid: if it is anything else.
    """
    if len(text) > MOST_CHARACTERS:
        raise Invalid("too_long", f"the program has {len(text)} characters")
    try:
        with quietly():
            body = ast.parse(text).body
    except SyntaxError as error:
        fault = syntax_fault(text, error)
        raise Invalid(fault.reason, f"{fault.detail} {fault.remedy}".strip()[:200]) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Invalid("syntax_error", f"{type(error).__name__}: {error}"[:200]) from None
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    if not functions:
        raise Invalid("no_function", "the program defines no function")
    function = functions[0]
    others = [node for node in body if node is not function]
    others += [node for node in ast.walk(function) if isinstance(node, _FORBIDDEN | _DEFINITIONS)]
    others.remove(function)
    if others:
        kind = type(others[0]).__name__
        raise Invalid("more_than_function", f"line {others[0].lineno}: {kind}")
    return function


_FORBIDDEN = ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal
_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def check_call(program: PseudoProgram, call: str) -> inspect.BoundArguments:
    """The arguments of a call of the program, such as ``sort_words(['b', 'a'])``.

    Raises:
        Invalid: if it is another call, or one that the function does not take.
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
        raise Invalid("bad_call", f"an argument is no literal: {error.detail}") from None
    try:
        return program.signature.bind(*positional, **named)
    except TypeError as error:
        raise Invalid("call_mismatch", f"{call[:80]!r}: {error}") from None


def check_output(program: PseudoProgram, output: dict[str, Any]) -> None:
    """Checks that an output has the keys that the program returns, in their order.

    Raises:
        Invalid: if it has others.
    """
    if tuple(output) != program.keys:
        raise Invalid("keys_differ", f"{list(output)} in place of {list(program.keys)}")


def undefined_calls(function: ast.FunctionDef) -> set[str]:
    """The names of what a function calls and neither it nor Python defines."""
    bound = set(_bound_names(function))
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            name = dotted_name(node.func)
            root = name.partition(".")[0]
            if root and root not in bound and root not in _BUILTINS:
                found.add(name)
    return found


def dotted_name(node: ast.expr) -> str:
    """``a.b.c`` of such an expression; empty for any other."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _call_node(call: str) -> ast.Call:
    if not call.strip():
        raise Invalid("no_call", "there is no call")
    if len(call) > MOST_CHARACTERS:
        raise Invalid("too_long", f"the call has {len(call)} characters")
    try:
        with quietly():
            node = ast.parse(call.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Invalid("bad_call", f"{call[:80]!r}: {type(error).__name__}") from None
    if not isinstance(node, ast.Call):
        raise Invalid("bad_call", f"{call[:80]!r} is no call")
    return node


def _bound_names(function: ast.FunctionDef) -> Iterator[str]:
    """All names that the function gives a value, parameters and those of lambdas included."""
    yield function.name
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def _returned_keys(function: ast.FunctionDef) -> tuple[str, ...]:
    returns = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
    if not returns:
        raise Invalid("no_return", f"{function.name} returns nothing")
    keys = [_dict_keys(node) for node in returns]
    if len(set(keys)) > 1:
        raise Invalid("returns_differ", f"{function.name} returns {keys[0]} or {keys[1]}")
    if ANSWER not in keys[0]:
        raise Invalid("no_answer_key", f"{function.name} returns {list(keys[0])}")
    if keys[0][-1] != ANSWER:
        raise Invalid("answer_not_last", f"{function.name} returns {list(keys[0])}")
    return keys[0]


def _dict_keys(node: ast.Return) -> tuple[str, ...]:
    if not isinstance(node.value, ast.Dict):
        raise Invalid("return_no_dict", f"line {node.lineno} returns no dictionary")
    keys = [key.value if isinstance(key, ast.Constant) else None for key in node.value.keys]
    texts = tuple(key for key in keys if isinstance(key, str))
    if len(texts) < len(keys) or len(set(texts)) < len(texts):
        raise Invalid("return_no_dict", f"line {node.lineno}: keys must be different texts")
    return texts


def _signature(arguments: ast.arguments) -> inspect.Signature:
    """The parameters; a default is shown as its text, since nothing is evaluated."""
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
    return inspect.Signature(parameters)


def _digest(function: ast.FunctionDef) -> str:
    body = function.body
    if ast.get_docstring(function) is not None and len(body) > 1:
        body = body[1:]
    parts = [function.name, ast.dump(function.args), *map(ast.dump, body)]
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=8).hexdigest()
