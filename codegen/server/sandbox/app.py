"""The application of ``codegen serve sandbox``: the native routes, and what an error looks like.

``/v1/judge`` judges one program, ``/v1/judge_many`` many, ``/v1/stdio`` one program by many inputs
(:mod:`.wire`). The routes of SandboxFusion are in :mod:`.fusion`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from codegen.errors import CodegenError, InputError
from codegen.evals.sandbox import Job, Limits, Script
from codegen.evals.sandbox.rows import Row, outcome_row, to_json
from codegen.server.guard import Guard, client_name, error_response, no_route
from codegen.server.http.wire import Refused, read_object
from codegen.server.requests import ServerLimits, Unavailable
from codegen.server.sandbox import datasets, fusion
from codegen.server.sandbox.service import RetryLater, SandboxService
from codegen.server.sandbox.shared import App, Handler
from codegen.server.sandbox.wire import JobBody, StdioBody
from codegen.server.service import ClientLeft, unless_left

log = logging.getLogger(__name__)

BODY_BYTES = 8 << 20
_CLIENT_LEFT = 499
_BUSY_S = "1"


def make_app(
    service: SandboxService,
    token: str | None,
    *,
    most: Limits,
    hosts: frozenset[str] = frozenset(),
    origins: frozenset[str] = frozenset(),
    requests_per_s: float = 1000.0,
) -> Guard:
    """The whole application but the sockets.

    Args:
        service: with an open sandbox.
        token: see :class:`~codegen.server.guard.Guard`, also for ``hosts`` and ``origins``.
        most: the largest limits that a job may have.
        requests_per_s: mean request rate of one client.
    """
    app = App(service, most)
    table = [*_ROUTES, *fusion.ROUTES, *datasets.ROUTES]
    routes = [
        Route(path, partial(_answer, app, handler), methods=[method])
        for method, path, handler in table
    ]
    limits = ServerLimits(
        body_bytes=BODY_BYTES,
        requests_per_s=requests_per_s,
        burst=max(1, int(2 * requests_per_s)),
        read_s=30.0,
    )
    web = Starlette(routes=routes, exception_handlers={404: no_route, 405: no_route})
    return Guard(web, token, hosts, origins, limits, service.metrics)


def most_limits(cpu_s: float, memory_mib: int) -> Limits:
    """The largest limits of a job, with those that no option names."""
    return Limits(cpu_s, memory_mib, output_bytes=4 << 20, file_mib=64, processes=512)


async def _answer(app: App, handler: Handler, request: Request) -> Response:
    """The handler's answer, or one line on what is wrong."""
    path = request.url.path
    try:
        return await unless_left(request, handler(app, request))
    except Refused as error:
        return error_response(path, error.status, str(error), code=error.code, param=error.param)
    except InputError as error:
        return error_response(path, 400, str(error))
    except RetryLater as error:
        return error_response(path, 429, str(error), headers={"retry-after": str(error.after_s)})
    except Unavailable as error:
        return error_response(path, 503, str(error), headers={"retry-after": _BUSY_S})
    except CodegenError as error:
        log.warning("%s", error)
        return error_response(path, 500, str(error))
    except ClientLeft:
        app.service.metrics.count("disconnected")
        return Response(status_code=_CLIENT_LEFT)


async def judge(app: App, request: Request) -> Response:
    """``/v1/judge``: the verdict on one program."""
    body = JobBody.read(await read_object(request))
    job, client = body.job(app.most, app.languages), client_name(request.scope, request.headers)
    app.service.admit(client, 1)
    outcome, cached = await app.service.outcome(client, job, body.cache_key())
    row = outcome_row(outcome, cached)
    return _json({"key": body.key, **row} if body.key else row)


