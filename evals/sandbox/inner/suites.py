"""Runs the tests that a module defines: ``check``, :mod:`unittest` classes, and functions as pytest
collects them.

Used by the process of the tests (:mod:`.checker`) and, with mode ``in_sandbox``, by the process of
the program (:mod:`.program`), whose memory it shares: so it imports no large modules.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

TEST_FILE = "<test>"


class BadTestError(Exception):
    """The setup or the test is unusable for any program; the text says what to do."""


def execute(
    code: types.CodeType,
    namespace: dict[str, object],
    raised_by_program: Callable[[], object] = lambda: None,
) -> None:
    """Executes a module of tests. Exiting with code 0 is a normal end.

    Raises:
        AssertionError: if it exits with another code.
    """
    if "unittest" in code.co_names:
        import unittest

        # run_collected runs its classes, and reports why a test failed.
        unittest.main = lambda *_, **__: None  # type: ignore[assignment, misc]
    try:
        exec(code, namespace)  # noqa: S102 - this file runs in the sandbox
    except SystemExit as end:
        if end is raised_by_program():
            raise
        if end.code:
            raise AssertionError(f"the tests ended with exit code {end.code!s:.80}") from None


def run_collected(
    namespace: dict[str, Any],
    loaded: Collection[str],
    bound: Mapping[str, Any],
    entry_point: str,
) -> None:
    """Runs the tests that an executed module defines.

    Args:
        namespace: the module's.
        loaded: the global names that its code reads; the module calls these functions itself.
        bound: the names that come from the program; a ``check`` or a test among them is not run.
        entry_point: the name of the argument of ``check``; empty if there is none.

    Raises:
        BadTestError: for a test that can't be run. Whatever the tests raise.
    """
    check = namespace.get("check")
    if entry_point and callable(check) and check is not bound.get("check"):
        _finish(check(bound[entry_point]), "check")
    for name, value in list(namespace.items()):
        if name.startswith("test") and _is_own(value) and name not in loaded:
            _run_function(name, value, 0)
        elif isinstance(value, type) and value.__module__ == namespace.get("__name__"):
            if _is_test_case(value):
                if hasattr(value, "_codegen_class"):
                    raise TypeError(
                        f"{name} derives from a class of the program, which may skip it"
                    )
                _run_test_case(value)
            elif name.startswith("Test") and name not in loaded:
                _run_class(name, value)


def _is_own(value: object) -> bool:
    """Whether it is a function that the test's text defines."""
    function = getattr(value, "__wrapped__", value) if callable(value) else value
    code = function.__code__ if type(function) is types.FunctionType else None
    return code is not None and code.co_filename == TEST_FILE


def _run_function(name: str, function: Any, given: int) -> None:
    code = getattr(function, "__code__", None)
    if code is not None:
        needed = code.co_argcount - given - len(function.__defaults__ or ())
        if needed > 0 or code.co_kwonlyargcount > len(function.__kwdefaults__ or ()):
            first = code.co_varnames[given]
            raise BadTestError(
                f"{name} takes the argument {first!r}, and there are no fixtures here; "
                "write a test function without arguments"
            )
    _finish(function(), name)


def _finish(result: Any, name: str) -> None:
    """Has an asynchronous test run."""
    if isinstance(result, types.CoroutineType):
        import asyncio

        asyncio.run(result)
    elif isinstance(result, (types.GeneratorType, types.AsyncGeneratorType)):
        raise BadTestError(f"{name} is a generator, so nothing of it is run; remove its yield")


def _run_class(name: str, kind: type) -> None:
    """A class as pytest collects them: a fresh instance for each method."""
    for method, value in list(vars(kind).items()):
        if method.startswith("test") and _is_own(value):
            instance = kind()
            if setup := getattr(instance, "setup_method", None):
                setup()
            _run_function(f"{name}.{method}", getattr(instance, method), 1)


def _is_test_case(kind: type) -> bool:
    if hasattr(kind, "_codegen_class"):  # unittest's class is the program's, then
        return any(base.__name__ == "TestCase" for base in kind.__mro__)
    unittest = sys.modules.get("unittest")
    return unittest is not None and issubclass(kind, unittest.TestCase)


def _run_test_case(kind: Any) -> None:
    import unittest

    raised: list[BaseException] = []

    class Result(unittest.TestResult):
        def addError(self, test: Any, err: Any) -> None:
            super().addError(test, err)
            raised.append(err[1])

        def addFailure(self, test: Any, err: Any) -> None:
            super().addFailure(test, err)
            raised.append(err[1])

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            super().addSubTest(test, subtest, err)
            if err is not None:
                raised.append(err[1])

        def addUnexpectedSuccess(self, test: Any) -> None:
            super().addUnexpectedSuccess(test)
            raised.append(AssertionError(f"{test} was expected to fail"))

    result = Result()
    result.failfast = True
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    if raised:
        raise raised[0]
