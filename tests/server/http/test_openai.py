"""The three dialects against the engine itself, as the plug-ins use them."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest

from codegen.server.completion.prompts import FAMILIES
from tests.processes import wait_for
from tests.server.conftest import AUTH, TOKEN, Served

PREFIX, SUFFIX = "def f(value):\n    return ", "\n\nprint(f(1))\n"


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [choice["text"] for choice in answer.json()["choices"]]


def test_a_prompt_is_continued(post: Any) -> None:
    answer = post("/v1/completions", {"prompt": "x = ", "max_tokens": 5, "temperature": 0})
    body = answer.json()
    assert body["object"] == "text_completion"
    assert body["choices"][0]["finish_reason"] in ("stop", "length")
    assert body["usage"]["completion_tokens"] <= 5
    echoed = post(
        "/v1/completions", {"prompt": "x = ", "max_tokens": 5, "temperature": 0, "echo": True}
    )
    assert texts(echoed) == ["x = " + body["choices"][0]["text"]]


def test_the_suffix_counts(post: Any) -> None:
    """What stands behind the cursor is never suggested again, and a stream gives the same."""
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 24}
    whole = texts(post("/v1/completions", body))[0]
    # A suffix that begins with that very text leaves nothing of it.
    again = texts(post("/v1/completions", {**body, "suffix": whole + SUFFIX}))[0]
    assert whole and whole not in again


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_foreign_sentinels_are_mapped(post: Any, family: Any) -> None:
    prompt = family.template.replace("{prefix}", PREFIX).replace("{suffix}", SUFFIX)
    got = texts(post("/v1/completions", {"prompt": prompt, "max_tokens": 24}))
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 24}
    assert got == texts(post("/v1/completions", body))


def events(served: Served, body: Any, path: str = "/v1/completions") -> list[Any]:
    found = []
    with httpx.stream("POST", served.url + path, json=body, headers=AUTH, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                assert line.startswith("data: ")
                found.append(line.removeprefix("data: "))
    return found


@pytest.mark.parametrize("suffix", ["", SUFFIX])
def test_a_stream_adds_up_to_the_plain_answer(served: Served, post: Any, suffix: str) -> None:
    body = {"prompt": PREFIX, "suffix": suffix, "max_tokens": 20, "temperature": 0}
    whole = texts(post("/v1/completions", body))[0]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *rows, done = events(served, {**body, **options})
    assert done == "[DONE]"
    rows = [json.loads(row) for row in rows]
    assert rows[-1]["usage"]["completion_tokens"] >= 0
    found = "".join(row["choices"][0]["text"] for row in rows if row["choices"])
    assert found == whole


def test_a_fast_answer_says_whether_it_is_certain(
    post: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.decoding.editing import EditableCache
    from codegen.server.completion import schedule

    monkeypatch.setattr(schedule, "QUIET_S", 600.0)
    monkeypatch.setattr(EditableCache, "in_doubt", lambda self, logits: not self.exact)
    lines = [f"name_{number} = {number}\n" for number in range(12)]
    body = {"suffix": "\n", "max_tokens": 12}
    found = []
    for _ in range(2):
        answer = post("/v1/completions", {**body, "prompt": "".join(lines), "certain": False})
        found.append(answer.json()["certain"])
        assert answer.json()["next_edits"] is False  # this server proposes none
        lines.insert(0, "import sys\n")
    assert found == [True, False]
    certain = post("/v1/completions", {**body, "prompt": "".join(lines)}).json()
    assert "certain" not in certain


def test_tabby(post: Any, served: Served, engine: Any) -> None:
    segments = {"prefix": PREFIX, "suffix": SUFFIX, "filepath": "src/a.py", "git_url": "x",
                "declarations": [{"filepath": "b.py", "body": "def beta(): ..."}]}  # fmt: skip
    body = post("/v1/completions", {"language": "python", "segments": segments}).json()
    assert body["id"].startswith("cmpl-") and body["choices"][0]["index"] == 0
    [key] = engine.worker.caches.documents
    assert key.document == "src/a.py" and key.workspace == "x"
    event = {"type": "select", "completion_id": body["id"], "choice_index": 0, "elapsed": 5}
    assert post("/v1/events", event).status_code == 200
    health = httpx.get(served.url + "/v1/health", headers=AUTH).json()
    assert health["model"] and health["version"]["git_describe"]
    setting = httpx.get(served.url + "/v1beta/server_setting", headers=AUTH).json()
    assert setting == {"disable_client_side_telemetry": True}
    secret = {**segments, "filepath": "config/.env"}
    assert post("/v1/completions", {"language": "x", "segments": secret}).json()["choices"] == []


def test_models_metrics_health(served: Served, post: Any) -> None:
    post("/v1/completions", {"prompt": "x", "max_tokens": 2})
    models = httpx.get(served.url + "/v1/models", headers=AUTH).json()
    assert models["data"][0]["object"] == "model"
    metrics = httpx.get(served.url + "/metrics", headers=AUTH).text
    assert "codegen_completions_total 1.0\n" in metrics
    for stage in ("queue", "prompt", "encode", "decode", "total"):
        assert f'codegen_stage_seconds_count{{stage="{stage}"}} 1.0\n' in metrics
    assert httpx.get(served.url + "/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/completions", {"prompt": 5}, "prompt"),
        ("/v1/completions", {"prompt": "x", "max_tokens": "many"}, "max_tokens"),
        ("/v1/completions", {"prompt": "x", "n": 0}, "n is 0"),
        ("/v1/completions", {"prompt": "x", "temperature": -1}, "temperature"),
        ("/v1/completions", {"prompt": ["x", "y"], "stream": True}, "stream"),
        ("/v1/completions", [], "object"),
        ("/infill", {"input_prefix": "x"}, "input_suffix"),
        ("/infill", {"input_prefix": "x", "input_suffix": "", "input_extra": [1]}, "input_extra"),
        ("/v1/completions", {"segments": {"prefix": 1}}, "prefix"),
    ],
)
def test_a_mistake_gives_one_clear_line(post: Any, path: str, body: Any, words: str) -> None:
    answer = post(path, body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_disconnect_cancels(
    served: Served, engine: Any, before_passes: Any, path: str, stream: bool
) -> None:
    passes: list[float] = []

    def slow() -> None:
        passes.append(time.perf_counter())
        time.sleep(0.02)

    before_passes(slow)
    body = {"prompt": "x = ", "max_tokens": 100, "temperature": 0}
    if "chat" in path:
        body = {"model": "", "messages": [{"role": "user", "content": "x"}]}
    data = json.dumps({**body, "stream": stream}).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(head.encode() + data)
        wait_for(lambda: len(passes) > 2 or engine.metrics.value("completions"))
    gone = time.perf_counter()  # as curl does when llama.vim kills it
    wait_for(lambda: engine.idle)
    assert len([at for at in passes if at > gone + 0.1]) <= 1
    assert len(passes) < 60


def test_mistrals_and_deepseeks_infilling(post: Any, served: Served) -> None:
    plain = post("/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 20}).json()
    text = plain["choices"][0]["text"]
    body = {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 20}
    assert post("/beta/completions", {"model": "deepseek-v4-pro", **body}).json()["choices"][0][
        "text"
    ] == text  # fmt: skip
    answer = post("/v1/fim/completions", body).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == text
    streamed = ""
    body["stream"] = True
    url = served.url + "/v1/fim/completions"
    with httpx.stream("POST", url, json=body, headers=AUTH, timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    streamed += choice["delta"].get("content", "")
    assert streamed == text
    assert post("/v1/fim/completions", {"suffix": "x"}).json()["error"]["param"] == "prompt"
    assert post("/v1/fim/completions", {**body, "model": "codestral-latest"}).status_code == 404
