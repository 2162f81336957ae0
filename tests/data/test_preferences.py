"""Preference data: its rules by an independent reading of the run, and the command as used."""

from __future__ import annotations

import ast
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from datasets import load_dataset

from codegen.cli import cli
from codegen.core.errors import ConfigError, InputError, ResumeError
from codegen.core.records import Preference, Sample, Verdict, write_jsonl
from codegen.data import load_manifest, read_data, read_rejects, run
from codegen.data.preferences import REJECTABLE, Preferences, ScoredRun, scored_files
from codegen.evals.scoring import score
from codegen.evals.tasks import load
from codegen.sandbox import Sandbox

Answer = tuple[str, str]  # an answer's text and its status, "cut" for one at its limit


def write_run(
    folder: Path, problems: dict[str, list[Answer]], style: str = "plain"
) -> tuple[Path, str]:
    """A scored run, as codegen eval run and score leave it, and the name of its task."""
    folder.mkdir()
    task = folder.with_suffix(".jsonl")
    rows = [{"id": id_, "prompt": f"Write {id_}.", "tests": "assert f"} for id_ in problems]
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples, verdicts = [], []
    for id_, answers in problems.items():
        for index, (text, status) in enumerate(answers):
            samples.append(
                Sample(
                    f"file:{task}", id_, index, f"Write {id_}.", text,
                    "length" if status == "cut" else "eos", {"model": "m"}, 0, 1, 1,
                    meta={"style": style},
                )
            )  # fmt: skip
            found: Any = "passed" if status == "cut" else status
            verdicts.append(Verdict(id_, index, found))
    write_jsonl(folder / "samples.jsonl", samples)
    write_jsonl(folder / "verdicts.jsonl", verdicts)
    return folder, f"file:{task}"


def make(folder: Path, task: str, out: Path, *, rejected: Any = ("wrong",), **how: Any) -> Any:
    source = ScoredRun(*scored_files(folder), load(task), rejected, how.pop("alike", 2))
    return run(Preferences(**how), source, out, workers=1)


def program(body: str, pad: int = 0) -> str:
    return f"def f(x):\n    return {body}" + " " * pad + "\n"


def rejects(out: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in read_rejects(out)}


OPERATORS = ["x + x", "x * x", "x - x", "x / x", "-x", "not x", "[x]", "(x, x)", "x < x", "f(x)"]


@pytest.mark.parametrize("seed", range(20))
def test_pairs_of_random_runs(tmp_path: Path, seed: int) -> None:
    """Against plain loops over the run."""
    rng = random.Random(seed)
    statuses = ["passed", "wrong", "error", "timeout", "infra_error", "cut"]
    problems = {
        f"p{n}": [
            (program(body, rng.randint(0, 40)), rng.choice(statuses))
            for body in rng.sample(OPERATORS, rng.randint(1, 10))
        ]
        for n in range(6)
    }
    folder, task = write_run(tmp_path / "run", problems)
    most, ratio = rng.randint(1, 3), rng.choice([1.2, 1.5, 3.0])
    manifest = make(folder, task, tmp_path / "out", pairs=most, ratio=ratio)
    found = list(read_data(tmp_path / "out")) if manifest.kept else []
    reasons = rejects(tmp_path / "out")
    for id_, answers in problems.items():
        good = {i: t for i, (t, status) in enumerate(answers) if status == "passed"}
        bad = {i: t for i, (t, status) in enumerate(answers) if status == "wrong"}
        for i, (_, status) in enumerate(answers):  # each other sample is named with its reason
            wanted = None if i in good or i in bad else f"sample_{status}"
            assert reasons.get(f"{id_}/{i}") == wanted
        pairs = [one for one in found if isinstance(one, Preference) and one.example_id == id_]
        used = [(one.meta["chosen"]["index"], one.meta["rejected"]["index"]) for one in pairs]
        assert len(set(used)) == len(used) <= most
        for one, (i, j) in zip(pairs, used, strict=True):
            assert (one.prompt, one.chosen, one.rejected) == (f"Write {id_}.", good[i], bad[j])
            assert (one.meta["rejected"]["status"], one.generator) == ("wrong", "preferences")
        apart = sorted(
            max(len(g), len(b)) / min(len(g), len(b)) for g in good.values() for b in bad.values()
        )
        for one, best in zip(pairs[:1], apart, strict=False):  # the closest pair comes first
            assert max(len(one.chosen), len(one.rejected)) / min(
                len(one.chosen), len(one.rejected)
            ) == pytest.approx(best)
        possible = [r for r in apart if r <= ratio]
        assert bool(pairs) == bool(possible)
        if not pairs:
            expected = "only_passed" if good else "only_failed"
            expected = "lengths_differ" if good and bad else expected
            assert reasons[id_] == (expected if good or bad else "no_samples")
    # An answer is in one pair at most, and as many pairs were made as the lengths allow.
    for id_ in problems:
        pairs = [one for one in found if one.example_id == id_]
        for side in ("chosen", "rejected"):
            indices = [one.meta[side]["index"] for one in pairs]
            assert len(set(indices)) == len(indices)
    counts = manifest.counts
    assert counts["inputs"] == counts["kept"] + sum(counts["skipped"].values())


