"""Runs a program on many inputs, each in a separate process; compares results outside it.

The program's side of the sandbox forks for each input. So a program may read descriptor 0, leave
threads behind, exit or change its modules without affecting the next input, and each input has its
own time limit. The program's output, or the value that its function returns, goes to the tests'
side, which has the expected results.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from codegen.core.records import Verdict
from codegen.evals.tasks.comparators import SOURCE, write_value
from codegen.sandbox import Outcome

TIMED_OUT = "TimeoutError: more than "


def run_case(source: str, text: str, call: str, cpu_s: float) -> Any:
    """Runs a program in a separate process.

    Only its source is used, in the sandbox: see :func:`with_runner`.

    Args:
        text: standard input; with ``call``, the arguments as JSON, one per line.
        call: expression of the function to call; empty for a program that reads and prints.
        cpu_s: CPU time limit in seconds; the wall time limit is three times as long; 0 for none.

    Returns:
        The printed output, or the function's result.
    """
    import atexit
    import builtins
    import contextlib
    import json
    import marshal
    import math
    import os
    import resource
    import signal
    import sys
    import tempfile
    import threading
    import types

    def inside() -> int:
        for number, file in enumerate(files):
            os.dup2(file.fileno(), (0, 1, 3)[number])  # 3 was the channel to the tests
        os.closerange(4, 4096)
        streams = [
            os.fdopen(n, mode, encoding="utf-8", errors="surrogateescape")
            for n, mode in ((0, "r"), (1, "w"))
        ]
        sys.stdin, sys.stdout = streams
        sys.__stdin__, sys.__stdout__ = streams
        if cpu_s:
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu_s), hard))
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        report: tuple[Any, ...] = ()
        status = 0
        try:
            exec(compile(source, "<program>", "exec"), vars(module))  # noqa: S102
            if call:
                given = [json.loads(line) for line in text.split("\n")]
                report = ("value", eval(call, vars(module))(*given))  # noqa: S307
        except SystemExit as error:
            status = 0 if error.code in (None, 0) and not call else 1
            report = ("RuntimeError", f"exit code {error.code}")
        except BaseException as error:  # noqa: BLE001 - whatever the program raises is its result
            status, report = 1, (type(error).__name__, str(error)[:1000])
        for step in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush):  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):  # like the interpreter
                step()
        try:
            packed = marshal.dumps(report)
        except ValueError:
            status, packed = 1, marshal.dumps(("TypeError", "the result is not a plain value"))
        os.write(3, packed)
        return status

    files = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
    files[0].write(b"" if call else text.encode("utf-8", "surrogateescape"))
    files[0].seek(0)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = inside()
        finally:
            os._exit(status)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, 3 * cpu_s)
    status = os.waitpid(child, 0)[1]
    late = signal.setitimer(signal.ITIMER_REAL, 0)[0] == 0 and cpu_s
    outputs: list[bytes] = []
    for file in files:
        file.seek(0)
        outputs.append(file.read())
        file.close()
    _, printed, report = outputs
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if late or (cpu_s and number == signal.SIGXCPU):
            raise TimeoutError(f"more than {cpu_s:g} s for one input")
        raise RuntimeError(f"killed by {signal.Signals(number).name}")
    if status:
        name, message = marshal.loads(report) if report else ("RuntimeError", f"status {status}")
        kind = getattr(builtins, name, None)
        try:
            error = kind(message) if kind else None
        except TypeError:
            error = None
        raise error if isinstance(error, Exception) else RuntimeError(f"{name}: {message}")
    return marshal.loads(report)[1] if call else printed.decode("utf-8", "replace")


_RUNNER = inspect.getsource(run_case)


def with_runner(program: str, *, modules: str = "", call: str = "", cpu_s: float = 0.0) -> str:
    """Wraps a program in two functions: ``feed(part)`` adds to the input, ``run()`` runs the given
    program on it.

    Args:
        modules: statements executed once before all runs, to import modules only once.
        call, cpu_s: see :func:`run_case`.
    """
    return (
        f"from typing import Any\n{modules}\n\nSOURCE = {program!r}\nPARTS = []\n\n\n{_RUNNER}\n\n"
        "def feed(part):\n    PARTS.append(part)\n\n\n"
        "def run():\n    text = ''.join(PARTS)\n    PARTS.clear()\n"
        f"    return run_case(SOURCE, text, {call!r}, {cpu_s!r})\n"
    )


def cases_test(cases: Sequence[tuple[str, Any]], rule: str) -> str:
    """Returns the test for a :func:`with_runner` program.

    Args:
        cases: inputs, each with its expected result.
        rule: comparison rule: ``lines`` (ignores whitespace at the ends of lines and of the
            output), ``decimals`` or ``value``, see ``RULES`` in this file.
    """
    return f"{SOURCE}\n\nCASES = read_value({write_value(list(cases))!r})\n{RULES}\n" + (
        f"run_cases(CASES, {rule}, feed, run)\n"
    )


# Runs on the tests' side. ``decimals`` and ``value`` are LiveCodeBench's rules (lcb_runner,
# testing_util.py: grade_stdio and grade_call_based).
RULES = r'''
from decimal import Decimal

PIECE = 1 << 20  # characters sent at once


def lines_of(text):
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def lines(got, expected):
    return first_difference(lines_of(got), lines_of(expected), lambda one, other: one == other)


def decimals(got, expected):
    """Lines without white space at their ends; equal as texts, or word by word as numbers."""
    one, other = ([line.strip() for line in text.strip().split("\n")] for text in (got, expected))
    return first_difference(one, other, same_numbers)


def same_numbers(one, other):
    if one == other:
        return True
    try:
        return [Decimal(word) for word in one.split()] == [Decimal(word) for word in other.split()]
    except ArithmeticError:
        return False


def first_difference(got, expected, same):
    pairs = zip(got + ["(the end)"], expected + ["(the end)"])
    for number, (one, other) in enumerate(pairs, 1):
        is_end = number > len(got) or number > len(expected)
        if (len(got) != len(expected)) if is_end else not same(one, other):
            return f"line {number}: {one[:200]!r}, expected {other[:200]!r}"
    return ""


def value(got, expected):
    """Equal; a tuple is taken for a list, but not within another value."""
    got = list(got) if isinstance(got, tuple) else got
    return "" if got == expected else f"{got!r:.200}, expected {expected!r:.200}"


def run_cases(cases, rule, feed, run):
    for number, (given, expected) in enumerate(cases, 1):
        for start in range(0, len(given), PIECE):
            feed(given[start : start + PIECE])
        difference = rule(run(), expected)
        if difference:
            raise AssertionError(f"case {number}, {difference}")
'''


def with_timeouts(found: Verdict | Outcome) -> Verdict | Outcome:
    """Sets the status ``timeout`` if an input exceeded the limit of :func:`run_case`.

    A program that raises the same error itself gets the same status; it has failed as well.
    """
    if found.status == "error" and found.message.startswith(TIMED_OUT):
        return replace(found, status="timeout")
    return found
