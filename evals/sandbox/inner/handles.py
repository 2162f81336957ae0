"""Objects of the program as the tests see them: handles, whose methods and attributes are requests
to the program.

The program controls the result of such a request, so handles limit what it can decide:

- A handle never equals a plain value; the program does not even learn of the comparison. The
  program decides only whether two of its own objects are equal, if their class defines it.
- An operator between a handle and a plain value reveals the value, which may be the expected one
  (``abs(f(x) - 3.0) < 1e-6``). So its result may only be another object, which no further operator
  or protocol makes plain (``sum((a - b) ** 2 for ...)``), which has no items, and none of the
  attributes that plain values have (``(f(x) - noon).total_seconds()``). Exempt are objects that the
  tests made themselves, by calling a class that they name (``Vector(1, 2) * 3``).
- The same rules hold for order and membership of plain values.
- An instance of a subclass of a plain type is its plain content with the class's name. Operators
  that the subclass defines apply between objects of the program, and to those that the tests made.

A class of the tests that derives from classes of the program is made in the program as well: the
instances are the program's objects, and the methods that the tests define run here.

``Remote.used_objects`` says whether the program has decided a comparison.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Mapping, Set
from typing import Any

from .own import is_instance, loads_of_assertion_error
from .verbs import ARITHMETIC, CONVERSIONS, IN_PLACE, ORDER, UNARY, VERB_OF, made_fields
from .wire import MUTABLE

Remote = Any  # that of remote.py, which imports this module
_PLAIN = (int, float, complex, str, bytes, tuple, frozenset)
_set = object.__setattr__
names_of = type.__dict__["__dict__"].__get__  # reads a class without asking the class
REMEDY = "compare its attributes or what its methods return, or use mode 'in_sandbox'"


class Program(type):
    """The class of classes of the program. Its own attributes begin with ``_codegen``."""

    _codegen_remote: Remote
    _codegen_class: int

    def __new__(mcls, name: str, bases: Any, space: dict[str, Any], **options: Any) -> Program:
        """Makes a class; a class statement of the tests makes one in the program as well."""
        if "_codegen_class" in space:
            return super().__new__(mcls, name, bases, space)
        remote = next(base for base in bases if isinstance(base, Program))._codegen_remote
        space = remote.derive(name, bases, space, options)
        made = super().__new__(mcls, name, tuple(map(_with_super, bases)), space)
        remote.adopt(made)
        return made

    def __init__(cls, name: str, bases: Any, space: dict[str, Any], **_: Any) -> None:
        super().__init__(name, bases, space)

    @property
    def __mro__(cls) -> tuple[type, ...]:
        """The classes as the program has them."""
        return tuple(kind for kind in type.__dict__["__mro__"].__get__(cls) if not _is_ours(kind))

    def mro(cls) -> list[type]:
        """As a list; Python asks for it, too, when it makes the class."""
        is_made = type.__dict__["__mro__"].__get__(cls) is not None
        return list(cls.__mro__) if is_made else type.mro(cls)

    @property
    def __bases__(cls) -> tuple[type, ...]:  # type: ignore[override]
        """The bases as the program has them."""
        mro = type.__dict__["__mro__"].__get__(cls)
        bases = type.__dict__["__bases__"].__get__(cls)
        found = [base for base in bases if not _is_ours(base)]
        found += [b for base in bases if "_codegen_super" in names_of(base) for b in base.__bases__]
        return tuple(sorted(found, key=mro.index)) or (object,)

    def __subclasses__(cls) -> Any:
        """As the program has them."""
        return cls._codegen_remote.use("method", cls, "__subclasses__")

    @property
    def __dict__(cls) -> Any:  # type: ignore[override]
        """The names in the program's class."""
        if (given := names_of(cls).get("_codegen_given")) is not None:
            return types.MappingProxyType({**names_of(cls), **given})
        return types.MappingProxyType(cls._codegen_remote.use("vars", cls))

    @property
    def __annotations__(cls) -> Any:  # type: ignore[override]
        """Of the class itself."""
        if "_codegen_given" in names_of(cls):
            return names_of(cls).get("__annotations__", {})
        return cls._codegen_remote.use("getattr", cls, "__annotations__")

    @property
    def __flags__(cls) -> int:
        """With the bit by which :mod:`inspect` knows an abstract class."""
        is_abstract = names_of(cls).get("_codegen_abstract", False)
        return type.__dict__["__flags__"].__get__(cls) | (is_abstract << 20)

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        """Makes an instance, in the program."""
        return cls._codegen_remote.construct(cls, arguments, options)

    def __dir__(cls) -> Any:
        return cls._codegen_remote.use("dir", cls)

    def __getattr__(cls, name: str) -> object:
        if name == "__signature__":
            return cls._codegen_remote.signature(cls)
        if name in (given := names_of(cls).get("_codegen_given", ())):
            return given[name]
        if is_refused(name):
            raise AttributeError(name)
        if name == "__dataclass_fields__":
            return _fields(cls)
        return cls._codegen_remote.use("getattr", cls, name)

    def __setattr__(cls, name: str, value: object) -> None:
        if name.startswith("_codegen") or name in ("__abstractmethods__", "__doc__"):
            type.__setattr__(cls, name, value)
        elif "_codegen_given" not in names_of(cls):
            cls._codegen_remote.use("setattr", cls, name, value)
        else:
            local = cls._codegen_remote.set_member(cls, name, value)
            for member, part in local.items():
                type.__setattr__(cls, member, part)
            if not local:
                names_of(cls)["_codegen_given"][name] = value

    def __delattr__(cls, name: str) -> None:
        cls._codegen_remote.use("delattr", cls, name)

    def __getitem__(cls, key: Any) -> Any:
        return cls._codegen_remote.use("getitem", cls, key)

    def __iter__(cls) -> Any:
        return cls._codegen_remote.use("iter", cls)

    def __len__(cls) -> int:
        return cls._codegen_remote.use("len", cls)

    def __bool__(cls) -> bool:
        return True

    def __contains__(cls, item: Any) -> bool:
        return cls._codegen_remote.decide("contains", cls, item)

    def __instancecheck__(cls, instance: object) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        if not (is_of_program(instance) or isinstance(instance, Program) or is_instance(instance)):
            return False
        return cls._codegen_remote.decide("isinstance", instance, cls)

    def __subclasscheck__(cls, kind: type) -> bool:
        if type.__subclasscheck__(cls, kind):
            return True
        if not isinstance(kind, Program):
            return False
        return cls._codegen_remote.decide("issubclass", kind, cls)

    def __repr__(cls) -> str:
        return f"<class '{cls.__qualname__}'>"


