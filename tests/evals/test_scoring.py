"""Scoring: counts, the gate, resuming, files of other toolkits, and the real sandbox."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from eval_fakes import FakeGenerator, FakeSandbox

from codegen.core.errors import ConfigError, InputError, SandboxError
from codegen.core.generation import Decoder, SamplingParams
from codegen.core.records import Sample, Verdict, read_jsonl, to_json, write_jsonl
from codegen.core.runs import LOCK
from codegen.evals import tasks
from codegen.evals.run import SCORE, VERDICTS, run
from codegen.evals.scoring import executions_log, read_score, score
from codegen.evals.statistics import pass_at_k
from codegen.evals.tasks.exchange import read_samples, task_of
from codegen.sandbox import Job, Outcome, Sandbox


def judge(job: Job) -> Outcome:
    """What the toy programs deserve, read off their text."""
    if "infra" in job.program:
        return Outcome("infra_error", "isolated", message="no sandbox")
    right = f"return x + {job.entry_point[3:]}\n" in job.program
    return Outcome("passed" if right else "wrong", "isolated", cpu_s=0.25)


def sample(problem_id: str, index: int, completion: str, **changes: Any) -> Sample:
    settings = {"model": "m", "temperature": 0.8}
    made = Sample("t", problem_id, index, "", completion, "stop", settings, 0, 1, 1)
    return replace(made, **dict[str, Any](meta={"style": "continue"}) | changes)


RIGHT = "    return x + {}\n"


def test_counts_estimates_and_files(toy: tasks.Task[Any], tmp_path: Path) -> None:
    passed = {"Toy/0": 3, "Toy/1": 0, "Toy/4": 1}
    samples = [
        sample(id_, i, (RIGHT if i < c else "    return {}  # no\n").format(id_[-1]))
        for id_, c in passed.items()
        for i in range(4)
    ]
    sandbox = FakeSandbox(judge)
    progress: list[tuple[int, int]] = []
    result = score(
        samples,
        toy,
        out=tmp_path,
        sandbox=sandbox,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert [(p.problem_id, p.n, p.c) for p in result.problems] == [
        (id_, 4, c) for id_, c in passed.items()
    ]
    assert list(result.estimates) == [1, 2, 3, 4]
    for k, estimate in result.estimates.items():
        expected = sum(pass_at_k(4, c, k) for c in passed.values()) / 3
        assert estimate.value == pytest.approx(expected)
    assert result.statuses == {"passed": 4, "wrong": 8}
    assert result.complete
    assert (result.reference.passed, result.reference.total) == (3, 3)
    assert result.settings == {"model": "m", "temperature": 0.8, "style": "continue"}
    assert any("3 of the task's 7" in note for note in result.notes)
    # Three references, which are also the right programs, and three wrong ones.
    assert len(sandbox.ran) == 6
    assert result.programs == 5
    assert progress[-1] == (6, 6)
    verdicts = list(read_jsonl(Verdict, tmp_path / VERDICTS))
    assert [(v.problem_id, v.index) for v in verdicts] == [(s.problem_id, s.index) for s in samples]
    assert verdicts[0].cpu_s == 0.25
    assert read_score(tmp_path) == result
    assert json.loads((tmp_path / SCORE).read_text())["complete"] is True


def test_nothing_is_run_twice_and_more_samples_reuse_the_log(
    toy: tasks.Task[Any], tmp_path: Path
) -> None:
    samples = [sample("Toy/2", i, f"    return {i}\n") for i in range(3)]
    score(samples, toy, out=tmp_path, sandbox=FakeSandbox(judge))
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    again = FakeSandbox(judge)
    score(samples, toy, out=tmp_path, sandbox=again)
    assert again.ran == []
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files
    more = FakeSandbox(judge)
    score([*samples, sample("Toy/2", 3, "    return 9\n")], toy, out=tmp_path, sandbox=more)
    assert len(more.ran) == 1
    other = FakeSandbox(judge, description={"backend": "another"})
    score(samples, toy, out=tmp_path, sandbox=other)
    assert len(other.ran) == 4  # another sandbox might judge otherwise


def test_a_received_directory_is_not_believed(toy: tasks.Task[Any], tmp_path: Path) -> None:
    """It says that its wrong programs passed, in a log as well: all programs run again."""
    samples = [sample("Toy/2", i, f"    return {i}\n") for i in range(3)]
    honest = score(samples, toy, out=tmp_path / "mine", sandbox=FakeSandbox(judge))
    rows = [json.loads(line) for line in executions_log(tmp_path / "mine").read_text().splitlines()]
    theirs = tmp_path / "theirs"
    shutil.copytree(tmp_path / "mine", theirs)
    forged = "".join(json.dumps({**row, "status": "passed"}) + "\n" for row in rows)
    for name in (executions_log(theirs).name, "executions.jsonl", LOCK):
        (theirs / name).write_text(forged)
    again = FakeSandbox(judge)
    assert score(samples, toy, out=theirs, sandbox=again) == honest
    assert len(again.ran) == len(rows)


def test_a_log_that_others_can_write_is_refused(toy: tasks.Task[Any], tmp_path: Path) -> None:
    samples = [sample("Toy/2", 2, RIGHT.format(2))]
    score(samples, toy, out=tmp_path, sandbox=FakeSandbox(judge))
    log = executions_log(tmp_path)
    log.chmod(0o666)
    with pytest.raises(InputError, match="Other users can write"):
        score(samples, toy, out=tmp_path, sandbox=FakeSandbox(judge))
    log.unlink()
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="link"):
        score(samples, toy, out=tmp_path, sandbox=FakeSandbox(judge))


@pytest.mark.parametrize("cut", [1, 40, 150, 399])
def test_a_torn_log_loses_at_most_its_last_lines(
    toy: tasks.Task[Any], tmp_path: Path, cut: int
) -> None:
    samples = [sample("Toy/2", i, f"    return {i}\n") for i in range(5)]
    score(samples, toy, out=tmp_path, sandbox=FakeSandbox(judge))
    verdicts = (tmp_path / VERDICTS).read_bytes()
    log = executions_log(tmp_path)
    log.write_bytes(log.read_bytes()[:-cut])
    left = log.read_bytes().count(b"\n")
    sandbox = FakeSandbox(judge)
    score(samples, toy, out=tmp_path, sandbox=sandbox)
    assert len(sandbox.ran) == 6 - left
    assert (tmp_path / VERDICTS).read_bytes() == verdicts


def test_an_infra_error_is_left_out_said_and_tried_again(
    toy: tasks.Task[Any], tmp_path: Path
) -> None:
    samples = [
        sample("Toy/1", 0, RIGHT.format(1)),
        sample("Toy/1", 1, "    infra\n"),
        sample("Toy/3", 0, RIGHT.format(3)),
        sample("Toy/3", 1, "    return 0\n"),
    ]
    result = score(samples, toy, out=tmp_path, sandbox=FakeSandbox(judge))
    assert not result.complete
    assert [(p.n, p.c) for p in result.problems] == [(1, 1), (2, 1)]
    assert result.statuses["infra_error"] == 1
    assert any("could not be scored" in note for note in result.notes)
    assert list(result.estimates) == [1]

    def mended(job: Job) -> Outcome:
        return Outcome("wrong", "isolated") if "infra" in job.program else judge(job)

    sandbox = FakeSandbox(mended)
    result = score(samples, toy, out=tmp_path, sandbox=sandbox)
    assert result.complete
    assert len(sandbox.ran) == 1
    assert [(p.n, p.c) for p in result.problems] == [(2, 1), (2, 1)]


def test_failing_references_break_the_gate_unless_excepted(
    toy: tasks.Task[Any], tmp_path: Path
) -> None:
    def strict(job: Job) -> Outcome:
        return (
            Outcome("timeout", "isolated", message="slow") if "+ 5" in job.program else judge(job)
        )

    samples = [sample(f"Toy/{i}", 0, "    return 0\n") for i in (4, 5)]
    result = score(samples, toy, out=tmp_path / "a", sandbox=FakeSandbox(strict))
    assert not result.complete
    assert result.reference.failures == {"Toy/5": "timeout: slow"}
    assert any("1 of 2 reference solutions fail" in note for note in result.notes)
    toy.reference_exceptions = {"Toy/5": "known to be slow", "Toy/6": "not asked"}
    result = score(samples, toy, out=tmp_path / "b", sandbox=FakeSandbox(strict))
    assert result.complete
    assert result.reference.exceptions == {"Toy/5": "known to be slow"}
    assert result.reference.passed == 1


def test_a_failed_reference_is_tried_again(toy: tasks.Task[Any], tmp_path: Path) -> None:
    samples = [sample("Toy/1", 0, "    return 0\n"), sample("Toy/2", 0, RIGHT.format(2))]

    def broken(job: Job) -> Outcome:
        return Outcome("error", "isolated") if "+ 1" in job.program else judge(job)

    assert not score(samples, toy, out=tmp_path, sandbox=FakeSandbox(broken)).complete
    mended = FakeSandbox(judge)
    assert score(samples, toy, out=tmp_path, sandbox=mended).complete
    assert [job.entry_point for job in mended.ran] == ["add1"]
    settled = FakeSandbox(judge)
    assert score(samples, toy, out=tmp_path, sandbox=settled).complete
    assert settled.ran == []


def test_an_excepted_reference_is_not_tried_again(toy: tasks.Task[Any], tmp_path: Path) -> None:
    toy.reference_exceptions = {"Toy/1": "known to fail"}
    samples = [sample("Toy/1", 0, "    return 0\n")]
    score(samples, toy, out=tmp_path, sandbox=FakeSandbox(lambda _: Outcome("wrong", "isolated")))
    again = FakeSandbox(judge)
    assert score(samples, toy, out=tmp_path, sandbox=again).complete
    assert again.ran == []


def test_the_run_tells_how_the_model_ran(toy: tasks.Task[Any], tmp_path: Path) -> None:
    said = {"model": "fake", "model_origin": "hub", "dtype": "float32", "device": "cpu"}
    path = run(
        toy,
        FakeGenerator(),
        SamplingParams(),
        Decoder(),
        n=1,
        style=tasks.STYLES["continue"],
        out=tmp_path,
        settings=said,
        about={"model_parameters": 5},
    )
    result = score(path, toy, out=tmp_path / "a", sandbox=FakeSandbox(judge))
    assert said.items() <= result.settings.items()
    assert result.cost is not None
    assert result.cost.parameters == 5
    made = list(read_jsonl(Sample, path))  # one a problem
    assert result.cost.prompt_tokens == fmean(s.prompt_tokens for s in made)
    assert result.cost.completion_tokens == fmean(s.completion_tokens for s in made)
    assert read_score(tmp_path / "a") == result
    # The same file beside samples of another model says nothing about them, nor a foreign file.
    settings = tmp_path / "run.json"
    for text in (settings.read_text().replace('"fake"', '"other"'), "{", "[]"):
        settings.write_text(text)
        result = score(path, toy, out=tmp_path / "a", sandbox=FakeSandbox(judge))
        assert "model_origin" not in result.settings
        assert result.settings["model"] == "fake"
        assert result.cost is not None and result.cost.parameters is None


def test_what_programs_print_is_in_the_verdicts_and_old_files_are_read(
    toy: tasks.Task[Any], tmp_path: Path
) -> None:
    def prints(job: Job) -> Outcome:
        return replace(judge(job), stdout="line\n" * 1000)

    samples = [sample("Toy/1", 0, RIGHT.format(1))]
    result = score(samples, toy, out=tmp_path, sandbox=FakeSandbox(prints))
    (verdict,) = read_jsonl(Verdict, tmp_path / VERDICTS)
    assert verdict.output == ("line\n" * 1000)[:2000]
    # As they were written before there was an output, or a cost.
    for name, field in ((VERDICTS, "output"), (SCORE, "cost")):
        path = tmp_path / name
        text = path.read_text()
        rows = [json.loads(text)] if name == SCORE else map(json.loads, text.splitlines())
        path.write_text("".join(json.dumps(drop(row, field)) + "\n" for row in rows))
    (verdict,) = read_jsonl(Verdict, tmp_path / VERDICTS)
    assert verdict.output == ""
    assert read_score(tmp_path) == replace(result, cost=None)
    sandbox = FakeSandbox(prints)
    assert score(samples, toy, out=tmp_path, sandbox=sandbox) == result
    assert sandbox.ran == []


def drop(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


def test_no_code_has_a_status_and_a_reason_and_is_not_run(
    toy: tasks.Task[Any], tmp_path: Path
) -> None:
    samples = [
        sample("Toy/1", 0, "I can't help with that.", meta={"style": "chat"}),
        sample("Toy/1", 1, "  \n"),
    ]
    sandbox = FakeSandbox(judge)
    result = score(samples, toy, out=tmp_path, sandbox=sandbox)
    assert result.statuses == {"empty": 1, "no_answer": 1}
    assert any("No program was found in 1 of 2 samples" in note for note in result.notes)
    assert len(sandbox.ran) == 1  # the reference
    first, second = read_jsonl(Verdict, tmp_path / VERDICTS)
    assert "no code block" in first.message
    assert "empty" in second.message


def test_files_of_other_toolkits(
    toy: tasks.Task[Any], tmp_path: Path, write_rows: Callable[[list[Any]], Path]
) -> None:
    path = write_rows(
        [
            {"task_id": "Toy/1", "completion": RIGHT.format(1)},
            {"task_id": "Toy/2", "completion": "    return 0\n"},
            "",
            {"task_id": "Toy/1", "completion": "    return 1\n", "extra": 3},
            {"task_id": "Toy/2", "solution": "def add2(x):\n    return x + 2\n"},
        ]
    )
    assert [(s.problem_id, s.index) for s in read_samples(path)] == [
        ("Toy/1", 0),
        ("Toy/2", 0),
        ("Toy/1", 1),
        ("Toy/2", 1),
    ]
    result = score(path, toy, out=tmp_path / "out", sandbox=FakeSandbox(judge))
    assert [(p.n, p.c) for p in result.problems] == [(2, 1), (2, 1)]


def test_a_completion_of_another_toolkit_is_not_cut(toy: tasks.Task[Any]) -> None:
    text = "    return helper(x)\n\ndef helper(x):\n    return x + 1\n"
    problem = toy.problems()[1]
    outside = sample("Toy/1", 0, text, meta={"style": "completion"})
    ours = sample("Toy/1", 0, text)
    assert toy.program(problem, outside) == problem.prompt + text
    assert toy.program(problem, ours) == problem.prompt + "    return helper(x)\n"


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([], "has no samples"),
        ([{"task_id": "Nope/1", "completion": "x"}], "Nope/1"),
        ([{"task_id": "Toy/1"}], "rows.jsonl:1.*completion"),
        ([{"task_id": 3, "completion": "x"}], "rows.jsonl:1"),
        (["{"], "rows.jsonl:1: not valid JSON"),
        (["[1]"], "rows.jsonl:1: .* must be a JSON object"),
        ([{"problem_id": "Toy/1"}], "rows.jsonl:1: .* is missing"),
        ([json.loads(to_json(sample("Toy/1", 0, "x")))] * 2, "twice"),
        ([json.loads(to_json(sample("Toy/1", 0, "x", meta={})))], "style"),
    ],
)
def test_bad_files_are_named(
    toy: tasks.Task[Any],
    tmp_path: Path,
    write_rows: Callable[[list[Any]], Path],
    rows: list[Any],
    named: str,
) -> None:
    with pytest.raises(InputError, match=named):
        score(write_rows(rows), toy, out=tmp_path / "out", sandbox=FakeSandbox(judge))


def test_unreadable_files_and_impossible_ks(toy: tasks.Task[Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        score(tmp_path / "none.jsonl", toy, out=tmp_path / "o", sandbox=FakeSandbox(judge))
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"binary\.jsonl:1: not valid UTF-8"):
        score(binary, toy, out=tmp_path / "o", sandbox=FakeSandbox(judge))
    samples = [sample("Toy/1", 0, "x")]
    for ks in ([1, 2], [0]):
        with pytest.raises(ConfigError, match="undefined"):
            score(samples, toy, out=tmp_path / "o", sandbox=FakeSandbox(judge), ks=ks)
    with pytest.raises(InputError, match="Cannot read"):
        read_score(tmp_path)
    (tmp_path / SCORE).write_text('{"estimates": {}}')
    with pytest.raises(InputError, match="not a score"):
        read_score(tmp_path)


@pytest.mark.slow
def test_all_references_of_humaneval_pass_and_wrong_programs_do_not(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    task = tasks.load("humaneval")
    samples = []
    for problem in task.problems():
        fenced = f"Here you go:\n```python\n{task.reference(problem)}```\nDone."
        samples += [
            sample(problem.id, 0, problem.canonical_solution),
            sample(problem.id, 1, fenced, meta={"style": "chat"}),
            sample(problem.id, 2, "    return None\n"),
        ]
    result = score(samples, task, out=tmp_path, sandbox=sandbox)
    assert result.reference.passed == result.reference.total == 164
    assert result.complete
    assert {(p.n, p.c) for p in result.problems} == {(3, 2)}
    assert result.estimates[1].value == pytest.approx(2 / 3)


def test_what_could_be_forged_is_refused_and_counted(tmp_path: Path) -> None:
    """Scored by trust, then without, in one directory: each asks for verdicts of its own."""
    tests = {"plain": ["assert f(1) == 1"], "open": ["x = [f]\nassert x[0](2) == x[0](x[0](2))"]}
    lines = [
        json.dumps({"id": id_, "prompt": "p", "tests": test, "reference": "def f(x): return x\n"})
        for id_, test in tests.items()
    ]
    (tmp_path / "task.jsonl").write_text("\n".join(lines))
    task = tasks.load(f"file:{tmp_path / 'task.jsonl'}")
    samples = [sample(id_, 0, "def f(x): return x\n") for id_ in tests]
    with Sandbox(workers=1) as opened:
        result = score(samples, task, out=tmp_path, sandbox=opened, trust="isolated")
    assert result.statuses == {"passed": 1, "refused": 1} and not result.complete
    assert result.estimates[1].value == 0.5
    assert any("1 of 2 samples, in 1 problems, were refused" in note for note in result.notes)
    with Sandbox(workers=1) as opened:
        assert score(samples, task, out=tmp_path, sandbox=opened).statuses == {"passed": 2}


BOX = """class Box:
    def __init__(self, items):
        self.items = items
    def total(self):
        return sum(self.items) + 100
