"""Answers on disk: what is asked again, several processes, kills, and files that are no cache."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion, echo, error, serving

from codegen.errors import InputError
from codegen.generation.asking import Answer, Ask, RequestFailed, ask_key
from codegen.generation.endpoint import Endpoint, EndpointClient
from codegen.generation.response_cache import ResponseCache


@pytest.fixture
def model() -> Iterator[Model]:
    with serving() as model:
        yield model


def client(model: Model, cache: ResponseCache | None = None, **settings: Any) -> EndpointClient:
    settings = {"backoff_s": 0.01, "timeout_s": 5.0, "retries": 3, **settings}
    return EndpointClient(Endpoint(model.url, "m", **settings), cache)


def test_what_was_answered_is_not_asked_again(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    asks = [Ask(f"q{i}", seed=i) for i in range(10)]
    model.script = [completion("sur\ud800rogate", "length")]
    with ResponseCache(path) as cache:
        first = client(model, cache, concurrency=1).ask_many(asks)
    assert len(model.bodies) == 10
    with ResponseCache(path) as cache:
        asked = client(model, cache)
        again = asked.ask_many(asks)
        assert cache.totals().answers == 10 and cache.totals().completion_tokens == 50
    assert len(model.bodies) == 10 and asked.usage.cached == 10 and asked.usage.requests == 0
    assert all(isinstance(a, Answer) and a.cached for a in again)
    assert [(a.text, a.finish_reason) for a in first if isinstance(a, Answer)] == [
        (a.text, a.finish_reason) for a in again if isinstance(a, Answer)
    ]


def test_everything_that_decides_an_answer_is_in_the_key() -> None:
    base = Ask("a")
    identity = Endpoint("http://h", "m").identity()
    asks = [
        base,
        Ask("b"),
        Ask("a", chat=False),
        Ask("a", max_tokens=5),
        Ask("a", temperature=1.0),
        Ask("a", top_p=0.5),
        Ask("a", seed=1),
        Ask("a", stop=("x",)),
        Ask("\ud800"),
    ]
    others = [
        Endpoint("http://h", "n"),
        Endpoint("http://h", "m", body=(("a", "1"),)),
    ]
    keys = [ask_key(identity, ask) for ask in asks]
    keys += [ask_key(endpoint.identity(), base) for endpoint in others]
    assert len(set(keys)) == len(keys)
    same = Endpoint("http://h/v1/", "m", "K", concurrency=1, timeout_s=1.0, retries=0)
    for endpoint in (same, Endpoint("http://127.0.0.1:8001", "m")):
        assert ask_key(endpoint.identity(), Ask("a")) == keys[0]


def test_the_same_question_at_once_is_sent_once(model: Model, tmp_path: Path) -> None:
    model.answer = lambda body: Reply(echo(body).body, delay_s=0.05)
    with ResponseCache(tmp_path / "c") as cache:
        answers = client(model, cache).ask_many([Ask("same")] * 8)
    assert len(model.bodies) == 1
    assert {a.text for a in answers if isinstance(a, Answer)} == {"same|0"}


def test_failures_are_not_cached(model: Model, tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as cache:
        asked = client(model, cache, retries=0)
        model.script = [error(500, "x")]
        with pytest.raises(RequestFailed):
            asked.ask(Ask("a"))
        assert asked.ask(Ask("a")).text == "a|0"
        assert cache.totals().answers == 1


def test_empty_answers_are_not_cached(model: Model, tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as cache:
        asked = client(model, cache)
        model.script = [completion(""), completion(None)]
        assert [asked.ask(Ask("a")).text for _ in range(4)] == ["", "", "a|0", "a|0"]
        assert len(model.bodies) == 3 and cache.totals().answers == 1


WRITER = """
import sys
from codegen.generation.asking import Answer
from codegen.generation.response_cache import ResponseCache
path, first, last = sys.argv[1], *map(int, sys.argv[2:])
with ResponseCache(path) as cache:
    for i in range(first, last):
        cache.put(i.to_bytes(4, "big"), "m", Answer(f"text {i}", "stop", 1, 1))
        print(i, flush=True)
"""


def test_several_processes_and_a_kill(tmp_path: Path) -> None:
    """All begin with no file, and one is killed while it writes."""
    path = tmp_path / "c"

    def start(first: int, last: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, str(path), str(first), str(last)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    writers = [start(0, 300), start(200, 500)]
    victim = start(1000, 1_000_000)
    assert victim.stdout
    for _ in range(50):
        assert victim.stdout.readline()
    victim.kill()
    said = [int(line) for line in victim.communicate()[0].split()]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with ResponseCache(path) as cache:
        for i in (*range(500), *range(1000, 1050), *said):
            found = cache.get(i.to_bytes(4, "big"))
            assert found == Answer(f"text {i}", "stop", 1, 1, cached=True)


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    import sqlite3

    text = tmp_path / "text"
    text.write_text("hello " * 1000)
    with pytest.raises(InputError, match=r"text is damaged or is no response cache.*--cache"):
        ResponseCache(text)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    before = other.read_bytes()
    with pytest.raises(InputError, match="no response cache of this version"):
        ResponseCache(other)
    assert other.read_bytes() == before and text.read_text() == "hello " * 1000
    with pytest.raises(InputError, match="can't be used"):
        ResponseCache(tmp_path)
    with pytest.raises(InputError, match="Cannot make the directory"):
        ResponseCache(text / "cache")


def test_a_torn_cache(tmp_path: Path) -> None:
    path = tmp_path / "c"
    answer = Answer("x" * 500, "stop", 1, 1)
    with ResponseCache(path) as cache:
        for i in range(200):
            cache.put(i.to_bytes(4, "big"), "m", answer)
    whole = path.read_bytes()
    for length in (50, 4096, len(whole) // 2):
        path.write_bytes(whole[:length])
        with (
            pytest.raises(InputError, match="c is damaged or is no response cache"),
            ResponseCache(path) as cache,
        ):
            for i in range(200):
                cache.get(i.to_bytes(4, "big"))
    path.write_bytes(b"")
    with ResponseCache(path) as cache:
        assert cache.totals().answers == 0


def test_a_full_disk(model: Model) -> None:
    """/dev/full is no file, so a limit on the size of files stands in for the disk."""
    import resource
    import signal
    import tempfile

    with tempfile.TemporaryDirectory() as folder, ResponseCache(f"{folder}/c") as cache:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(InputError, match=r"can't be used.*free space"):
                for i in range(200):
                    cache.put(i.to_bytes(4, "big"), "m", Answer("x" * 2000, "stop", 1, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