class _Inherited:
    """An attribute of a class of the program as ``super()`` finds it in a class derived from it."""

    def __init__(self, kind: Any, name: str) -> None:
        self._kind, self._name = kind, name

    def __get__(self, value: Any, owner: Any = None) -> Any:
        remote = self._kind._codegen_remote
        return remote.use("inherited", self._kind, owner if value is None else value, self._name)


def _with_super(base: Any) -> Any:
    """A class of the program with methods for ``super()``, as a base of a class of the tests."""
    if not isinstance(base, Program) or "_codegen_given" in names_of(base):
        return base
    methods: Any = base._codegen_methods
    space: dict[str, Any] = {name: _Inherited(base, name) for name in ("__init__", *methods)}
    space |= {"_codegen_class": base._codegen_class, "_codegen_super": True}
    space |= {name: getattr(base, name) for name in ("__module__", "__qualname__", "__doc__")}
    return Program(base.__name__, (base,), space)


def _is_ours(kind: type) -> bool:
    """Whether a class is not known to the program: a part of how stand-ins are made."""
    return kind in (Handle, _Content) or "_codegen_super" in names_of(kind)


# The only dunder names that are requested. With others, libraries would let the program compute
# with the tests' own values (__array_ufunc__), or use its numbers as addresses in memory
# (__array_interface__).
_DUNDERS = frozenset(
    (
        *("__name__", "__qualname__", "__doc__", "__module__", "__dict__", "__annotations__"),
        *("__self__", "__func__", "__defaults__", "__kwdefaults__", "__members__", "__slots__"),
        *("__origin__", "__args__", "__parameters__", "__match_args__", "__array__"),
        *("__cause__", "__context__", "__notes__", "__version__", "__all__", "__file__"),
        *("__dataclass_fields__", "__dataclass_params__", "__total__", "__required_keys__"),
        *("__code__", "__closure__", "__wrapped__", "__init__", "__eq__", "__ne__"),
        *(
            "__class_getitem__",
            "__orig_class__",
            "__bound__",
            "__abstractmethods__",
            "__post_init__",
        ),
    )
) | frozenset(VERB_OF)


