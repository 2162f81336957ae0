"""Sync and async clients of one or more ``codegen serve sandbox`` services.

    >>> client = SandboxClient("http://127.0.0.1:8080")
    >>> client.run(Job("def f(x): return x + 1", test="assert f(1) == 2")).status
    'passed'

A client has ``run`` and ``map``, like :class:`~codegen.sandbox.Sandbox`. Running a job twice
is harmless, so all service failures are retried: a full service (429), a stopping or faulty service
(503), or an unreachable one. With several services a job goes to the least busy one and, after a
failure, to another.

The token comes from the environment (``CODEGEN_SANDBOX_TOKEN``), never from an argument, so that
pickled or printed clients do not contain it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import random
import secrets
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx2

from codegen.core.errors import ConfigError, InputError, MachineError, SandboxError
from codegen.core.http_client import Client, LoopThread, RequestFailure
from codegen.core.records import Trust
from codegen.sandbox import Job, Outcome, ScriptJob
from codegen.sandbox.serialization import (
    Row,
    job_row,
    read_outcome,
    script_outcome,
    script_row,
    to_json,
)

Key = TypeVar("Key")
T = TypeVar("T")
Emit = Callable[[int, Outcome], None]

TOKEN_ENV = "CODEGEN_SANDBOX_TOKEN"
BATCH = 16  # jobs per request
BATCH_BYTES = 4 << 20
AHEAD = 2  # waiting batches per batch in flight
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
_MOST_BYTES = 64 << 20
_SHOWN = 200


class _Again(Exception):
    """Signal that a request must be retried."""


@dataclass(eq=False, slots=True)
class _Service:
    """Client-side state of one service."""

    http: Client
    in_flight: int = 0
    failures: int = 0
    not_before: float = 0.0

    def failed(self, after_s: float) -> None:
        """Pauses requests to this service, longer after each failure."""
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self.failures)
        self.failures = min(self.failures + 1, 16)
        self.not_before = time.monotonic() + max(after_s, pause * random.uniform(0.5, 1.0))


class AsyncSandboxClient:
    """Asynchronous client for one event loop; without one, use :class:`SandboxClient`.

    Args:
        urls: URL of one service, or of several with equal settings.
        concurrency: maximum number of concurrent jobs.
        patience_s: seconds before the client gives up on a job.
        token_env: environment variable with the services' token.
        least_trust: as :attr:`codegen.sandbox.Job.least_trust`, for all jobs.

    Raises:
        ConfigError: for an invalid URL, or one that contains a token.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        concurrency: int = 256,
        patience_s: float = 900.0,
        token_env: str = TOKEN_ENV,
        least_trust: Trust = "in_sandbox",
    ) -> None:
        given = [urls] if isinstance(urls, str) else list(urls)
        if not given or concurrency < 1 or not patience_s > 0:
            raise ConfigError("A sandbox client needs a URL, concurrency >= 1 and patience_s > 0.")
        self.urls = tuple(_checked(url, token_env) for url in given)
        self.concurrency = concurrency
        self.patience_s = patience_s
        self.token_env = token_env
        self.least_trust: Trust = least_trust
        self._name = secrets.token_hex(4)
        self._begin()

    def _begin(self) -> None:
        self._services: list[_Service] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def __getstate__(self) -> dict[str, Any]:
        kept = ("urls", "concurrency", "patience_s", "token_env", "least_trust")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._name = secrets.token_hex(4)  # for a separate queue in the service
        self._begin()

    async def __aenter__(self) -> AsyncSandboxClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; the next request reopens them."""
        services, loop = self._services, self._loop
        self._begin()
        if loop is asyncio.get_running_loop():
            for service in services:
                await service.http.close()

    async def describe(self) -> dict[str, Any]:
        """Returns the services' settings that determine verdicts.

        Raises:
            SandboxError: if the services' settings differ. MachineError: if no service answers.
        """
        self._enter_loop()
        found: list[dict[str, Any]] = []
        for service in self._services:
            try:
                info = await service.http.json(f"{service.http.base}/v1/info")
                found.append(info["sandbox"])
            except (RequestFailure, KeyError, TypeError) as error:
                self._check(error)
        if not found:
            raise MachineError(f"No sandbox service answers at {', '.join(self.urls)}.")
        if any(other != found[0] for other in found):
            raise SandboxError(
                "The sandbox services differ, so verdicts would too.",
                "Use the same Python, packages and sandbox backend for all of them.",
            )
        return found[0]

    async def run(self, job: Job | ScriptJob) -> Outcome:
        """Returns the outcome of one job.

        Raises:
            InputError: if the job is invalid.
            ConfigError: for a wrong token.
            MachineError: if no service returns a verdict within ``patience_s``.
        """
        if isinstance(job, ScriptJob):
            path, row, read = "/run_code", script_row(job), script_outcome
        else:
            path, row, read = "/v1/judge", self._row(job), read_outcome
        async with self._admitted(1):
            return await self._tried(lambda service: self._one(service, path, row, read))

    def _row(self, job: Job, key: str = "") -> Row:
        if not job.reaches(self.least_trust):
            job = replace(job, least_trust=self.least_trust)  # the service would reject the job
        return job_row(job, key)

    async def map(
        self, items: Iterable[tuple[Key, Job | ScriptJob]]
    ) -> AsyncIterator[tuple[Key, Outcome]]:
        """Yields outcomes in completion order; reads the input a few batches ahead."""
        found: asyncio.Queue[tuple[Any, Outcome] | asyncio.Future[None]] = asyncio.Queue()
        running: set[asyncio.Future[None]] = set()
        batches = _batches(items)
        try:
            while True:
                for keys, jobs in itertools.islice(batches, self._most_batches - len(running)):

                    def emit(place: int, outcome: Outcome, keys: Sequence[Any] = keys) -> None:
                        found.put_nowait((keys[place], outcome))

                    task = asyncio.ensure_future(self._batch(jobs, emit))
                    running.add(task)
                    task.add_done_callback(found.put_nowait)
                if not running:
                    return
                one = await found.get()
                if isinstance(one, tuple):
                    yield one
                else:
                    running.discard(one)
                    one.result()
        finally:
            for task in running:
                task.cancel()

    @property
    def _most_batches(self) -> int:
        """Maximum number of batches in flight or waiting."""
        return AHEAD * max(1, self.concurrency // BATCH)

    async def _batch(self, jobs: Sequence[Job | ScriptJob], emit: Emit) -> None:
        """Submits a batch; calls ``emit`` once per job."""
        if any(isinstance(job, ScriptJob) for job in jobs):

            async def one(place: int) -> None:
                emit(place, await self.run(jobs[place]))

            await asyncio.gather(*map(one, range(len(jobs))))
            return
        rows = {place: self._row(job, str(place)) for place, job in enumerate(jobs)}  # type: ignore[arg-type]

        async def try_at(service: _Service) -> None:
            before = len(rows)
            await self._lines(service, rows, emit)
            if rows:
                if len(rows) < before:
                    service.failures = 0
                raise _Again(f"{len(rows)} jobs have no verdict")

        async with self._admitted(len(jobs)):
            await self._tried(try_at)

    async def _lines(self, service: _Service, rows: dict[int, Row], emit: Emit) -> None:
        """Submits the jobs in ``rows`` and removes those with an outcome."""
        content = to_json({"jobs": list(rows.values())}).encode()
        url = f"{service.http.base}/v1/judge_many"
        async with contextlib.aclosing(service.http.rows(url, content)) as found:
            async for row in found:
                place = int(row["key"])
                if "error" not in row and rows.pop(place, None) is not None:
                    emit(place, read_outcome(row))

    async def _one(self, service: _Service, path: str, row: Row, read: Callable[[Row], T]) -> T:
        return read(await service.http.json(service.http.base + path, to_json(row).encode()))

    @contextlib.asynccontextmanager
    async def _admitted(self, count: int) -> AsyncIterator[None]:
        """Waits until ``count`` jobs may run; a batch above the limit runs alone."""
        self._enter_loop()
        room, count = self._room, min(count, self.concurrency)
        async with self._admitting:  # avoids deadlock between two partial acquisitions
            for _ in range(count):
                await room.acquire()
        try:
            yield
        finally:
            for _ in range(count):
                room.release()

    def _enter_loop(self) -> None:
        """Creates the objects bound to an event loop; recreates them in another loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._begin()
            self._loop = loop
            token = os.environ.get(self.token_env, "")
            self._services = [_Service(self._http(url, token)) for url in self.urls]
            self._room = asyncio.Semaphore(self.concurrency)
            self._admitting = asyncio.Lock()

    def _check(self, error: Exception) -> None:
        """Raises an error if a failure is permanent."""
        if not isinstance(error, RequestFailure) or error.status in (0, 200, 408, 429, 499):
            return
        if error.status in (401, 403, 421):
            raise ConfigError(
                f"The sandbox service rejected this client: {error.said[:_SHOWN]}",
                f"The token is read from the environment variable {self.token_env}.",
            ) from None
        if error.status < 500:
            raise InputError(f"The sandbox service rejected a job: {error.said[:_SHOWN]}") from None

    def _http(self, url: str, token: str) -> Client:
        return Client(
            url,
            token,
            connections=None,
            timeout_s=self.patience_s,
            most_bytes=_MOST_BYTES,
            agent=f"codegen-sandbox-client {self._name}",
        )

    async def _tried(self, attempt: Callable[[_Service], Coroutine[Any, Any, T]]) -> T:
        """Tries the services in turn until one answers."""
        give_up = time.monotonic() + self.patience_s
        while True:
            now = time.monotonic()
            service = min(self._services, key=lambda s: (max(s.not_before, now), s.in_flight))
            service.in_flight += 1
            try:
                await asyncio.sleep(max(0.0, service.not_before - now))
                answer = await attempt(service)
            except (RequestFailure, _Again, SandboxError, ValueError, KeyError, TypeError) as error:
                self._check(error)
                service.failed(error.wait_s if isinstance(error, RequestFailure) else 0.0)
                if max(time.monotonic(), min(s.not_before for s in self._services)) > give_up:
                    said = error.said if isinstance(error, RequestFailure) else f"{error}"
                    raise MachineError(
                        f"The sandbox service at {service.http.base} returned no verdict in "
                        f"{self.patience_s:g} s: {said[:_SHOWN]}.",
                        "Check that it is running (GET /health), and read its log.",
                    ) from None
            else:
                service.failures = 0
                return answer
            finally:
                service.in_flight -= 1


