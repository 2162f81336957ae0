"""Access to the program from its tests: functions called over the channel in mode ``isolated``
(:class:`ProgramProxy`), and reports of blinded tests (:class:`ReportedSites`, see
:mod:`..program_side.reporting`).

Requests of the tests:     "m" and marshal's (name, args, kwargs)
                           | ["call", name, [trees], {name: tree}]
                           | ["eval", expression]
Answers of the program:    ["value", tree] | ["raised", name, message]
                           | a message that stops the job
"""

from __future__ import annotations

import abc
import builtins
import json
import math
import re
from collections.abc import Callable, Container
from typing import Any, NoReturn

from ..protocol import wire, words
from ..protocol.wire import MAX_CLASSES, MAX_SEEN

MAX_CALLS = 100_000
MAX_STUB_CALLS = 1000
MAX_OWN_CLASSES = 3
MAX_BETWEEN = 1


class ProxyCallFailed(BaseException):
    """A call got no usable answer. Not an Exception, so that tests do not catch it as the
    program's exception.
    """


class ProgramProxy:
    """Proxy of the program for its tests. The first failure is final: tests cannot catch it."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self.calls = 0
        self.failure: tuple[str, str] | None = None
        self.tidy = True  # False if the tests' process cannot be reused
        self.raised: BaseException | None = None  # the last exception of the program
        self.is_stand_in = False
        self.stub: Any = None  # stand-in for the program's answers

    def stand_in(self, value: Any) -> None:
        """Answers every request with ``value`` instead of the program's value."""
        self.is_stand_in, self.stub = True, value
        self.calls = 0

    def stand_in_ends(self) -> None:
        """Undoes :meth:`stand_in`; failures in between are ignored."""
        self.is_stand_in = False
        self.failure = None

    def load(self) -> dict[str, str]:
        """Waits until the program has been executed; returns its global names and their kinds."""
        kind, *rest = self.receive()
        if kind == "loaded" and len(rest) == 1 and isinstance(rest[0], dict):
            return {name: str(what) for name, what in rest[0].items()}
        return self.fail(*failure_of(kind, rest))

    def finish(self) -> Any:
        """Reads to the end of the channel; returns the last message, or None without one."""
        last = None
        while True:
            try:
                last = self._channel.receive()
            except EOFError:
                return last
            except wire.WireError as error:
                self.fail("error", f"the program broke the protocol: {error}")

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the program.

        Raises:
            Exception: the nearest built-in class of the exception that the program raised.
            TypeError: for an argument that is not plain.
        """
        frame = wire.encode_call(name, args, kwargs)
        if frame is not None:
            return self._ask(frame)
        trees = [wire.pack(value, _refuse) for value in args]
        named = {key: wire.pack(value, _refuse) for key, value in kwargs.items()}
        return self._ask(["call", name, trees, named])

    def function(self, name: str) -> Callable[..., Any]:
        """Returns a function of the program, to call like any other."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression over the program's names."""
        return self._ask(["eval", expression])

    def _ask(self, request: list[Any] | bytes) -> Any:
        if self.failure is not None:
            raise ProxyCallFailed
        self.calls += 1
        if self.calls > MAX_CALLS:
            self.fail("error", f"the tests make more than {MAX_CALLS} calls")
        if self.is_stand_in:
            if self.calls > MAX_STUB_CALLS:
                raise ProxyCallFailed
            return self.stub
        try:
            if isinstance(request, bytes):
                self._channel.send_bytes(request)
            else:
                self._channel.send(request)
        except OSError:
            self.fail("gone", "")
        kind, *rest = self.receive()
        raised: BaseException | None = None
        try:
            if kind == "value" and len(rest) == 1:
                return wire.of_program(wire.unpack(rest[0]))
            if kind == "raised" and len(rest) == 2:
                raised = wire.exception_from(*rest)
        except RecursionError:
            self.fail("output_limit", "unusable result: it is nested too deeply")
        except (wire.WireError, MemoryError) as error:
            self.fail("output_limit", f"unusable result: {error}")
        except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
            self.fail("error", f"the program broke the protocol: {type(error).__name__}")
        if raised is None:
            return self.fail(*failure_of(kind, rest))
        self.raised = raised
        raise raised

    def receive(self) -> list[Any]:
        """Returns the program's next message: a list whose first item is its kind."""
        if self.failure is not None:
            raise ProxyCallFailed
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
        """Records the job's final failure and stops the tests."""
        self.failure = (status, message)
        raise ProxyCallFailed


def _refuse(value: Any) -> Any:
    raise TypeError(f"an argument of type {type(value).__name__} is not a plain value")


_ENDINGS = words("syntax_error compile_error crashed error wrong memory exited too_large")


