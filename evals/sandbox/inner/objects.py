"""The program's side of objects: its own objects, which the tests know by number, and stand-ins for
objects of the tests.

Trees sent to the tests for an object of the program:

    {"h": [number, class]}            an object; the tests ask for all that they want to know of it
    {"hv": [number, class, tree]}     an instance of a subclass of a plain immutable type
    {"hs": [number, class, shared]}   the same of a plain mutable type, see :mod:`.shared`
    {"hc": class}                     a class
    {"ge": [number, started]}         a generator, and whether it waits at a yield
    {"co": number}                    a coroutine
    {"ex": [class, arguments, number, cause, context, attributes]}    an exception

``class`` is a number of this side, or, for an exception, its module and name. The tests send back
``{"ha": number}``, ``{"p": name}`` for a global function, ``{"bm": [number, name]}`` for a method.
They send an object of their own as ``{"x": [number, kind, about]}``; it goes back as ``{"x":
number}``.
"""

from __future__ import annotations

import builtins
import sys
import types
from collections import UserList, UserString, abc
from collections.abc import Callable
from typing import Any

from . import arrays, wire
from .shared import SharedValues, base_of, tag_of
from .verbs import (
    VERBS,
    made_fields,
    made_member,
    method_names,
    own_special_methods,
    special_methods,
)

MAX_TEXT = 2000
_OUR_REFERENCES = 3  # to an object: the list of all, the list of arguments, and getrefcount's own
# Plain immutable types that may be subclassed, and how a subclass's content is obtained.
_CONTENT: dict[type, Callable[[Any], Any]] = {
    int: int.__index__,
    float: float.__float__,
    complex: lambda value: complex(value.real, value.imag),
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}


