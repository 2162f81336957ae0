"""The built-in rewards, and what a reward must not return."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from codegen.core import plugins
from codegen.core.errors import InputError
from codegen.core.records import Verdict
from codegen.rewards import Scored, passed, rewards_of
from codegen.rewards.judge import TestedSample, combine
from tests.rewards.test_judge import sample


def judged(completion: str, status: Any = "wrong", meta: Any = None, **more: Any) -> TestedSample:
    made = sample("p0", completion, **more)
    made = replace(made, meta={**made.meta, **(meta or {})})
    return TestedSample(made, Verdict("p0", 0, status), status == "passed")


@pytest.mark.parametrize(
    ("name", "one", "value"),
    [
        ("compiles", judged("def f(:\n", meta={"program": "def f(:\n"}), 0.0),
        ("compiles", judged("", meta={"program": ""}), 0.0),
        ("lint", judged("", meta={"program": "def f():\n    return y\n"}), 0.0),
        ("lint", judged("", meta={"program": "y = 1\ndef f():\n    return y\n"}), 1.0),
        ("format", judged("Here:\n```python\nx = 1\n```\n"), 1.0),
        ("format", judged("```\nx = 1\n```\nor\n```\nx = 2\n```\n"), 0.0),
        ("format", judged("x = 1\n"), 0.0),
        ("format", judged("```python\nx = 1\n"), 0.0),
        ("length", judged("x", settings={"max_new_tokens": 10}), -0.5),
        ("length", judged("x", settings={"max_new_tokens": 100}), 0.0),
        ("length", judged("x", finish_reason="length"), -1.0),
        ("edit_size", judged("", meta={"program": "a\nb\nX\n", "original": "a\nb\n"}), -0.5),
        ("edit_size", judged("", meta={"program": "a\n"}), None),
        ("share", judged("", meta={"tests": {"passed": 3, "total": 4, "constant": 0.5}}), 0.5),
        ("share", judged("", "infra_error"), None),
    ],
)  # fmt: skip
def test_built_in_rewards(name: str, one: TestedSample, value: float | None) -> None:
    (scored,) = rewards_of(name, [one.sample], [one.verdict])
    assert scored.value == (value if value is None else pytest.approx(value))
    assert scored.reason or value in (1.0, 0.0)


def test_an_answer_of_another_task_is_no_next_edit() -> None:
    (scored,) = rewards_of("next_edit", [judged("x").sample], [Verdict("p0", 0, "wrong")])
    assert scored == Scored(None, "not a next edit")


def test_a_reward_without_a_value_adds_nothing() -> None:
    totals, _ = combine([judged("x", "passed")], {"passed": 2.0, "edit_size": 1.0, "length": 0.5})
    assert totals == [2.0]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda samples, verdicts: [], "returned 0 values for the 1 samples"),
        (lambda samples, verdicts: [Scored(float("nan"))], "returned nan"),
        (lambda samples, verdicts: [1.0], "returned 1.0"),
    ],
)
def test_what_rewards_must_not_give(
    monkeypatch: pytest.MonkeyPatch, reward: Any, message: str
) -> None:
    monkeypatch.setattr(plugins, "load", lambda *_: reward)
    with pytest.raises(InputError, match=message):
        combine([judged("x")], {"mine": 1.0})


def test_passed_is_none_for_failures() -> None:
    verdicts = [Verdict("p", 0, status) for status in ("passed", "wrong", "infra_error")]
    samples = [sample("p", "x")] * 3
    assert [one.value for one in passed(samples, verdicts)] == [1.0, 0.0, None]