def _checked(url: str, token_env: str) -> str:
    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        parts = httpx2.URL("")
    if parts.userinfo:
        raise ConfigError(
            "The URL of a sandbox service must not contain its token.",
            f"Set the environment variable {token_env}.",
        )
    if parts.scheme not in ("http", "https") or not parts.host or parts.query:
        raise ConfigError(
            f"{url!r:.100} is not a service URL.", "Use a form like http://127.0.0.1:8080"
        )
    return url.rstrip("/").removesuffix("/run_code")


def _batches(
    items: Iterable[tuple[Key, Job | ScriptJob]],
) -> Iterator[tuple[Sequence[Key], Sequence[Job | ScriptJob]]]:
    """Yields the keys and jobs of each request."""
    batch: list[tuple[Key, Job | ScriptJob]] = []
    size = 0
    for key, job in items:
        length = len(job.program) + len(getattr(job, "test", "")) + len(job.stdin)
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield tuple(zip(*batch, strict=True))  # type: ignore[misc]
            batch, size = [], 0
        batch.append((key, job))
        size += length
    if batch:
        yield tuple(zip(*batch, strict=True))  # type: ignore[misc]


class SandboxClient:
    """Synchronous, thread-safe :class:`AsyncSandboxClient`, for code without an event loop.

    It can replace an open :class:`~codegen.sandbox.Sandbox`.

    Args:
        urls: one or more URLs.
        options: see :class:`AsyncSandboxClient`.
    """

    def __init__(self, urls: str | Sequence[str], **options: Any) -> None:
        self._client = AsyncSandboxClient(urls, **options)
        self._thread = LoopThread()

    def __getstate__(self) -> dict[str, Any]:
        return {"_client": self._client}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._thread = LoopThread()

    def __enter__(self) -> SandboxClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and stops their thread; safe to call twice."""
        self._thread.close(self._client.close())

    def describe(self) -> dict[str, Any]:
        """Returns the settings, see :meth:`AsyncSandboxClient.describe`."""
        return self._thread.submit(self._client.describe()).result()

    def run(self, job: Job | ScriptJob) -> Outcome:
        """Returns the outcome, see :meth:`AsyncSandboxClient.run`."""
        return self._thread.submit(self._client.run(job)).result()

    def map(
        self, items: Iterable[tuple[Key, Job | ScriptJob]]
    ) -> Generator[tuple[Key, Outcome], None, None]:
        """Like :meth:`AsyncSandboxClient.map`; reads the input in the caller's thread."""
        found: queue.SimpleQueue[tuple[Any, Outcome] | Future[None]] = queue.SimpleQueue()
        running: set[Future[None]] = set()
        batches = _batches(items)
        try:
            while True:
                room = self._client._most_batches - len(running)
                for keys, jobs in itertools.islice(batches, room):

                    def emit(place: int, outcome: Outcome, keys: Sequence[Any] = keys) -> None:
                        found.put((keys[place], outcome))

                    future = self._thread.submit(self._client._batch(jobs, emit))
                    running.add(future)
                    future.add_done_callback(found.put)
                if not running:
                    return
                one = found.get()
                if isinstance(one, tuple):
                    yield one
                else:
                    running.discard(one)
                    one.result()
        finally:
            for future in running:
                future.cancel()
