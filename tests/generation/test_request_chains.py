"""Chains of requests: side by side, and answers that are not whole."""

from __future__ import annotations

import random
from typing import Any

import pytest

from codegen.core.generation import RequestFailed
from codegen.generation import Backend, Completion, Request
from codegen.generation.request_chains import Conversation, Plan, run_plans
from codegen.methods.unicoder import Unusable
from codegen.methods.unicoder.generator import block


class Recorder(Backend):
    """Answers with the prompt in capitals; a prompt that starts with "fail" gets no answer."""

    kind, model = "recorder", "recorder"

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []

    def generate(self, requests, params, decoder, on_text=None):
        asked = list(enumerate(requests))
        self.rounds.append([request.prompt for _, request in asked])
        for number, request in asked[::-1]:  # in any order
            if request.prompt.startswith("fail"):
                yield Completion(number, request, error=RequestFailed("no"))
            else:
                yield Completion(number, request, request.prompt.upper())


def chain(*prompts: str) -> Plan[list[str]]:
    texts = []
    for prompt in prompts:
        if prompt == "boom":
            raise ValueError(prompt)
        texts.append((yield Request(prompt)).text)
    return texts


def test_plans_go_side_by_side() -> None:
    backend = Recorder()
    plans = [chain("a", "b", "c"), chain(), chain("fail", "x"), chain("d", "boom", "y"), chain("e")]
    first, second, third, fourth, fifth = run_plans(plans, backend)
    assert (first, second, fifth) == (["A", "B", "C"], [], ["E"])
    assert isinstance(third, RequestFailed) and isinstance(fourth, ValueError)
    assert backend.rounds == [["a", "fail", "d", "e"], ["b"], ["c"]]


def test_no_plans() -> None:
    assert run_plans([]) == []


def made(text: str, reason: Any = "eos") -> Completion:
    return Completion(
        0, Request("q"), text, finish_reason=reason, prompt_tokens=3, completion_tokens=4
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (made("x", "length"), "truncated"),
        (made("", "content_filter"), "content_filter"),
        (made("a\ud800"), "not_unicode"),
    ],
)
def test_answers_that_are_not_whole(answer: Completion, reason: str) -> None:
    asked = Conversation(random.Random(0), 10)
    plan = asked.complete("q")
    next(plan)
    with pytest.raises(Unusable) as caught:
        plan.send(answer)
    assert caught.value.reason == reason
    assert (asked.prompt_tokens, asked.completion_tokens) == (3, 4)


def test_thoughts_are_left_out() -> None:
    plan = Conversation(random.Random(0), 10).complete("q")
    next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send(made("<think>\n```\nno\n```</think>\r\n```\r\nyes\r\n```\r\n"))
    assert block(end.value.value) == "yes"
