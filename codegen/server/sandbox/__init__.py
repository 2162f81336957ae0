"""The sandbox as a service, ``codegen serve sandbox``: the application and its native routes.

``/v1/judge`` tests one program, ``/v1/judge_many`` many. ``service`` contains the queue and the job
bodies; ``fusion`` contains SandboxFusion's ``/run_code``. The client is
:mod:`codegen.sandbox.client`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from codegen.core.errors import InputError
from codegen.sandbox import Job, Limits, ScriptJob
from codegen.sandbox.serialization import Row, outcome_row, to_json
from codegen.server.completion.requests import ServerLimits
from codegen.server.http.bodies import RequestRejected, make_routes, read_object
from codegen.server.http.completion_service import unless_left
from codegen.server.http.security import Guard, client_name
from codegen.server.sandbox import fusion
from codegen.server.sandbox.service import Handler, JobBody, SandboxService

__all__ = ["SandboxService", "make_app", "most_limits"]

BODY_BYTES = 8 << 20


def make_app(
    service: SandboxService,
    token: str | None,
    *,
    hosts: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
    requests_per_s: float = 1000.0,
) -> Guard:
    """Creates the application, without sockets.

    Args:
        token, hosts, origins: see :class:`~codegen.server.http.security.Guard`.
        requests_per_s: mean requests per second allowed per client.
    """
    table = [*_ROUTES, *fusion.ROUTES]
    watched = [(method, path, _watched(handler)) for method, path, handler in table]
    limits = ServerLimits(
        body_bytes=BODY_BYTES,
        requests_per_s=requests_per_s,
        burst=max(1, int(2 * requests_per_s)),
        read_s=30.0,
    )
    app = make_routes(service, service.metrics, watched)
    return Guard(app, token, hosts, origins, limits, service.metrics)


def most_limits(cpu_s: float, memory_mib: int) -> Limits:
    """Returns a job's maximum limits, including those without a command-line option."""
    return Limits(cpu_s, memory_mib, output_bytes=4 << 20, file_mib=64, processes=512)


def _watched(handler: Handler) -> Handler:
    """Wraps a handler so that it is cancelled when its client disconnects."""

    async def respond(service: SandboxService, request: Request) -> Response:
        return await unless_left(request, handler(service, request))

    return respond


async def judge(service: SandboxService, request: Request) -> Response:
    """Handles ``/v1/judge``: returns the verdict on one program."""
    body = JobBody.read(await read_object(request))
    job = body.job(service.most, service.sandbox.languages)
    client = client_name(request)
    service.admit(client, 1)
    outcome, cached = await service.outcome(client, job, body.cache_key())
    row = outcome_row(outcome, cached)
    return _json({"key": body.key, **row} if body.key else row)


async def judge_many(service: SandboxService, request: Request) -> Response:
    """Handles ``/v1/judge_many``: ``{"jobs": [...]}``. Streams each verdict as a JSON line when its
    job finishes, with the job's ``key`` or its index in the request. A line with ``error`` instead
    of a status means that the job has no verdict.
    """
    given = await read_object(request)
    rows = given.get("jobs")
    if not isinstance(rows, list) or not rows:
        raise RequestRejected("jobs must be a list of at least one job.", param="jobs")
    most = min(service.queue, service.client_queue)
    if len(rows) > most:
        message = f"jobs has {len(rows)} items; the limit is {most}."
        raise RequestRejected(message, status=413, param="jobs")
    bodies: list[JobBody] = []
    jobs: list[tuple[Job | ScriptJob, str]] = []
    for place, row in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise RequestRejected("must be an object.")
            body = JobBody.read(row)
            jobs.append((body.job(service.most, service.sandbox.languages), body.cache_key()))
        except InputError as error:
            raise RequestRejected(f"jobs.{place}: {error}", param=f"jobs.{place}") from None
        bodies.append(body)
    client = client_name(request)
    service.admit(client, len(jobs))

    async def lines() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(service.outcomes(client, jobs)) as found:
            async for place, outcome, cached in found:
                row: Row = {"key": bodies[place].key or str(place)}
                if isinstance(outcome, Exception):
                    row |= {"error": str(outcome)}
                else:
                    row |= outcome_row(outcome, cached)
                yield f"{to_json(row)}\n".encode()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _info(service: SandboxService, _: Request) -> Response:
    """Handles ``/v1/info``: returns the settings that affect verdicts, and the server's load."""
    return _json(
        {
            "sandbox": service.sandbox.describe(),
            "capacity": service.sandbox.capacity,
            "waiting": service.waiting,
            "running": service.running,
            "up_s": round(time.monotonic() - service.started, 1),
        }
    )


def _json(row: object) -> Response:
    return Response(to_json(row), media_type="application/json")


_ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/info", _info),
    ("POST", "/v1/judge", judge),
    ("POST", "/v1/judge_many", judge_many),
]