def failure_of(kind: str, rest: list[Any]) -> tuple[str, str]:
    """Returns the status and message for a program's message that stops the job."""
    if kind not in _ENDINGS or len(rest) != 2 or not all(isinstance(part, str) for part in rest):
        return "error", "the program broke the protocol: an unexpected message"
    name, message = rest[0][:80], rest[1][: wire.MAX_MESSAGE_CHARS]
    text = ": ".join(part for part in (name, message) if part)
    return "output_limit" if kind == "too_large" else kind, text


class ReportedSites:
    """Receiver that passes the program's reported values to the blinded assertions.

    Args:
        receive: returns the next message.
        fail: stops the job with a status and a message.
    """

    def __init__(
        self, receive: Callable[[], list[Any]], fail: Callable[[str, str], NoReturn]
    ) -> None:
        self._receive, self._fail = receive, fail
        self._outcomes: list[Any] = []
        self._seen: dict[int, str] = {}
        self._number_seen = 0
        self._stub: tuple[Any] | None = None
        self.own: Container[str] = ()  # global names of the program

    def names(self) -> dict[str, Any]:
        """Returns the functions that sites call, by name."""
        names = ("take", "value", "expected", "raised", "of", "bounded", "mock")
        return {f"codegen_{name}": getattr(self, name) for name in names}

    def stand_in(self, value: Any) -> None:
        """Supplies every site with ``value``."""
        self._stub = (value,)

    def take(self, number: int) -> None:
        """Waits for the report of a site."""
        if self._stub is not None:
            return
        kind, rest = self.message()
        fine = kind == "report" and len(rest) == 2 and type(rest[1]) is list
        if not fine or type(rest[0]) is not int or rest[0] != number:
            self.end(kind, rest)
        self._outcomes = rest[1]

    def expected(self, value: Any, by_numpy: bool = False) -> Any:
        """Returns an expected value.

        Args:
            by_numpy: True if numpy compares, which treats lists as arrays.

        Raises:
            AssertionError: if it is not empty, but a reported array is: an elementwise comparison
                of these is vacuously true.
        """
        reports = self._outcomes if self._stub is None and _has_items(value) else ()
        if any(_is_empty(outcome[-1], by_numpy) for outcome in reports):
            raise AssertionError("an empty array is compared with a non-empty one")
        return value

    def message(self) -> tuple[str, list[Any]]:
        """Returns the next message that is not about an open site."""
        while True:
            kind, *rest = self._receive()
            if kind != "seen" or len(rest) != 2 or type(rest[0]) is not int:
                return kind, rest
            self._number_seen += 1
            if self._number_seen > MAX_SEEN + 1:
                self._fail("error", "the program broke the protocol: too many messages")
            self._note(*rest)

    def _note(self, number: int, tree: Any) -> None:
        """Adds a value of an open site to the site's digest, which becomes "" if the value is easy
        to guess.
        """
        import hashlib  # rarely needed, and large

        before = self._seen.get(number)
        text = json.dumps([before, tree]) if before != "" and _is_telling(tree) else ""
        self._seen[number] = text and hashlib.sha256(text.encode()).hexdigest()

    def seen(self) -> list[str]:
        """Returns the open sites that read only informative values, each with its digest."""
        return [f"{number}:{digest}" for number, digest in self._seen.items() if digest]

    def end(self, kind: str, rest: list[Any]) -> NoReturn:
        """Fails the job for an unexpected message."""
        if kind == "report":
            self._fail("wrong", "an assertion was reported that the tests had not reached")
        if kind == "done":
            self._fail("wrong", "the tests ended before all assertions were reported")
        if kind == "failed":
            self._fail("wrong", "an assertion in the program's process failed")
        self._fail(*failure_of(kind, rest))

    def value(self, place: int) -> Any:
        """Returns a site's operand; fails the job if computing the operand raised an exception."""
        if self._stub is not None:
            return self._stub[0]
        try:
            kind, *rest = self._outcomes[place]
            if kind == "value":
                (tree,) = rest
                return wire.of_program(wire.unpack(tree))
            names, message = rest
            text = str(message)[: wire.MAX_MESSAGE_CHARS]
            status = "exited" if "SystemExit" in names else "error"
            name = str(names[0])[:80].removeprefix(".")
        except (TypeError, ValueError, LookupError, wire.WireError) as error:
            self._fail("error", f"the program broke the protocol: {type(error).__name__}")
        return self._fail(status, text if text.startswith(f"{name}:") else f"{name}: {text}")

    def raised(self, kinds: tuple[str | type, ...], match: str | None) -> None:
        """Checks that computing a site's operand raised one of these exceptions.

        Raises:
            AssertionError: if none was raised, or its message does not match.
        """
        if self._stub is not None:
            raise AssertionError("a stand-in raises nothing")
        expected = {k if isinstance(k, str) else wire.class_names(k)[0] for k in kinds}
        own = {f".{name}" for name in expected if name in self.own or name in kinds}
        try:
            kind, *rest = self._outcomes[0]
            if kind != "raised":
                raise AssertionError(f"no {' or '.join(expected)} was raised")
            names, message = [str(name) for name in rest[0]], str(rest[1])
        except (TypeError, ValueError, LookupError):
            self._fail("error", "the program broke the protocol: not an exception")
        name = "".join(names[:1]).removeprefix(".")
        if _line(names).isdisjoint(expected | own):
            raise AssertionError(f"{name:.100} was raised: {message:.300}")
        text = message.removeprefix(f"{name}: ")
        if match is not None and not re.search(match, text):
            raise AssertionError(f"the message {text:.300!r} does not match {match!r:.300}")

    def of(self, names: Any, *kinds: Any) -> bool:
        """Returns True if the class names of a value include one of ``kinds``."""
        if self._stub is not None:
            return bool(names)
        if type(names) is not list or not all(type(name) is str for name in names):
            return False
        line = _line(names, MAX_CLASSES)
        known = [found for name in line if isinstance(found := getattr(builtins, name, 0), type)]
        return any(
            _ends_with(names, kind) or any(issubclass(each, kind) for each in known)
            for kind in kinds
        )

    def bounded(self, value: Any) -> Any:
        """Returns an operand of an order comparison; rejects infinities and NaN."""
        if isinstance(value, float) and not math.isfinite(value):
            raise AssertionError(f"{value} is in an order comparison")
        return value

    def mock(self, calls: Any) -> Any:
        """Returns a mock with the calls that the program side recorded."""
        from unittest import mock

        made = mock.Mock()
        for arguments, options in calls:
            made(*arguments, **options)
        return made


