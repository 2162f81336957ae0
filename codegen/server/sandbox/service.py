"""The sandbox's queue: fair between clients, bounded, and with a cache of verdicts.

Everything runs on the event loop's thread; the sandbox's thread only reports finished jobs.

- **Fairness.** Each client has its own queue, and the queues are served in turn: a client with a
  thousand jobs delays another client's single job by one job.
- **Bounds.** A request whose jobs do not fit is rejected as a whole (:class:`Overloaded`), with the
  time after which to retry.
- **Deduplication.** Equal jobs of a client that are waiting or running at the same time run once.
  Deterministic verdicts are cached by a hash of everything that affects them. Outcomes of scripts
  are not cached, because a client may need a script's current output.
- **Isolation.** Tests are a client's code and may have changed the process that runs them, so
  clients share neither processes nor verdicts.
- **Sandbox faults are not verdicts.** Such a job is retried, then fails with :class:`SandboxFault`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from codegen.core.errors import ConfigError, SandboxError
from codegen.core.records import Trust
from codegen.sandbox import Job, Limits, Mode, Outcome, Sandbox, ScriptJob
from codegen.sandbox.languages import find
from codegen.server.completion.requests import Overloaded, Unavailable
from codegen.server.http.bodies import RequestRejected, StrictBody
from codegen.server.metrics import Metrics

SANDBOX_TRIES = 4  # attempts of two runs each
_AHEAD = 4 / 3  # jobs sent to the sandbox per running job, so that it never waits for this loop
_RATE_OVER_S = 10.0
# Rerunning such a job gives the same outcome, unless the program reads the clock, for example.
_LASTING = frozenset({
    "passed", "wrong", "error", "exited", "output_limit", "syntax_error", "compile_error", "empty",
    "bad_test", "refused",
})  # fmt: skip
_ENTRY_BYTES = 500  # per cached outcome, without its strings


class SandboxFault(Unavailable):
    """The sandbox failed, not the program, so the job has no verdict."""


@dataclass(eq=False, slots=True)
class _Entry:
    """Waiting or running job, with the number of requests for its outcome."""

    client: str
    job: Job | ScriptJob
    key: str
    done: asyncio.Future[Outcome]
    since: float
    wanted: int = 1
    tries: int = 0
    running: Future[Outcome] | None = None


@dataclass(eq=False)
class SandboxService:
    """Runs jobs of many clients on one sandbox.

    Attributes:
        sandbox: an open sandbox, closed by its owner.
        most: maximum limits of a job.
        metrics: counters, gauges and latencies.
        queue: maximum waiting jobs of all clients.
        client_queue: maximum waiting jobs per client.
        cache_bytes: maximum size of cached verdicts; 0 disables the cache.
        started: start time, by the monotonic clock.
        waiting, running: number of waiting jobs, and of jobs in the sandbox.
    """

    sandbox: Sandbox
    most: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    queue: int = 8192
    client_queue: int = 4096
    cache_bytes: int = 64 << 20
    started: float = field(default_factory=time.monotonic, init=False)
    waiting: int = field(default=0, init=False)
    running: int = field(default=0, init=False)
    # Waiting jobs by client; clients and jobs in serving order.
    _lines: OrderedDict[str, OrderedDict[_Entry, None]] = field(
        default_factory=OrderedDict, init=False
    )
    _entries: dict[str, _Entry] = field(default_factory=dict, init=False)  # by key
    _kept: OrderedDict[str, Outcome] = field(default_factory=OrderedDict, init=False)
    _kept_bytes: int = field(default=0, init=False)
    _ended_at: deque[float] = field(default_factory=lambda: deque(maxlen=1000), init=False)
    _stopping: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._room = math.ceil(self.sandbox.capacity * _AHEAD)

    def admit(self, client: str, count: int) -> None:
        """Checks that the queues have room for a request's jobs.

        Raises:
            Overloaded: if a queue lacks room. Unavailable: once the server is stopping.
        """
        if self._stopping:
            raise Unavailable("The server is stopping.")
        own = len(self._lines.get(client, ()))
        if self.waiting + count <= self.queue and own + count <= self.client_queue:
            return
        now = time.monotonic()
        recent = sum(1 for at in self._ended_at if now - at < _RATE_OVER_S)
        after_s = math.ceil(min(60.0, max(1.0, own * _RATE_OVER_S / max(1, recent))))
        whose = "this client's" if own + count > self.client_queue else "the"
        self.metrics.count("queue_full")
        message = f"{self.waiting} jobs are waiting; {count} more do not fit {whose} queue."
        raise Overloaded(message, after_s=after_s)

    async def outcome(
        self, client: str, job: Job | ScriptJob, key: str = ""
    ) -> tuple[Outcome, bool]:
        """Returns the outcome of an admitted job, and True if it is from an equal job.

        ``key`` is a hash of everything that affects the outcome; "" always runs the job.

        Raises:
            SandboxFault: if the sandbox failed. Unavailable: if the server stops first.
        """
        key = key and f"{client}\n{key}"
        if key and key in self._kept:
            self._kept.move_to_end(key)
            self.metrics.count("cache_hits")
            return self._kept[key], True
        entry = self._entries.get(key) if key else None
        joined = entry is not None
        if entry is not None:
            entry.wanted += 1
        else:
            loop = asyncio.get_running_loop()
            entry = _Entry(client, job, key, loop.create_future(), time.monotonic())
            if key:
                self._entries[key] = entry
            self._enqueue(entry)
            self._pump()
        try:
            return await asyncio.shield(entry.done), joined
        except asyncio.CancelledError:
            entry.wanted -= 1
            if not entry.wanted:
                self._drop(entry)
            raise

    async def outcomes(
        self, client: str, jobs: Sequence[tuple[Job | ScriptJob, str]]
    ) -> AsyncGenerator[tuple[int, Outcome | Unavailable, bool], None]:
        """Yields the outcomes of (job, key) pairs as they finish, each with its index."""

        async def one(place: int) -> tuple[int, Outcome | Unavailable, bool]:
            try:
                return place, *await self.outcome(client, *jobs[place])
            except Unavailable as error:
                return place, error, False

        tasks = [asyncio.ensure_future(one(place)) for place in range(len(jobs))]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()

    def stop(self) -> None:
        """Rejects new and waiting jobs; running jobs finish."""
        self._stopping = True
        for line in self._lines.values():
            for entry in line:
                self._fail(entry, Unavailable("The server is stopping."))
        self._lines.clear()
        self.waiting = 0

    def _enqueue(self, entry: _Entry, first: bool = False) -> None:
        line = self._lines.setdefault(entry.client, OrderedDict())
        line[entry] = None
        line.move_to_end(entry, last=not first)
        self.waiting += 1

    def _leave(self, entry: _Entry) -> bool:
        """Removes a job from its queue; returns False if it is not waiting."""
        line = self._lines.get(entry.client, {})
        if entry not in line:
            return False
        del line[entry]
        if not line:
            del self._lines[entry.client]
        self.waiting -= 1
        return True

    def _pump(self) -> None:
        """Submits jobs to the sandbox while it has room, from each client in turn."""
        while self.running < self._room and self._lines:
            client, line = next(iter(self._lines.items()))
            self._lines.move_to_end(client)
            entry = next(iter(line))
            self._leave(entry)
            self._start(entry)
        self.metrics.gauge("waiting", self.waiting)
        self.metrics.gauge("running", self.running)

    def _start(self, entry: _Entry) -> None:
        loop = entry.done.get_loop()
        if not entry.tries:
            self.metrics.observe({"queue": time.monotonic() - entry.since})
        entry.tries += 1
        try:
            entry.running = self.sandbox.submit(entry.job, entry.client)
        except Exception as error:  # noqa: BLE001 - reported to the client
            self._fail(entry, error)
            return
        self.running += 1

        def done(future: Future[Outcome]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._ended, entry, future)

        entry.running.add_done_callback(done)

    def _ended(self, entry: _Entry, future: Future[Outcome]) -> None:
        self.running -= 1
        self._ended_at.append(time.monotonic())
        if future.cancelled():
            self._forget(entry)
        elif isinstance(error := future.exception(), SandboxError):
            self._fail(entry, SandboxFault(error.message))
        elif error is not None:
            self._fail(entry, error)
        else:
            self._finish(entry, future.result())
        self._pump()

    def _finish(self, entry: _Entry, outcome: Outcome) -> None:
        if outcome.status == "infra_error":
            self.metrics.count("sandbox_faults")
            if entry.tries < SANDBOX_TRIES and entry.wanted and not self._stopping:
                self._enqueue(entry, first=True)
            else:
                self._fail(entry, SandboxFault(outcome.message))
            return
        self._forget(entry)
        self.metrics.count(f"jobs_{outcome.status}")
        self.metrics.observe({"total": time.monotonic() - entry.since})
        if entry.key and outcome.status in _LASTING:
            self._keep(entry.key, outcome)
        if not entry.done.done():
            entry.done.set_result(outcome)

    def _fail(self, entry: _Entry, error: BaseException) -> None:
        self._forget(entry)
        if not entry.done.done():
            entry.done.set_exception(error)
            entry.done.exception()  # marks the error as retrieved, in case no request is waiting

    def _drop(self, entry: _Entry) -> None:
        """Drops a job that no request needs any more."""
        self._forget(entry)
        if not self._leave(entry) and entry.running is not None:
            entry.running.cancel()

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]

    def _keep(self, key: str, outcome: Outcome) -> None:
        if (old := self._kept.pop(key, None)) is not None:  # a client reconnected
            self._kept_bytes -= _size(old)
        self._kept[key] = outcome
        self._kept_bytes += _size(outcome)
        while self._kept_bytes > self.cache_bytes:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])


def _size(outcome: Outcome) -> int:
    results = sum(len(repr(result.value)) + len(result.error) for result in outcome.results)
    return _ENTRY_BYTES + len(outcome.message) + 4 * len(outcome.stdout) + 4 * results


# The bodies of the native routes; :mod:`codegen.sandbox.serialization` documents their fields.
Handler = Callable[["SandboxService", Request], Coroutine[Any, Any, Response]]


class LimitsBody(StrictBody):
    """Limits of one job, by default the server's."""

    cpu_s: float | None = None
    memory_mib: int | None = None
    output_bytes: int | None = None
    file_mib: int | None = None
    processes: int | None = None
    open_files: int | None = None

    def limits(self, most: Limits) -> Limits:
        """Returns these limits, capped at ``most``.

        Raises:
            RequestRejected: if a limit is too small for the sandbox.
        """
        given = {
            name: min(value, getattr(most, name))
            for name, value in self.model_dump(exclude_none=True).items()
        }
        try:
            return replace(defaults(most), **given)
        except ConfigError as error:
            raise RequestRejected(error.message, param="limits") from None


