"""Runs the tests that a module defines: ``check``, :mod:`unittest` classes, and functions as pytest
collects them. Tests that use pytest or fixtures are run by pytest itself, if it is installed.

Used by the tests' process and, in modes ``in_sandbox`` and ``blinded``, by the program's process,
whose memory it shares, so it imports no large modules.
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

TEST_FILE = "<test>"


class BadTestError(Exception):
    """The setup or the test is unusable for any program; the message has the remedy."""


def execute(
    code: types.CodeType,
    namespace: dict[str, object],
    raised_by_program: Callable[[BaseException], bool] = lambda _: False,
) -> None:
    """Executes a test module. Tests may exit with code 0; a program may not.

    Raises:
        AssertionError: if the tests exit with another code.
    """
    # run_collected runs its tests, and reports why one failed.
    if "unittest" in code.co_names:
        import unittest

        unittest.main = lambda *_, **__: None  # type: ignore[assignment, misc]
    if "pytest" in code.co_names:
        with contextlib.suppress(ImportError):
            _pytest().main = lambda *_, **__: 0
    try:
        exec(code, namespace)  # noqa: S102 - this file runs in the sandbox
    except SystemExit as end:
        if raised_by_program(end):
            raise
        if end.code:
            raise AssertionError(f"the tests exited with code {end.code!s:.80}") from None


def run_collected(
    namespace: dict[str, Any], loaded: Collection[str], bound: Mapping[str, Any], entry_point: str
) -> None:
    """Runs the tests that an executed module defines.

    Args:
        namespace: the module's namespace.
        loaded: global names that its code reads; the module calls these functions itself.
        bound: names that come from the program; a ``check`` or a test among them is not run.
        entry_point: name of the argument of ``check``; empty if it takes none.

    Raises:
        BadTestError: for a test that cannot be run. Any exception that the tests raise.
    """
    check = namespace.get("check")
    if entry_point and callable(check) and check is not bound.get("check"):
        _finish(check(bound[entry_point]), "check")
    own = {n: v for n, v in namespace.items() if n not in bound or v is not bound[n]}
    if _needs_pytest(own, loaded):
        _run_by_pytest(namespace, own, loaded)
        return
    for name, value in list(namespace.items()):
        if name.startswith("test") and _is_own(value) and name not in loaded:
            _finish(value(), name)
        elif isinstance(value, type) and value.__module__ == namespace.get("__name__"):
            if _is_test_case(value):
                _run_test_case(value)
            elif name.startswith("Test") and name not in loaded:
                _run_class(name, value)


def _is_own(value: object) -> bool:
    """Returns True if a value is a function that the test's source defines."""
    function = getattr(value, "__wrapped__", value) if callable(value) else value
    code = function.__code__ if type(function) is types.FunctionType else None
    return code is not None and code.co_filename == TEST_FILE


def _takes(function: Any, given: int) -> str:
    """Returns the name of the first argument that a function needs besides ``given``, or ""."""
    code = getattr(function, "__code__", None)
    if code is None:
        return ""
    needed = code.co_argcount - given - len(function.__defaults__ or ())
    if needed > 0 or code.co_kwonlyargcount > len(function.__kwdefaults__ or ()):
        return code.co_varnames[given]
    return ""


def _finish(result: Any, name: str) -> None:
    """Runs an asynchronous test to its end."""
    if isinstance(result, types.CoroutineType):
        import asyncio

        asyncio.run(result)
    elif isinstance(result, (types.GeneratorType, types.AsyncGeneratorType)):
        raise BadTestError(f"{name} is a generator, so pytest would not run it; remove its yield")


def _run_class(name: str, kind: type) -> None:
    """Runs a class like pytest, with a fresh instance for each method."""
    for method, value in list(vars(kind).items()):
        if method.startswith("test") and _is_own(value):
            instance = kind()
            if setup := getattr(instance, "setup_method", None):
                setup()
            _finish(getattr(instance, method)(), f"{name}.{method}")


def _is_test_case(kind: type) -> bool:
    unittest = sys.modules.get("unittest")
    return unittest is not None and issubclass(kind, unittest.TestCase)


def _run_test_case(kind: Any) -> None:
    import unittest

    raised: list[BaseException] = []

    class Result(unittest.TestResult):
        def addError(self, test: Any, err: Any) -> None:
            raised.append(err[1])
            self.stop()

        addFailure = addError

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            if err is not None:
                self.addError(test, err)

        def addUnexpectedSuccess(self, test: Any) -> None:
            self.addError(test, (None, AssertionError(f"{test} was expected to fail")))

    result = Result()
    result.failfast = True
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    if raised:
        raise raised[0]