def _has_items(value: Any) -> bool:
    value = getattr(value, "expected", value)  # unwraps pytest.approx
    if isinstance(value, (list, tuple)):
        return any(map(_has_items, value))
    return getattr(value, "size", 1) != 0


def _is_empty(tree: Any, by_numpy: bool) -> bool:
    """Returns True if a tree is, or contains, an array, series or frame without items."""
    if type(tree) is dict:
        ((tag, tree),) = tree.items()
        if (tag == "nd" and 0 in tree[1]) or (tag == "px" and not tree[1]):
            return True
    if type(tree) is not list:
        return False
    return any(_is_empty(part, False) for part in tree) or (
        by_numpy and all(_is_empty(part, True) for part in tree)
    )


_GUESSED = words("o f ty nt")
_PART_OF_FRAME = {"pf": 1, "ps": 0, "pi": 0}  # index of the data, without the names


def _is_telling(tree: Any) -> bool:
    """Returns True if a tree represents a plain value that is hard to guess."""
    if type(tree) is str:
        return len(tree) > 1 and tree not in ("NaT", "<NA>")
    if type(tree) in (int, float):
        return abs(tree) > 1
    if type(tree) is dict:
        ((tag, content),) = tree.items()
        if tag == "nd":  # not a bool, nor numbers such as 0, 1 and 0.5
            return content[0] != "|b1" and _is_telling(content[-1])
        if tag in ("x", "px", "pt"):  # without the type name
            content = content[1:]
        if tag in _PART_OF_FRAME:
            content = content[_PART_OF_FRAME[tag]]
        return tag not in _GUESSED and _is_telling(content)
    return type(tree) is list and any(map(_is_telling, tree)) and '{"o": ' not in json.dumps(tree)


def _ends_with(names: list[str], kind: type) -> bool:
    """Returns True if a class hierarchy ends with ``kind``, its bases and few other classes.

    A class that derives from ``kind`` and from others may have the others in between.
    """
    bases = wire.class_names(kind)
    if bases[0] not in names:
        return False
    rest = names[names.index(bases[0]) :]
    others = MAX_CLASSES if isinstance(kind, abc.ABCMeta) else MAX_BETWEEN
    return set(bases) <= set(rest) and len(rest) <= len(bases) + others


def _line(names: list[str], most: int = MAX_OWN_CLASSES) -> set[str]:
    """Returns the classes that an object counts as: a few of the program's, then the bases of the
    first built-in one; other built-in bases do not count.
    """
    for place, name in enumerate(names):
        found = getattr(builtins, name, None)
        if isinstance(found, type):
            bases = {kind.__name__ for kind in found.__mro__}
            return bases | set(names[: min(place, most)])
    return set()
