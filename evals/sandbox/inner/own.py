"""Objects of the tests that were passed to a program: functions, iterators, streams, instances.

They stay here. The program knows them by number and may request operations on them while it runs.
The allowed operations are limited, so that no object leads to the tests themselves: functions may
only be called; an instance's names that begin with an underscore are denied; modules, frames and
code are never passed; and no attribute that the object's class defines, such as a mock's
assertions, can be set.
"""

from __future__ import annotations

import builtins
import contextlib
import enum
import functools
import gc
import io
import opcode
import operator
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from . import wire
from .verbs import VERBS, special_methods

_TESTS = "__main__"
_PROGRAM = f"{__name__.rpartition('.')[0]}.handles"  # of the class of the program's classes
# The modules of classes whose instances a program may use: the tests' own, and plain containers.
_MODULES = (
    *(_TESTS, "unittest.mock", "_thread", "threading", "queue", "_queue", "random"),
    *("asyncio.queues", "asyncio.locks", "contextlib", "sqlite3"),
)
# Of connections, cursors and rows of sqlite3. Others load libraries and call what they are given.
_SQL = frozenset(
    (
        *("execute", "executemany", "executescript", "commit", "rollback", "close", "cursor"),
        *("fetchone", "fetchmany", "fetchall", "lastrowid", "rowcount", "description", "keys"),
        *("total_changes", "in_transaction", "row_factory", "arraysize", "connection"),
    )
)
_STREAM = frozenset(
    (
        *("read", "readline", "readlines", "write", "writelines", "seek", "tell", "close", "flush"),
        *("closed", "getvalue", "truncate", "readable", "writable", "seekable", "name", "mode"),
        *("encoding", "errors", "read1", "readinto", "isatty", "newlines"),
    )
)
# With these a program could take a mock's assertions away.
_OF_MOCKS = frozenset(("configure_mock", "reset_mock", "attach_mock", "mock_add_spec"))
_OF_ENUMS = frozenset(("iter", "len", "getitem", "contains"))
_GENERATOR = frozenset(("send", "throw", "close"))
_ASYNC_GENERATOR = frozenset(("asend", "athrow", "aclose"))
_PLAIN_DATA = (int, float, complex, str, bytes, bool, tuple, list, dict, set, type(None))
# An assertion loads AssertionError: by an instruction of its own, or as constant 0 (Python 3.14).
_LOADS_ERROR = opcode.opmap.get("LOAD_ASSERTION_ERROR", -1)
_LOADS_COMMON = opcode.opmap.get("LOAD_COMMON_CONSTANT", -1)
_FUNCTIONS = (
    *(types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial),
    *(operator.attrgetter, operator.itemgetter, operator.methodcaller),
)
# The verbs allowed for an instance, besides those of attributes.
_OF_INSTANCES = frozenset(VERBS) | {"await"}
_OF_INSTANCES -= {"isinstance", "issubclass", "dir", "vars", "inherited", "member", "fields"}


