"""The experiments behind docs/evidence.md: their worlds are right, and they run."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch

from codegen.benchmarks.evidence import (
    edit_formats,
    forms,
    objectives,
    reward_hacking,
    sequencematch,
)
from codegen.benchmarks.evidence.functions import functions, judge, start_model, variants
from codegen.benchmarks.tools.timing import cpu_seconds
from codegen.data import MemorySource, run
from codegen.evals.sandbox import Job, Sandbox
from codegen.evals.tasks import find_style, load
from codegen.methods.edits.due import before
from codegen.methods.edits.formats import FORMATS
from codegen.methods.edits.generator import Edits
from codegen.models import load as load_model
from codegen.python_syntax import compiles
from codegen.records import Example


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
@pytest.mark.parametrize("form", ["whole", "edits", "adapter"])
def test_all_objectives_go_on_from_one_start(
    tmp_path: Path,
    tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    longest = {"whole": 12, "edits": 12}
    sizes = {"TEXTS": 24, "JUDGED": 3, "MORE": 3, "HELD_OUT": 2, "SAMPLES": 2, "LONGEST": longest}
    for name, value in sizes.items():
        monkeypatch.setattr(objectives, name, value)
    # Nothing passes, so there are no pairs.
    words = "--seeds 1 --start 2 --sft 1 --grpo 1 --hidden 32 --texts 24 --arms start,sft,grpo"
    if form == "adapter":
        words += f" --model {tiny_model_dir}"
        form = "whole"
    argv = ["objectives", "--out", str(tmp_path), "--form", form, *words.split()]
    monkeypatch.setattr(sys, "argv", argv)
    objectives.main()
    printed = capsys.readouterr().out
    assert all(f"\n| {arm} |" in printed for arm in ("start", "sft", "grpo"))
    assert "| grpo | 0 | +0.000 (+0.000 to +0.000)" in printed


def test_functions_to_learn_from_are_not_those_of_the_measurement(tmp_path: Path) -> None:
    """And there are enough of them that 38 steps of reinforcement draw none twice."""
    world = objectives.function_world(tmp_path, objectives.TEXTS, objectives.HELD_OUT, "whole", "")
    rows = [json.loads(line) for line in Path(world.texts).read_text().splitlines()]
    texts = [row["prompt"].strip() for row in rows]
    judged, held_out = (
        [problem.prompt.strip() for problem in load(task).problems()]
        for task in (world.judged, world.held_out)
    )
    assert len(judged) == objectives.JUDGED + objectives.MORE > 38 * world.rows["grpo"]
    assert len(held_out) == objectives.HELD_OUT
    assert len({*texts, *judged, *held_out}) == len(texts) + len(judged) + len(held_out)


def test_gains_are_paired_and_clustered_by_problem() -> None:
    """Two seeds of equal counts are no more evidence than one."""
    before, after = {"a": [10, 1], "b": [10, 0], "c": [10, 4]}, {"a": [10, 3], "b": [10, 0]}
    after["c"] = [10, 9]
    results = {
        "start": {seed: {"counts": before, "pass@1": 0.1, "pass@10": 0.5} for seed in (1, 2)},
        "grpo": {
            seed: {"counts": after, "pass@1": gained, "pass@10": 0.5}
            for seed, gained in ((1, 0.3), (2, 0.5))
        },
    }
    differences = [0.2, 0.0, 0.5]
    half = 1.96 * stdev(differences) / math.sqrt(3)
    mean = fmean(differences)
    cell = f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"
    _, _, *lines = objectives.gains(results, objectives.SAMPLES)
    assert [line[: line.index(")") + 1] for line in lines] == [
        f"| grpo | {seeds} | {cell}" for seeds in ("1 2", "1", "2")
    ]
    # Two means, 0.2 and 0.4: t(1) = 12.71 standard errors.
    over = f"; over seeds 0.300 ± {12.71 * stdev((0.2, 0.4)) / math.sqrt(2):.3f}"
    assert [line.count(over) for line in lines] == [1, 0, 0]


def test_the_cost_of_a_run_has_the_time_of_its_sandbox() -> None:
    busy = "def f():\n    return sum(i * i for i in range(4_000_000))\n"
    cost, children = objectives.Cost(), cpu_seconds()
    with Sandbox(workers=1) as sandbox:
        ((_, outcome),) = sandbox.map([(0, Job(busy, test="assert f() > 0"))])
        cost.read()
    assert outcome.status == "passed" and outcome.cpu_s > 0.05
    waited_for = cpu_seconds() - children
    assert cost.cpu_s > waited_for + 0.7 * outcome.cpu_s


def test_the_prompts_of_mbpp_are_those_of_the_task(
    tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    world, style = objectives.mbpp_world(tmp_path), find_style("chat")
    own, mbpp = load(world.held_out), load("mbpp-test")
    by_id = {problem.id: problem for problem in mbpp.problems()}
    for problem in own.problems():
        theirs = mbpp.request(by_id[problem.id], style, 0)
        mine = own.request(problem, style, 0)
        assert (mine.prompt, mine.chat, mine.stop) == (theirs.prompt, theirs.chat, theirs.stop)
        job: Any = own.job(problem, "x")
        same: Any = mbpp.job(by_id[problem.id], "x")
        assert (job.setup, job.test, job.entry_point) == (same.setup, same.test, same.entry_point)
    learned = {problem.id for problem in load(world.judged).problems()}
    assert len(learned) == objectives.MBPP_JUDGED and not learned & set(by_id)


def test_moments_of_edits_follow_from_their_files() -> None:
    """The program follows the comment after the edit, or the renaming; what is due is not there."""
    edits = edit_formats.moments(300, seed=3)
    assert {edit.category for edit in edits} == {"follow", "rename", "nothing"}
    for edit in edits:
        assert edit.target and before(edit) not in (None, edit.text)
        assert compiles(edit.text) and compiles(edit.target)
        assert (edit.text == edit.target) == (edit.category == "nothing")
        heads = [
            [line for line in text.splitlines() if line.startswith("#")]
            for text in (edit.text, edit.target)
        ]
        assert heads[0] == heads[1]  # the comment is the user's
        if edit.category == "rename":
            assert "total" not in edit.target and "total" in edit.text
    names = ["blocks", "rows", "window", "search-replace", "udiff"]
    kept = edit_formats.expressible(edits, names)
    assert len(kept) > 290
    for name in names:
        for text, edit in zip(edit_formats.texts_of(FORMATS[name], kept), kept, strict=True):
            assert text.prompt == FORMATS[name].prompt(edit)
            answer = text.trained
            for stop in FORMATS[name].stop:
                answer = answer.partition(stop)[0]
            assert FORMATS[name].read(edit, answer) == edit.target


def test_the_probability_of_a_right_answer(tmp_path: Path) -> None:
    """Token by token, each by a pass of its own over what precedes it."""
    edits = edit_formats.moments(2, seed=3)
    form = FORMATS["rows"]
    texts = [text.text for text in edit_formats.texts_of(form, edits)]
    path = start_model(
        tmp_path / "m", texts, hidden=32, layers=2, seed=0, special=edit_formats.STARCODER.all
    )
    loaded = load_model(str(path))
    for edit in edits:
        ids = loaded.tokenizer(form.prompt(edit)).input_ids
        expected = 0.0
        answer = loaded.tokenizer(form.answer(edit)).input_ids
        for token in [*answer, loaded.tokenizer.eos_token_id]:
            with torch.inference_mode():
                logprobs = loaded.model(torch.tensor([ids])).logits[0, -1].double().log_softmax(0)
            expected -= float(logprobs[token])
            ids.append(token)
        assert edit_formats.nats(loaded, form, edit) == pytest.approx(expected, rel=1e-4)


def test_moments_of_real_files_are_read_by_kind(tmp_path: Path) -> None:
    old = "def area(width, height):\n    return width * height\n\n\nprint(area(2, 3))\n"
    new = old.replace("print(area(2, 3))", "size = area(2, 3)\nprint(size)")
    source = MemorySource((Example("a", "", old, license="MIT", meta={"new": new}),))
    run(Edits(moments=1, refactorings=2, keep_moments=True, nothing=0), source, tmp_path, workers=1)
    found = edit_formats.kept_moments(str(tmp_path))
    assert len(found["changes"]) == 1 and len(found["refactorings"]) == 2
    assert all(edit.target and edit.text for edits in found.values() for edit in edits)


def test_a_variant_differs_in_one_part() -> None:
    for old, new in variants(200, seed=5):
        assert abs(len(old[0]) - len(new[0])) <= 1 and old[0] != new[0]
        assert sum(a != b for a, b in zip(old[0], new[0], strict=False)) <= max(len(old[0]), 1)
        sources = ["\n".join(lines) for _, lines in (old, new)]
        assert all(compiles(source) for source in sources) and sources[0] != sources[1]