def test_what_one_program_says_twice_counts_once(tmp_path: Path) -> None:
    passed, wrong = "passed", "wrong"
    answers = [
        (program("x + 1"), passed),
        ("def f(y):\n    # a comment\n    return y+1\n", passed),  # the same but for names
        (program("x - 1"), wrong),
        ("def f(x):\n\n    return (x - 1)\n", wrong),  # the same but for layout
        (program("x * 2"), passed),
        ("def f(z): return z * 2\n", wrong),  # the same with the other verdict: both go
        (program("x - 2"), wrong),
        (program("x - 3"), wrong),  # the third of its shape
    ]
    folder, task = write_run(tmp_path / "run", {"p": answers})
    make(folder, task, tmp_path / "out", ratio=9.0)
    reasons = {
        id_: reason.removeprefix("sample_") for id_, reason in rejects(tmp_path / "out").items()
    }
    assert reasons == {
        "p/1": "duplicate", "p/3": "duplicate", "p/4": "contradictory", "p/5": "contradictory",
        "p/7": "alike",
    }  # fmt: skip
    # The oracle: Python's own parser on what is left.
    (pair,) = read_data(tmp_path / "out")
    assert isinstance(pair, Preference)
    assert ast.dump(ast.parse(str(pair.chosen))) != ast.dump(ast.parse(str(pair.rejected)))


def test_programs_that_do_not_parse_are_limited(tmp_path: Path) -> None:
    broken: list[Answer] = [(f"def f(x:\n    return {n}\n", "syntax_error") for n in range(4)]
    answers = [(program(body), "passed") for body in OPERATORS[:4]]
    folder, task = write_run(tmp_path / "run", {"p": [*answers, *broken]})
    make(folder, task, tmp_path / "out", rejected=("wrong", "syntax_error"), ratio=9.0)
    assert Counter(rejects(tmp_path / "out").values()) == {"sample_trivial": 3}
    (pair,) = read_data(tmp_path / "out")
    assert pair.meta["rejected"]["status"] == "syntax_error"


def test_what_a_chat_model_said_is_messages(tmp_path: Path) -> None:
    answers = [(program("x + 1"), "passed"), (program("x * 1"), "wrong")]
    folder, task = write_run(tmp_path / "run", {"p": answers}, style="chat")
    make(folder, task, tmp_path / "out")
    rows = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows[0]["prompt"] == [{"role": "user", "content": "Write p."}]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": answers[0][0]}]
    assert rows[0]["rejected"] == [{"role": "assistant", "content": answers[1][0]}]


