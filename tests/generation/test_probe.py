"""``codegen models test``: servers that honor, refuse or ignore a field are told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from typing import Any

import pytest
from openai_server import Model, Reply, completion, error, serving

from codegen.generation.endpoints import Endpoint
from codegen.generation.probe import probe

OPTIONAL = ("seed", "suffix", "stream")


def server_that(
    honors: Collection[str], refuses: Collection[str], seen: list[dict[str, Any]]
) -> Any:
    """A server that honors some fields, refuses some, and ignores the others."""

    def answer(body: dict[str, Any]) -> Reply:
        seen.append(body)
        if bad := set(body).intersection(refuses):
            return error(400, f"unknown field {min(bad)}")
        chat = "messages" in body
        noise = len(seen) if "seed" not in honors or "seed" not in body else body["seed"]
        text = hashlib.sha256(str(noise).encode()).hexdigest()
        reply = completion(text, chat=chat)
        if "suffix" in honors and body.get("suffix"):
            reply.body["usage"]["prompt_tokens"] += 9
        if "stream" in honors and body.get("stream"):
            delta = {"delta": {"content": text}} if chat else {"text": text}
            lines = [f"data: {json.dumps({'choices': [delta]})}\n\n", "data: [DONE]\n\n"]
            kind = {"Content-Type": "text/event-stream"}
            return Reply(raw="".join(lines).encode(), headers=kind)
        return reply

    return answer


def states(model: Model, name: str = "m") -> dict[str, str]:
    return {row.name: row.state for row in probe(Endpoint(model.url, name, timeout_s=10))}


@pytest.mark.parametrize("how", ["yes", "ignored", "no"])
@pytest.mark.parametrize("field", ["seed", "suffix"])
def test_each_field_is_told_apart(field: str, how: str) -> None:
    others = set(OPTIONAL) - {field}
    honors, refuses = {"yes": ({field}, set()), "ignored": (set(), set()), "no": (set(), {field})}[
        how
    ]
    with serving(server_that(others | honors, refuses, [])) as model:
        found = states(model)
    expected = dict.fromkeys(found, "yes")
    for name in found:
        if name.startswith(field):
            expected[name] = how
    assert found == expected
    assert set(found) == {
        "reachable", "models", "text", "chat", "streaming", "seed", "suffix"
    }  # fmt: skip


def test_a_server_that_answers_whole_though_asked_to_stream_still_answers() -> None:
    with serving(server_that(set(OPTIONAL) - {"stream"}, set(), [])) as model:
        assert states(model)["streaming"] == "yes"  # in one piece


def test_a_chat_server_without_text_completions() -> None:
    inner = server_that(set(OPTIONAL), set(), [])

    def answer(body: dict[str, Any]) -> Reply:
        return inner(body) if "messages" in body else Reply(raw=b"not found", status=404)

    with serving(answer) as model:
        found = states(model)
    assert (found["text"], found["chat"], found["seed"]) == ("no", "yes", "yes")
    assert "suffix" not in found


def test_a_model_that_the_server_does_not_list() -> None:
    with serving(server_that(set(OPTIONAL), set(), [])) as model:
        rows = {row.name: row for row in probe(Endpoint(model.url, "nobody"))}
        assert rows["models"].state == "no" and rows["models"].detail == (
            "the server does not list 'nobody', only m, other; re-add it with --model"
        )
        model.listing = None  # a server without the route is there all the same
        assert states(model)["models"] == "unknown" and states(model)["chat"] == "yes"


@pytest.mark.parametrize(
    ("listing", "words"),
    [(error(401, "bad key"), "bad key"), (Reply(raw=b"<html>hello</html>"), "a web page")],
)
def test_what_ends_the_probe(model: Model, listing: Reply, words: str) -> None:
    model.listing = listing
    (row,) = probe(Endpoint(model.url, "m"))
    assert (row.name, row.state) == ("reachable", "no") and words in row.detail


def test_nobody_there() -> None:
    (row,) = probe(Endpoint("http://127.0.0.1:9", "m"))
    assert (row.name, row.state) == ("reachable", "no") and "refused" in row.detail
