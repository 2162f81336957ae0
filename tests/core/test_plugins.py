"""Parts that another package adds: a tiny package is built, installed and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from codegen.core import plugins
from codegen.core.errors import CodegenError, ConfigError
from codegen.core.records import Sample, Status, Verdict, write_jsonl
from codegen.rewards import write_rewards

PACKAGE = yaml.safe_load((Path(__file__).parents[1] / "programs/plugin.yaml").read_text())


@pytest.fixture(scope="module")
def installed(pip_install: Callable[[str, Mapping[str, str]], str]) -> str:
    """The folder into which pip has installed the package."""
    return pip_install(PACKAGE["project"], {"tiny_parts.py": PACKAGE["module"]})


def codegen(
    installed: str, *arguments: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codegen", *map(str, arguments)], cwd=cwd,
        env={**os.environ, "PYTHONPATH": installed}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_task(installed: str) -> None:
    listed = codegen(installed, "eval", "tasks", "--json")
    assert {"name": "sums", "about": "adding small numbers"} in json.loads(listed.stdout)["tasks"]
    done = codegen(installed, "eval", "check", "sums", "--json")
    if "no safe way" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["passed"], found["rejected"], found["source"]) == (3, 3, "made up")


@pytest.mark.slow
def test_a_generator_a_source_and_a_filter(installed: str, tmp_path: Path) -> None:
    done = codegen(
        installed, "data", "shout", "numbers:9", "--license", "MIT", "-o", "filter=shorter:12",
        "-o", "mark=?", "--out", tmp_path / "out", "--workers", "2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {
        "inputs": 9, "kept": 4, "skipped": {"too_long": 5}, "failed": {},
    }  # fmt: skip
    texts = (tmp_path / "out" / "data-00000.jsonl").read_text().splitlines()
    assert json.loads(texts[1])["segments"][1]["text"] == "PRINT(10)?"
    run = json.loads((tmp_path / "out" / "manifest.json").read_text())["run"]
    assert run["filters"] == [{"filter": "Shorter", "most": 12}] and run["config"]["mark"] == "?"
    other = codegen(
        installed, "data", "shout", "numbers:9", "--license", "MIT", "-o", "filter=shorter:13",
        "-o", "mark=?", "--out", tmp_path / "out",
    )  # fmt: skip
    assert other.returncode == 1 and "filters" in other.stderr


@pytest.mark.slow
def test_a_back_end_and_a_reader(installed: str) -> None:
    asked = ["generate", "--backend", "echo", "--model", "m", "--no-chat", "--prompt", "x = 1"]
    done = codegen(installed, *asked, "--decoder", "fenced", "--json")
    assert done.returncode == 0, done.stderr
    (sample,) = json.loads(done.stdout)["samples"]
    assert sample["completion"] == "x = 1\n" and sample["actions"].startswith("Here:")
    assert sample["settings"]["model"] == "m" and sample["settings"]["decoder"] == "fenced"
    streamed = codegen(installed, *asked, "--decoder", "fenced")
    assert streamed.returncode == 0 and "# The program:" in streamed.stderr, streamed.stderr
    for decoder, what in (
        ("fenced+rpg", "which the backend echo does not support"),
        ("fencd", "Did you mean 'fenced'?"),
        ("odd", "of tiny-parts is not a Reader or StrategySpec"),
    ):
        failed = codegen(installed, *asked, "--decoder", decoder)
        assert failed.returncode in (1, 2) and what in failed.stderr.splitlines()[-1]


@pytest.mark.long
def test_a_strategy(installed: str, tiny_model_dir: Path) -> None:
    texts = {}
    for decoder in ("sample", "lowest", "fenced+lowest"):
        done = codegen(
            installed, "generate", "--model", tiny_model_dir, "--decoder", decoder, "--no-chat",
            "--prompt", "def f(x):", "--max-new-tokens", "8", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (texts[decoder],) = json.loads(done.stdout)["samples"]
    assert texts["lowest"]["completion"] != texts["sample"]["completion"]
    assert texts["fenced+lowest"]["actions"] == texts["lowest"]["completion"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brief", "passed"])
def test_a_reward(installed: str, tmp_path: Path, name: str) -> None:
    programs = ["    return 1\n", "    return 1 + 0\n", "    return 2\n"]
    problem = {
        "task_id": "t/0", "prompt": "def one():\n", "entry_point": "one",
        "canonical_solution": programs[0],
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }  # fmt: skip
    (tmp_path / "task.jsonl").write_text(json.dumps(problem))
    rows = [{"task_id": "t/0", "completion": program} for program in programs]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = codegen(
        installed, "eval", "score", tmp_path / "samples.jsonl", "--task", "humaneval", "--source",
        tmp_path / "task.jsonl", "--out", tmp_path / "out", "-o", f"reward={name}", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rewards = [json.loads(line) for line in (tmp_path / "out" / "rewards.jsonl").open()]
    lengths = [len(program) for program in programs]
    expected = [1 / (1 + lengths[0]), 1 / (1 + lengths[1]), 0.0] if name == "brief" else [1, 1, 0]
    assert [row["value"] for row in rewards] == pytest.approx(expected)
    assert json.loads(done.stdout)["reward"]["mean"] == pytest.approx(sum(expected) / 3)
    assert [row["index"] for row in rewards] == [0, 1, 2]


def test_rewards_of_failures_of_the_sandbox_are_none(tmp_path: Path) -> None:
    sample = Sample("t", "p", 0, "", "x", "stop", {}, 0, 0, 0)
    samples = [sample, replace(sample, index=1), replace(sample, problem_id="q")]
    statuses: tuple[Status, ...] = ("passed", "infra_error", "wrong")
    verdicts = [
        Verdict(s.problem_id, s.index, status) for s, status in zip(samples, statuses, strict=True)
    ]
    found = write_rewards("passed", samples, verdicts, tmp_path / "r.jsonl")
    assert found == {"samples": 3, "valued": 2, "mean": 0.5}
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").open()]
    assert [row["value"] for row in rows] == [1.0, None, 0.0]
    with pytest.raises(ConfigError, match="Did you mean 'passed'"):
        write_rewards("pased", samples, verdicts, tmp_path / "r.jsonl")


@pytest.mark.slow
def test_the_help_lists_them(installed: str) -> None:
    done = codegen(installed, "data", "--help")
    assert "Run the generator of the package tiny-parts." in done.stdout and "absent" in done.stdout
    assert "Show counts and records" in done.stdout  # the command of the same name stays
    shown = codegen(installed, "data", "shout", "--help").stdout
    assert "-o, --set NAME=VALUE" in shown


@pytest.mark.slow
def test_the_table_of_parts(installed: str) -> None:
    done = codegen(installed, "plugins", "--json")
    assert done.returncode == 1  # the generator absent is broken
    found = {(p["kind"], p["name"]): p for p in json.loads(done.stdout)["parts"]}
    for kind, parts in plugins.BUILT_IN.items():
        for name in parts:
            part = found[kind.removesuffix("s"), name]
            assert part["package"] == "built in" and part["about"], name
    assert {name for kind, name in found if kind == "decoder"} >= {"sample", "rsd", "fenced"}
    assert found["generator", "shout"] == {
        "kind": "generator", "name": "shout", "package": "tiny-parts",
        "about": "Make programs in capitals.",
    }  # fmt: skip
    assert found["task", "sums"]["about"] == "adding small numbers"
    assert found["decoder", "lowest"]["about"] == "the least probable tokens"
    assert "tiny_parts_absent" in found["generator", "absent"]["about"]
    assert found["reward", "brief"]["package"] == "tiny-parts"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "arguments"),
    [
        ("generator 'bad'", "data bad numbers:3 --out out"),
        ("task 'bad'", "eval check bad"),
        pytest.param("source 'bad'", "data shout bad:3 --out out", marks=pytest.mark.long),
        pytest.param("filter 'bad'", "data shout numbers:3 -o filter=bad --out out",
                     marks=pytest.mark.long),
        pytest.param("backend 'bad'", "generate --backend bad --model m --no-chat --prompt x",
                     marks=pytest.mark.long),
        pytest.param("decoder 'bad'", "generate --model MODEL --no-chat --prompt x --decoder bad",
                     marks=pytest.mark.long),
        pytest.param("decoder 'bad_reader'", "generate --model MODEL --no-chat --prompt x "
                     "--max-new-tokens 2 --decoder bad_reader", marks=pytest.mark.long),
        ("reward 'bad'", "eval score samples.jsonl --out out -o reward=bad"),
    ],
)  # fmt: skip
def test_an_error_of_a_part_is_one_line(
    installed: str, tmp_path: Path, tiny_model_dir: Path, part: str, arguments: str
) -> None:
    sample = Sample("sums", "sum/1", 0, "", "def add1(x):\n    return 1\n", "stop", {}, 0, 0, 0)
    sample = replace(sample, meta={"style": "continue"})
    write_jsonl(tmp_path / "samples.jsonl", [sample])
    words = [str(tiny_model_dir) if word == "MODEL" else word for word in arguments.split()]
    done = codegen(installed, *words, cwd=tmp_path)
    if "no safe way" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 1
    *before, last = done.stderr.splitlines()
    assert f"The {part} of the package tiny-parts " in last
    assert ("'NoneType'" if "reader" in part else "KeyError: 'absent'") in last
    assert not any("Traceback" in line for line in before)
    if part != "task 'bad'":  # one of them tells the others
        return
    for more in (["--traceback", *words], [*words, "--traceback"]):
        told = codegen(installed, *more, cwd=tmp_path)
        assert 'tiny_parts.py", line' in told.stderr and told.stderr.splitlines()[-1] == last


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("absent", "numbers:3"), "generator 'absent' of the package tiny-parts cannot be loaded"),
        (("shout", "numbers:3", "-o", "filter=shortr:3"), "Did you mean 'shorter'?"),
        (("shout", "numbers:3", "-o", "marks=1"), "Generator 'shout': "),
        (("shout", "numbers:3", "-o", "mark"), "'mark' is not NAME=VALUE"),
    ],
)
def test_mistakes_are_one_line(
    installed: str, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = codegen(installed, "data", *arguments, "--out", tmp_path / "out")
    assert done.returncode in (1, 2) and named in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_every_built_in_part_can_be_loaded() -> None:
    for kind, parts in plugins.BUILT_IN.items():
        assert plugins.names(kind)[: len(parts)] == list(parts)
        for name in parts:
            assert callable(plugins.load(kind, name)), name
            assert plugins.package_of(kind, name) == ""


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"Unknown source 'hbu'\. Did you mean 'hub'\? Choose"):
        plugins.load("sources", "hbu")


def test_a_name_that_two_packages_add(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (EntryPoint("x", "one:x", "codegen.sources"), EntryPoint("x", "two:x", "g"))
    monkeypatch.setattr(plugins, "installed_parts", lambda kind: {"x": entries, "hub": entries})
    with pytest.raises(CodegenError, match="one:x and two:x both add the source 'x'"):
        plugins.load("sources", "x")
    assert plugins.load("sources", "hub").__module__ == "codegen.data.sources.rows"
    assert plugins.names("sources").count("hub") == 1
