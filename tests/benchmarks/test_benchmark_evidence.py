"""The experiments behind docs/evidence.md: their worlds are right, and they run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from codegen.benchmarks.evidence import forms, objectives, reward_hacking, sequencematch
from codegen.benchmarks.evidence.functions import functions, judge
from codegen.evals.sandbox import Sandbox


def test_the_small_functions_do_what_they_are_said_to() -> None:
    """The expected values come from the parts' effects, not from the programs."""
    drawn = functions(80, seed=3)
    assert [f.program for f in functions(20, seed=3)] == [f.program for f in drawn[:20]]
    with Sandbox(workers=1) as sandbox:
        right = judge(
            sandbox, drawn, [[f.program, f.program + "    return 12345\n"] for f in drawn]
        )
        other = judge(sandbox, drawn[1:], [[f.program] for f in drawn[:-1]])
    assert all(own and dead for own, dead in right)
    assert sum(wrong for (wrong,) in other) < 10  # few programs give what others must


@pytest.mark.slow
def test_each_form_is_trained_asked_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--seeds 1 --functions 40 --problems 2 --n 2 --hidden 32 --steps 2"
    monkeypatch.setattr(sys, "argv", ["forms", "--out", str(tmp_path), *words.split()])
    forms.main()
    printed = capsys.readouterr().out
    for name, form in forms.FORMS.items():
        path = tmp_path / "results" / f"{name.replace(' ', '-')}-0.json"
        found = json.loads(path.read_text())
        assert list(found) == list(form.ask)
        for way, measures in found.items():
            assert f"\n| {way} |" in printed
            assert measures["tokens"] > 0
            assert 0 <= measures["pass@1"] <= measures["pass@2"] <= 1
            assert 1 <= measures["distinct"] <= 2


@pytest.mark.slow
@pytest.mark.parametrize("world", ["sums", pytest.param("functions", marks=pytest.mark.long)])
def test_sequencematch_runs_in_both_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: str
) -> None:
    words = "--seeds 1 --questions 64 --asked 6 --hidden 32 --steps 2"
    argv = ["sequencematch", "--out", str(tmp_path), "--world", world, *words.split()]
    monkeypatch.setattr(sys, "argv", argv)
    sequencematch.main()
    paths = sorted(tmp_path.glob("results/*.json"))
    assert len(paths) == len(sequencematch.CONDITIONS)
    assert all(set(sequencematch.COLUMNS) < set(json.loads(path.read_text())) for path in paths)


FOOLED = {  # the cheats that each judge takes for right programs
    "one_process": {"equality", "overwritten", "swallowed"},
    "exit_code": {"exit", "equality", "overwritten", "swallowed"},
    "sandbox": set(),
}


@pytest.mark.parametrize("world", reward_hacking.WORLDS)
def test_usual_rewards_have_the_holes_that_are_said_and_the_sandbox_has_none(world: str) -> None:
    asked = reward_hacking.questions(world)
    programs = {**reward_hacking.CHEATS, "wrong": asked[5].program, "broken": "def f(x:\n"}
    with Sandbox(workers=1) as sandbox:
        for reward, fooled in FOOLED.items():
            judge = reward_hacking.Judge(sandbox, reward, asked)
            kinds = ["right", *programs]
            rewards = judge([asked[0].program, *programs.values()], [0] * len(kinds))
            paid = {kind for kind, value in zip(kinds, rewards, strict=True) if value}
            assert paid == {"right"} | fooled
            (step,) = judge.steps
            assert (step["claimed"], step["right"], step["form"]) == (1 + len(fooled), 1, 1)
            assert (step["forged"], step["missed"]) == (len(fooled), 0)
            assert all(step[cheat] == 1 for cheat in reward_hacking.CHEATS)


@pytest.mark.parametrize("world", reward_hacking.WORLDS)
def test_the_judge_that_executes_nothing_agrees_with_python(world: str) -> None:
    """On all programs of the world's own kind, ``eval`` being the oracle; others are not right."""
    asked = reward_hacking.questions(world)
    for question in asked:
        for other in asked:
            same = all(
                eval(other.expression, {"x": x}) == eval(question.expression, {"x": x})  # noqa: S307
                for x in question.hidden
            )
            assert reward_hacking.is_right(other.program, question) == same == (other is question)
        for cheat in reward_hacking.CHEATS.values():
            assert not reward_hacking.is_right(cheat, question)


@pytest.mark.long
def test_reward_hacking_runs_and_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reward_hacking, "FIRST_STEPS", 2)
    words = "--seeds 1 --steps 2 --world numbers"
    monkeypatch.setattr(sys, "argv", ["reward_hacking", "--out", str(tmp_path), *words.split()])
    reward_hacking.main()
    runs = json.loads((tmp_path / "reward_hacking.json").read_text())
    assert [run["reward"] for run in runs] == list(reward_hacking.REWARDS)
    assert "| numbers | sandbox |" in capsys.readouterr().out
    assert (tmp_path / "reward_hacking.svg").read_text().startswith("<svg ")


@pytest.mark.long
def test_the_reward_benchmark_has_its_figures() -> None:
    from codegen.benchmarks import reward

    found = reward.run(quick=True, steps=2, programs=20)
    shares = ("hacked_share_in_process", "hacked_share_isolated", "pass_before", "pass_after")
    assert all(0 <= found[key] <= 1 for key in shares)  # type: ignore[operator]
    assert found["hacked_share_isolated"] == 0
    assert found["rewards_per_s"] > 1  # type: ignore[operator]


@pytest.mark.long
def test_all_objectives_go_on_from_one_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"TEXTS": 24, "JUDGED": 3, "HELD_OUT": 2, "SAMPLES": 2, "LONGEST": 12}
    for name, value in sizes.items():
        monkeypatch.setattr(objectives, name, value)
    monkeypatch.setattr(objectives, "ARMS", ("start", "sft", "grpo"))  # nothing passes, so no pairs
    words = "--seeds 1 --start 2 --sft 1 --grpo 1 --hidden 32"
    monkeypatch.setattr(sys, "argv", ["objectives", "--out", str(tmp_path), *words.split()])
    objectives.main()
    printed = capsys.readouterr().out
    assert all(f"\n| {arm} |" in printed for arm in objectives.ARMS)