def is_refused(name: str) -> bool:
    """Whether an attribute of this name is never requested from the program."""
    if name.startswith("_codegen") or name == "_as_parameter_":
        return True
    return name.startswith("__") and name.endswith("__") and name not in _DUNDERS


def _fields(cls: Any) -> object:
    """As dataclasses has it."""
    if cls._codegen_fields is None:
        raise AttributeError("__dataclass_fields__")
    return made_fields(cls._codegen_remote.use("fields", cls))


class Handle:
    """An object of the program, known by its number there."""

    _codegen_number: int
    # The operator that made it revealed a plain value to the program: names that such values have.
    _codegen_told: frozenset[str]
    _codegen_own: bool  # made by the tests
    _codegen_remote: Remote
    _codegen_methods: frozenset[str]
    _codegen_special: frozenset[str]
    _codegen_given: Mapping[str, Any] = types.MappingProxyType({})  # if the tests made the class

    def __getattr__(self, name: str) -> object:
        kind = type(self)
        if name == "__signature__" and "__call__" in kind._codegen_special:
            return kind._codegen_remote.signature(self)
        if is_refused(name):
            raise AttributeError(name)
        if name in self._codegen_told:
            raise _refuse(self, f"{name} of")
        if name in kind._codegen_methods:
            return Method(self, name)
        if name == "__dataclass_fields__":
            return _fields(kind)
        if name in kind._codegen_given:  # the program may answer with another value
            kind._codegen_remote.used_objects = True
        return kind._codegen_remote.use("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        type(self)._codegen_remote.use("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        type(self)._codegen_remote.use("delattr", self, name)

    def __dir__(self) -> Any:
        return type(self)._codegen_remote.use("dir", self)

    def __del__(self) -> None:
        type(self)._codegen_remote.dropped.add(self._codegen_number)

    def __mro_entries__(self, _: object) -> tuple[Any, ...]:
        return (self.__getattr__("__origin__"),)  # class C(Base[int])

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__} object>"

    def __reduce_ex__(self, _: Any) -> Any:
        return _unpickled, (_snapshot(self),)

    def __copy__(self) -> object:
        return type(self)._codegen_remote.use_function("copy", "copy", self)

    def __deepcopy__(self, _: object) -> object:
        return type(self)._codegen_remote.use_function("copy", "deepcopy", self)


_snapshots: list[Any] = []


def _snapshot(value: Any) -> int:
    """The number of a copy of an object, for a pickle."""
    _snapshots.append(value.__deepcopy__({}))
    return len(_snapshots) - 1


def _unpickled(number: int) -> object:
    return _snapshots[number]


