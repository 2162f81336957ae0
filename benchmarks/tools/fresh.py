"""Runs a function in its own process, with cold caches and without state of other measurements.

The process is spawned, not forked: a fork of a large process copies its pages, and that CPU time
would be counted in the measurement. It ends after one call, even if this process was killed
first (a ``ProcessPoolExecutor`` process would block forever).
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from codegen.core.errors import CodegenError

P = ParamSpec("P")
R = TypeVar("R")


def fresh(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a module-level function in a new process and returns its result or raises its
    exception.

    Arguments and result are pickled, between these two processes only. The function measures its
    own CPU time: the start of the process is excluded.

    Raises:
        CodegenError: if the process ends without a result.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, args, kwargs))
    process.start()
    theirs.close()  # so the pipe closes when the process exits
    try:
        result, error = ours.recv()
    except EOFError:
        process.join()
        raise CodegenError(
            f"A process of the benchmark ended with code {process.exitcode} and no result.",
            "It may have run out of memory.",
        ) from None
    finally:
        ours.close()
    process.join()
    if error is not None:
        raise error
    return result


def _call(
    connection: Connection, function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the caller handles Ctrl-C
    try:
        answer = function(*args, **kwargs), None
    except Exception as error:  # noqa: BLE001 - re-raised by the caller
        answer = None, error
    connection.send(answer)