async def judge_many(app: App, request: Request) -> Response:
    """``/v1/judge_many``: ``{"jobs": [...]}``; one line of JSON for each verdict as it is there,
    with the job's ``key``, or its ``place`` in the request.

    A line with ``error`` in place of a status says that there is no verdict on that job.
    """
    given = await read_object(request)
    rows = given.get("jobs")
    if not isinstance(rows, list) or not rows:
        raise Refused("jobs must be a list of jobs, and not an empty one.", param="jobs")
    _check_count(app, len(rows), "jobs")
    bodies: list[JobBody] = []
    jobs: list[tuple[Job | Script, str]] = []
    for place, row in enumerate(rows):
        try:
            if not isinstance(row, dict):
                raise Refused("it is not an object.")
            body = JobBody.read(row)
            jobs.append((body.job(app.most, app.languages), body.cache_key()))
        except InputError as error:
            raise Refused(f"jobs.{place}: {error}", param=f"jobs.{place}") from None
        bodies.append(body)
    client = client_name(request.scope, request.headers)
    app.service.admit(client, len(jobs))

    async def lines() -> AsyncIterator[bytes]:
        async with contextlib.aclosing(app.service.outcomes(client, jobs)) as found:
            async for place, outcome, cached in found:
                row: Row = {"key": bodies[place].key or str(place)}
                if isinstance(outcome, Exception):
                    row |= {"error": str(outcome)}
                else:
                    row |= outcome_row(outcome, cached)
                yield f"{to_json(row)}\n".encode()

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _check_count(app: App, count: int, name: str) -> None:
    """Refuses what would never fit."""
    most = min(app.service.queue, app.service.client_queue)
    if count > most:
        raise Refused(
            f"{name} holds {count}; a request has at most {most}.", status=413, param=name
        )


async def stdio(app: App, request: Request) -> Response:
    """``/v1/stdio``: one program by many inputs; with ``stop_at_first`` until one fails."""
    body = StdioBody.read(await read_object(request))
    _check_count(app, len(body.tests), "tests")
    jobs = [(each.job(app.most, app.languages), each.cache_key()) for each in body.jobs()]
    client = client_name(request.scope, request.headers)
    app.service.admit(client, len(jobs))
    results: list[Row | None] = [None] * len(jobs)
    if body.stop_at_first:
        for place, (job, key) in enumerate(jobs):
            results[place] = outcome_row(*await app.service.outcome(client, job, key))
            if not results[place]["passed"]:  # type: ignore[index]
                break
    else:
        async with contextlib.aclosing(app.service.outcomes(client, jobs)) as found:
            async for place, outcome, cached in found:
                if isinstance(outcome, Exception):
                    raise outcome
                results[place] = outcome_row(outcome, cached)
    ran = [row for row in results if row is not None]
    failed = next((place for place, row in enumerate(results) if row and not row["passed"]), None)
    return _json(
        {
            "status": "passed" if failed is None else ran[failed]["status"],
            "passed": failed is None,
            "trust": "stdio",
            "first_failed": failed,
            "tests_passed": sum(row["passed"] for row in ran),
            "tests": results,
        }
    )


async def _health(_: App, __: Request) -> Response:
    """``/health``: whether the server runs; the one endpoint without a token."""
    return JSONResponse({"status": "ok"})


async def _info(app: App, _: Request) -> Response:
    """``/v1/info``: what decides a verdict here, and how busy the server is."""
    service = app.service
    return _json(
        {
            "sandbox": service.sandbox.describe(),
            "capacity": service.sandbox.capacity,
            "waiting": service.waiting,
            "running": service.running,
            "up_s": round(time.monotonic() - app.started, 1),
        }
    )


async def _metrics(app: App, _: Request) -> Response:
    """``/metrics`` in Prometheus's text format."""
    return PlainTextResponse(app.service.metrics.prometheus())


def _json(row: object) -> Response:
    return Response(to_json(row), media_type="application/json")


_ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/health", _health),
    ("GET", "/metrics", _metrics),
    ("GET", "/v1/info", _info),
    ("POST", "/v1/judge", judge),
    ("POST", "/v1/judge_many", judge_many),
    ("POST", "/v1/stdio", stdio),
]