class Objects:
    """The objects that the program's side keeps.

    Args:
        namespace: the program's global names.
        ask: requests an operation on an object of the tests, see :class:`Foreign`.
    """

    def __init__(self, namespace: dict[str, Any], ask: Callable[..., Any]) -> None:
        self.namespace = namespace
        self._ask = ask
        self._numbers: dict[int, int] = {}
        self._objects: list[Any] = [None]
        self._foreign: dict[int, Any] = {}
        self._foreign_of: dict[int, int] = {}
        self._shared = SharedValues(2)
        self._loop: Any = None
        self.waiting: dict[int, Any] = {}  # futures that end with the tests' awaitables, by number
        self._tasks: dict[int, Any] = {}  # of what the tests wait for, by its id

    # --- sending -------------------------------------------------------------------------------

    def pack(self, value: Any) -> Any:
        """The tree of any value."""
        return wire.pack(value, self.not_plain, self.share)

    def changes(self) -> list[Any]:
        """The changes of shared values, for the tests."""
        return self._shared.changes(self.pack)

    def share(self, value: Any, depth: int) -> Any:
        """The tree of a mutable value; None to copy it."""
        if type(value) is types.SimpleNamespace:
            return None

        def item(part: Any) -> Any:
            return wire.pack(part, self.not_plain, self.share, depth + 1)

        content = self._shared.pack(value, item)
        return None if content is None else {"sh": content}

    def adopt(self, value: Any) -> int:
        """Shares a value that the tests have as well, see :meth:`.SharedValues.adopt`."""
        return self._shared.adopt(value)

    def number(self, value: Any) -> int:
        """The number of an object, which is kept from now on."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._objects)
            self._objects.append(value)
        return number

    def not_plain(self, value: Any) -> Any:
        """The tree of a value that is not plain."""
        kind = type(value)
        if id(value) in self._foreign_of:
            return {"x": self._foreign_of[id(value)]}
        if isinstance(value, type) and issubclass(value, BaseException):
            place = _stdlib_place(value)
            return {"ek": place} if place else {"hc": self.number(value)}
        if isinstance(value, type):
            return {"hc": self.number(value)}
        if isinstance(value, BaseException):
            return self.exception(value)
        if kind is types.GeneratorType:
            return {"ge": [self.number(value), value.gi_suspended]}
        if kind is types.CoroutineType:
            return {"co": self.number(value)}
        if isinstance(value, types.ModuleType) and value.__name__ in wire.GLOBAL_MODULES:
            return {"mo": value.__name__}
        if (tree := arrays.pack_array(value, self.pack)) is not None:
            return tree
        number, of = self.number(value), self.number(kind)
        for base, content in _CONTENT.items():
            if issubclass(kind, base):
                return {"hv": [number, of, wire.pack(content(value), self.not_plain)]}
        base = base_of(value)
        if base is not None:
            shared = self._shared.pack(value, self.pack, tag_of(base))
            if shared is not None:
                return {"hs": [number, of, shared]}
        return {"h": [number, of]}

    def exception(self, error: BaseException) -> Any:
        """The tree of an exception."""
        if id(error) in self._foreign_of:
            return {"x": self._foreign_of[id(error)]}
        kind = type(error)
        place: Any = _stdlib_place(kind)
        try:
            arguments = error.__reduce__()[1] if isinstance(error, OSError) else error.args
            packed = self.pack(tuple(arguments))
        except Exception:  # noqa: BLE001 - whatever the program made of it
            packed = self.pack((wire.describe_exception(error)[1],))
        cause, context = error.__cause__, error.__context__
        attributes = {n: v for n, v in vars(error).items() if place or n == "__notes__"}
        if isinstance(error, (AttributeError, ImportError, NameError)):
            attributes["name"] = error.name
        if error.__suppress_context__ and cause is None:
            attributes["__suppress_context__"] = True
        return {
            "ex": [
                place or self.number(kind),
                packed,
                self.number(error),
                None if cause is None else self.exception(cause),
                None if context is None or context is cause else self.exception(context),
                self.pack(attributes) if attributes else None,
            ]
        }

    # --- receiving -----------------------------------------------------------------------------

    def unpack(self, tree: Any) -> Any:
        """The value of a tree of the tests."""
        return wire.unpack(tree, self._special)

    def apply(self, changes: Any) -> None:
        """Makes the tests' changes of shared values."""
        self._shared.apply(changes, self.unpack)

    def _special(self, tag: str, content: Any) -> Any:
        if tag == "sh":
            return self._shared.unpack(content, self.unpack)
        if tag == "ha":
            return self._objects[content]
        if tag == "p":
            return self.namespace[content]
        if tag == "bm":
            return getattr(self._objects[content[0]], content[1])
        if tag == "gf":
            return wire.find_global(*content)
        if tag == "mo":
            import importlib

            return importlib.import_module(content)
        if tag == "ex":
            name, arguments = content
            return getattr(builtins, name)(*self.unpack(arguments))
        if tag == "x":
            return self._foreign_value(*content)
        if tag in arrays.TAGS:
            return arrays.unpack_array(tag, content, self.unpack)
        raise wire.WireError(f"unknown tag {tag!r}")

    def _foreign_value(self, number: int, kind: str, about: Any) -> Any:
        found = self._foreign.get(number)
        if found is None:
            found = self._foreign[number] = _MAKERS[kind](self, number, about)
            self._foreign_of[id(found)] = number
        return found

    def ask(self, verb: str, number: int, *arguments: Any, **options: Any) -> Any:
        """Requests an operation on the tests' object of a number."""
        return self._ask(verb, number, arguments, options)

    # --- requests of the tests -----------------------------------------------------------------

    def do(
        self,
        verb: str,
        trees: list[Any],
        options: dict[str, Any],
        changes: Any,
        dropped: tuple[int, ...] = (),
    ) -> Any:
        """Carries out a request of the tests and returns its result.

        Args:
            dropped: the numbers of objects that the tests no longer have.
        """
        for number in dropped:
            del self._numbers[id(self._objects[number])]
            self._objects[number] = None
        arguments = [self.unpack(tree) for tree in trees]
        named = {key: self.unpack(tree) for key, tree in options.items()}
        self._shared.apply(changes, self.unpack)
        if verb == "method":
            target, name, *rest = arguments
            return getattr(target, name)(*rest, **named)
        if verb == "describe":
            return self._describe(*arguments)
        if verb == "await":
            return self._await(*arguments)
        if verb == "signature":
            return _signature(*arguments)
        if verb == "close_unused" and sys.getrefcount(arguments[0]) > _OUR_REFERENCES:
            return None
        if verb.startswith("close"):
            return arguments[0].close()
        if verb == "derive":
            return self.number(_derived(*arguments, **named))
        if verb == "next" and len(arguments) > 1:
            return arguments[0].send(arguments[1])
        return VERBS[verb](*arguments, **named)

    def _describe(self, kind: type) -> dict[str, Any]:
        """The description of a class for the tests."""
        bases: list[Any] = []
        for base in kind.__bases__:
            if base is object:
                continue
            if base.__module__ == "builtins" or base in wire.PLAIN_BASES:
                bases.append(base.__name__)
            elif issubclass(base, BaseException) and _stdlib_place(base):
                bases.append(_stdlib_place(base))
            else:
                bases.append(self.number(base))
        hash_of = getattr(kind, "__hash__", None)
        fields = getattr(kind, "__dataclass_fields__", None)
        return {
            "name": kind.__name__.replace("-", "_"),  # method-wrapper
            "qualname": kind.__qualname__,
            "module": str(kind.__module__),
            "bases": bases,
            "special": special_methods(kind),
            "own_special": own_special_methods(kind),
            "methods": method_names(kind),
            "hashable": hash_of is not None,
            "equals": next((k.__name__ for k in _BY_CONTENT if kind.__eq__ is k.__eq__), ""),
            "abstract": bool(kind.__flags__ & (1 << 20)),
            "doc": kind.__doc__[:MAX_TEXT] if isinstance(kind.__doc__, str) else None,
            "fields": list(fields) if isinstance(fields, dict) else None,
        }

    def _await(self, awaitable: Any, pause: float, cancels: bool, finished: list[int]) -> Any:
        """Runs the loop for a moment.

        Args:
            finished: the tests' awaitables that have ended.

        Returns:
            "done", "cancelled", "waits" or, if it is for the tests, "lends"; a result; and whether
            other tasks are left. Without an awaitable only the last.
        """
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        loop = self._loop
        for number in finished:
            if (future := self.waiting.get(number)) is not None and not future.done():
                future.set_result(None)

        async def run() -> Any:
            return await awaitable

        if awaitable is None:
            loop.call_later(pause, loop.stop)
            loop.run_forever()
            return bool(asyncio.all_tasks(loop))
        task = self._tasks.get(id(awaitable))
        if task is None:
            task = self._tasks[id(awaitable)] = loop.create_task(run())
        if cancels:
            task.cancel()
        if not task.done():
            some = asyncio.wait({task}, timeout=0.0 if self.waiting else pause)
            loop.run_until_complete(some)
        if not task.done():
            return "lends" if self.waiting else "waits", None, False
        del self._tasks[id(awaitable)]
        has_more = bool(asyncio.all_tasks(loop))
        if task.cancelled():
            return "cancelled", None, has_more
        return "done", task.result(), has_more


