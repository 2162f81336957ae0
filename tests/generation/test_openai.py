"""The client of OpenAI-compatible endpoints, against a real server that misbehaves when told to."""

from __future__ import annotations

import email.utils
import gzip
import json
import logging
import pickle
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion, echo, error, sse

from codegen.core.errors import CodegenError, ConfigError
from codegen.core.generation import ModelUnusable, RequestFailed, request_seed
from codegen.core.http_client import retry_after
from codegen.generation import (
    Backend,
    Completion,
    Decoder,
    Request,
    SamplingParams,
    openai,
    samples,
)
from codegen.generation.completion_cache import CachedBackend, Prices, ResponseCache
from codegen.generation.endpoints import Endpoint
from codegen.generation.openai import (
    FAILURES_IN_A_ROW,
    CostLimitReached,
    OpenAIBackend,
    RateLimiter,
    RequestCancelled,
)

KEY = "sk-very-secret-0123456789"


def client(model: Model, **settings: Any) -> OpenAIBackend:
    settings = {"backoff_s": 0.01, "timeout_s": 5.0, "retries": 3, **settings}
    return OpenAIBackend(Endpoint(model.url, "m", **settings))


def ask(backend: Backend, prompt: str = "a", **params: Any) -> Completion:
    """The completion of one chat request, or its error."""
    (made,) = ask_many(backend, [prompt], **params)
    if made.error:
        raise made.error
    return made


def ask_many(backend: Backend, prompts: Sequence[str], **params: Any) -> list[Completion]:
    """The completions of chat requests with the seeds 0, 1, ..., in order."""
    requests = [Request(prompt, chat=True, seed=seed) for seed, prompt in enumerate(prompts)]
    made = backend.generate(requests, SamplingParams(**params), Decoder())
    return sorted(made, key=lambda one: one.number)


def test_the_body_says_everything_and_the_key_is_a_header(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY + "\n")
    request = Request("hé\ud800llo", chat=True, stop=("\n",), seed=2**40 + 3)
    params = SamplingParams(max_new_tokens=9, temperature=0.5, top_p=0.9)
    (made,) = client(model, api_key_env="MY_KEY").generate([request], params, Decoder())
    assert model.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hé\ud800llo"}],
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 3,
            "stop": ["\n"],
        }
    ]
    assert model.paths == ["/v1/chat/completions"]
    assert model.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert (made.text, made.finish_reason) == ("hé\ud800llo|3", "stop")
    assert (made.prompt_tokens, made.completion_tokens) == (7, 5)


