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

from codegen.core import plugins
from codegen.core.errors import CodegenError, ConfigError
from codegen.core.records import Sample, Status, Verdict, write_jsonl
from codegen.rewards import write_rewards

PROJECT = """
[project]
name = "tiny-parts"
version = "1.0"
[tool.setuptools]
py-modules = ["tiny_parts"]
[project.entry-points."codegen.generators"]
shout = "tiny_parts:Shout"
absent = "tiny_parts_absent:Thing"
inspect = "tiny_parts:Shout"
bad = "tiny_parts:BadShout"
[project.entry-points."codegen.sources"]
numbers = "tiny_parts:numbers"
bad = "tiny_parts:bad"
[project.entry-points."codegen.filters"]
shorter = "tiny_parts:Shorter"
bad = "tiny_parts:bad"
[project.entry-points."codegen.tasks"]
sums = "tiny_parts:Sums"
bad = "tiny_parts:BadSums"
[project.entry-points."codegen.backends"]
echo = "tiny_parts:Echo"
bad = "tiny_parts:BadEcho"
[project.entry-points."codegen.decoders"]
fenced = "tiny_parts:FENCED"
lowest = "tiny_parts:LOWEST"
odd = "tiny_parts:brief"
bad = "tiny_parts:BAD"
bad_reader = "tiny_parts:BAD_READER"
[project.entry-points."codegen.rewards"]
brief = "tiny_parts:brief"
bad = "tiny_parts:bad"
"""

MODULE = r'''
from dataclasses import dataclass
from codegen.core.config import Config, parse_config
from codegen.data import MemorySource, Rejected
from codegen.sandbox import Job
from codegen.evals.tasks import CodeTask, Problem
from codegen.generation import Backend
from codegen.generation.decoders import Decoded, Reader, StrategySpec, supported
from codegen.core.records import Example, Segment, TrainingText
from codegen.rewards import Scored
@dataclass(frozen=True)
class Shout:
    """Make programs in capitals.

    Not every program survives.

    Attributes:
        mark: what each text
            ends with.
    """
    mark: str = "!"
    name: str = "shout"
    def generate(self, example, rng):
        segments = (
            Segment(example.instruction, False),
            Segment(example.program.upper() + self.mark, True),
        )
        yield TrainingText(f"{example.id}#shout", example.id, self.name, segments)
def numbers(argument, options):
    """A source: programs that print a number."""
    return MemorySource(
        tuple(
            Example(f"n{i}", f"Print {i}.", f"print({10**i})", license=options.license)
            for i in range(int(argument))
        ),
        "numbers",
    )

@dataclass(frozen=True)
class Shorter:
    """A filter: programs with fewer characters."""
    most: str
    def check(self, example):
        if len(example.program) >= int(self.most):
            return Rejected(example.id, "too_long", "", "skipped")
    def describe(self):
        return {"most": int(self.most)}
class Sums(CodeTask):
    """A task: add a number."""
    about = "adding small numbers"
    @classmethod
    def load(cls, name, about, source=None):
        problems = [Problem(f"sum/{i}", f"def add{i}(x):\n") for i in range(3)]
        return cls(name, about, problems, "made up")
    def reference(self, problem):
        return f"{problem.prompt}    return x + {problem.id[-1]}\n"
    def buggy(self, problem):
        return [problem.prompt + "    return 7\n"]
    def job(self, problem, program):
        i = problem.id[-1]
        return Job(program, test=f"assert add{i}(1) == 1 + {i}")
class Echo(Backend):
    """A back-end: the prompt, in a code fence."""
    kind = "echo"
    def __init__(self, model, batch_size=1):
        self.model = model
    def generate(self, requests, params, decoder, on_text=None):
        resolved = supported(decoder, self)
        for number, request in enumerate(requests):
            text = f"Here:\n```\n{request.prompt}\n```\n"
            if on_text:
                on_text(number, text)
            yield resolved.completion(number, request, text, "eos")

def between_fences(text, finish_reason):
    return Decoded(text.partition("```\n")[2].partition("```")[0], actions=text)
FENCED = Reader("the text between fences is the program", between_fences)
def lowest(options, rows):
    """A strategy: the least probable token is the most probable one."""
    from codegen.decoding.loop import Strategy
    class Lowest(Strategy):
        def adjust(self, batch, logits):
            logits.mul_(-options.share)
    return Lowest()
class LowestOptions(Config):
    share: float = 1.0
LOWEST = StrategySpec(
    "the least probable tokens",
    "loop",
    lambda given: parse_config(LowestOptions, dict(given), "The decoder lowest"),
    make=lowest,
)
def brief(samples, verdicts):
    """A reward: passed, and the shorter the better."""
    return [
        Scored(v.passed / (1 + len(s.completion)), f"{len(s.completion)} characters")
        for s, v in zip(samples, verdicts)
    ]
def bad(*given):
    """A source, a filter or a reward that fails."""
    return {}["absent"]
class BadShout(Shout):
    def __init__(self):
        bad()
class BadSums(Sums):
    def job(self, problem, program):
        return bad()
class BadEcho(Echo):
    def generate(self, requests, params, decoder, on_text=None):
        bad()
        yield
BAD = StrategySpec("fails", "loop", lambda given: LowestOptions(), make=bad)
BAD_READER = Reader("gives nothing", lambda text, finish_reason: None)
'''


@pytest.fixture(scope="module")
def installed(pip_install: Callable[[str, Mapping[str, str]], str]) -> str:
    """The folder into which pip has installed the package."""
    return pip_install(PROJECT, {"tiny_parts.py": MODULE})


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