# Classes of the library that compare by content; subclasses that inherit this do so, too.
_BY_CONTENT: tuple[type, ...] = (abc.Mapping, abc.Set, UserList, UserString)


def _signature(function: Any) -> tuple[list[Any], dict[str, Any]]:
    """The parameters and the returned annotation; what is empty is left out."""
    import inspect

    found = inspect.signature(function)

    def given(**options: Any) -> dict[str, Any]:
        return {name: value for name, value in options.items() if value is not found.empty}

    parameters = [
        (p.name, int(p.kind), given(default=p.default, annotation=p.annotation))
        for p in found.parameters.values()
    ]
    return parameters, given(return_annotation=found.return_annotation)


def _derived(name: str, bases: tuple[type, ...], members: Any, **options: Any) -> type:
    """A class of the tests that derives from classes of the program."""

    def fill(space: dict[str, Any]) -> None:
        for member, how, value in members:
            space[member] = made_member(how, value)

    return types.new_class(name, bases, options, fill)


def _stdlib_place(kind: type) -> list[str] | None:
    """Module and name of an exception's class that is not the program's own, and the name of its
    built-in base, which the tests' side takes if it has not imported the module.
    """
    module, name = kind.__module__, kind.__qualname__
    if type(module) is not str or module in ("candidate", "__main__"):
        return None
    base = next(b for b in kind.__mro__ if b.__module__ == "builtins").__name__
    if module == "builtins":
        return [module, name, base] if getattr(builtins, name, None) is kind else None
    root = module.split(".")[0]
    if root not in sys.stdlib_module_names:
        return None
    return [module, name, base] if wire.find_global(module, name) is kind else None