def test_no_key_is_sent_unless_a_variable_is_named(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(client(model))
    assert "Authorization" not in model.headers[0]


def test_further_body_fields_replace_and_remove(model: Model) -> None:
    body = (("max_tokens", "null"), ("max_completion_tokens", "50"), ("reasoning", '{"effort": 1}'))
    ask(client(model, body=body))
    assert "max_tokens" not in model.bodies[0]
    assert model.bodies[0]["max_completion_tokens"] == 50
    assert model.bodies[0]["reasoning"] == {"effort": 1}


@pytest.mark.parametrize(
    "bad",
    [
        error(429, "slow down"),
        error(500, "oops"),
        Reply(raw=b"<html>bad gateway</html>", status=502),
        error(503, "loading"),
        error(408, "late"),
        Reply(cut=True),
        Reply(raw=b'{"choices": [', promise=100),
        Reply(raw=b"not json"),
        Reply(raw=b'{"choices": [{"message": {"content": "\xff"}}]}'),
        Reply(raw=b""),
        Reply(raw=b"[" * 100_000),
        Reply([1, 2]),
        Reply({"choices": []}),
        Reply({"choices": "none"}),
        Reply({"choices": [{"message": {"content": 5}}]}),
        Reply({"choices": [{"message": {}}]}),
        Reply({"choices": [{"message": {"role": "assistant"}, "finish_reason": "stop"}]}),
        Reply({"error": {"message": "upstream is down"}}),
        Reply({"id": "x"}),
    ],
    ids=lambda reply: str(reply.raw or reply.body or "cut")[:40],
)
def test_a_passing_failure_is_tried_again(model: Model, bad: Reply) -> None:
    model.script = [bad, bad]
    assert ask(client(model)).text == "a|0"
    assert len(model.bodies) == 3 and model.bodies[0] == model.bodies[2]


def test_a_lasting_failure_is_told_with_the_url_and_the_servers_words(model: Model) -> None:
    model.answer = lambda _: error(500, "no GPU")
    with pytest.raises(RequestFailed, match=rf"{model.url}/chat/completions .*HTTP 500: no GPU"):
        ask(client(model, retries=2))
    assert len(model.bodies) == 3


def test_a_server_that_hangs(model: Model) -> None:
    model.answer = lambda body: Reply(echo(body).body, delay_s=1.0)
    with pytest.raises(RequestFailed, match=r"no response within 0\.2 s"):
        ask(client(model, timeout_s=0.2, retries=1))
    assert len(model.bodies) == 2


def test_a_server_that_drips(model: Model) -> None:
    """Each byte comes in time, the whole never does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b" ")
                        time.sleep(0.02)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        endpoint = Endpoint(
            f"http://127.0.0.1:{listener.getsockname()[1]}", "m", timeout_s=0.4, retries=0
        )
        # The whole response would take half an hour, with never a pause of 0.4 s.
        with pytest.raises(RequestFailed, match=r"no response within 0\.4 s"):
            ask(OpenAIBackend(endpoint))


def test_proxies_are_not_for_this_machine(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert ask(client(model)).text == "a|0"
    other = Endpoint("http://example.invalid/v1", "m", retries=0)
    with pytest.raises(ModelUnusable, match="no connection"):
        ask(OpenAIBackend(other))


def test_a_response_without_bounds(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "MAX_RESPONSE_BYTES", 1 << 20)
    model.answer = lambda _: completion("x" * (1 << 21))
    with pytest.raises(RequestFailed, match="larger than 1 MiB"):
        ask(client(model))
    packed = gzip.compress(json.dumps(completion("y" * (1 << 22)).body).encode())
    model.answer = lambda _: Reply(raw=packed, headers={"Content-Encoding": "gzip"})
    with pytest.raises(RequestFailed, match="not JSON"):
        ask(client(model, retries=0))
    assert len(model.bodies) == 2  # neither is tried again


def test_nothing_of_the_environment_is_sent(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: secret")
    ask(client(model))
    assert "secret" not in str(model.headers).lower() and KEY not in str(model.headers)


def test_retry_after_holds_for_all_threads(model: Model) -> None:
    model.script = [error(429, "slow", Retry_After="1")]
    ask_many(client(model, concurrency=1), [f"a{i}" for i in range(3)])
    assert len(model.times) == 4
    assert model.times[1] - model.times[0] >= 1.0


def test_a_wait_that_is_too_long_ends_the_run(model: Model) -> None:
    model.script = [error(429, "tomorrow", Retry_After="86400")]
    with pytest.raises(ModelUnusable, match=r"tomorrow.*run the same command again"):
        ask(client(model))
    assert len(model.bodies) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("", 0.0), ("-1", 0.0), ("soon", 0.0), ("nan", 0.0), ("inf", 0.0)],
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    assert retry_after(value, now=0.0) == seconds


def test_retry_after_as_a_date() -> None:
    assert retry_after(email.utils.formatdate(1_700_000_030, usegmt=True), 1_700_000_000.0) == 30.0
    assert retry_after(email.utils.formatdate(1_600_000_000, usegmt=True), 1_700_000_000.0) == 0.0


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (error(401, "Incorrect API key provided"), "HTTP 401: Incorrect.* --api-key-env"),
        (error(403, "not for you"), "HTTP 403"),
        (error(404, "The model `m` does not exist", "model_not_found"), "does not exist.*--model"),
        (error(400, "unknown model", "model_not_found"), "--model"),
        (Reply(raw=b"404 page not found", status=404), "page not found.*--endpoint"),
        (error(402, "pay"), "HTTP 402: pay"),
        (error(429, "quota", "insufficient_quota"), "HTTP 429: quota.*The quota is spent. Add"),
        (error(429, "", "insufficient_quota", Retry_After="9999"), "The quota is spent"),
        (Reply({}, 307, {"Location": "https://elsewhere.example/v1"}), "elsewhere.example"),
        (Reply(raw=b"<!DOCTYPE HTML>", status=501), "HTTP 501: .* a web page. Check --endpoint"),
        (Reply(raw=b"\n<html>", status=400), "HTTP 400: .* a web page. Check --endpoint"),
    ],
)
def test_what_ends_a_run_is_told_at_once(model: Model, reply: Reply, message: str) -> None:
    model.answer = lambda _: reply
    with pytest.raises(ModelUnusable, match=message) as caught:
        ask(client(model))
    assert len(model.bodies) == 1
    assert model.url in str(caught.value) and "'m'" in str(caught.value)
    assert isinstance(caught.value, ConfigError)  # which is what ends a run of the data engine


def test_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    began = time.monotonic()
    with pytest.raises(ModelUnusable, match=rf"{url}.*refused.*Start the server there"):
        ask(OpenAIBackend(Endpoint(url, "m", retries=5)))
    assert time.monotonic() - began < 20  # five retries wait for half a minute


@pytest.mark.parametrize("host", ["no-such-host.invalid", ".", "a" * 80 + ".invalid"])
def test_a_host_that_does_not_exist(host: str) -> None:
    endpoint = Endpoint(f"http://{host}", "m")
    with pytest.raises(ModelUnusable, match="Check --endpoint"):
        ask(OpenAIBackend(endpoint))


def test_bad_questions_fail_alone(model: Model) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        text = body["messages"][0]["content"]
        return error(400, "context length exceeded") if text.startswith("long") else echo(body)

    model.answer = answer
    mixed = [f"{'long' if i % 2 else 'ok'}{i}" for i in range(40)]
    results = ask_many(client(model, concurrency=1), mixed)
    assert [bool(r.error) for r in results] == [bool(i % 2) for i in range(40)]
    assert len(model.bodies) == 40  # a 400 is not tried again
    # However many there are in a row, as long as the server answers another question.
    results = ask_many(client(model, concurrency=1), [f"long{i}" for i in range(40)])
    assert all(isinstance(r.error, RequestFailed) for r in results)
    assert len(model.bodies) == 80 + 40 // FAILURES_IN_A_ROW


def test_a_server_that_answers_nothing_ends_the_run(model: Model) -> None:
    model.answer = lambda _: error(400, "unsupported parameter: seed")
    with pytest.raises(ModelUnusable, match=f"seed. This is failure {FAILURES_IN_A_ROW} in a row"):
        ask_many(client(model, concurrency=1), [f"q{i}" for i in range(40)])
    assert len(model.bodies) == FAILURES_IN_A_ROW + 1


def test_answers_come_in_order_and_concurrency_is_bounded(model: Model) -> None:
    model.answer = lambda body: Reply(echo(body).body, delay_s=0.02 + (body["seed"] % 3) * 0.02)
    asked = client(model, concurrency=5)
    prompts = [f"q{i}" for i in range(20)]
    half = threading.Thread(target=ask_many, args=(asked, prompts))
    half.start()
    answers = ask_many(asked, prompts)
    half.join()
    assert [a.text for a in answers] == [f"q{i}|{i}" for i in range(20)]
    assert model.most_in_flight == 5
    assert sum(a.completion_tokens for a in answers) == 20 * 5
    assert sum(a.prompt_tokens for a in answers) == 20 * 7


def test_no_more_are_asked_than_the_caller_has_room_for(model: Model) -> None:
    """So a caller that is killed has lost at most as many completions as are in flight at once."""
    backend = client(model, concurrency=3)
    requests = [Request(f"q{i}", chat=True, seed=i) for i in range(12)]
    taken = 0
    for _ in backend.generate(requests, SamplingParams(), Decoder()):
        time.sleep(0.05)  # of the caller, in which a server that answers at once is not asked
        assert len(model.bodies) <= taken + 3
        taken += 1
    assert taken == len(model.bodies) == 12


def test_missing_usage_and_strange_fields_count_as_nothing(model: Model) -> None:
    choice = {"message": {"content": None}, "finish_reason": None}
    model.script = [
        Reply({"choices": [choice], "usage": None}),
        Reply({"choices": [choice], "usage": {"prompt_tokens": "7", "completion_tokens": -1}}),
    ]
    for _ in range(2):
        made = ask(client(model))
        assert (made.text, made.prompt_tokens, made.completion_tokens) == ("", 0, 0)


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"refusal": "No."}, "finish_reason": "stop"},
        {"message": {"reasoning_content": "Hm"}, "finish_reason": "length"},
        {"message": {}, "finish_reason": "content_filter"},
        {"message": {"content": None}},
    ],
)
def test_an_answer_without_content_that_is_one(model: Model, choice: dict[str, Any]) -> None:
    model.script = [Reply({"choices": [choice]})]
    assert ask(client(model)).text == "" and len(model.bodies) == 1


def test_the_key_is_nowhere_but_in_the_header(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    with ResponseCache(tmp_path / "cache.sqlite") as cache:
        endpoint = Endpoint(model.url, "m", api_key_env="MY_KEY", backoff_s=0.01)
        asked = CachedBackend(endpoint, cache)
        ask(asked)
        for padding in range(0, 320, 3):  # wherever a long message is cut
            text = f"{'x' * padding} {KEY}"
            model.answer = lambda _, text=text: Reply({"error": {"message": text}})
            with pytest.raises(CodegenError) as caught:
                ask(client(model, api_key_env="MY_KEY", retries=0), "b")
            assert KEY[:6] not in str(caught.value)
        model.answer = lambda _: error(401, f"Incorrect API key: {KEY}")
        with pytest.raises(ModelUnusable) as caught:
            ask(asked, "b")
    assert "Incorrect API key: ***" in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert KEY not in repr(endpoint) + json.dumps(endpoint.identity())
    assert b"MY_KEY" not in pickle.dumps(endpoint.identity())
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    out, err = capfd.readouterr()
    assert KEY.encode() not in files and KEY not in caplog.text + out + err


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "ключ", "a\x00b"])
def test_a_variable_that_holds_no_key(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value and "\x00" not in value:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match="MY_KEY") as caught:
        Endpoint("http://localhost:1", "m", api_key_env="MY_KEY").open()
    assert not value or not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "chat"),
    [
        ("http://h:1", "http://h:1/v1/chat/completions"),
        ("http://h:1/", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("https://h/api/openai/v1", "https://h/api/openai/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
    ],
)
def test_urls(url: str, chat: str) -> None:
    assert f"{Endpoint(url, 'm').base()}/chat/completions" == chat


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://h/v1",
        "http://",
        "http://h:port",
        "http://h/v 1",
        "http://hé/v1",
        "http://h/v1\n",
        "http://[::1/v1",
        "http://user:hunter2@h/v1",
        "http://h/v1?key=hunter2",
        "file:///etc/passwd",
    ],
)
def test_bad_urls_are_refused_without_showing_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Endpoint(url, "m")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", [{"concurrency": 0}, {"retries": -1}, {"timeout_s": 0}, {"body": (("a", "{"),)}]
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Endpoint("http://h", "m", **settings)
    with pytest.raises(ConfigError, match="No model"):
        Endpoint("http://h", "")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl program")
def test_a_certificate_of_unknown_authority(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = shlex.split("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost")
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def handshake() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()

        threading.Thread(target=handshake, daemon=True).start()
        endpoint = Endpoint(f"https://localhost:{listener.getsockname()[1]}", "m", timeout_s=5)
        with pytest.raises(ModelUnusable, match=r"certificate is not trusted.*SSL_CERT_FILE"):
            ask(OpenAIBackend(endpoint))


def test_a_busy_server_gets_more_patience(model: Model) -> None:
    model.answer = lambda _: error(429, "busy")
    with pytest.raises(ModelUnusable, match=r"busy.*Lower --concurrency"):
        ask(client(model, retries=2, backoff_s=0))
    assert len(model.bodies) == 21


def test_a_server_that_does_not_stream_though_asked(model: Model) -> None:
    shown: list[str] = []
    made = client(model).generate(
        [Request("p", chat=True, seed=0)], SamplingParams(), Decoder(), lambda _, t: shown.append(t)
    )
    assert [one.text for one in made] == shown == ["p|0"]


# Prices and the back-end


def test_prices() -> None:
    assert Prices(2.5, 10).micros(1_000_000, 100_000) == 3_500_000
    assert Prices().micros(10, 10) == 0
    with pytest.raises(ConfigError):
        Prices(-1, 0)
    with pytest.raises(ConfigError):
        Prices(float("nan"), 0)


def test_the_backend(model: Model) -> None:
    requests = [
        Request("p0", chat=True, task="t", problem_id="a"),
        Request("p1", chat=False, task="t", problem_id="b", index=1),
        Request("p2", chat=True, stop=("\n",), problem_id="c"),
    ]
    params = SamplingParams(max_new_tokens=20, temperature=0.7, top_p=0.9, seed=4)
    backend = client(model)
    found = list(samples(backend, iter(requests), params, Decoder()))
    found.sort(key=lambda sample: sample.prompt)
    assert sorted(model.paths) == ["/v1/chat/completions"] * 2 + ["/v1/completions"]
    for i, (sample, request) in enumerate(zip(found, requests, strict=True)):
        seed = request_seed(4, request)
        assert sample.completion == f"p{i}|{seed & 0x7FFFFFFF}"
        assert (sample.problem_id, sample.index, sample.seed) == (
            request.problem_id,
            request.index,
            seed,
        )
    assert [s.finish_reason for s in found] == ["eos", "eos", "stop"]
    assert found[0].settings["model"] == "m" and found[0].settings["temperature"] == 0.7


def test_text_is_streamed(model: Model) -> None:
    model.answer = lambda body: sse(["on", "e ", "\nline"], "length" if "stop" in body else "stop")
    pieces: dict[int, list[str]] = {}
    requests = [
        Request("p", chat=True),
        Request("p", chat=False),
        Request("p", chat=True, stop=("x",)),
    ]
    found = list(
        client(model).generate(
            requests,
            SamplingParams(),
            Decoder(),
            lambda number, text: pieces.setdefault(number, []).append(text),
        )
    )
    assert pieces == {number: ["on", "e ", "\nline"] for number in range(3)}
    assert {made.text for made in found} == {"one \nline"}
    reasons = {made.number: made.finish_reason for made in found}
    assert reasons == {0: "eos", 1: "eos", 2: "length"}
    assert all((made.prompt_tokens, made.completion_tokens) == (7, 5) for made in found)
    assert all(body["stream_options"] == {"include_usage": True} for body in model.bodies)


@pytest.mark.parametrize("refusal", [
    "{'loc': 'body.stop', 'msg': 'List should have at most 4 items after validation, not 5'}",
    "Invalid 'stop': array too long. Expected an array with maximum length 4.",
])  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_a_server_that_takes_four_stop_strings(model: Model, refusal: str, streamed: bool) -> None:
    """It gets four; at the others the completion ends all the same."""
    texts = iter(["keep\nfive and\nthree", "whole", "cut\nthree"])

    def answer(body: dict[str, Any]) -> Reply:
        if len(body["stop"]) > 4:
            return error(400, refusal)
        text = next(texts)
        return sse([text], "length") if body.get("stream") else completion(text, "length")

    model.answer = answer
    stops = ("\none", "\ntwo", "\nthree", "\nfour", "\nfive")
    requests = [Request(name, chat=True, stop=stops) for name in "abc"]
    shown: list[str] = []
    made = list(
        client(model, concurrency=1).generate(
            requests, SamplingParams(), Decoder(), (lambda _, text: shown.append(text)) if streamed
            else None,
        )
    )  # fmt: skip
    assert [(one.text, one.finish_reason) for one in made] == [
        ("keep", "stop"), ("whole", "length"), ("cut", "stop")
    ]  # fmt: skip
    assert [len(body["stop"]) for body in model.bodies] == [5, 4, 4, 4]
    assert shown == ([one.text for one in made] if streamed else [])


def test_a_stream_that_breaks_is_tried_again_only_before_its_first_text(model: Model) -> None:
    shown: list[str] = []

    def stream() -> Completion:
        (made,) = client(model, retries=1).generate(
            [Request("p", chat=True)],
            SamplingParams(),
            Decoder(),
            lambda _, text: shown.append(text),
        )
        return made

    model.script = [error(503, "loading"), sse(["a", "b"])]
    assert stream().text == "ab" and shown == ["a", "b"]
    broken = sse(["a", "b"])
    assert broken.raw
    broken.raw = broken.raw.rpartition(b"data: {")[0].rpartition(b"data: {")[0]  # without its end
    broken.promise = 100
    model.script = [broken]
    assert "no connection" in str(stream().error) and shown == ["a", "b"] * 2


# The pace


def paced(**limits: Any) -> RateLimiter:
    return RateLimiter(Endpoint("http://h", "m", **limits))


def send(made: RateLimiter, spent: tuple[int, int]) -> None:
    made.enter(threading.Event())
    made.leave(spent, answered=True)


def test_a_wait_that_the_server_asks_for_holds_for_all() -> None:
    made, began = paced(), time.monotonic()
    made.enter(threading.Event())
    made.leave((0, 0), answered=False, wait_s=0.2)
    made.enter(threading.Event())
    assert time.monotonic() - began >= 0.2


def test_the_cost_limit() -> None:
    made = paced(price_in=1.0, price_out=10.0, max_cost=0.001)  # 1000 millionths
    for _ in range(9):
        send(made, (10, 10))  # 110 each
    send(made, (9, 0))
    with pytest.raises(CostLimitReached, match=r"cost limit of 0.001 is reached.*resume") as caught:
        for _ in range(2):
            send(made, (1, 0))
    assert caught.value.exit_code == 1


def test_a_server_that_counts_nothing_cannot_keep_a_cost_limit() -> None:
    made = paced(price_in=1.0, max_cost=1.0)
    send(made, (0, 0))
    with pytest.raises(CostLimitReached, match="Remove --max-cost"):
        send(made, (0, 0))


def test_waiting_ends_when_called_off() -> None:
    made, stop = paced(), threading.Event()
    made.enter(stop)
    made.leave((0, 0), answered=False, wait_s=60)
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(RequestCancelled):
        made.enter(stop)
