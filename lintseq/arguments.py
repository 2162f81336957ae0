"""Which arguments of a call can be missing without a checker's objection.

Pylint compares a call with the signature of what it calls, wherever it can infer that. We take the
callee by its name: what the program itself defines has its signature there; of anything imported,
and of methods, all arguments are needed; of other names (a parameter, a builtin) none is.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_BUILTINS = frozenset(dir(builtins))
_CHECKED_BUILTINS = frozenset({"isinstance", "issubclass"})
# What is in the arguments of these says which attributes there are.
_MAKE_CLASSES = frozenset({"namedtuple", "NamedTuple", "TypedDict", "Enum", "IntEnum", "Flag"})


class Callees:
    """The names of a program that say what a call calls."""

    def __init__(self, tree: ast.Module) -> None:
        self.definitions: dict[str, list[_Definition]] = {}
        self.imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, _Definition):
                self.definitions.setdefault(node.name, []).append(node)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imported.update(a.asname or a.name.split(".")[0] for a in node.names)

    def is_unique(self, name: str) -> bool:
        """Whether the program defines a function or class of that name just once."""
        return len(self.definitions.get(name, ())) == 1

    def needed(self, call: ast.Call) -> set[ast.AST]:
        """The arguments (and keywords) that the call can't stand without."""
        function = call.func
        name = getattr(function, "attr", getattr(function, "id", ""))
        everything: set[ast.AST] = {*call.args, *call.keywords}
        if name in _MAKE_CLASSES:
            return everything
        if name in self.definitions:
            if not self.is_unique(name):
                return everything
            return everything - set(_optional(self.definitions[name][0], call))
        if isinstance(function, ast.Name):
            free = name in _BUILTINS and name not in _CHECKED_BUILTINS
            if name in self.imported:
                return everything
            return set(call.args) if name in _BUILTINS and not free else set()
        if isinstance(function, ast.Attribute):
            return everything
        return set()


def _optional(definition: _Definition, call: ast.Call) -> Iterable[ast.AST]:
    """The arguments that a function has defaults for, or takes any number of."""
    if isinstance(definition, ast.ClassDef) or definition.decorator_list:
        return
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaulted = {a.arg for a in positional[len(positional) - len(arguments.defaults) :]}
    defaulted |= {
        a.arg
        for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    named = {a.arg for a in (*positional, *arguments.kwonlyargs)}
    for keyword in call.keywords:
        if keyword.arg in defaulted or (keyword.arg is not None and keyword.arg not in named):
            yield keyword
    # With fewer arguments, those that follow move up: only those that all may be missing are free.
    if not any(isinstance(argument, ast.Starred) for argument in call.args):
        required = len(positional) - len(arguments.defaults)
        yield from call.args[required:]