"""


@pytest.mark.parametrize(
    ("old", "new", "open_sites"),
    [
        ("", "", 0),  # the reference itself
        ("+ 100", "+ 101", 1),  # the values agree with each other alone
        ("return sum", "return float('nan') if 1 else sum", None),
        ("class Box:", "from random import random\nclass Box:", 0),
        ("+ 100", "+ 100 + int(random() * 0)", 0),
    ],
)
def test_open_assertions_are_closed_by_what_the_reference_computes(
    tmp_path: Path, old: str, new: str, open_sites: int | None
) -> None:
    test = (
        "x, y = Box([3, 4]), Box([3, 4])\nassert x.total() == y.total()\nassert x.items == [3, 4]"
    )
    row = {"id": "box", "prompt": "p", "tests": [test], "solution": BOX}
    (tmp_path / "task.jsonl").write_text(json.dumps(row))
    task = tasks.load(f"file:{tmp_path / 'task.jsonl'}")
    program = ("from random import random\n" if "random" in new else "") + BOX.replace(old, new)
    with Sandbox(workers=1) as opened:
        cases: Any = (("in_sandbox", "passed"), ("blinded", "refused"))
        for trust, status in cases:
            result = score(
                [sample("box", 0, program)], task, out=tmp_path, sandbox=opened, trust=trust
            )
            (verdict,) = read_jsonl(Verdict, tmp_path / VERDICTS)
            if open_sites is None:
                assert verdict.status == "wrong"
            else:
                assert len(verdict.open_sites) == open_sites and verdict.sites == 2
                assert verdict.status == ("passed" if not open_sites else status)
                assert result.complete == verdict.passed


@pytest.mark.slow
def test_from_requests_to_a_score(toy: tasks.Task[Any], sandbox: Sandbox, tmp_path: Path) -> None:
    def answer(request: Any) -> str:
        number = request.problem_id[-1]
        body = number if request.index % 2 else "1000"
        return f"```python\ndef add{number}(x):\n    return x + {body}\n```"

    path = run(
        toy,
        FakeGenerator(completion=answer),
        SamplingParams(temperature=1.0),
        Decoder(),
        n=4,
        style=tasks.STYLES["chat"],
        out=tmp_path / "run",
    )
    result = score(path, toy, out=tmp_path / "run", sandbox=sandbox)
    assert result.statuses == {"passed": 14, "wrong": 14}
    assert result.estimates[1].value == pytest.approx(0.5)
    assert result.settings["model"] == "fake"


CHILD = """
import sys
from codegen.evals import tasks
from codegen.sandbox import Sandbox
from codegen.evals.scoring import score

