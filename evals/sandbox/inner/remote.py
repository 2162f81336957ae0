"""The program as its tests see it: proxies for its functions, handles for its objects
(:mod:`.handles`), and the channel.

Requests of the tests:     ["use", verb, [trees], {name: tree}, changes] or ``wire.encode_call``
Answers of the program:    ["value", tree, changes?] | ["raised", name, message, tree, changes?]
                           | ["changed", tree, [[place, contents]...], [number...]] after such a
                           call: new contents of arguments, and which are shared from then on
                           | a message that ends the job
The program's requests meanwhile:    ["ask", verb, number, [trees], {name: tree}, changes]
and the tests' answers:              ["value", tree, changes] | ["raised", tree, changes]

For ``changes`` see :mod:`.shared`.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import itertools
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any, NoReturn

from . import arrays, wire
from .ambient import Surroundings
from .handles import (
    REMEDY,
    Method,
    Program,
    fails_tests,
    is_of_program,
    is_refused,
    make_class,
)
from .own import OwnObjects
from .shared import SharedValues, base_of, tag_of
from .verbs import own_special_methods

MAX_CALLS = 100_000
MAX_STUB_CALLS = 1000
_set = object.__setattr__
# Exceptions that are ordinary answers to a verb by the interpreter's protocols.
_PROTOCOL: dict[str, tuple[type[BaseException], ...]] = {
    "getattr": (AttributeError,),
    "next": (StopIteration,),
    "anext": (StopAsyncIteration,),
    "getitem": (IndexError, KeyError),
    "len": (TypeError,),
}


# Attributes of a class of the tests: types that are looked up here, names that only the stand-in
# has, and names that would shadow the stand-in's own.
_LOCAL = (types.FunctionType, property, classmethod, staticmethod)
_OF_STAND_INS = frozenset(("__classcell__", "__dict__", "__weakref__"))
_IN_PROGRAM = frozenset(
    ("__slots__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__", "__new__")
)


_OF_ERRORS = frozenset(("__notes__", "__suppress_context__"))
_WIDE = (AssertionError, Exception, BaseException)


def _catches_failures(value: Any, name: str) -> bool:
    """Whether ``except`` with a variable of the program catches every failure of a test."""
    kinds = value if type(value) is tuple else (value,)
    return any(kind is wide and name != wide.__name__ for kind in kinds for wide in _WIDE)


class Unanswered(BaseException):
    """A call got no usable answer. Not an Exception, so that tests don't catch it as the
    program's.
    """


class Proxy:
    """A function of the program, called over the channel."""

    __slots__ = ("__name__", "__qualname__", "__weakref__", "_codegen_remote")

    def __init__(self, remote: Remote, name: str) -> None:
        _set(self, "_codegen_remote", remote)
        _set(self, "__name__", name)
        _set(self, "__qualname__", name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; see :meth:`Remote.call`."""
        return self._codegen_remote.call(self.__name__, args, kwargs)

    def __getattr__(self, name: str) -> object:
        if name == "__signature__":
            return self._codegen_remote.signature(self)
        if is_refused(name):
            raise AttributeError(name)
        return self._codegen_remote.use("getattr", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._codegen_remote.use("setattr", self, name, value)

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return self._codegen_remote.use("getattr", self, "__doc__")

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        """As :mod:`inspect` wants it, to look at the code's flags."""
        return types.FunctionType

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"


class Remote:
    """The program as the tests see it. The first failure is final: tests can't catch it away."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._calls = 0
        self.failure: tuple[str, str] | None = None
        self.tidy = True  # whether the process of the tests can be reused
        self.raised: BaseException | None = None  # the last exception of the program
        self.settled = True  # whether the tests are known to have caught it
        self._failed: list[BaseException] = []  # the tests', which the program may catch
        self._awaits = False  # whether the program has answered with a coroutine
        self._stub: tuple[Any] | None = None  # the answer in the program's place
        self.used_objects = False  # whether the program decided a comparison
        self.compared = ""  # the class of an object that was compared with a plain value
        self.pumps: weakref.WeakSet[Any] = weakref.WeakSet()  # loops that will run the program's
        self.dropped: set[int] = set()  # numbers of handles that the tests no longer have
        self._handles: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
        self._kept: dict[int, Any] = {}  # objects without weak references
        self._classes: dict[int, Any] = {}
        self._own = OwnObjects(self.pack)
        self._shared = SharedValues(1)
        self._lock = threading.RLock()
        self._of_derived: list[Any] = []  # changes made with a derived class, before it is known
        self._shares = False
        self._keeps = False
        self.catches: frozenset[str] = frozenset()  # BaseExceptions that the tests name
        self.around: Surroundings | None = None
        self._depth = 0  # how many requests wait for an answer
        self.named: set[int] = set()  # classes that the tests name

    def stand_in(self, value: Any) -> None:
        """Makes ``value`` the answer to every request, in the program's place."""
        self._stub = (value,)
        self._calls = 0

    def stand_in_ends(self) -> None:
        """Undoes :meth:`stand_in`; failures meanwhile are ignored."""
        self._stub = None
        self.failure = None
        self.settled = True

    def load(self) -> dict[str, str]:
        """Waits until the program has been executed; returns its global names and their kinds."""
        kind, *rest = self.receive()
        if kind == "loaded" and len(rest) == 1 and isinstance(rest[0], dict):
            return {name: str(what) for name, what in rest[0].items()}
        return self.fail(*failure_of(kind, rest))

    def finish(self) -> Any:
        """Reads to the end of the channel; returns the last message, or None if there was none."""
        last = None
        while True:
            try:
                last = self._channel.receive()
            except EOFError:
                return last
            except wire.WireError as error:
                self.fail("error", f"the program broke the protocol: {error}")

    # --- requests to the program ---------------------------------------------------------------

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the program. Raises its exception, of a built-in class or of one of
        the program.
        """
        # If the program can pass an argument back meanwhile, it has to be known as the same.
        may_ask = self.around is not None or self._own.lends
        frame = None if self._shares or may_ask else wire.encode_call(name, args, kwargs)
        if frame is not None:
            return self._ask("call", frame, (args, kwargs))
        packed = [{"p": name}, *[self.pack(value) for value in args]]
        return self._use("call", packed, kwargs)

    def get(self, name: str) -> Any:
        """The value of a global variable of the program."""
        found = self._ask("get", ["get", name])
        if _catches_failures(found, name):
            self.fail("wrong", f"{name} is {found!r}, which would catch the tests' own failures")
        return found

    def get_class(self, name: str) -> Any:
        """A class of the program by its name."""
        found = self.get(name)
        if isinstance(found, Program) and name[:1].isupper():
            self.named.add(found._codegen_class)
        return found

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the program's names."""
        return self._ask("eval", ["eval", expression])

    def use(self, verb: str, *arguments: Any, keeps: bool = False, **options: Any) -> Any:
        """Requests an operation on the program's objects; see :mod:`.verbs`.

        Args:
            keeps: whether a returned object that the tests made still counts as made by them.
        """
        return self._use(verb, [self.pack(value) for value in arguments], options, keeps)

    def use_function(self, module: str, name: str, *arguments: Any) -> Any:
        """Requests a call of a function of the standard library in the program."""
        packed = [{"gf": [module, name]}, *[self.pack(value) for value in arguments]]
        return self._use("call", packed, {})

    def wait(self, source: Any) -> Any:
        """The steps of waiting for an awaitable of the program."""
        return Awaited(self, source).__await__()

    def run_loop(self, source: Any, seconds: float, cancels: bool) -> Any:
        """Runs the program's loop for a moment, until ``source`` has ended."""
        before, self._own.loop_runs = self._own.loop_runs, "asyncio" in sys.modules
        try:
            return self.use("await", source, seconds, cancels, self._own.finished())
        finally:
            self._own.loop_runs = before

    def decide(self, verb: str, *arguments: Any) -> bool:
        """Requests a truth value; records that the program decided it."""
        self.used_objects = True
        return self.use(verb, *arguments, keeps=True) is True

    def construct(self, kind: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Makes an instance of a class of the program."""
        made = self.use("call", kind, *arguments, keeps=True, **options)
        if kind._codegen_class in self.named and type(made) is kind:
            _set(made, "_codegen_own", True)
        return made

    def signature(self, function: Any) -> Any:
        """The signature of a function of the program, for :mod:`inspect`."""
        import inspect

        kinds = list(inspect._ParameterKind)  # type: ignore[attr-defined]
        parameters, returns = self.use("signature", function)
        return inspect.Signature(
            [inspect.Parameter(name, kinds[kind], **options) for name, kind, options in parameters],
            **returns,
        )

    # --- classes of the tests that derive from classes of the program --------------------------

    def derive(
        self, name: str, bases: tuple[Any, ...], space: dict[str, Any], options: dict[str, Any]
    ) -> dict[str, Any]:
        """Makes a class of the tests in the program; returns the namespace of the stand-in.

        Its plain attributes are the program's in instances, which may change them. Of the class
        itself the tests read what they gave.
        """
        theirs, mixed = list[Any](), dict[str, Any]()
        for base in bases:
            if isinstance(base, Program) or base.__module__ != "__main__":
                theirs.append(base)
            else:  # its methods become the new class's own there
                for kind in reversed(base.__mro__):
                    mixed |= vars(kind) if kind.__module__ == "__main__" else {}
        given = {k: v for base in theirs for k, v in getattr(base, "_codegen_given", {}).items()}
        if not any(hasattr(base, "__members__") for base in theirs):  # an Enum makes members of it
            given |= {**mixed, **space}
        _, inherited = self.members(mixed)
        local, sent = self.members(space)
        number = self._use("derive", [name, self.pack(tuple(theirs)), inherited + sent], options)
        return {**local, "_codegen_class": number, "_codegen_given": given}

    def adopt(self, kind: Any) -> None:
        """Makes ``kind`` the stand-in for the class that :meth:`derive` made."""
        self._classes[kind._codegen_class] = kind
        self.named.add(kind._codegen_class)
        changes, self._of_derived = self._of_derived, []
        self._shared.apply(changes, self.unpack)

    def set_member(self, kind: Any, name: str, value: Any) -> dict[str, Any]:
        """Sets a member of a class that :meth:`derive` made; returns what its stand-in gets."""
        local, sent = self.members({name: value})
        for member in sent:
            self._use("member", [self.pack(kind), *member], {})
        return local

    def members(self, space: dict[str, Any]) -> tuple[dict[str, Any], list[list[Any]]]:
        """Divides the namespace of a class of the tests.

        Returns:
            What the tests look up here, such as methods; and the name, kind and tree of what the
            program gets.
        """
        local: dict[str, Any] = {}
        sent: list[list[Any]] = []
        for name, value in space.items():
            parts = value
            if isinstance(value, property):
                parts = (value.fget, value.fset, value.fdel)
            elif isinstance(value, (classmethod, staticmethod)):
                parts = value.__func__
            stays = isinstance(value, _LOCAL) or name.startswith("__")
            try:
                if name not in _OF_STAND_INS:
                    sent.append([name, type(value).__name__, self.pack(parts)])
            except (TypeError, wire.WireError):
                stays = True  # only the tests use it
            if stays and name not in _IN_PROGRAM:
                local[name] = value
        return local, sent

    @property
    def calls(self) -> int:
        """The number of requests so far."""
        return self._calls

    def _use(
        self, verb: str, trees: list[Any], options: dict[str, Any], keeps: bool = False
    ) -> Any:
        packed = {key: self.pack(value) for key, value in options.items()}
        self._keeps = keeps
        try:
            request = ["use", verb, trees, packed, self._shared.changes(self.pack)]
            if self.dropped:
                dropped, self.dropped = self.dropped, set()
                request.append([number for number in dropped if number not in self._handles])
            return self._ask(verb, request)
        finally:
            self._keeps = False

    def _ask(self, verb: str, request: list[Any] | bytes, sent: Any = None) -> Any:
        if threading.get_ident() in self._own.helpers:
            return self._ask_alone(verb, request, sent)
        with self._lock:
            return self._ask_alone(verb, request, sent)

    def _ask_alone(self, verb: str, request: list[Any] | bytes, sent: Any) -> Any:
        if self.failure is not None:
            raise Unanswered
        if not self.settled:
            self.settle()
        self._calls += 1
        if self._calls > MAX_CALLS:
            self.fail("error", f"the tests make more than {MAX_CALLS} calls")
        if self._stub is not None:
            if self._calls > MAX_STUB_CALLS:
                raise Unanswered
            return _coroutine_of(self._stub[0]) if self._awaits else self._stub[0]
        if self.around is not None and self._depth == 0:
            return self._ask_around(self.around, verb, request, sent)
        return self._request(verb, request, sent)

    def _ask_around(
        self, around: Surroundings, verb: str, request: list[Any] | bytes, sent: Any
    ) -> Any:
        """Sends a request with the surroundings of both sides synchronized."""
        if (changes := around.changes()) is not None:
            self._request("around", ["around", self._pack_copy(changes)])
        try:
            return self._request(verb, request, sent)
        finally:
            if self.failure is None and self._depth == 0:
                raised, settled = self.raised, self.settled
                self._apply_around(around)
                self.raised, self.settled = raised, settled

    def _apply_around(self, around: Surroundings) -> None:
        told = self._request("around", ["around"])
        try:
            around.apply(told)
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, OSError) as e:
            self.fail("error", f"the program broke the protocol: {type(e).__name__}")

    def _request(self, verb: str, request: list[Any] | bytes, sent: Any = None) -> Any:
        self._depth += 1
        try:
            self._send(request)
            while True:
                kind, *rest = self.receive()
                if kind != "ask":
                    break
                self._answer(rest)
        finally:
            self._depth -= 1
        try:
            if kind == "value" and len(rest) == 1:
                return wire.unpack(rest[0], self.special)
            if kind == "value" and len(rest) == 2:
                value = self.unpack(rest[0])
                if verb == "derive":
                    self._of_derived = rest[1]
                else:
                    self._shared.apply(rest[1], self.unpack)
                return value
            if kind == "changed" and len(rest) == 3 and sent is not None:
                return self._changed(sent, *rest)
            raised = self._exception(*rest[:3]) if _is_raised(kind, rest) else None
            if raised is not None and len(rest) == 4:
                self._shared.apply(rest[3], self.unpack)
        except RecursionError:
            self.fail("output_limit", "unusable result: it is nested too deep")
        except (wire.WireError, MemoryError) as error:
            self.fail("output_limit", f"unusable result: {error}")
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            self.fail("error", f"the program broke the protocol: {type(error).__name__}")
        if kind == "exited" and "SystemExit" in self.catches and len(rest) == 2:
            raised = SystemExit(int(rest[1]) if str(rest[1]).isdecimal() else rest[1])
        if raised is None:
            return self.fail(*failure_of(kind, rest))
        return self._raise(raised, _PROTOCOL.get(verb, ()))

    def _send(self, message: list[Any] | bytes) -> None:
        try:
            if isinstance(message, bytes):
                self._channel.send_bytes(message)
            else:
                self._channel.send(message)
        except OSError:
            self.fail("gone", "")

    def _exception(self, name: Any, message: Any, tree: Any) -> BaseException:
        if tree is not None:
            error = self.unpack(tree)
            if isinstance(error, BaseException):
                return error
        return wire.exception_from(name, message)

    def lend(self, error: BaseException) -> None:
        """Passes an exception of the tests to the program, which must not keep it to itself if it
        says that a test has failed.
        """
        if fails_tests(error):
            self._failed.append(error)

    def end(self) -> None:
        """Fails the job if the program swallowed a failure of the tests."""
        self.settle()
        for error in self._own.errors():
            self.lend(error)
        if self._failed:
            self.fail(
                "wrong",
                f"{type(self._failed[0]).__name__}: {self._failed[0]!s:.300} (raised by the tests "
                "where the program called them; the program caught it)",
            )
        if name := self._own.dropped():
            self.fail("wrong", f"a decorator of the program kept {name} from running")

    def _raise(self, error: BaseException, protocol: tuple[type[BaseException], ...]) -> NoReturn:
        seen = {id(error), id(error.__cause__), id(error.__context__)}
        self._failed = [failed for failed in self._failed if id(failed) not in seen]
        self.raised = error
        self.settled = isinstance(error, protocol)
        error.__traceback__ = None
        try:
            raise error
        except BaseException:  # so that the traceback begins here, see is_swallowed
            raise

    def settle(self) -> None:
        """Fails the job if Python's protocols, not the tests, caught the last exception."""
        if self.settled:
            return
        self.settled = True
        if self.raised is not None and is_swallowed(self.raised):
            name = type(self.raised).__name__
            self.fail(
                "error",
                f"{name}: {BaseException.__str__(self.raised)} (raised by the program; no test "
                "caught it, Python took it for the end of a loop or the like)",
            )

    def _changed(
        self, sent: tuple[tuple[Any, ...], dict[str, Any]], tree: Any, changes: Any, kept: Any
    ) -> Any:
        """Makes the changes to the arguments of a call in the interpreter's own format."""
        places = wire.containers(sent)

        def special(tag: str, content: Any) -> Any:
            if tag == "a":
                return places[content]
            return self.special(tag, content)

        shared = [(p, n) for p, n in zip(places, kept, strict=True) if n and type(n) is int]
        for part, number in shared:
            self._shared.adopt(part, number)
            self._shares = True
        for place, items in changes:
            wire.fill(places[place], wire.unpack(items, special))
        value = wire.unpack(tree, special)
        for _, number in shared:
            self._shared.look(number)
        return value

    # --- values --------------------------------------------------------------------------------

    def pack(self, value: Any) -> Any:
        """The tree of any value that can be passed to a program.

        Raises:
            TypeError: for one that can't.
        """
        return wire.pack(value, self._not_plain, self._share)

    def _pack_copy(self, value: Any) -> Any:
        return wire.pack(value, self._not_plain)

    def unpack(self, tree: Any) -> Any:
        """The value of a tree of the program."""
        return wire.unpack(tree, self.special)

    def _share(self, value: Any, depth: int) -> Any:
        if type(value) is types.SimpleNamespace:
            return self._own.tree(value)

        def item(part: Any) -> Any:
            return wire.pack(part, self._not_plain, self._share, depth + 1)

        content = self._shared.pack(value, item)
        if content is None:
            return None
        self._shares = True
        return {"sh": content}

    def _not_plain(self, value: Any) -> Any:
        kind = type(value)
        if kind is Proxy:
            return {"p": value.__name__}
        if kind is Program:
            return {"ha": value._codegen_class}
        if kind is Method:
            return {"bm": [value.__self__._codegen_number, value._codegen_name]}
        number = getattr(value, "_codegen_number", None) if kind is not type else None
        if type(number) is int and (is_of_program(value) or isinstance(value, BaseException)):
            return {"ha": number}
        if number is None and (source := _SOURCES.get(value) if _is_lazy(value) else None):
            return {"ha": source}
        if (tree := arrays.pack_array(value, self.pack)) is not None:
            return tree
        if kind is types.TracebackType:
            return None  # as the arguments of __exit__
        base = base_of(value)
        if base is not None and not own_special_methods(kind):
            content = self._shared.pack(value, self.pack, tag_of(base))
            if content is not None:
                self._shares = True
                return {"sh": content}
        tree = self._own.tree(value)
        if tree is None:
            raise TypeError(
                f"an argument of type {kind.__name__} can't be sent to an isolated program; "
                "use mode 'in_sandbox'"
            )
        return tree

    def special(self, tag: str, content: Any) -> Any:
        """The value of a tree that is not plain."""
        if tag == "h":
            return self._handle(*_two_ints(content))
        if tag == "hc":
            return self.class_of(content)
        if tag == "sh":
            self._shares = True
            return self._shared.unpack(content, self.unpack)
        if tag == "hv":
            number, of, tree = content
            return self._with_content(number, of, wire.unpack(tree, self.special))
        if tag == "hs":
            number, of, shared = content
            found = self._kept.get(number)
            if found is None:
                kind = self.class_of(of)
                found = self._kept[number] = kind.__new__(kind)
                _set(found, "_codegen_number", number)
            self._shares = True
            if type(shared) is list:
                self._shared.unpack(shared, self.unpack, found)
            return self._back(found)
        if tag == "ex":
            return self._error(*content)
        if tag == "ek":
            return _class_at(content)
        if tag == "x":
            return self._own.value(content)
        if tag == "ge":
            return self._lazy(tag, *content)
        if tag == "co":
            return self._lazy(tag, content)
        if tag == "mo" and content in wire.GLOBAL_MODULES:
            import importlib

            return importlib.import_module(content)
        if tag in arrays.TAGS:
            return arrays.unpack_array(tag, content, self.unpack)
        if tag == "o" and isinstance(content, str):
            return wire.Opaque(content[:80])
        raise wire.WireError(f"unknown tag {str(tag)[:20]!r}")

    def _handle(self, number: int, of: int) -> Any:
        found = self._handles.get(number)
        if found is None:
            kind = self.class_of(of)
            found = object.__new__(kind)
            _set(found, "_codegen_number", number)
            _set(found, "_codegen_told", frozenset())
            _set(found, "_codegen_own", False)
            self._handles[number] = found
        return self._back(found)

    def _back(self, found: Any) -> Any:
        """A returned object no longer counts as made by the tests, unless the request keeps it."""
        if not self._keeps and found._codegen_own:
            _set(found, "_codegen_own", False)
        return found

    def _with_content(self, number: Any, of: Any, content: Any) -> Any:
        found = self._kept.get(number)
        if found is None:
            kind = self.class_of(of)
            found = self._kept[number] = type(content).__new__(kind, content)
            _set(found, "_codegen_number", number)
        return self._back(found)

    def _lazy(self, tag: str, number: Any, started: object = False) -> Any:
        """A generator or coroutine of the tests' side that runs the program's."""
        found = self._handles.get(number)
        if found is None:
            self._awaits = self._awaits or tag == "co"
            reference = _Reference(number)

            def generator() -> Any:
                return (yield from _Generator(self, reference, started is True))

            async def coroutine() -> Any:
                return await Awaited(self, reference)

            found = generator() if tag == "ge" else coroutine()
            reference.stands_for = weakref.ref(found)
            if started is True:
                next(found)  # type: ignore[arg-type]
            self._handles[number] = found
            _SOURCES[found] = number
        return found

    def class_of(self, number: Any) -> Any:
        """The tests' stand-in for a class of the program."""
        found = self._classes.get(number)
        if found is None:
            if type(number) is not int:
                raise wire.WireError("a malformed value: a class")
            about = self._ask("describe", ["use", "describe", [{"ha": number}], {}, []])
            _check_about(about)
            bases = tuple(filter(None, map(self._base, about["bases"])))
            found = self._classes[number] = make_class(self, number, about, bases)
        return found

    def _base(self, base: Any) -> Any:
        if type(base) is int:
            return self.class_of(base)
        if type(base) is list:
            return _class_at(base)
        found = getattr(builtins, base, None) or getattr(collections, base, None)
        plain = isinstance(found, type) and (
            found in wire.PLAIN_BASES or issubclass(found, BaseException)
        )
        return found if plain else None

    def _error(
        self, of: Any, arguments: Any, number: Any, cause: Any, context: Any, attributes: Any
    ) -> BaseException:
        found = self._kept.get(number)
        if found is not None:
            return found
        kind = _class_at(of) if type(of) is list else self.class_of(of)
        values = self.unpack(arguments)
        if type(values) is not tuple:
            raise wire.WireError("a malformed exception")
        skips = any(base.__module__ == "unittest.case" for base in kind.__mro__)  # SkipTest
        if skips or (not issubclass(kind, Exception) and kind.__name__ not in self.catches):
            return RuntimeError(f"{kind.__name__}: {values!r:.200}")
        error = _made_error(kind, values)
        if attributes is not None:
            for name, value in self.unpack(attributes).items():
                if type(name) is str and (name in _OF_ERRORS or not name.startswith("_")):
                    setattr(error, name, value)
        if cause is not None:
            error.__cause__ = self.unpack(cause)
        if context is not None:
            error.__context__ = self.unpack(context)
        if type(number) is int:
            self._kept[number] = error
            error._codegen_number = number  # type: ignore[attr-defined]
        return error

    # --- requests of the program ---------------------------------------------------------------

    def _answer(self, rest: list[Any]) -> None:
        """Carries out a request of the program on an object of the tests."""
        self._calls += 1
        if self._calls > MAX_CALLS:
            self.fail("error", f"the program asks the tests for more than {MAX_CALLS} things")
        verb, number, arguments, named = "", 0, [], {}
        try:
            verb, number, trees, options, changes = rest
            arguments = [self.unpack(tree) for tree in trees]
            named = {key: self.unpack(tree) for key, tree in options.items()}
            self._shared.apply(changes, self.unpack)
            known = isinstance(verb, str)
        except (wire.WireError, TypeError, ValueError, AttributeError, LookupError):
            known = False
        if not known:
            self.fail("error", "the program broke the protocol: what it asks for is malformed")
        raised, settled = self.raised, self.settled
        keeps, self._keeps = self._keeps, False
        try:
            tree = self.pack(self._own.do(verb, number, arguments, named))
            self.settle()
            message = ["value", tree]
        except Exception as error:  # noqa: BLE001 - the program meets it where it asked
            self.lend(error)
            message = ["raised", self._error_tree(error)]
        self._keeps = keeps
        self.raised, self.settled = raised, settled
        self._send([*message, self._shared.changes(self.pack)])

    def _error_tree(self, error: BaseException) -> Any:
        if type(getattr(error, "_codegen_number", None)) is int:
            return self.pack(error)
        return self._own.error(error)

    def receive(self) -> list[Any]:
        """The program's next message: a list whose first item is its kind."""
        if self.failure is not None:
            raise Unanswered
        message: Any = None
        try:
            message = self._channel.receive()
        except EOFError:
            self.fail("gone", "")
        except wire.FrameTooLargeError as error:
            self.fail("output_limit", str(error))
        except (wire.WireError, MemoryError) as error:
            self.fail("error", f"the program broke the protocol: {error}")
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            self.fail("error", "the program broke the protocol: not a message")
        return message

    def fail(self, status: str, message: str) -> NoReturn:
        """Records the job's final failure and ends the tests."""
        self.failure = (status, message)
        raise Unanswered

    def hint(self) -> str:
        """A hint for a failed test in which an object was compared with a plain value."""
        if not self.compared:
            return ""
        return (
            f" (the result was a {self.compared[:80]}, an object of the program, not a plain "
            f"value; {REMEDY})"
        )


# --- whether an exception of the program was caught ---------------------------------------------

# Where exceptions of the program are raised.
_RAISING = tuple(f"{__name__.rpartition('.')[0]}.{name}" for name in ("remote", "handles"))
# Modules of the standard library that catch an exception on behalf of the tests.
_CATCHING = frozenset(
    (
        *("asyncio", "concurrent", "contextlib", "doctest", "multiprocessing", "unittest"),
        *("pytest", "_pytest"),
    )
)
_GENERATORS = 0x20 | 0x80 | 0x200  # generators, coroutines, asynchronous generators
_COROUTINE = 0x80
_TEST_FILES = frozenset(("<test>", "<setup>"))


def is_swallowed(error: BaseException) -> bool:
    """Whether an exception that was raised into the tests vanished without their catching it.

    ``all(map(f, items))`` takes a StopIteration of ``f`` for the end of ``items``; an old-style
    iteration does so with an IndexError, and ``hasattr`` answers False on an AttributeError. So a
    program could end its tests' loops early and pass. The tests catch an exception of the program
    only explicitly: by ``except``, by ``with``, or by the context managers and futures of the
    standard library.

    An exception's traceback lists the frames that it has reached (all of them as of Python 3.12,
    those with a handler before). If a protocol swallows the exception, it leaves the last
    function's frame without reaching a handler in the next.
    """
    traceback = error.__traceback__
    if traceback is None:
        return False  # assertRaises takes it off
    module = str(traceback.tb_frame.f_globals.get("__name__"))
    code = traceback.tb_frame.f_code
    if module in _RAISING:
        # A task holds what its coroutine raised, until somebody asks for the result.
        return not code.co_flags & _COROUTINE
    if module == f"{__name__.rpartition('.')[0]}.checker":
        return False
    if code.co_flags & _GENERATORS and isinstance(error, (StopIteration, StopAsyncIteration)):
        return False  # it continues as a RuntimeError (PEP 479)
    if not _has_handler(code, traceback.tb_lasti):
        return True
    return code.co_filename not in _TEST_FILES and module.split(".")[0] not in _CATCHING


def _has_handler(code: types.CodeType, offset: int) -> bool:
    """Whether an instruction is within a ``try`` or a ``with``."""
    import dis

    table = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return any(entry.start <= offset < entry.end for entry in table)


class LiveModule(types.ModuleType):
    """A module of tests over a :class:`LiveNamespace`."""

    def __init__(self, namespace: LiveNamespace) -> None:
        super().__init__("__main__")
        types.ModuleType.__setattr__(self, "_codegen_namespace", namespace)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._codegen_namespace[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._codegen_namespace[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._codegen_namespace[name]
        except KeyError:
            raise AttributeError(name) from None


class LiveNamespace(dict[str, Any]):
    """The global names of a module of tests that reads variables of the program. These are read
    again each time, until the tests assign them.

    Args:
        given: the module's names.
        live: the names of the program's variables.
    """

    def __init__(self, remote: Remote, given: dict[str, Any], live: list[str]) -> None:
        super().__init__(given)
        self._remote = remote
        self.live = dict.fromkeys(live, -1)  # name -> number of calls at its last reading

    def __setitem__(self, name: str, value: Any) -> None:
        self.live.pop(name, None)
        super().__setitem__(name, value)

    def __getitem__(self, name: str) -> Any:
        if name in self.live and self.live[name] != self._remote.calls:
            super().__setitem__(name, self._remote.get(name))
            self.live[name] = self._remote.calls
        return super().__getitem__(name)


_SOURCES: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def _is_lazy(value: object) -> bool:
    return type(value) in (types.GeneratorType, types.CoroutineType)


async def _coroutine_of(value: object) -> object:
    return value


class _Reference:
    """An object of the program, known only by its number."""

    _codegen_class = 0

    def __init__(self, number: int) -> None:
        self._codegen_number = number
        self.stands_for: Any = None  # a weak reference to what the tests have of it


class _Generator(Iterator[Any]):
    """The iterator of ``yield from``, in the program. If that one waits at a ``yield``, the first
    step only brings the tests' generator there.
    """

    def __init__(self, remote: Remote, source: Any, started: bool) -> None:
        self._remote = remote
        self._source = source
        self._catches_up = started

    def __next__(self) -> object:
        if self._catches_up:
            self._catches_up = False
            return None
        return self._remote.use("next", self._source)

    def send(self, value: Any) -> Any:
        return self._remote.use("next", self._source, value)

    def throw(self, error: BaseException) -> object:
        self._remote.lend(error)
        return self._remote.use("method", self._source, "throw", error)

    def close(self) -> None:
        verb = "close" if self._source.stands_for() is not None else "close_unused"
        self._remote.use(verb, self._source)


class Awaited:
    """Waits for an awaitable of the program, which has a loop of its own: that one runs for a
    moment at a time, and between them the tests' loop does, which may cancel the wait.
    """

    def __init__(self, remote: Remote, source: Any) -> None:
        self._remote = remote
        self._source = source

    def __await__(self) -> Any:
        cancels, cancelled = False, None
        for pause in itertools.chain(_PAUSES, itertools.repeat(_PAUSES[-1])):
            answer = self._remote.run_loop(self._source, pause, cancels)
            cancels = False
            if type(answer) is not tuple or len(answer) != 3:
                return answer
            state, value, has_more = answer
            if has_more is True:
                _keep_running(self._remote)
            if state == "cancelled":
                raise cancelled or RuntimeError("the program cancelled what the tests wait for")
            if state not in ("waits", "lends"):
                return value
            try:
                yield from _pause(pause if state == "lends" else 0.0)
            except BaseException as error:
                if type(error).__name__ != "CancelledError":
                    self._remote.run_loop(self._source, 0.0, True)
                    raise
                cancels, cancelled = True, error
        return None


# How long the program's loop runs, in seconds, before the tests' does.
_PAUSES = (0.0, 0.0, 0.001, 0.001, 0.002, 0.005, 0.01)


def _keep_running(remote: Remote) -> None:
    """Lets the tests' loop run the program's, where tasks are left that nothing waits for."""
    import asyncio

    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_running_loop()
        if loop not in remote.pumps:
            remote.pumps.add(loop)
            loop.call_later(_PAUSES[-1], _pump, remote, loop)


def _pump(remote: Remote, loop: Any) -> None:
    remote.pumps.discard(loop)
    if remote.failure is None and remote.run_loop(None, 0.0, False) is True:
        _keep_running(remote)


def _pause(seconds: float) -> Any:
    """Lets the tests' loop run: once, or for a time. (``asyncio.sleep`` may be a mock.)"""
    if not seconds:
        yield
        return
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    timer = loop.call_later(seconds, lambda: future.done() or future.set_result(None))
    try:
        yield from future
    finally:
        timer.cancel()


def _is_raised(kind: str, rest: list[Any]) -> bool:
    return kind == "raised" and len(rest) in (3, 4)


def _two_ints(content: Any) -> tuple[int, int]:
    number, of = content
    if type(number) is not int or type(of) is not int:
        raise wire.WireError("a malformed value: an object")
    return number, of


def _class_at(place: Any) -> Any:
    """An exception's class of the standard library, or its built-in base."""
    module, name, base = place
    if not all(type(part) is str for part in place):
        raise wire.WireError("a malformed exception")
    known = module.split(".")[0] in sys.stdlib_module_names
    for found in (wire.find_global(module, name) if known else None, getattr(builtins, base, None)):
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return Exception


def _made_error(kind: Any, values: tuple[Any, ...]) -> Any:
    base = next(
        b for b in kind.__mro__ if not isinstance(b, Program) and b.__module__ == "builtins"
    )
    for given in (values, ()):
        with contextlib.suppress(TypeError, ValueError):
            error = base.__new__(kind, *given)
            base.__init__(error, *given)  # sets fields that C code reads, as StopIteration's
            break
    else:
        error = RuntimeError(*values)
    if error.args != values and not isinstance(error, OSError):
        error.args = values
    return error


def _check_about(about: Any) -> None:
    kinds = {
        "name": str,
        "qualname": str,
        "module": str,
        "bases": list,
        "special": list,
        "own_special": list,
        "methods": list,
        "hashable": bool,
        "equals": str,
        "abstract": bool,
    }
    fine = isinstance(about, dict) and all(type(about.get(k)) is t for k, t in kinds.items())
    fine = fine and type(about.get("fields")) in (list, type(None))
    fine = fine and type(about.get("doc")) in (str, type(None))
    if not fine or not about["name"].isidentifier():
        raise wire.WireError("a malformed value: the description of a class")
    for key in ("special", "own_special", "methods"):
        if not all(type(name) is str for name in about[key]):
            raise wire.WireError("a malformed value: the description of a class")


_ENDINGS = frozenset(
    (
        *("syntax_error", "compile_error", "crashed", "error", "wrong", "memory", "exited"),
        "too_large",
    )
)


def failure_of(kind: str, rest: list[Any]) -> tuple[str, str]:
    """The status and message for a message of the program that ends the job."""
    if kind not in _ENDINGS or len(rest) != 2 or not all(isinstance(part, str) for part in rest):
        return "error", "the program broke the protocol: an unexpected message"
    name, message = rest[0][:80], rest[1][: wire.MAX_MESSAGE_CHARS]
    status = "output_limit" if kind == "too_large" else kind
    return status, ": ".join(part for part in (name, message) if part)
