"""Code that runs in the sandbox with a program. This file's source is appended to the program.

It imports nothing from this project, and defines as few names as possible.
"""


def _audit_call_all(
    calls: list[str], seconds: float, total: float, most: int
) -> list[tuple[bool, object, str, list[int]]]:
    """Evaluates calls; returns for each: success, value, error and executed lines.

    A call that takes more than `seconds` of CPU time fails with the error ``timeout``; after
    `total` seconds in all, the remaining calls are ``skipped``.

    Args:
        most: maximum number of executed lines to record per call.
    """
    import copy
    import signal
    import sys
    import time

    def note(frame, *_):
        if frame.f_code.co_filename != own:
            return None
        lines.append(frame.f_lineno)
        if len(lines) >= most:
            sys.settrace(None)
        return note

    class Late(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGVTALRM, stop)
    found: list[tuple[bool, object, str, list[int]]] = []
    end = time.process_time() + total
    own = _audit_call_all.__code__.co_filename
    for call in calls:
        lines: list[int] = []
        value, error = None, ""
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds if time.process_time() < end else 1e-6)
            sys.settrace(note if most else None)
            value = eval(call, globals())  # noqa: S307
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            value = copy.deepcopy(value)
        except Late:
            error = "timeout" if time.process_time() < end else "skipped"
        except (Exception, SystemExit) as raised:  # noqa: BLE001
            error = f"{type(raised).__name__}: {raised}"[:200]
        finally:
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        found.append((not error, None if error else value, error, sorted(set(lines))))
    return found


def _audit_record(parts: list, names: list[str], entry_point: str, limits: list) -> list[str]:
    """Runs tests; returns their calls to the named functions, except recursive ones.

    Args:
        parts: setup, program and tests.
        names: functions to watch.
        limits: maximum number of calls, and of characters per call.
    """
    import types
    import unittest

    space: dict = {"__name__": "tested"}
    calls: list[str] = []
    depth = 0

    def watched(name, function):
        def call(*args, **options):
            nonlocal depth
            if not depth and len(calls) < limits[0]:
                text = repr((name, args, options))
                if len(text) < limits[1] and text not in calls:
                    calls.append(text)
            depth += 1
            try:
                return function(*args, **options)
            finally:
                depth -= 1

        return call

    try:
        for part in parts:
            if part is parts[-1]:
                functions = {n: space[n] for n in names if type(space.get(n)) is types.FunctionType}
                space |= {name: watched(name, value) for name, value in functions.items()}
            exec(part, space)  # noqa: S102
        if entry_point and "check" in space:
            space["check"](space[entry_point])
        for name, value in list(space.items()):
            if isinstance(value, type) and issubclass(value, unittest.TestCase):
                unittest.defaultTestLoader.loadTestsFromTestCase(value).run(unittest.TestResult())
            elif name.startswith("test") and callable(value):
                value()
    except BaseException:  # noqa: BLE001
        pass
    return calls