class Method:
    """A method of an object of the program."""

    __slots__ = ("__self__", "_codegen_name")

    def __init__(self, target: Any, name: str) -> None:
        self.__self__ = target
        self._codegen_name = name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Calls it there."""
        target = self.__self__
        remote = type(target)._codegen_remote
        return remote.use("method", target, self._codegen_name, *arguments, **options)

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        """As :mod:`inspect` wants it."""
        return types.MethodType

    @property
    def __name__(self) -> str:
        return self._codegen_name

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return self.__getattr__("__doc__")

    def __getattr__(self, name: str) -> Any:
        target = self.__self__
        if name == "__signature__":
            return type(target)._codegen_remote.signature(self)
        if is_refused(name):
            raise AttributeError(name)
        return type(target)._codegen_remote.use("getattr", self, name)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is Method
            and other.__self__ is self.__self__
            and other._codegen_name == self._codegen_name
        )

    def __hash__(self) -> int:
        return hash((id(self.__self__), self._codegen_name))


def is_of_program(value: object) -> bool:
    """Whether a value is an object of the program, with or without plain content."""
    return "_codegen_class" in names_of(type(value))


# --- special methods ---------------------------------------------------------------------------


class RefusedError(TypeError):
    """The program was not asked, since its answer would decide a comparison. To tests it is a
    TypeError.
    """

    __module__, __qualname__ = "builtins", "TypeError"


def fails_tests(error: object) -> bool:
    """Whether an exception says that a test has failed: such a one the program must not catch."""
    ours = isinstance(error, (AssertionError, RefusedError))
    return ours and not hasattr(error, "_codegen_number")


def _refuse(value: object, what: str) -> TypeError:
    name = type(value).__qualname__
    return RefusedError(
        f"{what} a {name}, an object of the program, is not for it to say; {REMEDY}"
    )


_UNTOLD: frozenset[str] = frozenset()
# What operators make of them has names of its own.
_DIFFERENCES = {"date": "timedelta", "datetime": "timedelta"}


@functools.cache
def names_of_plain(kind: type) -> frozenset[str]:
    """The public names that the result of an operator may have if the other operand is plain."""
    names = dir(kind) + dir(
        getattr(sys.modules.get(kind.__module__), _DIFFERENCES.get(kind.__name__, ""), None)
    )
    return frozenset(name for name in names if not name.startswith("_")) | {""}


def _arithmetic(verb: str, reflected: bool) -> Callable[..., object]:
    def method(self: Any, other: Any, *more: object) -> object:
        remote = type(self)._codegen_remote
        pair = (other, self) if reflected else (self, other)
        mine = is_of_program(other)
        own = self._codegen_own and (not mine or getattr(other, "_codegen_own", False))
        told = self._codegen_told
        told |= getattr(other, "_codegen_told", _UNTOLD) if mine else names_of_plain(type(other))
        result = remote.use(verb, *pair, *more, keeps=True)
        if isinstance(result, Handle):
            if result is not self and result is not other:
                _set(result, "_codegen_own", own)
            if told and not own:
                _set(result, "_codegen_told", told)
        elif told:
            if not own:
                raise _refuse(self, f"what {verb} makes of a plain value and")
            remote.used_objects = True
        return result

    return method


def _unary(verb: str) -> Callable[..., object]:
    def method(self: Any) -> object:
        result = type(self)._codegen_remote.use(verb, self)
        if self._codegen_told:
            if not isinstance(result, Handle):
                raise _refuse(self, f"{verb} of")
            _set(result, "_codegen_told", self._codegen_told)
        return result

    return method


def _order(verb: str) -> Callable[..., object]:
    def method(self: Any, other: Any) -> object:
        remote = type(self)._codegen_remote
        if not is_of_program(other) and not self._codegen_own:
            raise _refuse(self, "the order of a plain value and")
        return remote.decide(verb, self, other)

    return method


def _conversion(verb: str) -> Callable[..., object]:
    def method(self: Any, *arguments: Any) -> object:
        if self._codegen_told and (verb != "format" or any(arguments)):
            raise _refuse(self, f"{verb} of")
        remote = type(self)._codegen_remote
        result = remote.use(verb, self, *arguments)
        if verb == "bool":
            return result is True
        return result

    return method


def _contains(self: Any, item: Any) -> bool:
    if not is_of_program(item) and not self._codegen_own:
        # By its items, where it has some: they are compared here.
        if (
            "__iter__" in type(self)._codegen_special
            or "__getitem__" in type(self)._codegen_special
        ):
            return any(item is one or item == one for one in self)
        raise _refuse(self, "whether a plain value is in")
    return type(self)._codegen_remote.decide("contains", self, item)


def _verb(verb: str) -> Callable[..., object]:
    def method(self: Any, *arguments: Any, **options: Any) -> Any:
        return type(self)._codegen_remote.use(verb, self, *arguments, **options)

    return method


def _keeping(verb: str) -> Callable[..., object]:
    def method(self: Any, *arguments: Any) -> Any:
        return type(self)._codegen_remote.use(verb, self, *arguments, keeps=True)

    return method


def _equal(self: Any, other: object) -> Any:
    if other is self:
        return True
    if is_of_program(other):
        return type(self)._codegen_remote.decide("eq", self, other)
    content = _CONTENT_OF.get(type(self)._codegen_equals)
    if content is not None and isinstance(other, content[0]):
        return content[1](self) == other
    type(self)._codegen_remote.compared = type(self).__qualname__
    return NotImplemented


# Of classes that compare themselves as a class of the library does: what they equal, and their
# content as a plain value. The content is compared here, and so are its parts.
_CONTENT_OF: dict[str, tuple[Any, Callable[[Any], object]]] = {
    "Mapping": (Mapping, lambda value: dict(value.items())),
    "Set": (Set, lambda value: set(iter(value))),
    "UserList": (list, lambda value: list(iter(value))),
    "UserString": (str, str),
}


def _identical(self: Any, other: object) -> Any:
    if other is self:
        return True
    if not is_of_program(other):
        type(self)._codegen_remote.compared = type(self).__qualname__
        return NotImplemented
    kind: Any = type(other)
    return NotImplemented if "__eq__" in kind._codegen_special else False


def _exit(self: Any, kind: object, error: object, trace: object) -> object:
    catches = type(self)._codegen_remote.use("exit", self, kind, error, trace)
    return catches and not _hides_failure(error)


async def _aexit(self: Any, kind: object, error: object, trace: object) -> object:
    catches = await type(self)._codegen_remote.use("aexit", self, kind, error, trace)
    return catches and not _hides_failure(error)


def _hides_failure(error: Any) -> bool:
    """Whether a test would pass only because the end of a ``with`` block has caught an exception:
    it is a failure itself, or the rest of the block, which it skips, has assertions.
    """
    if fails_tests(error):
        return True
    trace = getattr(error, "__traceback__", None)
    if trace is None:
        return False
    import dis  # few jobs need it

    code, raised_at = trace.tb_frame.f_code, trace.tb_lasti
    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    # The handler that runs now is the last one before the frame's instruction.
    blocks = [entry for entry in table if entry.target <= trace.tb_frame.f_lasti]
    handler = max((e.target for e in blocks if e.start <= raised_at < e.end), default=None)
    rest = [e for e in blocks if e.target == handler and e.end > raised_at]
    asserts = loads_of_assertion_error(code.co_code)
    line = before = 0
    for instruction in dis.get_instructions(code):
        before, line = line, (instruction.positions and instruction.positions.lineno) or line
        if line < trace.tb_lineno or not any(e.start <= instruction.offset < e.end for e in rest):
            continue
        # "assert False" says that the block never comes so far; it compares nothing.
        compares = instruction.offset in asserts and line == before
        if compares or str(instruction.argval).startswith("assert"):
            return True
    return False


def _await(self: Any) -> Any:
    return type(self)._codegen_remote.wait(self)


# How each special method of a handle is carried out.
_METHODS: dict[str, Callable[..., object]] = {
    **{name: _verb(verb) for name, verb in VERB_OF.items()},
    **{f"__{name}__": _conversion(name) for name in CONVERSIONS},
    **{f"__{name}__": _arithmetic(name, False) for name in ARITHMETIC},
    **{f"__r{name}__": _arithmetic(name, True) for name in ARITHMETIC},
    **{f"__{name}__": _arithmetic(name, False) for name in IN_PLACE},
    **{f"__{name}__": _order(name) for name in ORDER},
    **{f"__{name}__": _unary(name) for name in UNARY},
    "__contains__": _contains,
    "__enter__": _keeping("enter"),
    "__exit__": _exit,
    "__aexit__": _aexit,
    "__await__": _await,
}
# The special methods that a subclass of a plain type may define, besides its content.
_OF_CONTENT = ("__str__", "__repr__", "__format__", "__call__", "__enter__", "__exit__")
_OPERATORS = (*ARITHMETIC, *(f"r{name}" for name in ARITHMETIC), *IN_PLACE, *ORDER)
_MUTATORS = (
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update"),
    *("popitem", "setdefault", "add", "discard", "difference_update", "intersection_update"),
    *("symmetric_difference_update", "appendleft", "extendleft", "popleft", "rotate"),
    *("subtract", "__setitem__", "__delitem__", "__iadd__", "__imul__", "__ior__"),
    *("__iand__", "__isub__", "__ixor__"),
)


def make_class(remote: Remote, number: int, about: dict[str, Any], bases: tuple[type, ...]) -> Any:
    """The tests' stand-in for a class of the program.

    Args:
        remote: the connection to the program.
        number: its number there.
        about: its description by the program.
        bases: the stand-ins of its bases, or built-in types.
    """
    special = frozenset(about["special"])
    methods = frozenset(about["methods"])
    space: dict[str, Any] = {
        "__module__": "candidate"
        if about["module"] in ("candidate", "__main__")
        else about["module"],
        "__qualname__": about["qualname"],
        "__doc__": _Doc(about["doc"]),
        "_codegen_remote": remote,
        "_codegen_class": number,
        "_codegen_special": special,
        "_codegen_methods": methods,
        "_codegen_fields": about["fields"],
        "_codegen_equals": about["equals"],
    }
    plain = next(_plain_bases(bases), None)
    if any(issubclass(base, BaseException) for base in bases):
        return _exception_class(about, bases, space)
    if plain is not None:
        for name in _OF_CONTENT:
            if name in about["own_special"]:
                space[name] = _METHODS[name]
        space |= _content_space(plain, about)
        return Program(about["name"], _with(bases, _Content), space)
    for name in special:
        if name in _METHODS:
            space[name] = _METHODS[name]
    space["__eq__"] = _equal if "__eq__" in special else _identical
    if "__hash__" not in special:
        space["__hash__"] = object.__hash__
    elif not about["hashable"]:
        space["__hash__"] = None
    for name in ("__dict__", "__annotations__"):
        space[name] = property(_getter(remote, name))
    if about["module"] == "builtins" and about["name"] == "function":
        space["__get__"] = _bound
    if about["module"] not in ("candidate", "__main__"):
        space["__class__"] = property(lambda self: _stdlib_class(about) or type(self))
        space["__module__"] = property(_getter(remote, "__module__"))
    space["_codegen_abstract"] = about["abstract"]
    return Program(about["name"], bases or (Handle,), space)


class _Doc:
    """The docstring of a class, and of an instance that may have another."""

    def __init__(self, of_class: str | None) -> None:
        self._of_class = of_class

    def __get__(self, value: Any, kind: Any) -> object:
        return (
            self._of_class
            if value is None
            else kind._codegen_remote.use("getattr", value, "__doc__")
        )


def _bound(function: Any, value: object, _: object = None) -> object:
    """A function of the program as an attribute of a class of the tests."""
    return function if value is None else types.MethodType(function, value)


def _getter(remote: Remote, name: str) -> Callable[[object], object]:
    return lambda self: remote.use("getattr", self, name)


def _stdlib_class(about: dict[str, Any]) -> object:
    """The tests' own class of the same name, for ``isinstance``; none of the plain types."""
    module = sys.modules.get(about["module"])
    found = getattr(module, about["qualname"], None) if module else None
    if about["module"] == "builtins":
        found = _BUILTIN_TYPES.get(about["name"])
    plain = (*_PLAIN, *MUTABLE)
    return found if isinstance(found, type) and not issubclass(found, plain) else None


