"""Answers on disk: what is asked again, several processes, kills, and files that are no cache."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion, echo, error, serving

from codegen.core.errors import InputError
from codegen.core.generation import RequestFailed
from codegen.generation import Completion, Decoder, Request, SamplingParams
from codegen.generation.completion_cache import (
    CachedAnswer,
    CachedBackend,
    CostLog,
    ResponseCache,
    Totals,
    cache_key,
    read_ledger,
)
from codegen.generation.endpoints import Endpoint


def client(model: Model, cache: ResponseCache | None = None, **settings: Any) -> CachedBackend:
    settings = {"backoff_s": 0.01, "timeout_s": 5.0, "retries": 3, **settings}
    return CachedBackend(Endpoint(model.url, "m", **settings), cache)


def ask_many(backend: CachedBackend, requests: list[Request]) -> list[Completion]:
    made = backend.generate(requests, SamplingParams(), Decoder())
    return sorted(made, key=lambda one: one.number)


def ask(backend: CachedBackend, prompt: str = "a") -> Completion:
    (made,) = ask_many(backend, [Request(prompt, chat=True, seed=0)])
    if made.error:
        raise made.error
    return made


def test_what_was_answered_is_not_asked_again(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    requests = [Request(f"q{i}", chat=True, seed=i) for i in range(10)]
    model.script = [completion("sur\ud800rogate", "length")]
    with ResponseCache(path) as cache:
        first = ask_many(client(model, cache, concurrency=1), requests)
    assert len(model.bodies) == 10 and not any(a.cached for a in first)
    with ResponseCache(path) as cache:
        again = ask_many(client(model, cache), requests)
        assert cache.totals().answers == 10 and cache.totals().completion_tokens == 50
    assert len(model.bodies) == 10 and all(a.cached for a in again)
    assert [(a.text, a.finish_reason) for a in first] == [(a.text, a.finish_reason) for a in again]
    assert [a.seed for a in first] == [a.seed for a in again]


def test_everything_that_decides_an_answer_is_in_the_key() -> None:
    identity = Endpoint("http://h", "m").identity()
    base, params = Request("a", chat=True, seed=0), SamplingParams(1024)
    asked = [
        (base, params),
        (replace(base, prompt="b"), params),
        (replace(base, chat=False), params),
        (base, SamplingParams(5)),
        (base, SamplingParams(1024, temperature=1.0)),
        (base, SamplingParams(1024, top_p=0.5)),
        (replace(base, seed=1), params),
        (replace(base, seed=None, problem_id="p"), params),
        (replace(base, stop=("x",)), params),
        (replace(base, prefill="p"), params),
        (replace(base, prompt="\ud800"), params),
    ]
    others = [Endpoint("http://h", "n"), Endpoint("http://h", "m", body=(("a", "1"),))]
    keys = [cache_key(identity, *one) for one in asked]
    keys += [cache_key(endpoint.identity(), base, params) for endpoint in others]
    assert len(set(keys)) == len(keys)
    same = Endpoint("http://h/v1/", "m", "K", concurrency=1, timeout_s=1.0, retries=0)
    assert cache_key(same.identity(), base, params) == keys[0]


def test_two_servers_with_one_model_name_have_answers_of_their_own(
    model: Model, tmp_path: Path
) -> None:
    other_answer = completion("of the other")
    with serving(lambda _: other_answer) as other, ResponseCache(tmp_path / "c") as cache:
        for _ in range(2):
            for one, text in ((model, "a|0"), (other, "of the other")):
                assert ask(client(one, cache)).text == text
        assert ask(CachedBackend(Endpoint(f"{model.url}/", "m"), cache)).cached  # the same URL
        assert len(model.bodies) == len(other.bodies) == 1
        assert "url" not in Endpoint(model.url, "m").identity()  # a run may go on elsewhere


def test_the_same_question_at_once_is_sent_once(model: Model, tmp_path: Path) -> None:
    model.answer = lambda body: Reply(echo(body).body, delay_s=0.05)
    with ResponseCache(tmp_path / "c") as cache:
        answers = ask_many(client(model, cache), [Request("same", chat=True, seed=0)] * 8)
    assert len(model.bodies) == 1
    assert [a.number for a in answers] == list(range(8))
    assert {a.text for a in answers} == {"same|0"}


def test_failures_are_not_cached(model: Model, tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as cache:
        asked = client(model, cache, retries=0)
        model.script = [error(500, "x")]
        with pytest.raises(RequestFailed):
            ask(asked)
        assert ask(asked).text == "a|0"
        assert cache.totals().answers == 1


def test_empty_answers_are_not_cached(model: Model, tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "c") as cache:
        asked = client(model, cache)
        model.script = [completion(""), completion(None)]
        assert [ask(asked).text for _ in range(4)] == ["", "", "a|0", "a|0"]
        assert len(model.bodies) == 3 and cache.totals().answers == 1


WRITER = """
import sys
from codegen.generation.completion_cache import CachedAnswer, ResponseCache
path, first, last = sys.argv[1], *map(int, sys.argv[2:])
with ResponseCache(path) as cache:
    for i in range(first, last):
        cache.put(i.to_bytes(4, "big"), "m", CachedAnswer(f"text {i}", "stop", 1, 1))
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
            assert found == CachedAnswer(f"text {i}", "stop", 1, 1)


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    import sqlite3

    text = tmp_path / "text"
    text.write_text("hello " * 1000)
    with pytest.raises(InputError, match=r"text is corrupt or not a response cache.*--cache"):
        ResponseCache(text)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    before = other.read_bytes()
    with pytest.raises(InputError, match="not a response cache of this version"):
        ResponseCache(other)
    assert other.read_bytes() == before and text.read_text() == "hello " * 1000
    with pytest.raises(InputError, match="cannot be used"):
        ResponseCache(tmp_path)
    with pytest.raises(InputError, match="Cannot create the directory"):
        ResponseCache(text / "cache")


