"""The program as its tests see it: a proxy for each of its functions, and the channel behind."""

from __future__ import annotations

from typing import Any, NoReturn

from . import wire
from .swallowed import is_swallowed

MAX_CALLS = 100_000
MAX_STUB_CALLS = 1000


class Unanswered(BaseException):
    """A call got no usable answer. Not an Exception, so that tests do not take it for the
    program's.
    """


class Proxy:
    """A function of the program, called over the channel."""

    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self.__name__ = self.__qualname__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; see :meth:`Remote.call`."""
        return self._remote.call(self.__name__, args, kwargs)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"


class Remote:
    """The program as the tests see it. The first failure is final: tests can't catch it away."""

    def __init__(self, channel: wire.Channel) -> None:
        self._channel = channel
        self._calls = 0
        self.failure: tuple[str, str] | None = None
        self.tidy = True  # it has had the tests do nothing that stays
        self.raised: BaseException | None = None  # the last exception of the program
        self.settled = True  # whether it is known that the tests caught it
        self._stub: tuple[Any] | None = None  # what answers in the program's place

    def stand_in(self, value: Any) -> None:
        """Has ``value`` be the answer to everything, in the program's place."""
        self._stub = (value,)
        self._calls = 0

    def stand_in_ends(self) -> None:
        """Ends what :meth:`stand_in` began; what failed meanwhile is of no account."""
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

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls a function of the program. Raises what it raised, as a built-in exception."""
        frame = wire.encode_call(name, args, kwargs)
        if frame is not None:
            return self._ask(frame)
        packed = [wire.pack(value, self._argument) for value in args]
        options = {key: wire.pack(value, self._argument) for key, value in kwargs.items()}
        return self._ask(["call", name, packed, options])

    def get(self, name: str) -> Any:
        """The value of a global variable of the program."""
        return self._ask(["get", name])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of the program's names."""
        return self._ask(["eval", expression])

    def _argument(self, value: Any) -> Any:
        if type(value) is Proxy:
            return {"p": value.__name__}
        raise TypeError(
            f"an argument of type {type(value).__name__} can't be sent to an isolated program; "
            "use mode 'in_sandbox'"
        )

    @property
    def calls(self) -> int:
        """How often the tests have asked the program for something."""
        return self._calls

    def _ask(self, request: list[Any] | bytes) -> Any:
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
            return self._stub[0]
        try:
            if isinstance(request, bytes):
                self._channel.send_bytes(request)
            else:
                self._channel.send(request)
        except OSError:
            self.fail("gone", "")
        kind, *rest = self.receive()
        if kind == "value" and len(rest) == 1:
            try:
                return wire.unpack(rest[0], self.special)
            except (wire.WireError, MemoryError) as error:
                self.fail("output_limit", f"unusable result: {error}")
        if kind == "raised" and len(rest) == 2:
            try:
                raised = wire.exception_from(*rest)
            except wire.WireError:
                self.fail("error", "the program sent a malformed exception")
            self._raise(raised)
        return self.fail(*failure_of(kind, rest))

    def _raise(self, error: BaseException) -> NoReturn:
        self.raised = error
        self.settled = False
        try:
            raise error
        except BaseException:  # so that the traceback begins here, see swallowed.py
            raise

    def settle(self) -> None:
        """Fails the job if the last exception of the program was swallowed by Python's protocols,
        not caught by the tests.
        """
        self.settled = True
        if self.raised is not None and is_swallowed(self.raised):
            name = type(self.raised).__name__
            self.fail(
                "error",
                f"{name}: {self.raised} (raised by the program; no test caught it, Python took it "
                "for the end of a loop or the like)",
            )

    def special(self, tag: str, content: Any) -> Any:
        """The opaque token that stands for a result that is not plain."""
        if tag == "o" and isinstance(content, str):
            return wire.Opaque(content[:80])
        raise wire.WireError(f"unknown tag {str(tag)[:20]!r}")

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
        """Records the failure of the job, for good, and ends the tests."""
        self.failure = (status, message)
        raise Unanswered


_STATUS_OF = {
    "syntax_error": "syntax_error",
    "error": "error",
    "wrong": "wrong",
    "memory": "memory",
    "exited": "exited",
    "too_large": "output_limit",
}


def failure_of(kind: str, rest: list[Any]) -> tuple[str, str]:
    if kind not in _STATUS_OF or len(rest) != 2 or not all(isinstance(part, str) for part in rest):
        return "error", "the program broke the protocol: an unexpected message"
    name, message = rest[0][:80], rest[1][: wire.MAX_MESSAGE_CHARS]
    return _STATUS_OF[kind], ": ".join(part for part in (name, message) if part)
