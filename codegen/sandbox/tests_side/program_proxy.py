"""The program from its tests' side in mode ``isolated``: its functions, called over the channel.

Requests of the tests:     "m" and marshal's (name, args, kwargs)
                           | ["call", name, [trees], {name: tree}]
                           | ["eval", expression]
Answers of the program:    ["value", tree] | ["raised", name, message]
                           | a message that stops the job
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ..protocol import wire, words

MAX_CALLS = 100_000
MAX_STUB_CALLS = 1000


class Unanswered(BaseException):
    """A call got no usable answer. Not an Exception, so that tests do not catch it as the
    program's.
    """


class Remote:
    """The program from the tests' side. The first failure is final: tests cannot catch it."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self.calls = 0
        self.failure: tuple[str, str] | None = None
        self.tidy = True  # whether the process of the tests can be reused
        self.raised: BaseException | None = None  # the last exception of the program
        self._stub: tuple[Any] | None = None  # the answer instead of the program's

    def stand_in(self, value: Any) -> None:
        """Makes ``value`` the answer to every request, instead of the program's."""
        self._stub = (value,)
        self.calls = 0

    def stand_in_ends(self) -> None:
        """Undoes :meth:`stand_in`; failures in between are ignored."""
        self._stub = None
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
        """Returns the value of an expression of the program's names."""
        return self._ask(["eval", expression])

    def _ask(self, request: list[Any] | bytes) -> Any:
        if self.failure is not None:
            raise Unanswered
        self.calls += 1
        if self.calls > MAX_CALLS:
            self.fail("error", f"the tests make more than {MAX_CALLS} calls")
        if self._stub is not None:
            if self.calls > MAX_STUB_CALLS:
                raise Unanswered
            return self._stub[0]
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
            self.fail("output_limit", "unusable result: it is nested too deep")
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
        """Records the job's final failure and stops the tests."""
        self.failure = (status, message)
        raise Unanswered


def _refuse(value: Any) -> Any:
    raise TypeError(f"an argument of type {type(value).__name__} is not a plain value")


_ENDINGS = words("syntax_error compile_error crashed error wrong memory exited too_large")


def failure_of(kind: str, rest: list[Any]) -> tuple[str, str]:
    """Returns the status and message for a program's message that stops the job."""
    if kind not in _ENDINGS or len(rest) != 2 or not all(isinstance(part, str) for part in rest):
        return "error", "the program broke the protocol: an unexpected message"
    name, message = rest[0][:80], rest[1][: wire.MAX_MESSAGE_CHARS]
    status = "output_limit" if kind == "too_large" else kind
    return status, ": ".join(part for part in (name, message) if part)