_BUILTIN_TYPES = {
    kind.__name__: kind
    for kind in (
        *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType),
        *(types.AsyncGeneratorType, property, classmethod, staticmethod),
        *(map, filter, zip, enumerate, reversed),
    )
}


def _plain_bases(bases: tuple[type, ...]) -> Any:
    for base in bases:
        for one in base.__mro__:
            if one in _PLAIN or one in MUTABLE:
                yield one
                break


def _with(bases: tuple[type, ...], mixin: type) -> tuple[type, ...]:
    if any(issubclass(base, mixin) for base in bases):
        return bases
    return (mixin, *bases)


class _Content:
    """The further attributes of instances of subclasses of plain types."""

    _codegen_number: int
    _codegen_remote: Remote
    _codegen_told = _UNTOLD
    _codegen_own = False

    def __getattr__(self, name: str) -> object:
        if is_refused(name):
            raise AttributeError(name)
        kind: Any = type(self)
        if name in kind._codegen_methods:
            return Method(self, name)
        return kind._codegen_remote.use("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        type(self)._codegen_remote.use("setattr", self, name, value)

    def __copy__(self) -> object:
        return type(self)._codegen_remote.use_function("copy", "copy", self)

    def __deepcopy__(self, _: object) -> object:
        return type(self)._codegen_remote.use_function("copy", "deepcopy", self)

    def __reduce_ex__(self, _: Any) -> Any:
        return _unpickled, (_snapshot(self),)


def _content_space(plain: Any, about: dict[str, Any]) -> dict[str, object]:
    """Methods of a subclass of a plain type that run in the program."""
    space: dict[str, Any] = {}
    for name in about["methods"]:
        space[name] = _ContentMethod(name)
    if plain in MUTABLE:
        for name in _MUTATORS:
            if hasattr(plain, name):
                space[name] = _ContentMethod(name)
    for name in ("__getitem__", "__missing__"):
        if name in about["own_special"]:
            space["__getitem__"] = _verb("getitem")
    unary = [f"__{name}__" for name in (*UNARY, "abs", "round", "int", "float", "bool")]
    for name in ("__iter__", "__len__", *unary):
        if name in about["own_special"]:
            space[name] = _METHODS[name]
    if "__contains__" in about["own_special"]:
        space["__contains__"] = lambda self, item: (
            _contains(self, item)
            if self._codegen_own or is_of_program(item)
            else plain.__contains__(self, item)
        )
    for name in _OPERATORS:
        if f"__{name}__" in about["own_special"]:
            space[f"__{name}__"] = _content_operator(f"__{name}__", plain)
    return space


def _content_operator(name: str, plain: Any) -> Callable[..., object]:
    """An operator that a subclass of a plain type defines.

    The program must not learn a plain value of the tests: if the other operand is one, the plain
    type's operator is used, unless the tests made the object themselves.
    """
    of_content = getattr(plain, name, None)

    def method(self: Any, other: Any, *more: object) -> object:
        knows_none = is_of_program(other) and not getattr(other, "_codegen_told", _UNTOLD)
        if self._codegen_own or knows_none:
            return _METHODS[name](self, other, *more)
        return NotImplemented if of_content is None else of_content(self, other, *more)

    return method


class _ContentMethod:
    """A method of a subclass of a plain type that runs in the program."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, value: Any, kind: Any) -> Any:
        if value is None:
            return kind._codegen_remote.use("getattr", kind, self._name)
        return Method(value, self._name)


def _exception_class(about: dict[str, Any], bases: tuple[type, ...], space: dict[str, Any]) -> Any:
    def ask(self: Any, name: str) -> Any:
        number = vars(self).get("_codegen_number")
        if number is None or name.startswith(("_codegen", "__")):
            raise AttributeError(name)
        return type(self)._codegen_remote.use("getattr", self, name)

    def set_both(self: Any, name: str, value: object) -> None:
        _set(self, name, value)
        if "_codegen_number" in vars(self) and not name.startswith("_"):
            type(self)._codegen_remote.use("setattr", self, name, value)

    def text(self: Any) -> str:
        return type(self)._codegen_remote.use("str", self)

    space["__getattr__"] = ask
    space["__setattr__"] = set_both

    def equal(self: Any, other: object) -> Any:
        if other is self or not is_of_program(other):
            return other is self or NotImplemented
        return type(self)._codegen_remote.decide("eq", self, other)

    if "__str__" in about["own_special"]:
        space["__str__"] = text
    if "__eq__" in about["own_special"]:
        space |= {"__eq__": equal, "__hash__": BaseException.__hash__}
    return Program(about["name"], bases, space)
