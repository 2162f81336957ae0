"""Parts that another package adds: a tiny package is built, installed and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from codegen import plugins
from codegen.errors import CodegenError, ConfigError
from codegen.records import Sample, Verdict
from codegen.rewards import write_rewards

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "tiny-parts"
version = "1.0"

[tool.setuptools]
py-modules = ["tiny_parts"]

[project.entry-points."codegen.generators"]
shout = "tiny_parts:Shout"
absent = "tiny_parts_absent:Thing"
inspect = "tiny_parts:Shout"

[project.entry-points."codegen.sources"]
numbers = "tiny_parts:numbers"

[project.entry-points."codegen.filters"]
shorter = "tiny_parts:Shorter"

[project.entry-points."codegen.tasks"]
ones = "tiny_parts:Ones"

[project.entry-points."codegen.backends"]
parrot = "tiny_parts:Parrot"

[project.entry-points."codegen.decoders"]
reverse = "tiny_parts:reverse"

[project.entry-points."codegen.rewards"]
brief = "tiny_parts:brief"
"""

MODULE = '''
from dataclasses import dataclass

from codegen.data import MemorySource, Rejected
from codegen.evals.tasks import Extraction, Problem, Task
from codegen.generation import Backend, Completion, Request
from codegen.generation.decoders import Decoded, Reader, supported
from codegen.records import Example, Segment, TrainingText, Verdict
from codegen.rewards import Scored


@dataclass(frozen=True)
class Shout:
    """A generator: the program in capitals."""

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
            Example(f"n{i}", f"Print {i}.", f"print({10**i})", licence=options.licence)
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


class Ones(Task):
    """A task: functions that return a number."""

    style = "plain"

    @classmethod
    def load(cls, name, about, source):
        task = cls()
        task.name, task.description, task.source = name, about, source or ""
        return task

    def problems(self):
        return [Problem(f"ones/{i}", f"def number():  # {i}\\n") for i in range(3)]

    def request(self, problem, style, index):
        return Request(problem.prompt, task=self.name, problem_id=problem.id, index=index)

    def extract(self, problem, sample):
        return Extraction(problem.prompt + sample.completion)

    def job(self, problem, program):
        status = "passed" if program == self.reference(problem) else "wrong"
        return Verdict(problem.id, 0, status)

    def reference(self, problem):
        return f"{problem.prompt}    return {problem.id[-1]}"


class Parrot(Backend):
    """A back-end: says the same to everything."""

    kind = "parrot"

    def __init__(self, model, **options):
        self.model = model

    def generate(self, requests, params, decoder, on_text=None):
        reader = supported(decoder, self).reader
        for number, request in enumerate(requests):
            decoded = reader.read("1 nruter    ", "eos")
            if on_text:
                on_text(number, decoded.text)
            yield Completion(
                number, request, decoded.text, decoded.actions, prompt_tokens=3,
                completion_tokens=4,
            )


reverse = Reader("the text is the program backwards", lambda text, _: Decoded(text[::-1], text))


def brief(samples, verdicts):
    """A reward: passed, and the shorter the better."""
    return [
        Scored(v.passed / (1 + len(s.completion)), f"{len(s.completion)} characters")
        for s, v in zip(samples, verdicts)
    ]
'''


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed the package."""
    project, target = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("target")
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "tiny_parts.py").write_text(MODULE)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps",
         "--no-index", "--disable-pip-version-check", "--target", target, project],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return target


def codegen(installed: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "codegen", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_generator_a_source_and_a_filter(installed: Path, tmp_path: Path) -> None:
    done = codegen(
        installed, "data", "shout", "numbers:9", "--licence", "MIT", "--filter", "shorter:12",
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
        installed, "data", "shout", "numbers:9", "--licence", "MIT", "--filter", "shorter:13",
        "-o", "mark=?", "--out", tmp_path / "out",
    )  # fmt: skip
    assert other.returncode == 1 and "filters" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brief", "passed"])
def test_a_reward(installed: Path, tmp_path: Path, name: str) -> None:
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
        tmp_path / "task.jsonl", "--out", tmp_path / "out", "--reward", name, "--json",
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
    statuses = ("passed", "infra_error", "wrong")
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
def test_a_task_a_back_end_and_a_decoder(installed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = ("--backend", "parrot", "--model", "polly", "--decoder", "reverse")
    done = codegen(installed, "eval", "run", "ones", *model, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "samples.jsonl").open()]
    assert [row["completion"] for row in rows] == ["    return 1"] * 3
    assert rows[0]["settings"]["model"] == "polly" and rows[0]["actions"] == "1 nruter    "
    done = codegen(
        installed, "eval", "score", out / "samples.jsonl", "--task", "ones", "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["statuses"] == {"passed": 1, "wrong": 2}
    done = codegen(installed, "generate", *model, "--prompt", "x")
    assert done.returncode == 0 and "    return 1" in done.stdout, done.stderr
    assert "# The program:" in done.stderr
    assert "of the package tiny-parts" in codegen(installed, "eval", "tasks").stdout
    other = codegen(installed, "generate", *model[:-1], "revers", "--prompt", "x")
    assert other.returncode == 2 and "Did you mean 'reverse'?" in other.stderr


@pytest.mark.slow
def test_the_help_lists_them_and_imports_nothing(installed: Path) -> None:
    done = codegen(installed, "data", "--help")
    assert "Run the generator of the package tiny-parts." in done.stdout and "absent" in done.stdout
    assert "Show counts and texts" in done.stdout  # the command of the same name stays
    assert "-o, --option KEY=VALUE" in codegen(installed, "data", "shout", "--help").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("absent", "numbers:3"), "generator 'absent' of the package tiny-parts can't be loaded"),
        (("shout", "numbers:3", "--filter", "shortr:3"), "Did you mean 'shorter'?"),
        (("shout", "numbers:3", "-o", "marks=1"), "Generator 'shout': "),
        (("shout", "numbers:3", "-o", "mark"), "'mark' is not KEY=VALUE"),
    ],
)
def test_mistakes_are_one_line(
    installed: Path, tmp_path: Path, arguments: tuple[str, ...], named: str
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
    with pytest.raises(ConfigError, match=r"Unknown source 'hbu'\. Did you mean 'hub'\? There are"):
        plugins.load("sources", "hbu")


def test_a_name_that_two_packages_add(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (EntryPoint("x", "one:x", "codegen.sources"), EntryPoint("x", "two:x", "g"))
    monkeypatch.setattr(plugins, "_installed", lambda kind: {"x": entries, "hub": entries})
    with pytest.raises(CodegenError, match="one:x and two:x both add the source 'x'"):
        plugins.load("sources", "x")
    assert plugins.load("sources", "hub").__module__ == "codegen.data.sources.rows"
    assert plugins.names("sources").count("hub") == 1
