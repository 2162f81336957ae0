"""The client against services that are full, faulty, gone, or lie; and against the real one."""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from codegen.core.errors import InputError, MachineError, SandboxError
from codegen.sandbox import Job, Outcome
from codegen.sandbox import client as client_module
from codegen.sandbox.client import AsyncSandboxClient, SandboxClient
from codegen.sandbox.serialization import outcome_row

Answer = Callable[[BaseHTTPRequestHandler, Any], None]


class Fake:
    """A service that answers as a function says; it counts the jobs that it was sent."""

    def __init__(self, answer: Answer) -> None:
        self.jobs: Counter[str] = Counter()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.jobs.update(row["program"] for row in body.get("jobs", [body]))
                answer(self, body)
                self.close_connection = True

            def do_GET(self) -> None:
                answer(self, {})

            def log_message(self, format: str, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def fakes(request: pytest.FixtureRequest) -> Callable[[Answer], Fake]:
    def make(answer: Answer) -> Fake:
        fake = Fake(answer)
        request.addfinalizer(fake.close)
        return fake

    return make


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(client_module, "LONGEST_PAUSE_S", 0.05)


def reply(handler: Any, status: int, body: bytes, length: int | None = None, **more: str) -> None:
    handler.send_response(status)
    handler.send_header("content-length", str(len(body) if length is None else length))
    kind = "x-ndjson" if handler.path.endswith("judge_many") and status == 200 else "json"
    handler.send_header("content-type", f"application/{kind}")
    for name, value in more.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def lines(body: Any) -> list[bytes]:
    """Verdicts on all jobs of a request: the message is the program."""
    rows = body.get("jobs", [body])
    found = [outcome_row(Outcome("wrong", "stdio", message=row["program"])) for row in rows]
    keyed = [{"key": row.get("key", ""), **one} for row, one in zip(rows, found, strict=True)]
    return [json.dumps(row).encode() + b"\n" for row in keyed]


def judge(handler: BaseHTTPRequestHandler, body: Any) -> None:
    reply(handler, 200, b"".join(lines(body)))


JOBS = [(n, Job(f"p{n}", mode="stdio")) for n in range(100)]


def check(found: list[tuple[int, Outcome]]) -> None:
    """Each job has its own verdict, once."""
    assert sorted(key for key, _ in found) == [key for key, _ in JOBS]
    assert all(outcome.message == f"p{key}" for key, outcome in found)


def flaky(seed: int) -> Answer:
    """Fails in every way in turn, and does part of the work now and then."""
    rng, lock = random.Random(seed), threading.Lock()

    def answer(handler: BaseHTTPRequestHandler, body: Any) -> None:
        with lock:
            kind, cut = rng.randrange(9), rng.random()
        whole = b"".join(lines(body))
        part = whole[: int(cut * len(whole))]
        if kind == 0:
            reply(handler, 429, b'{"error": {"message": "full"}}', retry_after="0")
        elif kind == 1:
            reply(handler, 503, b"stopping")
        elif kind == 2:
            handler.connection.close()
        elif kind == 3:
            reply(handler, 200, part, len(whole))  # the connection breaks
        elif kind == 4 and "jobs" in body:
            reply(handler, 200, part)  # cut, but properly ended
        elif kind == 5 and "jobs" in body:
            rows = [json.loads(line) for line in lines(body)]
            rows = [row if rng.random() < 0.5 else {"key": row["key"], "error": ""} for row in rows]
            reply(handler, 200, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        elif kind == 6:
            reply(handler, 200, rng.choice([b"<html>", b"[" * 10**5]))
        else:
            reply(handler, 200, whole)

    return answer


@pytest.mark.parametrize("seed", range(6))
def test_no_verdict_is_lost_or_doubled(fakes: Callable[[Answer], Fake], seed: int) -> None:
    urls = [fakes(flaky(10 * seed + n)).url for n in range(2)]
    with SandboxClient(urls, concurrency=64, patience_s=60) as client:
        check(list(client.map(JOBS)))
        assert all(client.run(job).message == job.program for _, job in JOBS[:5])


def test_no_verdict_is_lost_or_doubled_in_an_event_loop(fakes: Callable[[Answer], Fake]) -> None:
    urls = [fakes(flaky(n)).url for n in range(2)]

    async def scenario() -> list[tuple[int, Outcome]]:
        async with AsyncSandboxClient(urls, concurrency=20, patience_s=60) as client:
            return [pair async for pair in client.map(JOBS)]

    check(asyncio.run(scenario()))


def test_a_dead_service_is_left_for_one_that_lives(fakes: Callable[[Answer], Fake]) -> None:
    good, bad = fakes(judge), fakes(lambda handler, _: handler.connection.close())
    with SandboxClient([bad.url, good.url, "http://127.0.0.1:1"], patience_s=30) as client:
        check(list(client.map(JOBS)))
    assert sum(good.jobs.values()) == len(JOBS)


def test_two_services_share_the_work(fakes: Callable[[Answer], Fake]) -> None:
    both = threading.Barrier(2, timeout=10)

    def patient(handler: BaseHTTPRequestHandler, body: Any) -> None:
        if len(body["jobs"]) == client_module.BATCH:
            both.wait()  # none goes on before the other has a batch, too
        judge(handler, body)

    first, second = fakes(patient), fakes(patient)
    with SandboxClient([first.url, second.url], concurrency=2 * client_module.BATCH) as client:
        check(list(client.map(JOBS)))
    assert sum(first.jobs.values()) + sum(second.jobs.values()) == len(JOBS)
    assert all(sum(fake.jobs.values()) >= 48 for fake in (first, second))


def test_concurrency_bounds_what_is_in_flight(fakes: Callable[[Answer], Fake]) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def counting(handler: BaseHTTPRequestHandler, body: Any) -> None:
        nonlocal now, most
        with lock:
            now += len(body.get("jobs", [body]))
            most = max(most, now)
        threading.Event().wait(0.02)
        with lock:  # before the answer: the client may send the next at once
            now -= len(body.get("jobs", [body]))
        judge(handler, body)

    fake = fakes(counting)
    with SandboxClient(fake.url, concurrency=20) as client:
        with ThreadPoolExecutor(30) as threads:
            list(threads.map(lambda pair: client.run(pair[1]), JOBS))
        check(list(client.map(JOBS)))
    assert 1 < most <= 20


def test_it_gives_up_in_the_end(fakes: Callable[[Answer], Fake]) -> None:
    full = fakes(lambda handler, _: reply(handler, 503, b'{"error": {"message": "no room"}}'))
    with SandboxClient(full.url, patience_s=0.3) as client:
        with pytest.raises(MachineError, match=r"503: no room"):
            client.run(JOBS[0][1])
        with pytest.raises(MachineError, match="no room"):
            list(client.map(JOBS))
        with pytest.raises(MachineError, match="No sandbox service answers"):
            client.describe()


def test_a_service_that_asks_to_wait_longer_than_the_client_will_is_given_up(
    fakes: Callable[[Answer], Fake],
) -> None:
    full = fakes(lambda handler, _: reply(handler, 429, b"{}", retry_after="86400"))
    with (
        SandboxClient(full.url, patience_s=600) as client,
        pytest.raises(MachineError, match="no verdict in 600 s: HTTP 429"),
    ):
        client.run(JOBS[0][1])
    with SandboxClient([full.url, fakes(judge).url], patience_s=600) as client:
        check(list(client.map(JOBS)))


def test_a_mistake_is_not_tried_again(fakes: Callable[[Answer], Fake]) -> None:
    fake = fakes(lambda handler, _: reply(handler, 400, b'{"error": {"message": "bad job"}}'))
    with SandboxClient(fake.url) as client, pytest.raises(InputError, match=r"400.*bad job"):
        list(client.map(JOBS[:3]))
    assert max(fake.jobs.values()) == 1


@pytest.mark.parametrize(
    "row", [{"status": "passed"}, {"status": 1}, [], {"status": "passed", "results": [1]}], ids=repr
)
def test_an_answer_that_is_none_is_told(fakes: Callable[[Answer], Fake], row: Any) -> None:
    fake = fakes(lambda handler, _: reply(handler, 200, json.dumps(row).encode()))
    with SandboxClient(fake.url) as client, pytest.raises(InputError, match="an invalid result"):
        client.run(JOBS[0][1])


def test_each_copy_of_a_client_has_its_own_queue(fakes: Callable[[Answer], Fake]) -> None:
    names: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, _: Any) -> None:
        names.append(handler.headers["user-agent"])
        reply(handler, 200, b'{"sandbox": {"python": "3.12"}}')

    with SandboxClient(fakes(answer).url) as client:
        client.describe()
        with pickle.loads(pickle.dumps(client)) as copy:  # noqa: S301 - our own
            copy.describe()
    assert len(set(names)) == 2


def test_services_that_differ_are_told(fakes: Callable[[Answer], Fake]) -> None:
    urls = []
    for python in ("3.11", "3.12"):
        info = json.dumps({"sandbox": {"python": python}}).encode()
        urls.append(fakes(lambda handler, _, info=info: reply(handler, 200, info)).url)
    with SandboxClient(urls) as client, pytest.raises(SandboxError, match="differ"):
        client.describe()