def defaults(most: Limits) -> Limits:
    """Returns the limits of a job that sets none."""
    usual: dict[str, Any] = asdict(Limits())
    return Limits(**{name: min(value, getattr(most, name)) for name, value in usual.items()})


class JobBody(StrictBody):
    """Body of ``/v1/judge``: one program and its tests."""

    program: str
    test: str = ""
    entry_point: str = ""
    setup: str = ""
    mode: Mode = "isolated"
    stdin: str = ""
    expected_stdout: str = ""
    calls: list[Any] = Field(default_factory=list)
    limits: LimitsBody = LimitsBody()
    language: str = "python"
    plain: bool = False
    least_trust: Trust = "in_sandbox"
    key: str = ""
    cache: bool = True

    def job(self, most: Limits, languages: Sequence[str]) -> Job:
        """Returns the job, with allowed limits and language.

        Raises:
            InputError: if the job is invalid.
        """
        return Job(
            self.program,
            test=self.test,
            entry_point=self.entry_point,
            setup=self.setup,
            mode=self.mode,
            stdin=self.stdin,
            expected_stdout=self.expected_stdout,
            calls=self.calls,
            limits=self.limits.limits(most),
            language=known_language(self.language, languages),
            plain=self.plain,
            least_trust=self.least_trust,
        )

    def cache_key(self) -> str:
        """Returns a hash of everything that affects the verdict; empty if it must not be cached."""
        if not self.cache:
            return ""
        # Keys keep the request's order, because a program may depend on it.
        what = json.dumps(self.model_dump(exclude={"key", "cache"}))
        return hashlib.sha256(what.encode("ascii")).hexdigest()


def known_language(name: str, languages: Sequence[str]) -> str:
    """Returns the canonical name of a language that the server runs.

    Raises:
        RequestRejected: if the language is not enabled (status 422).
    """
    with suppress(ConfigError):
        if (found := name if name == "python" else find(name).name) in languages:
            return found
    raise RequestRejected(
        f"language {name[:40]!r} is not enabled; choose from {', '.join(languages)}.",
        status=422,
        param="language",
    )
