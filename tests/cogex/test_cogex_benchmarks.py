"""The benchmarks of CoGEX, small."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from cogex_helpers import Scripted

from codegen.benchmarks import cogex, cogex_model
from codegen.benchmarks.tools.cogex_replay import Outcomes, compare, read_searches
from codegen.cogex.families import FAMILIES
from codegen.cogex.search import SearchLog, Try
from codegen.errors import InputError
from codegen.generation.protocol import Request


def program(name: str) -> str:
    return f"def {name}(x):\n    return {{'answer': x}}"


def test_a_clear_winner_is_the_same_for_both() -> None:
    right = {program(f"f{n}"): [n == 3] * 30 for n in range(6)}
    trial = compare(Outcomes("t", tuple(right), right), 0.2, seed=0)
    assert (trial.full, trial.same, trial.lost) == (180, True, 0.0)
    assert trial.halving <= 36 and trial.within_noise


def test_a_worse_choice_is_seen() -> None:
    """The first item decides for halving, the others speak for the other program."""
    right = {program("a"): [True] + [False] * 99, program("b"): [False] + [True] * 99}
    outcomes = Outcomes("t", tuple(right), right)
    trials = [compare(outcomes, 0.01, seed) for seed in range(300)]
    worse = [trial for trial in trials if not trial.same]
    assert 0 < len(worse) < 20  # about one in 100
    assert all(trial.lost == pytest.approx(0.98) and not trial.within_noise for trial in worse)


@pytest.mark.long
def test_figures() -> None:
    figures: dict[str, Any] = dict(cogex.run(quick=True, trials=20, paper_trials=1))
    assert figures["paper_scale_emulations_full"] == 210_000
    assert figures["paper_scale_share"] <= 0.2
    assert 0 < figures["share"] <= 0.2 and 0 <= figures["same_program"] <= 1
    assert set(figures["tasks"]) <= set(FAMILIES) and figures["tasks"]


def test_recorded_searches_are_read(tmp_path: Path) -> None:
    texts = [program("a"), program("b")]
    settings = {"task": "t", "method": "full"}
    with SearchLog(tmp_path / "t", settings) as log:
        for digest in ("0", "1"):
            for item in range(3 + int(digest)):
                log.add(Try(digest, f"i{item}", "x", item < 2))
    rows = [{"digest": str(n), "program": text, "written": n + 1} for n, text in enumerate(texts)]
    (tmp_path / "t" / "result.json").write_text(json.dumps({"programs": rows}))
    (found,) = read_searches(tmp_path)
    assert found.programs == (texts[0], texts[1], texts[1])
    assert found.right == {text: [True, True, False] for text in texts}
    with pytest.raises(InputError, match="--method full"):
        read_searches(tmp_path / "t")


def test_the_model_against_its_few_shot_prompting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tuned model that is always right, and an untuned one that knows some answers."""
    from codegen.cogex.family import record_of
    from codegen.cogex.record import text_of

    family_of = {item.input: (f, item) for f in FAMILIES.values() for item in _items(f.name)}

    def answer(request: Request) -> str:
        input = request.prompt.rpartition("Input")[2].partition("\n")[2].partition("\n")[0]
        if request.prompt.endswith("Answer:"):
            input = request.prompt.rpartition("Input: ")[2].partition("\n")[0]
            return f" {family_of[input][1].answer}" if len(input) % 2 else " nothing"
        family, item = family_of[input]
        text = text_of(record_of("i", item, family.programs[0]))
        if request.prompt.endswith(">>>"):
            shown = text.partition(">>>")[2]
            return shown if "### Code" not in request.prompt.partition("### Code")[2] else " f("
        return "### Code" + text.partition("### Code")[2]

    monkeypatch.setattr(
        "codegen.generation.transformers.TransformersBackend", lambda *_: Scripted(answer)
    )
    monkeypatch.setattr("codegen.models.load", lambda name: name)
    monkeypatch.setattr(cogex_model, "TASKS", ("large_sum", "coin_flip"))
    kept = str(tmp_path / "kept.jsonl")
    figures: dict[str, Any] = dict(cogex_model.run(model="tuned", items=6, kept=kept))
    assert figures["tuned"] == figures["tuned_reasoner"] == 1.0
    assert figures["few_shot"] == 0.0 and figures["few_shot_unanswered"] == 1.0
    assert figures["tuned_minus_few_shot"] == 1.0 and figures["tuned_faithful"] == 1.0
    assert figures["tuned_run"] == 1.0 and figures["few_shot_run"] == 0.0
    assert 0 <= figures["direct"] < 1
    lines = Path(kept).read_text().splitlines()
    again = dict(cogex_model.run(model="tuned", items=6, kept=kept))
    assert again == figures and Path(kept).read_text().splitlines() == lines


def _items(name: str) -> Iterable[Any]:
    first = cogex_model._FIRST
    return [FAMILIES[name].item("test", number) for number in range(first, first + 6)]


def test_without_a_model_it_says_how() -> None:
    figures = cogex_model.run()
    assert figures["tuned"] is None and "finetune" in str(figures["install"])