# --- objects of the tests ---------------------------------------------------------------------


class Foreign:
    """A stand-in for an object of the tests; operations on it run there."""

    __slots__ = ("__weakref__", "_codegen_number", "_codegen_objects")

    def __init__(self, objects: Objects, number: int) -> None:
        object.__setattr__(self, "_codegen_objects", objects)
        object.__setattr__(self, "_codegen_number", number)

    def __getattr__(self, name: str) -> Any:
        return _do(self, "getattr", name)

    def __setattr__(self, name: str, value: object) -> None:
        _do(self, "setattr", name, value)

    def __delattr__(self, name: str) -> None:
        _do(self, "delattr", name)

    def __dir__(self) -> Any:
        return _do(self, "dir")

    def __repr__(self) -> str:
        return _do(self, "repr")

    def __str__(self) -> str:
        return _do(self, "str")


def _do(foreign: Any, verb: str, *arguments: Any, **options: Any) -> Any:
    return foreign._codegen_objects.ask(verb, foreign._codegen_number, *arguments, **options)


def _special_method(verb: str) -> Callable[..., Any]:
    def method(self: object, *arguments: object, **options: object) -> object:
        return _do(self, verb, *arguments, **options)

    return method


class _ForeignType(type):
    """The class of stand-ins for classes of the tests. Their instances are the tests' objects."""

    _codegen_class: tuple[Objects, int]

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("call", number, *arguments, **options)

    def __getattr__(cls, name: str) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("getattr", number, name)

    def __dir__(cls) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("dir", number)


class _ForeignEnum(_ForeignType):
    """Of an enumeration of the tests."""

    def __iter__(cls) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("iter", number)

    def __len__(cls) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("len", number)

    def __getitem__(cls, name: Any) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("getitem", number, name)

    def __contains__(cls, value: Any) -> Any:
        objects, number = cls._codegen_class
        return objects.ask("contains", number, value)


def _foreign_object(objects: Objects, number: int, about: Any) -> Any:
    """An object of a stand-in for its class, or with the special methods that ``about`` names."""
    kind = objects.unpack(about["class"])
    if kind is None:
        kind = type(str(about["name"]), (Foreign,), _special_space(about["special"]))
    made = object.__new__(kind)
    Foreign.__init__(made, objects, number)
    return made


def _special_space(names: list[str]) -> dict[str, Any]:
    from .verbs import VERB_OF

    space: dict[str, Any] = {"__slots__": ()}
    for name in names:
        if name == "__eq__":
            space[name] = _special_method("eq")
            space.setdefault("__hash__", Foreign.__hash__)
        elif name.startswith("__r") and name[3:-2] in VERB_OF:
            continue
        elif name in VERB_OF:
            space[name] = _special_method(VERB_OF[name])
    return space