class OwnObjects:
    """The objects that the tests' side keeps for the program.

    Args:
        pack: the tree of any value, for the program.
    """

    def __init__(self, pack: Callable[[Any], Any]) -> None:
        self._pack = pack
        self.helpers: set[object] = set()  # threads that work while another waits for them
        self._values: list[Any] = [None]
        self._numbers: dict[int, int] = {}
        self.loop_runs = False  # whether the tests' loop runs while the program waits
        self._tasks: dict[int, Any] = {}  # of awaitables that the program waits for
        self._described: set[int] = set()  # classes that are being described
        self._decorated: set[int] = set()  # functions given to decorators that have not ended yet

    def value(self, number: Any) -> Any:
        """The object of a number."""
        if type(number) is not int or not 0 < number < len(self._values):
            raise wire.WireError("a malformed value: an unknown object of the tests")
        return self._values[number]

    @property
    def lends(self) -> bool:
        """Whether the program knows any of them."""
        return len(self._values) > 1

    def keep(self, value: object) -> int:
        """The number of an object, which is kept from now on."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self._values)
            self._values.append(value)
        return number

    def tree(self, value: Any) -> Any:
        """The tree of an object of the tests; None if it can't be passed to the program."""
        if isinstance(value, types.ModuleType):
            known = value.__name__.split(".")[0] in sys.stdlib_module_names
            return {"mo": value.__name__} if known else None
        if (place := _place(value)) is not None:
            return {"gf": place}
        if isinstance(value, BaseException):
            return self.error(value)
        found = self._kind(value)
        if found is None:
            return None
        kind, about = found
        number = self.keep(value)
        if isinstance(value, types.FunctionType) and _is_being_decorated(value):
            self._decorated.add(number)
        return {"x": [number, kind, about]}

    def dropped(self) -> str:
        """The name of a function with assertions that a decorator of the program took, that has
        never run to its end, and that the tests cannot run themselves; empty if there is none.
        """
        for function in (self._values[number] for number in sorted(self._decorated)):
            holders = [each for each in gc.get_referrers(function) if each is not self._values]
            if all(isinstance(each, types.FrameType) for each in holders):
                return function.__name__
        return ""

    def error(self, error: BaseException) -> Any:
        """The tree of an exception of the tests."""
        kind = type(error)
        try:
            arguments = self._pack(error.args)
        except (TypeError, wire.WireError):
            arguments = self._pack((str(error),))
        attributes: dict[str, Any] = {}
        for name, value in vars(error).items() if kind.__module__ != _TESTS else ():
            with contextlib.suppress(TypeError, wire.WireError):
                attributes |= {} if name.startswith("_") else {name: self._pack(value)}
        about = [self._class_of_error(kind), arguments, attributes]
        return {"x": [self.keep(error), "error", about]}

    def _class_of_error(self, kind: type) -> object:
        if getattr(builtins, kind.__name__, None) is kind:
            return {"ty": kind.__name__}
        return self._pack(kind)

    def _kind(self, value: object) -> tuple[str, object] | None:
        if isinstance(value, type):
            if value.__module__ != _TESTS:
                return None
            bases = [
                next(b.__name__ for b in base.__mro__ if getattr(builtins, b.__name__, 0) is b)
                for base in value.__bases__
            ]
            parents = [
                self.tree(base)
                for base in value.__bases__
                if base.__module__ == _TESTS and type(base).__module__ != _PROGRAM
            ]
            about = {
                "bases": bases,
                "parents": parents,
                "special": special_methods(value),
                "is_enum": isinstance(value, enum.EnumType),
                "fields": self._fields(value),
            }
            if id(value) in self._described:
                raise TypeError("the description of a class refers to the class")
            self._described.add(id(value))
            try:
                return "class", {**_about(value, self._pack), **about}
            finally:
                self._described.discard(id(value))
        if isinstance(value, _FUNCTIONS) or _is_wrapper(value):
            return "function", _about(value, self._pack)
        if isinstance(value, types.GeneratorType):
            return "generator", None
        if isinstance(value, io.IOBase):
            return "file", None
        if is_instance(value) or type(value) is object:
            kind = type(value)
            of = self.tree(kind) if kind.__module__ == _TESTS else None
            about = {"name": kind.__name__, "special": special_methods(kind)}
            return "object", {**about, "class": of}
        if isinstance(value, Awaitable) and not isinstance(value, AsyncIterator):
            # The steps of an asynchronous generator are iterators, too.
            return "await", {"coroutine": isinstance(value, types.CoroutineType)}
        if isinstance(value, Iterator):
            return "iterator", None
        return None

    def _fields(self, kind: type) -> Any:
        """The fields of a data class; None of another class, or if one can't be sent."""
        if not hasattr(kind, "__dataclass_fields__"):
            return None
        try:
            return self._pack(VERBS["fields"](kind))
        except (TypeError, wire.WireError):
            return None

    def do(self, verb: str, number: Any, arguments: list[Any], options: dict[str, Any]) -> Any:
        """Carries out a request of the program on one of the objects.

        Raises:
            AttributeError, TypeError: if it is not allowed. Whatever the object raises.
        """
        target = self.value(number)
        if verb == "make" and isinstance(target, type) and issubclass(target, BaseException):
            return self.keep(target(*arguments, **options))
        if verb == "dir" and (isinstance(target, type) or is_instance(target)):
            return [name for name in dir(target) if not name.startswith("_")]
        if verb == "getattr" and arguments[0] == "__dict__" and type(target).__module__ == _TESTS:
            if not hasattr(target, "__dict__"):
                raise AttributeError("__dict__")
            return {k: v for k, v in vars(target).items() if not k.startswith("_")}
        if verb in ("getattr", "setattr", "delattr"):
            if type(arguments[0]) is not str:
                raise TypeError("attribute name must be string")
            _check_attribute(target, verb, arguments[0])
        elif verb in ("repr", "str"):
            pass
        elif isinstance(target, (*_FUNCTIONS, type)) or _is_wrapper(target):
            of_enum = isinstance(target, enum.EnumType) and verb in _OF_ENUMS
            _allow(verb == "call" or of_enum, target, verb)
        elif isinstance(target, io.IOBase):
            _allow(verb == "next", target, verb)
        elif is_instance(target):
            _allow(verb in _OF_INSTANCES, target, verb)
        elif verb == "cancel":
            _allow(number in self._tasks, target, verb)
        elif isinstance(target, Iterator) and not isinstance(target, Awaitable):
            _allow(verb == "next", target, verb)
        else:
            _allow(verb == "await", target, verb)
        if verb == "await":
            return self._await(number, target)
        if verb == "cancel":
            return self._tasks[number].cancel()
        if verb in ("exit", "aexit"):  # with a traceback of this side
            arguments[2] = getattr(arguments[1], "__traceback__", None)
        result = VERBS[verb](target, *arguments, **options)
        self._decorated.discard(number)
        return result

    def finished(self) -> list[int]:
        """The numbers of what the program waits for that has ended."""
        return [number for number, task in self._tasks.items() if task.done()]

    def errors(self) -> list[BaseException]:
        """What awaitables raised that the program began to wait for and then left."""
        ended = [task for task in self._tasks.values() if task.done() and not task.cancelled()]
        return [error for task in ended if (error := task.exception()) is not None]

    def _await(self, number: int, target: Any) -> tuple[str, Any]:
        """Begins a task of an awaitable, or looks at it: "done", "cancelled" or "waits", and the
        result. Where the tests' loop cannot run meanwhile, the awaitable runs to its end.
        """
        if not self.loop_runs:
            return "done", _await(target, self.helpers)
        import asyncio

        task = self._tasks.get(number)
        if task is None:
            task = self._tasks[number] = asyncio.ensure_future(target)
        if not task.done():
            return "waits", None
        del self._tasks[number]
        return ("cancelled", None) if task.cancelled() else ("done", task.result())