@pytest.mark.parametrize("status", ["infra_error", "bad_test", "passed", "rong"])
def test_no_verdict_is_no_rejection(tmp_path: Path, status: str) -> None:
    folder, task = write_run(tmp_path / "run", {"p": [(program("x"), "wrong")]})
    assert status not in REJECTABLE
    with pytest.raises(ConfigError, match=f"{status!r} cannot be rejected"):
        make(folder, task, tmp_path / "out", rejected=("wrong", status))


def test_a_run_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    folder, _ = write_run(tmp_path / "run", {"p": [(program("x"), "wrong")]})
    with pytest.raises(InputError, match="contains no samples"):
        scored_files(tmp_path / "elsewhere")
    (folder / "verdicts.jsonl").rename(folder / "away")
    with pytest.raises(InputError, match="codegen eval score"):
        scored_files(folder)


@pytest.mark.slow
def test_the_command_on_judged_samples(tmp_path: Path) -> None:
    """Samples that the sandbox has judged; the files by datasets, by Parquet, and as shown."""
    rows = [
        {
            "id": f"add{n}",
            "prompt": f"Write f(x) that adds {n}.",
            "entry_point": "f",
            "tests": f"assert f(1) == {n + 1}\nassert f(5) == {n + 5}",
            "solution": program(f"x + {n}"),
        }
        for n in (2, 3)
    ]
    task = tmp_path / "adds.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [
        program("x + 2"),
        program("x - 2"),
        "def f(x:\n",
        program("x + 3"),
        "import os; os._exit(0)\n",
    ]
    samples = [
        Sample(f"file:{task}", row["id"], i, row["prompt"], text, "eos", {"model": "m"}, 0, 1, 1,
               meta={"style": "plain"})
        for row in rows for i, text in enumerate(answers)
    ]  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    write_jsonl(folder / "samples.jsonl", samples)
    with Sandbox(workers=1) as sandbox:
        score(folder / "samples.jsonl", load(f"file:{task}"), out=folder, sandbox=sandbox)

    def call(*words: str) -> Any:
        return CliRunner().invoke(cli, ["data", *words], catch_exceptions=False)

    out = tmp_path / "out"
    answer = call(
        "preferences", str(folder), "--out", str(out), "--rejected", "wrong,exited", "--json"
    )
    assert answer.exit_code == 0
    summary = json.loads(answer.stdout)
    assert summary["texts"] == 2 and summary["counts"]["skipped"] == {"sample_syntax_error": 2}
    pairs = {(one.example_id, one.chosen, one.rejected) for one in read_data(out)}  # type: ignore[union-attr]
    right = {"add2": answers[0], "add3": answers[3]}
    assert {(id_, chosen) for id_, chosen, _ in pairs} == set(right.items())
    before = (out / "data-00000.jsonl").read_bytes()
    again = call("preferences", str(folder), "--out", str(out), "--rejected", "wrong,exited")
    assert "already finished" in again.stderr and (out / "data-00000.jsonl").read_bytes() == before
    other = CliRunner().invoke(cli, ["data", "preferences", str(folder), "--out", str(out)])
    assert isinstance(other.exception, ResumeError) and "source.rejected" in str(other.exception)
    refused = CliRunner().invoke(
        cli, ["data", "preferences", str(folder), "--out", str(out), "--rejected", "infra_error"]
    )
    assert isinstance(refused.exception, ConfigError) and "rejected" in str(refused.exception)
    shown = call("inspect", str(out), "--id", "add2")
    assert "chosen:" in shown.stdout and answers[0].strip() in shown.stdout
    assert "preference pairs" in (out / "README.md").read_text() and load_manifest(out).kept == 2
    assert call("export", str(out)).exit_code == 0
    files = str(out / "parquet" / "*.parquet")
    cache = str(tmp_path / "cache")
    parquet: Any = load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    assert {(row["example_id"], row["chosen"], row["rejected"]) for row in parquet} == pairs