with Sandbox(workers=1) as sandbox:
    print("ready", flush=True)
    score(sys.argv[2], tasks.load("humaneval", sys.argv[1]), out=sys.argv[3], sandbox=sandbox)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "kills",
    [pytest.param(3, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.long)],
    ids=str,
)
def test_kill_9_while_scoring_in_the_sandbox(kills: int, toy_file: Path, tmp_path: Path) -> None:
    """The final files are those of a run that nobody killed, but for the times that were taken."""
    try:
        Sandbox(workers=1).run("pass")
    except SandboxError as error:
        pytest.skip(str(error))
    count = 400 * kills
    ends = (
        "return x + {}",
        "return x - {}",
        "return [x][{}]",
        "import os; os._exit({})",
        "return (",
    )
    rows = [
        {"task_id": f"Toy/{i % 7}", "completion": f"    {ends[i % 5].format(i % 7)}  # {i}\n"}
        for i in range(count)
    ]
    samples = tmp_path / "samples.jsonl"
    samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-c", CHILD, str(toy_file), str(samples)]
    log = executions_log(tmp_path / "run")
    env = {**os.environ, "CODEGEN_CACHE": str(log.parents[1])}
    chance = random.Random(kills)
    for _ in range(kills):
        process = subprocess.Popen([*command, str(tmp_path / "run")], stdout=-1, env=env)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            before = log.stat().st_size if log.exists() else 0
            until = time.monotonic() + 30
            while time.monotonic() < until and process.poll() is None:
                if log.exists() and log.stat().st_size > before:
                    break  # it is in the middle of it
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.3))
            assert process.poll() is None, "it was done before it could be killed"
            os.kill(process.pid, signal.SIGKILL)
    done = len(log.read_text().splitlines())
    assert kills <= done < count
    for folder in ("run", "whole"):
        subprocess.run([*command, str(tmp_path / folder)], check=True, env=env)
    keys = [json.loads(line)["key"] for line in log.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == count + 7  # references too; each was run once
    for name in (VERDICTS, SCORE):
        run_, whole = (_untimed(tmp_path / folder / name) for folder in ("run", "whole"))
        assert run_ == whole
    assert {v.status for v in read_jsonl(Verdict, tmp_path / "run" / VERDICTS)} == {
        "passed", "wrong", "error", "exited", "syntax_error",
    }  # fmt: skip


def _untimed(path: Path) -> str:
    return re.sub(r'"(cpu_s|wall_s|memory_mib)": [^,}]+', "", path.read_text())


@pytest.mark.parametrize(
    ("named", "refusal"),
    [
        (["mbpp", "mbpp"], None),
        (
            ["mbpp", "humaneval"],
            r"several tasks \('humaneval', 'mbpp'\)\. Pass the task with --task",
        ),
        (["", ""], "name no task"),
        (["file:x.yaml"], "task file:x.yaml, which is not in this directory"),
    ],
)
def test_the_task_that_samples_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: list[str], refusal: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "samples.jsonl"
    write_jsonl(path, [sample("p", i, "x", task=task) for i, task in enumerate(named)])
    if refusal is None:
        assert task_of(path) == named[0]
        return
    with pytest.raises(InputError, match=refusal):
        task_of(path)
    (tmp_path / "x.yaml").touch()
    if named[0].startswith("file:"):
        assert task_of(path) == named[0]
