"""Verdicts for rewards, adapters and other harnesses that do not open sandboxes.

Programs run in the services that ``CODEGEN_SANDBOX_URL`` lists (comma-separated), else in a
sandbox in this process. A failing sandbox is retried twice. Then :class:`NotScored` is raised: a
sandbox failure must never count as a wrong program.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from codegen.core.errors import MachineError, SandboxError
from codegen.core.records import UNJUDGED, Status, Trust

from .client import SandboxClient
from .jobs import Job, Outcome, ScriptJob
from .sandbox import Sandbox

URL_ENV = "CODEGEN_SANDBOX_URL"
TRIES = 3
PAUSE_S = 0.5  # before the second attempt; doubles for the third
PATIENCE_S = 300.0  # maximum wait for a service per attempt
_PROBE = Job("x = 1\n", test="assert x == 1\n")

_locks: dict[int, threading.Lock] = {}  # by process id, since a fork may copy a held lock
_shared: dict[tuple[int, str, Trust], Sandbox | SandboxClient] = {}


class NotScored(SandboxError):
    """The sandbox or the tests failed, so the program has no score."""


class Result(Protocol):
    """A verdict or an outcome."""

    @property
    def status(self) -> Status: ...
    @property
    def message(self) -> str: ...


Key = TypeVar("Key")
AnyResult = TypeVar("AnyResult", bound=Result)
Run = Callable[[Sequence[Key]], Iterable[tuple[Key, AnyResult]]]


def choose_sandbox(
    service: str | Sequence[str] = (), trust: Trust = "in_sandbox", **settings: Any
) -> Sandbox | SandboxClient:
    """Returns a client of the given services, else of ``CODEGEN_SANDBOX_URL``, else a sandbox.

    Args:
        trust: minimum trust of the tests.
        settings: other arguments of a local :class:`Sandbox`; a service has its own.
    """
    if urls := service or [url for url in os.environ.get(URL_ENV, "").split(",") if url]:
        return SandboxClient(urls, patience_s=PATIENCE_S, least_trust=trust)
    return Sandbox(least_trust=trust, **settings)


def shared_sandbox(trust: Trust = "blinded") -> Sandbox | SandboxClient:
    """Returns the sandbox that all threads of this process share; it closes at process exit."""
    key = os.getpid(), os.environ.get(URL_ENV, ""), trust
    with _locks.setdefault(os.getpid(), threading.Lock()):
        if key not in _shared:
            _shared[key] = choose_sandbox(trust=trust).__enter__()
        return _shared[key]


def close_shared(*broken: Sandbox | SandboxClient) -> None:
    """Closes all shared sandboxes, or only ``broken`` ones; the next job opens another."""
    with _locks.setdefault(os.getpid(), threading.Lock()):
        for key in [key for key, one in _shared.items() if not broken or one in broken]:
            _shared.pop(key).close()


def run_jobs(
    jobs: Mapping[Key, Job | ScriptJob], trust: Trust = "blinded", *, partial: bool = False
) -> dict[Key, Outcome]:
    """Runs jobs in the shared sandbox.

    Args:
        partial: omit jobs without a score, unless the sandbox fails on any program.

    Raises:
        NotScored: if a job has no score. InputError: for an invalid job.
    """

    def run(keys: Sequence[Key]) -> Iterator[tuple[Key, Outcome]]:
        sandbox = shared_sandbox(trust)
        try:
            yield from sandbox.map((key, jobs[key]) for key in keys)
        except SandboxError:
            close_shared(sandbox)
            raise

    if not partial:
        return scored(run, jobs)
    found: dict[Key, Outcome] = {}
    error = NotScored("The sandbox fails on every program.")
    try:
        retried(run, jobs, found)
    except NotScored as caught:
        error = caught
    judged = {key: outcome for key, outcome in found.items() if outcome.status not in UNJUDGED}
    if len(judged) < len(jobs) and not _works(trust):
        raise error
    return judged


def _works(trust: Trust) -> bool:
    try:
        sandbox = shared_sandbox(trust)
        sandbox.describe()  # fails fast if a service is gone
        return sandbox.run(_PROBE).passed
    except (SandboxError, MachineError, OSError):
        return False


def scored(
    run: Run[Key, AnyResult], keys: Iterable[Key], unscored: Sequence[Status] = UNJUDGED
) -> dict[Key, AnyResult]:
    """Returns a result for each key, with retries like :func:`retried`.

    Raises:
        NotScored: if the sandbox failed, or a result's status is one of ``unscored``; by default
            also if the tests are unusable or could be forged.
    """
    found: dict[Key, AnyResult] = {}
    retried(run, keys, found)
    for result in found.values():
        if result.status in unscored:
            raise NotScored(f"The sandbox returned no verdict ({result.status}): {result.message}")
    return found


def retried(run: Run[Key, AnyResult], keys: Iterable[Key], found: dict[Key, AnyResult]) -> None:
    """Adds results to ``found``; each key gets three attempts, with backoff, if the sandbox fails.

    Args:
        run: yields the results of keys, in any order.

    Raises:
        NotScored: if the last attempt failed; ``found`` has the results so far.
    """
    left: list[Key] = [*keys]
    error: Exception | None = None
    for number in range(1, TRIES + 1):
        error = None
        try:
            for key, result in run(left) if left else ():
                found[key] = result
        except (SandboxError, MachineError, OSError) as caught:
            error = caught
        left = [key for key in left if key not in found or found[key].status == "infra_error"]
        if not left:
            return
        if number < TRIES:
            time.sleep(PAUSE_S * number)
    if error:
        raise NotScored(f"The sandbox failed {TRIES} times. {error}") from error