def _foreign_function(objects: Objects, number: int, about: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        return objects.ask("call", number, *arguments, **options)

    async def call_and_wait(*arguments: Any, **options: Any) -> Any:
        return await call(*arguments, **options)

    function: Any = call_and_wait if about["async"] else call
    _describe_as(function, objects, about)
    return function


def _describe_as(made: Any, objects: Objects, about: Any) -> None:
    """Makes a stand-in look like the function or class that it stands for."""
    made.__name__ = about["name"]
    made.__qualname__ = about["qualname"]
    made.__doc__ = about["doc"]
    made.__module__ = "__main__"
    if about["parameters"] is not None:
        import inspect

        made.__signature__ = inspect.Signature(
            [
                inspect.Parameter(
                    *(name, inspect._ParameterKind(kind)),
                    **{key: objects.unpack(tree) for key, tree in options.items()},
                )
                for name, kind, options in about["parameters"]
            ]
        )
    made.__annotations__ = {
        name: objects.unpack(tree) for name, tree in about["annotations"].items()
    }


class _ForeignIterator(Foreign):
    __slots__ = ()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> object:
        return _do(self, "next")


def _foreign_generator(objects: Objects, number: int, _: object) -> object:
    def generator(values: Any) -> Any:
        return (yield from values)

    return generator(_ForeignIterator(objects, number))


class _ForeignAwaitable(Foreign):
    __slots__ = ()

    def __await__(self) -> Any:
        import asyncio

        objects, number = self._codegen_objects, self._codegen_number
        while True:
            state, value = _do(self, "await")
            if state == "done":
                return value
            if state == "cancelled":
                raise asyncio.CancelledError
            future = objects.waiting[number] = asyncio.get_running_loop().create_future()
            try:
                yield from future
            except asyncio.CancelledError:
                _do(self, "cancel")
                raise
            finally:
                objects.waiting.pop(number, None)


def _foreign_awaitable(objects: Objects, number: int, about: Any) -> Any:
    foreign = _ForeignAwaitable(objects, number)

    async def coroutine() -> Any:
        return await foreign

    return coroutine() if about["coroutine"] else foreign


def _foreign_class(objects: Objects, number: int, about: Any) -> Any:
    bases = tuple(getattr(builtins, name, Exception) for name in about["bases"]) or (object,)
    if not issubclass(bases[0], BaseException):
        parents = [objects.unpack(tree) for tree in about["parents"]]
        space = _special_space(about["special"])
        of = _ForeignEnum if about["is_enum"] else _ForeignType
        made = of(about["name"], tuple(parents) or (Foreign,), space)
        made._codegen_class = (objects, number)
        _describe_as(made, objects, about)
        if about["fields"] is not None:
            type.__setattr__(
                made, "__dataclass_fields__", made_fields(objects.unpack(about["fields"]))
            )
        return made

    def make(kind: Any, *arguments: Any, **options: Any) -> Any:
        error = bases[0].__new__(kind, *arguments, **options)
        made = objects.ask("make", number, *arguments, **options)
        objects._foreign_of[id(error)] = made
        objects._foreign[made] = error
        return error

    def init(self: Any, *arguments: Any, **_: object) -> None:
        bases[0].__init__(self, *arguments)

    return type(about["name"], bases, {"__new__": make, "__init__": init})


class _ForeignFile(Foreign):
    """A stream of the tests."""

    __slots__ = ()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _foreign_error(objects: Objects, _: int, about: Any) -> object:
    kind, arguments = objects.unpack(about[0]), objects.unpack(about[1])
    base = next(b for b in kind.__mro__ if b.__module__ == "builtins")
    try:
        error = base.__new__(kind, *arguments)
        base.__init__(error, *arguments)
    except TypeError:
        error = RuntimeError(*arguments)
    error.__dict__.update({name: objects.unpack(tree) for name, tree in about[2].items()})
    return error


_MAKERS: dict[str, Callable[[Objects, int, object], object]] = {
    "object": _foreign_object,
    "function": _foreign_function,
    "iterator": lambda objects, number, _: _ForeignIterator(objects, number),
    "generator": _foreign_generator,
    "await": _foreign_awaitable,
    "class": _foreign_class,
    "error": _foreign_error,
    "file": lambda objects, number, _: _ForeignFile(objects, number),
}
