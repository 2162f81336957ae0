"""``codegen eval``: names of runs, and one clear line for each mistake about files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen import sandbox
from codegen.cli import main
from codegen.sandbox import Job, Outcome

SCORED = {"task_id": "HumanEval/0", "completion": "    return None\n"}


class PassingSandbox:
    """Stands for the sandbox where none is to be had: only references come to it, and pass."""

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> PassingSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"backend": "fake"}

    def map(self, items: Iterable[tuple[str, Job]]) -> Iterator[tuple[str, Outcome]]:
        for key, job in items:
            given_up = "return None" in job.program
            yield key, Outcome("wrong" if given_up else "passed", "isolated")


Codegen = Callable[..., tuple[int, str, str]]


@pytest.fixture
def codegen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Codegen:
    """Runs ``codegen eval`` in ``tmp_path``: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sandbox, "Sandbox", PassingSandbox)

    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["eval", *args])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def scored(codegen: Codegen) -> Callable[[str], None]:
    """Makes the score of a file of one sample in a directory."""

    def make(out: str) -> None:
        Path("samples.jsonl").write_text(json.dumps(SCORED) + "\n")
        code, _, error = codegen("score", "samples.jsonl", "--task", "humaneval", "--out", out)
        assert code == 0, error

    return make


def names_of(report: Path) -> list[str]:
    return [run["name"] for run in json.loads(report.with_suffix(".json").read_text())["runs"]]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["a/eval", "b/eval"], ["a/eval", "b/eval"]),
        (["a/eval", "c"], ["eval", "c"]),
        (["one=a/eval", "two=b/eval"], ["one", "two"]),
        (["one=a/eval", "./b/../c/", "lr=3"], ["one", "c", "lr=3"]),
        (["x=lr=3"], ["x"]),
    ],
)
def test_runs_are_named(
    codegen: Codegen, scored: Callable[[str], None], arguments: list[str], names: list[str]
) -> None:
    for out in ("a/eval", "b/eval", "c", "lr=3"):
        scored(out)
    code, _, error = codegen("report", *arguments, "--out", "r.html")
    assert code == 0, error
    assert names_of(Path("r.html")) == names


def test_here_has_a_name(
    codegen: Codegen, scored: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored("a/eval")
    Path("b").mkdir()
    monkeypatch.chdir("a/eval")
    code, _, error = codegen("report", ".", "--out", "../../b/r.html")
    assert code == 0, error
    assert names_of(Path("../../b/r.html")) == ["eval"]


def one_line(error: str) -> str:
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1
    return lines[0]


def test_one_directory_twice(codegen: Codegen, scored: Callable[[str], None]) -> None:
    scored("a")
    code, _, error = codegen("report", "a", "./a")
    assert code == 1
    assert "Two runs have the name 'a'" in one_line(error)


def test_a_report_does_not_overwrite_a_score(
    codegen: Codegen, scored: Callable[[str], None]
) -> None:
    scored("a")
    before = Path("a/score.json").read_bytes()
    code, _, error = codegen("report", "a", "--out", "a/score.html")
    assert code == 1
    assert "a/score.json, which is not a report" in one_line(error)
    assert Path("a/score.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Cannot read run/score.json: No such file or directory. Run: codegen"),
        (b"", "run/score.json is not valid JSON"),
        (b'{"estimates": ', "run/score.json is not valid JSON"),
        (b"\xff\xfe", "run/score.json is not valid JSON"),
        (b"[]", "run/score.json is not a score"),
        (b"{}", "run/score.json is not a score"),
        (b'{"estimates": {"1": {}}}', "run/score.json is not a score"),
    ],
)
def test_directories_without_a_sound_score(
    codegen: Codegen, content: bytes | None, message: str
) -> None:
    Path("run").mkdir()
    if content is not None:
        Path("run/score.json").write_bytes(content)
    code, out, error = codegen("report", "run")
    assert (code, out) == (1, "")
    assert message in one_line(error)
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "s.jsonl has no samples"),
        (b"\n\n", "s.jsonl has no samples"),
        (b"\xff\xfe\n", "s.jsonl:1: not valid UTF-8"),
        (b"{\n", "s.jsonl:1: not valid JSON"),
        (b'{"task_id": "Mbpp/2", "completion": "x"}\n', "the task 'humaneval' does not have"),
    ],
)
def test_samples_that_cannot_be_scored(codegen: Codegen, content: bytes, message: str) -> None:
    Path("s.jsonl").write_bytes(content)
    code, out, error = codegen("score", "s.jsonl", "--task", "humaneval", "--out", "run")
    assert (code, out) == (1, "")
    assert message in one_line(error)
    assert not Path("run/score.json").exists()
