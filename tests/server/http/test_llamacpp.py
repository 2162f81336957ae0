"""llama.cpp's infilling, as llama.vim asks for it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.processes import wait_for
from tests.server.conftest import AUTH, Served
from tests.server.http.test_openai import PREFIX, SUFFIX, events


def infill(post: Any, **more: Any) -> Any:
    body = {
        "input_prefix": "def f(value):\n",
        "input_suffix": SUFFIX,
        "prompt": "    return ",
        **more,
    }
    return post("/infill", body)


def test_infill_has_llama_vims_form(post: Any) -> None:
    answer = infill(post, n_predict=8, samplers=["top_k", "top_p", "infill"], stream=False)
    assert '"content":"' in answer.text  # llama.vim looks for exactly this
    body = answer.json()
    assert body["content"] and body["timings"]["predicted_n"] <= 8
    assert body["tokens_evaluated"] == body["timings"]["prompt_n"] + body["timings"]["cache_n"]


def test_infill_gives_the_wanted_fields(post: Any) -> None:
    wanted = [
        "content",
        "timings/prompt_n",
        "timings/predicted_per_second",
        "has_new_line",
        "nothing",
    ]
    body = infill(post, n_predict=8, response_fields=wanted).json()
    assert list(body) == wanted[:-1]


def test_infill_gives_several_different_contents(post: Any) -> None:
    rows = infill(post, n_predict=8, n_cmpl=3).json()
    contents = [row["content"].strip() for row in rows]
    assert len(rows) == 3 == len(set(contents))
    assert [row["index"] for row in rows] == [0, 1, 2]


def test_a_warm_up_encodes_and_says_nothing(post: Any, engine: Any) -> None:
    body = infill(post, n_predict=0, t_max_predict_ms=1, input_extra=[]).json()
    assert body["content"] == ""
    wait_for(lambda: engine.metrics.value("tokens_encoded"))
    warm = infill(post, n_predict=4).json()
    assert warm["timings"]["cache_n"] > warm["timings"]["prompt_n"]


def test_other_files_come_first_and_are_redacted(post: Any, engine: Any) -> None:
    secret = "AKIAIOSFODNN7EXAMPLE"
    extra = [{"filename": "b.py", "text": f"KEY = '{secret}'\nbeta = 1\n"},
             {"filename": ".env", "text": "TOP=SECRET\n"}]  # fmt: skip
    infill(post, n_predict=4, input_extra=extra)
    [document] = engine.worker.caches.documents.values()
    seen = engine.source.tokenizer.decode(document.cache.token_ids)
    assert "beta = 1" in seen and "b.py" in seen
    assert secret not in seen and "TOP" not in seen


def test_infill_streams(served: Served, post: Any) -> None:
    body = {"input_prefix": PREFIX, "input_suffix": SUFFIX, "n_predict": 8}
    rows = [json.loads(row) for row in events(served, {**body, "stream": True}, "/infill")]
    assert [row["stop"] for row in rows] == [False] * (len(rows) - 1) + [True]
    whole = post("/infill", body).json()["content"]
    assert "".join(row["content"] for row in rows) == whole


def test_props(served: Served, tiny_model: Any) -> None:
    props = httpx.get(served.url + "/props", headers=AUTH).json()
    assert props["default_generation_settings"]["n_ctx"] == tiny_model.longest == 512
    assert props["chat_template"] == tiny_model.tokenizer.chat_template
