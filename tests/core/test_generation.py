"""Samples of completions: their settings, endings, and requests that fail alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.generation import RequestFailed, cut_at_stop, request_seed, settings_of
from codegen.generation import Completion, Decoder, Request, SamplingParams, samples
from tests.generation.test_endpoints import Upper


def test_samples_are_made_of_completions_and_settings() -> None:
    params = SamplingParams(9, 0.5, 0.9, 3)
    requests = [Request("ab", task="t", problem_id=f"p{i}", index=i) for i in range(3)]
    pieces: dict[int, str] = {}
    backend = Upper("m")
    found = list(samples(backend, requests, params, Decoder(), pieces.__setitem__))
    assert [sample.problem_id for sample in found] == ["p2", "p1", "p0"]
    for sample in found:
        assert (sample.task, sample.prompt, sample.completion) == ("t", "ab", "AB")
        assert sample.settings == {**settings_of("m", params, Decoder()), "backend": "upper"}
        assert sample.seed == request_seed(3, requests[sample.index])
        assert (sample.prompt_tokens, sample.completion_tokens) == (3, 2)
    assert pieces == {0: "AB", 1: "AB", 2: "AB"}


def test_the_reader_is_any_back_ends() -> None:
    edit = "<|diff|>\n@@ -0,0 +1 @@\n+x = 1"
    (made,) = Upper("m").generate([Request(edit)], SamplingParams(), Decoder("edit_sequence"))
    assert (made.text, made.meta["edits"]) == ("X = 1\n", 1) and made.actions == edit.upper()


def test_a_request_that_fails_alone_names_its_problem_only_as_a_sample() -> None:
    requests = [Request("a"), Request("", problem_id="HumanEval/7")]
    good, bad = sorted(
        Upper("m").generate(requests, SamplingParams(), Decoder()), key=lambda made: made.number
    )
    assert good.text == "A" and str(bad.error) == "The prompt is empty."
    with pytest.raises(RequestFailed, match=r"^HumanEval/7: The prompt is empty"):
        list(samples(Upper("m"), requests, SamplingParams(), Decoder()))


def test_a_text_that_a_server_withheld_is_an_ending_of_its_own_until_it_is_a_sample() -> None:
    for stop, reason in (((), "eos"), (("x",), "stop")):
        made = Completion(0, Request("", stop=stop), "t", finish_reason="content_filter")
        assert made.sample({}).finish_reason == reason


@given(st.text(alphabet="ab\n#", max_size=30))
def test_cutting_is_at_the_first_stop_and_only_once(text: str) -> None:
    stops = ("\n#", "ab")
    cut = cut_at_stop(text, stops)
    assert text.startswith(cut)
    assert not any(stop in cut for stop in stops)
    rest = text[len(cut) :]
    assert not rest or any(rest.startswith(stop) for stop in stops)
