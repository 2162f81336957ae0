"""The engine in front of a scripted server: what it is asked, and what happens when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import HTMLResponse, JSONResponse

from codegen.core.errors import CodegenError, InputError
from codegen.evals.tasks.styles import STYLES
from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.requests import (
    CompletionResult,
    ServerLimits,
    Snippet,
    Status,
    Superseded,
    Unavailable,
)
from codegen.server.completion.upstream import Upstream
from codegen.server.completion.upstream.source import read_row
from tests.processes import wait_for
from tests.server.upstream_server import Script, UpstreamServer, error

TEXT = Path(re.__file__).read_text()
LIMITS = ServerLimits(deadline_s=10)

Make = Callable[..., tuple[UpstreamServer, CompletionEngine]]


@pytest.fixture
def made() -> Iterator[Make]:
    """Servers by their scripts, each with an engine in front of it."""
    with contextlib.ExitStack() as stack:

        def make(limits: ServerLimits = LIMITS, **script: Any) -> Any:
            options = {k: script.pop(k) for k in ("fim", "remote") if k in script}
            server = UpstreamServer(Script(**script))
            stack.callback(server.stop)
            key = script.get("key", "")
            upstream = Upstream(server.url, key=key, limits=limits, **options)
            upstream.check()
            engine = CompletionEngine(upstream, limits)
            stack.callback(engine.stop)
            return server, engine

        yield make


def complete(engine: CompletionEngine, *requests: Any) -> list[Any]:
    async def run() -> list[Any]:
        return list(await asyncio.gather(*(engine.complete(one) for one in requests)))

    return asyncio.run(run())


ALL = {"infill", "text", "fim", "chat"}


@pytest.mark.parametrize(
    ("script", "fim", "kind", "path"),
    [
        ({"llama": True, "routes": ALL, "suffix": True}, "auto", "infill", "/infill"),
        ({"llama": False, "routes": ALL, "suffix": True}, "auto", "suffix", "/v1/completions"),
        ({"llama": True, "routes": {"text", "chat"}}, "auto", "prefix", "/completion"),
        ({"llama": True, "routes": {"text"}, "models": ["Qwen2.5-Coder"], "sentinels": True},
         "auto", "sentinels", "/completion"),
        ({"routes": {"text", "chat"}, "models": ["starcoder2-3b"], "sentinels": True},
         "auto", "sentinels", "/v1/completions"),
        # The name says so, but the server reads the sentinels as text.
        ({"routes": {"text"}, "models": ["starcoder2-3b"]}, "auto", "prefix", "/v1/completions"),
        ({"routes": {"fim", "chat"}}, "auto", "fim", "/v1/fim/completions"),
        ({"routes": {"chat"}}, "auto", "chat", "/v1/chat/completions"),
        # A chat template around each prompt.
        ({"routes": {"text", "chat"}, "template": 30}, "auto", "chat", "/v1/chat/completions"),
        ({"llama": True, "routes": ALL}, "none", "prefix", "/completion"),
        ({"llama": True, "routes": ALL}, "chat", "chat", "/v1/chat/completions"),
        ({"routes": ALL}, "route", "fim", "/v1/fim/completions"),
        ({"routes": {"text"}, "sentinels": True}, "deepseek", "sentinels", "/v1/completions"),
        ({"routes": {"text"}}, "deepseek", "", "no completions with -o fim=deepseek"),
        ({"routes": {"text"}}, "suffix", "", "no completions with -o fim=suffix"),
        ({"routes": set()}, "auto", "", "no route for completions"),
    ],
)  # fmt: skip
def test_the_way_is_the_first_that_works(
    script: dict[str, Any], fim: str, kind: str, path: str
) -> None:
    server = UpstreamServer(Script(**script))
    upstream = Upstream(server.url, fim=fim)
    try:
        if not kind:
            with pytest.raises(CodegenError, match=path):
                upstream.check()
            return
        upstream.check()
        assert upstream.offer
        way = upstream.offer.way
        assert (way.kind, way.url) == (kind, f"http://127.0.0.1:{server.port}{path}")
        assert len(server.seen) <= 9  # tiny requests, and few
        assert "is ready" in upstream.status.message and way.words in upstream.status.message
    finally:
        server.stop()


@pytest.mark.parametrize("family", ["qwen", "starcoder", "deepseek", "codellama", "codestral"])
def test_sentinels_are_those_of_the_prompt_style(made: Make, ask: Any, family: str) -> None:
    names = [name for name in (f"fim-{family}", f"fim-{family}-spm") if name in STYLES]
    orders = {STYLES[name].template.endswith("{prefix}"): name for name in names}
    server, engine = made(fim=family, sentinels=True)
    complete(engine, ask("def f(x):\n    return ", "\n\nprint(f(1))\n"))
    [body] = server.bodies()
    style = STYLES[orders.get(family in ("starcoder", "codellama"), names[0])]
    wanted = style.render(prefix="def f(x):\n    return ", suffix="\n\nprint(f(1))\n")
    assert body["prompt"] == wanted


def test_infill_gets_the_text_around_the_cursor_and_other_files(made: Make, ask: Any) -> None:
    server, engine = made(llama=True, routes={"infill"})
    secret = Snippet("settings.py", 'api_key = "abcdef0123456789abcdef"\n')
    snippets = (Snippet("other.py", "x = 1\n"), secret)
    complete(engine, ask("a = ", "\nb = 2\n", snippets=snippets, max_tokens=7))
    [body] = server.bodies()
    assert (body["input_prefix"], body["input_suffix"]) == ("a = ", "\nb = 2\n")
    assert [one["filename"] for one in body["input_extra"]] == ["other.py", "settings.py"]
    assert body["input_extra"][0]["text"] == "x = 1\n"
    assert "abcdef0123456789" not in str(body) and "REDACTED" in body["input_extra"][1]["text"]
    assert body["n_predict"] == 7 and body["cache_prompt"] is True and body["temperature"] == 0
    assert body["t_max_predict_ms"] == 10_000


def test_while_one_types_the_prompt_s_beginning_stays(made: Make, ask: Any) -> None:
    server, engine = made(ServerLimits(context_tokens=512), llama=True, routes={"infill"})
    start = len(TEXT) // 2

    async def typed() -> None:
        for end in range(start, start + 150):
            await engine.complete(ask(TEXT[:end], TEXT[start + 150 :]))

    asyncio.run(typed())
    prefixes = [body["input_prefix"] for body in server.bodies()]
    grew = [later.startswith(earlier) for earlier, later in pairwise(prefixes)]
    assert len(grew) == 149 and sum(grew) >= 145
    assert all(len(prefix) > 512 for prefix in prefixes)  # and is not short
    suffixes = {body["input_suffix"] for body in server.bodies()}
    assert len(suffixes) == 1 and TEXT[start + 150 :].startswith(*suffixes)


FIELDS = st.sampled_from(
    ["content", "choices", "delta", "message", "text", "finish_reason", "stop", "stop_type"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_any_part_of_a_stream_is_read(row: dict[str, Any]) -> None:
    text, finish = read_row(row)
    assert isinstance(text, str) and finish in (None, "length", "eos")


def test_documents_keep_slots_of_their_own(made: Make, ask: Any) -> None:
    server, engine = made(llama=True, routes={"infill"}, slots=4, cached=True)
    other = Upstream(server.url)
    other.check()
    engines = [engine, CompletionEngine(other)]
    try:
        for round_ in range(3):
            for one in engines:  # another editor's server
                for name in "ab":
                    complete(one, ask(f"x = [{round_}, ", document=name))
        slots = [body["id_slot"] for body in server.bodies()]
        assert sorted(slots[:4]) == [0, 1, 2, 3] and slots == slots[:4] * 3
        engine.close(ask("", document="a").key)
        complete(engine, ask("new = ", document="c"))
        assert server.bodies()[-1]["id_slot"] == slots[0]  # used longest ago
    finally:
        engines[1].stop()


def test_a_slot_that_others_use_is_left(made: Make, ask: Any) -> None:
    server, engine = made(llama=True, routes={"infill"}, slots=4)  # nothing is ever cached
    for round_ in range(3):
        complete(engine, ask(f"x = [{round_}, "))
    slots = [body["id_slot"] for body in server.bodies()]
    assert slots[0] == slots[1] != slots[2]


def test_chat_is_asked_around_the_cursor(made: Make, ask: Any) -> None:
    server, engine = made(
        routes={"chat"}, pieces=lambda _: ["```python\n", "return ", "x + 1\n", "```\nDone."]
    )
    [answer] = complete(engine, ask("def f(x):\n    ", "\n\nf(1)\n", multiline="auto"))
    assert answer.text == "return x + 1"
    [body] = server.bodies()
    assert "def f(x):\n    <CURSOR>\n\nf(1)\n" in body["messages"][-1]["content"]


def test_a_suggestion_ends_where_the_rule_says_and_the_connection_with_it(
    made: Make, ask: Any
) -> None:
    words = ["    ", "return", " x", "\n", "\n", "print", "(1)", "\n"] + ["more "] * 500
    server, engine = made(pieces=lambda _: words, wait=0.002)
    [answer] = complete(engine, ask("def f(x):\n", "", multiline="auto", max_tokens=512))
    assert answer.text == "    return x" and answer.candidates[0].finish_reason == "stop"
    wait_for(lambda: server.left)
    assert server.left == 1 and server.sent < 100


def test_the_latest_request_of_a_document_wins_and_the_others_are_closed(
    made: Make, ask: Any
) -> None:
    server, engine = made(pieces=lambda _: ["word "] * 20, wait=0.02)

    async def run() -> list[Any]:
        tasks = []
        for number in range(5):
            tasks.append(asyncio.ensure_future(engine.complete(ask("x" * (number + 1)))))
            while len(server.bodies()) <= number:
                await asyncio.sleep(0.01)
        return await asyncio.gather(*tasks, return_exceptions=True)

    *older, latest = asyncio.run(run())
    assert all(isinstance(answer, Superseded) for answer in older)
    assert latest.text == "word " * 20
    wait_for(lambda: server.left >= 4)
    assert server.left == 4 and server.sent < 60


def test_a_slow_server_is_not_asked_at_each_key(made: Make, ask: Any) -> None:
    server, engine = made(pieces=lambda _: ["late"], wait=0.3)

    async def run() -> str:
        tasks = []
        for number in range(40):
            tasks.append(asyncio.ensure_future(engine.complete(ask("x" * (number + 1)))))
            await asyncio.sleep(0.04)
        *older, latest = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, Superseded) for answer in older)
        assert isinstance(latest, CompletionResult)
        return latest.text

    assert asyncio.run(run()) == "late"
    assert len(server.bodies()) < 20 and server.bodies()[-1]["prompt"] == "x" * 40


def test_warm_ups_give_way(made: Make, ask: Any) -> None:
    server, engine = made(llama=True, routes={"infill"}, pieces=lambda _: ["w"] * 50, wait=0.05)

    async def run() -> str:
        engine.warm_up(ask("warm", document="w"))
        while not server.bodies():
            await asyncio.sleep(0.01)
        server.script.pieces = lambda _: ["real"]
        return (await engine.complete(ask("x", document="r"))).text

    began = time.monotonic()
    assert asyncio.run(run()) == "real" and time.monotonic() - began < 2
    warm, real = server.bodies()
    assert (warm["n_predict"], real["n_predict"]) == (0, 8)


def test_a_server_that_dies_and_comes_back_loses_no_request(
    made: Make, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server, engine = made(
        llama=True, routes={"infill"}, wait=0.005,
        pieces=lambda body: [body["input_prefix"][-3:], " is", " it"],
    )  # fmt: skip
    statuses: list[Status] = []
    engine.source.on_status = statuses.append

    async def client(number: int) -> None:
        for turn in range(12):
            text = f"{number:02}{turn % 10}"
            answer = await engine.complete(ask(f"x = {text}", document=f"{number}"))
            assert answer.text == f"{text} is it"
            await asyncio.sleep(0.01)

    async def run() -> None:
        work = asyncio.gather(*(client(number) for number in range(8)))
        for _ in range(2):
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.4)
            await asyncio.to_thread(server.start)
        await work

    with caplog.at_level(logging.WARNING, "codegen"):
        asyncio.run(run())
    kinds = [status.kind for status in statuses]
    assert kinds == ["Warning", "Normal"] * (len(kinds) // 2) and len(kinds) in (2, 4)
    assert len(caplog.records) == len(kinds) // 2  # one line each time
    assert server.seen.count("/v1/models") <= 8  # no storm: a look now and then
    assert engine.metrics.value("completions") == 96


@pytest.mark.parametrize(
    "reply",
    [
        1,
        JSONResponse({"error": {"message": "loading"}}, 503),
        error(429, "slow down", Retry_After="0"),
        HTMLResponse("<html>", 502),
    ],
)
def test_what_failed_for_a_while_is_asked_again(made: Make, ask: Any, reply: Any) -> None:
    server, engine = made(replies=[reply])
    shown: list[str] = []

    async def run() -> str:
        return (await engine.complete(ask("x"), shown.append)).text

    assert asyncio.run(run()) == "answer text" == "".join(shown)
    assert len(server.bodies()) == 2 and engine.source.status.kind == "Normal"


def test_a_prompt_that_is_too_long_is_sent_shorter(made: Make, ask: Any) -> None:
    server, engine = made(replies=[error(400, "too long", "exceed_context_size_error")])
    [answer] = complete(engine, ask(TEXT[:6000]))
    first, second = (len(body["prompt"]) for body in server.bodies())
    assert answer.text == "answer text" and second < first / 2


def test_a_refusal_shows_no_words_that_may_quote_a_document(
    made: Make, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    words = "your prompt 'secret words' is bad"
    _, engine = made(replies=[error(400, words)] * 2)
    for _ in range(2):
        with pytest.raises(
            Unavailable, match=r"rejected a request: HTTP 400 \(some_error\)"
        ) as found:
            complete(engine, ask("secret words"))
        assert "secret words" not in str(found.value)
    assert len(caplog.records) == 1 and "secret words" not in caplog.text
    assert engine.source.status.kind == "Warning"
    assert complete(engine, ask("y"))[0].text == "answer text"
    assert engine.source.status.kind == "Normal"


def test_a_server_that_repeats_the_key(
    made: Make, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-repeated-0123456789"
    repeats = error(400, f"Bearer {key} is bad", key)
    _, engine = made(key=key, replies=[repeats] * 2)
    with pytest.raises(Unavailable) as refused:
        complete(engine, ask("x"))
    assert isinstance(engine.source, Upstream)
    with pytest.raises(InputError, match=r"Bearer \*\*\* is bad") as passed:  # to a client of ours
        asyncio.run(anext(engine.source.stream("completions", {"prompt": "x", "max_tokens": 9})))
    said = [str(refused.value), str(passed.value), engine.source.status.message, caplog.text]
    moved = JSONResponse({}, 307, headers={"Location": f"http://127.0.0.1:9/?key={key}"})
    for fault in (repeats, moved):
        server = UpstreamServer(Script(key=key, fault=fault))
        try:
            with pytest.raises(CodegenError) as failed:
                Upstream(server.url, key=key).check()
        finally:
            server.stop()
        said.append(str(failed.value))
    assert all(text and key not in text for text in said), said
    assert server.seen == ["/v1/models"]  # it did not follow


def test_a_huge_answer_is_not_held(made: Make, ask: Any) -> None:
    _, engine = made(ServerLimits(deadline_s=2), pieces=lambda _: ["x" * (2 << 20)] * 8)
    with pytest.raises(Unavailable):
        complete(engine, ask("x"))


@pytest.mark.parametrize("piece", ["more ", "x" * 3000])
def test_an_answer_that_is_longer_than_asked_for_is_cut(made: Make, ask: Any, piece: str) -> None:
    """However fast a server that ignores the limit sends, and without an end."""
    server, engine = made(pieces=lambda _: [piece] * 100_000)
    [answer] = complete(engine, ask("x = ", "", max_tokens=8))
    assert answer.candidates[0].finish_reason == "length"
    assert 0 < len(answer.text) < 10_000
    wait_for(lambda: server.left)
    assert server.left == 1 and server.sent < 100_000