def is_instance(value: object) -> bool:
    """Whether it is an instance of a class of the tests, or one made for tests."""
    kind = type(value)
    return (
        any(base.__module__ in _MODULES for base in kind.__mro__)
        or kind is types.SimpleNamespace
        or kind is types.AsyncGeneratorType
    )


def _is_being_decorated(function: types.FunctionType) -> bool:
    """Whether the tests' running line is a decorator of this function, which asserts something."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals is not function.__globals__:
        frame = frame.f_back
    first = function.__code__.co_firstlineno  # the first decorator's
    body = min((n for _, _, n in function.__code__.co_lines() if n and n > first), default=first)
    return frame is not None and first <= frame.f_lineno < body and _asserts(function.__code__)


def loads_of_assertion_error(
    code: bytes, own: int = _LOADS_ERROR, common: int = _LOADS_COMMON
) -> frozenset[int]:
    """The offsets in bytecode of what ``assert`` makes, but no other statement.

    Args:
        own: the instruction that loads AssertionError; -1 if there is none.
        common: the one that loads the common constant of its argument; -1 if there is none.
    """
    return frozenset(
        offset
        for offset in range(0, len(code), 2)
        if code[offset] == own or (code[offset] == common and code[offset + 1] == 0)
    )


def _asserts(code: types.CodeType) -> bool:
    parts = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return (
        bool(loads_of_assertion_error(code.co_code))
        or any(name.startswith("assert") for name in code.co_names)
        or any(map(_asserts, parts))
    )


def _is_wrapper(value: object) -> bool:
    """Whether it is made by functools of a function, as lru_cache does."""
    return callable(value) and type(value).__module__ == "functools"


def _allow(allowed: bool, target: object, verb: str) -> None:
    if not allowed:
        raise TypeError(f"{verb} of a {type(target).__name__} of the tests is not allowed")


def _check_attribute(target: object, verb: str, name: str) -> None:
    allowed = is_instance(target) or (isinstance(target, type) and target.__module__ == _TESTS)
    if isinstance(target, io.IOBase):
        allowed = name in _STREAM
    elif isinstance(target, types.GeneratorType):
        allowed = name in _GENERATOR
    elif isinstance(target, types.AsyncGeneratorType):
        allowed = name in _ASYNC_GENERATOR
    elif type(target).__module__ == "sqlite3":
        allowed = name in _SQL
    elif type(target).__module__ == "contextlib":  # a stack takes functions that end a test
        allowed = False
    allowed = allowed and not name.startswith("_")
    kind: Any = type(target)
    if name in _OF_MOCKS and any(base.__module__ == "unittest.mock" for base in kind.__mro__):
        allowed = False
    if allowed and verb != "getattr":
        import inspect

        found: Any = inspect.getattr_static(type(target), name, None)
        settable = isinstance(found, property) and found.fset is not None
        settable = settable or isinstance(found, _PLAIN_DATA)
        settable = settable or isinstance(found, types.MemberDescriptorType)
        settable = settable or name == "row_factory"
        allowed = settable and not isinstance(target, (type, io.IOBase, types.GeneratorType))
    if not allowed:
        raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}")


def _await(value: Any, helpers: set[Any]) -> Any:
    """Runs an awaitable of the tests to its end, in a thread of its own: a loop may be running
    here. ``helpers`` has the number of that thread meanwhile.
    """
    import asyncio
    import threading

    result: list[Any] = []

    async def wait() -> Any:
        return await value

    def run() -> None:
        loop = asyncio.new_event_loop()  # asyncio.run would end asynchronous generators
        try:
            result.extend((True, loop.run_until_complete(wait())))
        except BaseException as error:  # noqa: BLE001 - it is raised again below
            result.extend((False, error))
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    helpers.add(thread.ident)
    thread.join()
    helpers.discard(thread.ident)
    if not result[0]:
        raise result[1]
    return result[1]


def _place(value: object) -> list[str] | None:
    """Where a function or class of the standard library is found by either side."""
    if isinstance(value, types.MethodDescriptorType):
        kind = value.__objclass__
        module, name = kind.__module__, f"{kind.__qualname__}.{value.__name__}"
    elif isinstance(value, (types.FunctionType, types.BuiltinFunctionType, type)):
        module, name = getattr(value, "__module__", None), value.__qualname__
        if isinstance(owner := getattr(value, "__self__", None), types.ModuleType):
            module = owner.__name__
    else:
        return None
    if type(module) is not str or module.split(".")[0] not in sys.stdlib_module_names:
        return None
    if module == _TESTS or wire.find_global(module, name) is not value:
        return None
    return [module, name]


def _about(value: Any, pack: Callable[[object], object]) -> dict[str, object]:
    """The description of a function for the program."""
    import inspect

    name = str(getattr(value, "__name__", type(value).__name__))
    parameters: list[Any] | None = []
    try:
        for p in inspect.signature(value).parameters.values():
            options = {} if p.default is p.empty else {"default": pack(p.default)}
            with contextlib.suppress(TypeError, wire.WireError):  # an annotation may stay behind
                options |= {} if p.annotation is p.empty else {"annotation": pack(p.annotation)}
            parameters.append([p.name, int(p.kind), options])
    except (TypeError, ValueError, wire.WireError):
        parameters = None
    annotations: dict[str, Any] = {}
    for key, part in dict(getattr(value, "__annotations__", None) or {}).items():
        with contextlib.suppress(TypeError, wire.WireError):
            annotations[key] = pack(part)
    return {
        "name": name,
        "qualname": str(getattr(value, "__qualname__", name)),
        "doc": doc if isinstance(doc := getattr(value, "__doc__", None), str) else None,
        "async": inspect.iscoroutinefunction(value),
        "parameters": parameters,
        "annotations": annotations,
    }
