"""Reports of blinded tests (:mod:`codegen.sandbox.blinding`), sent by the program's process.

    ["loaded", {}], then for each site that the tests reach
    ["report", number, [["value", tree] | ["raised", [class names], message]...]]
    ["failed", message] for an open site that failed, and ["done", token] after the tests
    ["seen", number, tree] for a value that an open site reads

The program shares the process and could forge reports, but the correct values are not in that
process; the receiving side (``ReportedSites``) accepts reports only in the order of the
tests' own control flow.
"""

from __future__ import annotations

import itertools
import numbers
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..protocol import wire
from ..protocol.wire import MAX_SEEN

# Functions that return the plain content of an instance of a subclass, or of a library class
# that counts as one.
_CONTENT: dict[type, Callable[[Any], Any]] = {
    numbers.Integral: operator.index,
    numbers.Real: float,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    list: lambda value: list(list.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    Mapping: lambda value: dict(value.items()),
}


def not_plain(value: Any) -> Any:
    """Returns the tree of a value that is not plain: its plain content, if its class has any."""
    if (tree := wire.pack_array(value, pack)) is not None:
        return tree
    kind = type(value)
    for base, content in _CONTENT.items():
        if issubclass(kind, base):
            return pack(content(value))
    return {"o": kind.__name__[:80]}


def pack(value: Any) -> Any:
    """Returns the tree of any value."""
    return wire.pack(value, not_plain)


class CaughtException:
    """An exception caught by a site, with the interfaces of :mod:`unittest` and pytest."""

    def __init__(self, error: BaseException | None) -> None:
        self.value = self.exception = error
        self.type = type(error)
        self.args = () if error is None else error.args

    def match(self, pattern: str) -> bool:
        """Implements pytest's ``ExceptionInfo.match``."""
        assert re.search(pattern, str(self.value))
        return True


def reporting(send: Callable[[Any], None]) -> dict[str, Any]:
    """Returns the functions that sites call in the program's process, by name."""

    def attempt(action: Callable[[], Any]) -> tuple[list[Any], Any]:
        try:
            return ["value", pack(action())], None
        except BaseException as error:  # noqa: BLE001 - it is the result
            return ["raised", kinds(error), wire.describe_exception(error)[1]], error

    def report(number: int, *actions: Callable[[], Any]) -> Any:
        outcomes = [attempt(action) for action in actions]
        send(["report", number, [outcome for outcome, _ in outcomes]])
        return CaughtException(outcomes[0][1])

    def failed() -> None:
        send(["failed", "an assertion failed"])

    left = itertools.count(MAX_SEEN, -1)

    def seen(number: int, value: Any) -> Any:
        room = next(left)
        if room >= 0:
            try:
                send(["seen", number, pack(value) if room else None])
            except (wire.WireError, MemoryError, ValueError):
                send(["seen", number, None])
        return value

    class Raises:
        """A ``pytest.raises`` for tests that expect exceptions with ``try``."""

        value: BaseException | None = None

        def __init__(self, *kinds: Any) -> None:
            self.kinds = kinds

        def __enter__(self) -> Raises:
            return self

        def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
            if error is None:
                raise AssertionError("the tests expect an exception")
            self.value = error
            return isinstance(error, self.kinds)

    def calls(mock: Any) -> list[Any]:
        return [(tuple(c.args), dict(c.kwargs)) for c in getattr(mock, "call_args_list", ())]

    def kinds(value: Any) -> list[str]:
        return wire.class_names(type(value))

    functions = {f"codegen_{f.__name__}": f for f in (report, failed, seen, calls, kinds)}
    return functions | {"codegen_raises": Raises}
