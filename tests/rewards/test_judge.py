"""Rewards: tests counted one by one, hidden ones, constants, failures of the sandbox, tricks."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import CodegenError, ConfigError, InputError
from codegen.core.records import UNJUDGED, Change, Edit, Sample, Verdict, write_jsonl
from codegen.edits.formats import FORMATS
from codegen.evals import tasks
from codegen.evals.counted_tests import constant_programs
from codegen.evals.tasks.custom import CustomTask
from codegen.rewards import Judge, SandboxReward
from codegen.rewards.judge import TestedSample, combine, metrics_of, sample_of
from codegen.sandbox import Job, Outcome, verdicts

CHAT = tasks.find_style("chat")
WRONG = "def f(x):\n    return x\n"


def custom(*rows: dict[str, Any]) -> CustomTask:
    problems = [
        CustomTask.problem_of(f"rows:{n}", {"id": f"p{n}", **row}) for n, row in enumerate(rows)
    ]
    return CustomTask("custom", "", problems, "")


def sample(problem: str, completion: str, **more: Any) -> Sample:
    return sample_of("custom", problem, 0, "Write it.", completion, 9, CHAT, **more)


SQUARES = {"prompt": "p", "tests": [f"assert f({x}) == {x * x}" for x in (3, 4, 5, 6)]}


def test_hidden_tests_measure_and_do_not_reward() -> None:
    memorized = "def f(x):\n    return {3: 9, 5: 25}[x]\n"  # what the reward sees
    right = "def f(x):\n    return x * x\n"
    with Judge(custom(SQUARES), hidden=0.5, workers=1) as judge:
        one, two, three = judge.judge([sample("p0", text) for text in (memorized, right, WRONG)])
    assert (one.verdict.status, one.solved) == ("passed", False)
    assert (two.verdict.status, two.solved) == ("passed", True)
    assert (three.verdict.status, three.solved) == ("wrong", False)
    assert one.suspects == ("test_values",)
    totals, parts = combine([one, two, three], {"passed": 1.0})
    assert totals == [1.0, 1.0, 0.0]
    assert metrics_of([one, two, three], parts)["solved"] == pytest.approx(1 / 3)


def test_a_share_pays_no_constant() -> None:
    """Of every program that returns the same always, and of all others as the formula says."""
    tests = ["assert f(2) is True", "assert f(3) is True", "assert f(4) is False",
             "assert f(5) is True", "assert f(9) is False"]  # fmt: skip
    right = "def f(x):\n    return x in (2, 3, 5)\n"
    mostly = "def f(x):\n    return x in (2, 3, 5, 9)\n"
    row = {"prompt": "p", "tests": tests}
    with Judge(custom(row), constants=True, workers=1) as judge:
        job = judge.task.job(judge.task.problems()[0], right)
        assert isinstance(job, Job)
        constants = constant_programs(job)
        judged = judge.judge([sample("p0", text) for text in (right, mostly, *constants)])
    totals, _ = combine(judged, {"share": 1.0})
    assert totals[0] == 1.0
    assert totals[1] == pytest.approx((4 / 5 - 3 / 5) / (1 - 3 / 5))
    assert len(constants) > 8 and set(totals[2:]) == {0.0}


def test_failures_of_the_sandbox_are_tried_again_and_are_no_reward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdicts, "PAUSE_S", 0)
    calls: list[list[str]] = []

    def failing(items: Any) -> Iterator[Any]:
        given = list(items)
        calls.append([job.program for _, job in given])
        for key, job in given:
            late = "x * x" in job.program and len(calls) > 1
            yield key, Outcome("passed" if late else "infra_error", "isolated")

    with Judge(custom(SQUARES), workers=1) as judge:
        judge.sandbox.map = failing  # type: ignore[method-assign]
        recovers, lost = judge.judge([sample("p0", "def f(x):\n    return x * x\n"),
                                      sample("p0", WRONG)])  # fmt: skip
        assert [len(programs) for programs in calls] == [2, 2, 1]
        assert judge.failures == 1
        judge.judge([lost.sample])  # is asked for again, since nothing is known of it
        assert len(calls) == 6
    totals, parts = combine([recovers, lost], {"passed": 1.0, "length": 1.0})
    assert totals == [1.0, None]  # whatever its length
    assert metrics_of([recovers, lost], parts)["infra_errors"] == 0.5


def test_equal_programs_run_once() -> None:
    with Judge(custom(SQUARES), workers=1) as judge:
        run = judge.sandbox.map
        ran: list[str] = []

        def counting(items: Any) -> Iterator[Any]:
            given = list(items)
            ran.extend(job.program for _, job in given)
            return run(given)

        judge.sandbox.map = counting  # type: ignore[method-assign, assignment]
        batches = [judge.start([sample("p0", WRONG)] * 3) for _ in range(2)]
        assert [one.verdict.status for batch in batches for one in batch.result()] == ["wrong"] * 6
    assert len(ran) == 1


DUE = Edit(
    "due", "a.py", "def f(y):\n    z = 1\n    return x + x\n",
    (Change("a.py", 0, "def f(x):\n", "def f(y):\n"),), (0, 3), 7,
    "def f(y):\n    z = 1\n    return y + y\n", "here",
)  # fmt: skip
DONE = replace(DUE, id="done", text=str(DUE.target), category="nothing")


@pytest.mark.parametrize("name", FORMATS)
def test_rewards_of_next_edits_by_hand(name: str, tmp_path: Path) -> None:
    """Through the judge, in every format."""
    write_jsonl(tmp_path / "rows.jsonl", [DUE, DONE])
    task = tasks.load("next-edit", str(tmp_path / "rows.jsonl"))
    style, form = tasks.find_style(f"edit-{name}"), FORMATS[name]
    text, done = DUE.text, DONE.text
    cases: list[tuple[Edit, str, float]] = [
        (DUE, done, 1.0),  # exact
        (DUE, done.replace("1\n", "1  \n"), 1.0),  # but for white space at a line's end
        (DUE, text, 0.0),  # silent
        (DUE, text.replace("(y)", "(x)"), -0.5),  # the last edit taken back
        (DUE, text.replace("x + x", "(x"), -0.5),  # the file no longer parses
        (DUE, text.replace("z = 1", "z = 2"), -0.25),  # wrong: nothing kept, nothing nearer
        (DUE, done.replace("z = 1", "z = 2"), -0.25 + 0.5 / 2),  # one of two words too many
        (DUE, text.replace("x + x", "y + x"), -0.25 + 0.5 / 2),  # one of two words
        (DONE, done, 0.0),  # rightly silent
        (DONE, done.replace("z = 1", "z = 2"), -0.25),  # shown in vain
        (DONE, done.replace("1\n", "1 \n"), -0.25),  # even if it is white space only
        (DONE, done.replace("(y)", "(x)"), -0.5),
    ]
    answers = [(edit, form.answer(replace(edit, target=after))) for edit, after, _ in cases]
    wanted = [value for *_, value in cases]
    anything = ("window", "window-qwen", "zeta2", "sweep", "instinct")  # any text is an answer
    if name not in anything:
        answers.append((DUE, "I think that <this> is right.\n<|cursor|>"))
        wanted.append(-1.0)
    samples = [
        sample_of("next-edit", edit.id, n, form.prompt(edit), answer, 9, style)
        for n, (edit, answer) in enumerate(answers)
    ]
    with Judge(task, workers=1) as judge:
        found = judge.judge(samples)
    totals, parts = combine(found, {"next_edit": 1.0})
    assert totals == pytest.approx(wanted)
    assert all(scored.reason for scored in parts["next_edit"])
    assert [one.solved for one in found[:3]] == [True, True, False]
    assert not any(one.suspects for one in found)  # nothing of it is run


def test_a_reward_function_for_trl() -> None:
    reward = pickle.loads(pickle.dumps(SandboxReward({"passed": 1.0, "format": 0.5}, cpu_s=1)))  # noqa: S301
    metrics: dict[str, float] = {}
    prompts = [[{"role": "user", "content": "Write f."}]] * 3
    texts = ["```python\ndef f(x):\n    return x * x\n```", "def f(x):\n    return x\n", "No."]
    got = reward(
        prompts=prompts,
        completions=[[{"role": "assistant", "content": text}] for text in texts],
        completion_ids=[[1, 2]] * 3,
        tests=[["assert f(3) == 9"]] * 3,
        trainer_state=None,
        log_metric=metrics.__setitem__,
    )
    assert got == [1.5, 0.0, 0.0]
    assert metrics["solved"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="has no column for scoring answers"):
        reward(prompts=["p"], completions=["x"], other=[1])
    assert b"Judge" not in pickle.dumps(reward)  # it runs here, and stays here
    reward.close()


def test_mistakes_of_a_reward_function() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'passed'"):
        SandboxReward({"pased": 1.0})
    with pytest.raises(ConfigError, match="Unknown prompt style 'chatt'"):
        SandboxReward(style="chatt")
    reward = SandboxReward(task="file:missing.jsonl")
    with pytest.raises(CodegenError, match=r"missing.jsonl"):
        reward(prompts=["p"], completions=["x"], problem_id=["1"])


@pytest.mark.parametrize("status", UNJUDGED)
def test_what_was_not_judged_gives_no_reward(status: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "PAUSE_S", 0)
    one = TestedSample(sample("p0", "x"), Verdict("p0", 0, status), None)
    totals, parts = combine([one], {"passed": 1.0, "share": 1.0})
    assert totals == [None] and parts["passed"][0].value is parts["share"][0].value is None
    with pytest.raises(verdicts.NotScored, match=status):
        verdicts.scored(lambda keys: [(key, one.verdict) for key in keys], ["p0"])


@pytest.mark.parametrize("trust", ["blinded", "in_sandbox"])
def test_tests_that_could_be_forged_give_no_reward(trust: Any) -> None:
    """Each grade is asked of the same program: one of objects, open tests, and plain tests."""
    rows = [
        {"prompt": "p", "tests": ["c = C()\nassert c.f(2) == c.f(c.f(2))"]},
        {"prompt": "p", "tests": ["assert C().f(1) == 1"]},
        {"prompt": "p", "tests": ["assert f(1) == 1"]},
    ]
    task = custom(*rows)
    program = "class C:\n    f = lambda self, x: x\nf = C().f\n"
    with Judge(task, trust=trust, workers=1) as judge:
        samples = [sample(f"p{n}", f"```python\n{program}```") for n in range(3)]
        found = judge.judge(samples)
        refused = [judge.refuses(problem) for problem in task.problems()]
    open_one = found[0].verdict
    assert [one.verdict.passed for one in found] == [trust == "in_sandbox", True, True]
    assert refused == [trust == "blinded", False, False]
    if trust == "blinded":
        assert (open_one.status, found[0].solved) == ("refused", None)
        assert "in_sandbox" in open_one.message and len(open_one.open_sites) == open_one.sites == 1
        assert metrics_of(found, {})["refused"] == pytest.approx(1 / 3)