def test_a_torn_cache(tmp_path: Path) -> None:
    path = tmp_path / "c"
    answer = CachedAnswer("x" * 500, "stop", 1, 1)
    with ResponseCache(path) as cache:
        for i in range(200):
            cache.put(i.to_bytes(4, "big"), "m", answer)
    whole = path.read_bytes()
    for length in (50, 4096, len(whole) // 2):
        path.write_bytes(whole[:length])
        with (
            pytest.raises(InputError, match="c is corrupt or not a response cache"),
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
            with pytest.raises(InputError, match=r"cannot be used.*free space"):
                for i in range(200):
                    cache.put(i.to_bytes(4, "big"), "m", CachedAnswer("x" * 2000, "stop", 1, 1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)


def counting(model: Model, *kept: Any) -> CachedBackend:
    return CachedBackend(Endpoint(model.url, "m", backoff_s=0.01, retries=2), *kept)


def ask_all(backend: CachedBackend, *prompts: str) -> list[str]:
    requests = [Request(prompt, chat=True, seed=0) for prompt in prompts]
    return [made.text for made in backend.generate(requests, SamplingParams(), Decoder())]


def test_new_answers_are_counted_and_cached_ones_are_not(model: Model, tmp_path: Path) -> None:
    prompts = [f"q{i}" for i in range(6)]
    with ResponseCache(tmp_path / "c") as cache:
        ask_all(counting(model, cache), *prompts[:2])  # another run's, with the same cache
        ask_all(counting(model, cache, CostLog(tmp_path / "l")), *prompts)
        ask_all(counting(model, cache, CostLog(tmp_path / "l")), *prompts)
    assert read_ledger(tmp_path / "l") == Totals(4, 4 * 7, 4 * 5, kept=2 + 6)
    ask_all(counting(model, None, CostLog(tmp_path / "l")), *prompts)
    assert read_ledger(tmp_path / "l") == Totals(10, 10 * 7, 10 * 5, kept=2 + 6)


def test_a_response_without_an_answer_is_billed_too(model: Model, tmp_path: Path) -> None:
    empty = completion("").body
    del empty["choices"][0]["message"]["content"]
    model.script = [Reply(empty)]
    assert ask_all(counting(model, None, CostLog(tmp_path / "l")), "a") == ["a|0"]
    assert read_ledger(tmp_path / "l") == Totals(1, 14, 10, retries=1)


ADDER = """
import sys
from codegen.generation.completion_cache import CostLog, Totals
ledger = CostLog(sys.argv[1])
for _ in range(500):
    ledger.add(Totals(1, 123456, 7))
"""


def test_several_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADDER, str(tmp_path / "l")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert read_ledger(tmp_path / "l") == Totals(1500, 1500 * 123456, 1500 * 7)


def test_a_file_that_is_gone_costs_no_answer(model: Model, tmp_path: Path) -> None:
    """A request that is in flight when a run is stopped still gets its answer into the cache."""
    with ResponseCache(tmp_path / "c") as cache:
        asked = counting(model, cache, CostLog(tmp_path / "l"))
        (tmp_path / "l").unlink()
        ask_all(asked, "a")
        assert cache.totals().answers == 1


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot count the model's tokens"):
        CostLog(tmp_path)
    with pytest.raises(InputError, match="No space left"):
        CostLog("/dev/full").add(Totals(1, 1, 1))
    (tmp_path / "empty").touch()
    assert read_ledger(tmp_path / "empty") == Totals()
