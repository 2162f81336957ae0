"""The verbs of a request: what one side may ask the other to do with one of the other's objects.

A verb is the name of a function here. :data:`VERB_OF` maps the special methods that are supported
across the wire to their verbs.
"""

from __future__ import annotations

import builtins
import operator
import os
import types
from collections.abc import Callable
from typing import Any


def _call(function: Any, *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


def _special(name: str) -> Callable[..., object]:
    """Calls a special method as the interpreter does: found in the object's type, then bound."""

    def apply(value: Any, *arguments: Any) -> Any:
        kind = type(value)
        found = next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)
        bind = getattr(type(found), "__get__", None)
        method: Any = bind(found, value, kind) if bind else found
        return method(*arguments)

    return apply


def _inherited(kind: type, value: Any, name: str) -> object:
    """An attribute of an object or class as ``super()`` finds it from ``kind`` on."""
    mro = (value if isinstance(value, type) else type(value)).__mro__
    return getattr(super(mro[mro.index(kind) - 1], value), name)


def made_member(how: str, value: Any) -> object:
    """A member of a class: a property of its functions, a class method of its function, ..."""
    if how == "property":
        return property(*value)
    return {"classmethod": classmethod, "staticmethod": staticmethod}.get(how, lambda _: _)(value)


def _set_member(kind: type, name: str, how: str, value: object) -> None:
    setattr(kind, name, made_member(how, value))


def _fields(kind: Any) -> list[object]:
    """Name, type, options and kind of a data class's fields."""
    import dataclasses

    names = ("default", "init", "repr", "compare", "hash", "kw_only")
    return [
        (
            field.name,
            field.type,
            {
                **{n: v for n in names if (v := getattr(field, n)) is not dataclasses.MISSING},
                "metadata": dict(field.metadata),
            },
            field._field_type.name,
        )
        for field in kind.__dataclass_fields__.values()
    ]


def made_fields(described: Any) -> dict[str, Any]:
    """The fields that ``_fields`` has described, as dataclasses has them."""
    import dataclasses

    found: dict[str, Any] = {}
    for name, kind, options, what in described:
        field: Any = dataclasses.field(**options)
        field.name, field.type = name, kind
        kinds = ("_FIELD_INITVAR", "_FIELD_CLASSVAR")
        field._field_type = getattr(dataclasses, what if what in kinds else "_FIELD")
        found[name] = field
    return found


def _contents(value: object) -> object:
    return dict(vars(value))


ARITHMETIC = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "divmod"),
    *("lshift", "rshift", "and", "or", "xor"),
)
ORDER = ("lt", "le", "gt", "ge")
UNARY = ("neg", "pos", "invert")
# The interpreter's own protocols that make a number, a truth value or items of an object.
CONVERSIONS = (
    *("abs", "int", "float", "complex", "index", "round", "trunc", "floor", "ceil"),
    *("bool", "len", "hash", "contains", "format", "getitem", "iter", "next", "reversed", "fspath"),
)
_BUILTINS = (
    *("abs", "int", "float", "complex", "round", "bool", "len", "hash", "format", "divmod", "pow"),
    *("iter", "next", "reversed", "str", "repr", "bytes", "getattr", "setattr", "delattr"),
    *("isinstance", "issubclass", "dir", "aiter", "anext"),
)
_OPERATORS = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "lshift", "rshift", "xor"),
    *(*ORDER, *UNARY, "eq", "index", "contains", "length_hint"),
    *("getitem", "setitem", "delitem"),
    *("iadd", "isub", "imul", "imatmul", "itruediv", "ifloordiv", "imod", "ipow"),
    *("ilshift", "irshift", "iand", "ior", "ixor"),
)
VERBS: dict[str, Callable[..., object]] = {
    **{name: getattr(builtins, name) for name in _BUILTINS},
    **{name: getattr(operator, name) for name in _OPERATORS},
    "fspath": os.fspath,
    "and": operator.and_,
    "or": operator.or_,
    "call": _call,
    **{
        name: _special(f"__{name}__")
        for name in ("enter", "exit", "aenter", "aexit", "trunc", "floor", "ceil", "get", "set")
    },
    "vars": _contents,
    "inherited": _inherited,
    "member": _set_member,
    "fields": _fields,
}
# In place, by the verb of that name; without one of its own, a class does it by the plain one.
IN_PLACE = tuple(f"i{name}" for name in ARITHMETIC if f"i{name}" in VERBS)
# Special methods -> their verbs. Reflected operators go with their plain ones.
VERB_OF: dict[str, str] = {
    **{f"__{name}__": name for name in (*ARITHMETIC, *ORDER, *UNARY, *CONVERSIONS)},
    **{
        f"__{name}__": name
        for name in (
            *("str", "repr", "bytes", "length_hint", "setitem", "delitem"),
            *("call", "enter", "exit"),
            *("aenter", "aexit", "aiter", "anext", "get", "set"),
        )
    },
}


def special_methods(kind: type) -> list[str]:
    """The special methods that a class does not inherit from ``object``; ``__hash__`` also if it is
    None.
    """
    found = []
    for name in (*VERB_OF, "__eq__", "__await__", "__missing__", *_REFLECTED):
        for base in kind.__mro__:
            if name in vars(base):
                if base is not object:
                    found.append(name)
                break
    return found


def own_special_methods(kind: type) -> list[str]:
    """The special methods defined by Python code, not by a built-in type."""

    def owner(name: str) -> type:
        return next(base for base in kind.__mro__ if name in vars(base))

    return [name for name in special_methods(kind) if owner(name).__module__ not in _BUILT_IN]


_BUILT_IN = ("builtins", "collections")
_REFLECTED = tuple(f"__{name}__" for name in (*(f"r{n}" for n in ARITHMETIC), *IN_PLACE))


def method_names(kind: type) -> list[str]:
    """The names of a class's methods, including inherited ones, without special methods."""
    names: dict[str, bool] = {}
    for base in reversed(kind.__mro__):
        if base.__module__ in _BUILT_IN:
            continue
        for name, value in vars(base).items():
            names[name] = isinstance(value, _METHODS)
    return [name for name, is_one in names.items() if is_one and not name.startswith("__")]


_METHODS = (types.FunctionType, classmethod, staticmethod, types.MethodDescriptorType)