def _pytest() -> Any:
    """Returns pytest, if installed in the sandbox; imported on demand."""
    import pytest

    return pytest


def _needs_pytest(own: Mapping[str, Any], loaded: Collection[str]) -> bool:
    """Returns True if a test module defines names from pytest, or a test takes arguments, which are
    its fixtures.
    """
    for name, value in own.items():
        module = value.__module__ if type(value) in (types.FunctionType, type) else ""
        if isinstance(value, types.ModuleType):
            module = value.__name__
        if (module or "").partition(".")[0] in ("pytest", "_pytest"):
            return True
        if name.startswith("test") and _is_own(value) and name not in loaded and _takes(value, 0):
            return True
        if type(value) is type and name.startswith("Test") and name not in loaded:
            methods = [v for k, v in vars(value).items() if k.startswith("test") and _is_own(v)]
            if any(_takes(method, 1) for method in methods):
                return True
    return False


class _Collected(types.ModuleType):
    """Test module for pytest, without the program's names and without the functions that the
    module calls itself.
    """

    def __init__(self, namespace: dict[str, Any], own: dict[str, Any]) -> None:
        super().__init__("__main__")
        vars(self).update(own)
        types.ModuleType.__setattr__(self, "_codegen_namespace", namespace)

    def __setattr__(self, name: str, value: Any) -> None:
        self._codegen_namespace[name] = value
        super().__setattr__(name, value)


def _run_by_pytest(
    namespace: dict[str, Any], own: Mapping[str, Any], loaded: Collection[str]
) -> None:
    """Runs the tests of a module with pytest.

    Raises:
        BadTestError: if pytest is missing, a fixture is unknown, or a test cannot be collected.
        Any exception of the first failing test.
    """
    try:
        pytest = _pytest()
    except ImportError:
        raise BadTestError(
            "the tests use pytest fixtures, but pytest is not installed: pip install pytest"
        ) from None
    shown = {n: v for n, v in own.items() if n not in loaded or type(v) is not types.FunctionType}
    runner = _runner(pytest, _Collected(namespace, shown))
    options = ["-c/dev/null", "--rootdir=/", "--noconftest", "--assert=plain", "-s", "-x"]
    for part in ("cacheprovider", "faulthandler", "terminalreporter"):
        options += ["-p", f"no:{part}"]
    from _pytest.config import main  # pytest.main may be replaced, see execute

    code = int(main(options, plugins=[runner]))
    if runner.failure is not None:
        raise runner.failure
    if code not in (0, 5):  # passed, or no tests
        raise BadTestError(f"pytest exited with code {code}")


def _runner(pytest: Any, module: types.ModuleType) -> Any:
    """Returns a pytest plugin that collects one module and keeps the first failure."""

    class Module(pytest.Module):
        def _getobj(self) -> types.ModuleType:
            return module

    class Runner:
        failure: BaseException | None = None

        def pytest_collection(self, session: Any) -> bool:
            path = session.config.rootpath / "tests.py"  # never read
            session.items = list(session.genitems(Module.from_parent(session, path=path)))
            hook = session.config.hook
            hook.pytest_collection_modifyitems(
                session=session, config=session.config, items=session.items
            )
            hook.pytest_collection_finish(session=session)
            session.testscollected = len(session.items)
            return True

        @pytest.hookimpl(wrapper=True)
        def pytest_make_collect_report(self) -> Any:
            report = yield
            if report.failed and self.failure is None:
                self.failure = BadTestError(f"pytest cannot collect the tests: {report.longrepr}")
            return report

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_makereport(self, call: Any) -> Any:
            report = yield
            if report.failed and self.failure is None:
                error: Any = call.excinfo.value if call.excinfo else None
                error = AssertionError(report.longrepr) if error is None else error
                if isinstance(error, pytest.FixtureLookupError):
                    error = BadTestError(
                        f"pytest has no fixture {error.argname!r}; define it in the tests, or "
                        "pass its plugin with --packages"
                    )
                elif isinstance(error, pytest.fail.Exception):
                    error = AssertionError(str(error)).with_traceback(error.__traceback__)
                self.failure = error
            return report

        def pytest_keyboard_interrupt(self, excinfo: Any) -> None:
            self.failure = self.failure or excinfo.value

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool | None:
            import inspect

            if not inspect.iscoroutinefunction(pyfuncitem.obj):
                return None
            names = pyfuncitem._fixtureinfo.argnames
            _finish(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}), "")
            return True

        @pytest.fixture
        def tmp_path(self, tmp_path_factory: Any) -> Any:
            """Replaces pytest's fixture, whose path reveals the test's name to the program."""
            return tmp_path_factory.mktemp("test")

    return Runner()
