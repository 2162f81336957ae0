"""The KoLMogorov test as a task: data, rates, strict scoring, references, and its commands."""

from __future__ import annotations

import gzip
import json
import math
import random
import zlib
from pathlib import Path

import pytest

from codegen.core.errors import InputError
from codegen.core.records import Sample, Status
from codegen.evals import kolmogorov as kt
from codegen.evals import tasks
from codegen.evals.tasks import kolmogorov as kt_task
from codegen.evals.tasks.kolmogorov import Answer, ScoredAnswer
from codegen.sandbox import Job, Sandbox


@pytest.mark.parametrize(
    "answer",
    [
        "output = [1]",
        "output = [1]\n###\nand more",
        "```python\noutput = [1]\n```",
        "```\noutput = [1]\n```\n###",
        "I think it is this.\n```python\noutput = [1]\n###\n```",
        "The Python program that generates the sequence is:\n\n```python\noutput = [1]\n```\n###",
        "python\noutput = [1]\n###",
    ],
)
def test_the_program_is_found(answer: str) -> None:
    assert kt_task.find_program(answer) == "output = [1]"


def test_programs_that_open_files_are_blanked() -> None:
    assert kt_task.find_program("output = list(open('x','rb').read())") == ""
    assert kt_task.find_program("reopened = 1\noutput = [1]") != ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        ('"x"', "not a JSON object"),
        ('{"program": "x"}', "needs 'sequence'"),
        ('{"sequence": [1, 256], "program": "x"}', "needs 'sequence'"),
        ('{"sequence": [true], "program": "x"}', "needs 'sequence'"),
        ('{"sequence": [], "program": "x"}', "needs 'sequence'"),
        ('{"sequence": [1]}', "needs a string 'program'"),
        ('{"prompt": "no list", "program": "x"}', "has no list"),
        ('{"prompt": "[1, 999]", "program": "x"}', "999"),
    ],
)
def test_rows_that_can_not_be_read_name_their_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"sequence": [1], "program": "output = [1]"}\n' + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        list(kt_task.read_answers(path))
    assert "rows.jsonl:2" in str(caught.value)


def test_pieces_are_spread_over_the_file() -> None:
    data = bytes(range(250)) * 4
    found = kt_task.pieces(data, 3, 100)
    assert [offset for offset, _ in found] == [0, 300, 600]
    assert all(data[offset : offset + 100] == piece for offset, piece in found)
    assert len(kt_task.pieces(data, 99, 100)) == 10
    with pytest.raises(InputError):
        kt_task.pieces(b"x", 1)


def result(
    sequence: list[int], program: str, output: list[int] | None, status: Status
) -> ScoredAnswer:
    return ScoredAnswer(
        Answer(tuple(sequence), program), status, None if output is None else tuple(output)
    )


def test_the_rates_by_hand() -> None:
    one, two, three = [1] * 40, [2, 3] * 20, [4] * 40
    results = [
        result(one, "output = [1]*40", one, "passed"),
        result(two, "output = [2]*40", [2] * 40, "wrong"),
        result(three, "boom", None, "error"),
    ]
    found = kt_task.score_results(results)

    def size(data: bytes) -> int:
        return len(gzip.compress(data))

    right = size(b"output = [1]*40")
    rest = size(bytes(two) + b"\n" + bytes(three))
    assert found.rate == pytest.approx((right + rest + size(b"100")) / 120)
    assert found.precision == pytest.approx(right / size(bytes(one)))
    best = [min(size(bytes(s)), 40, *p) for s, p in [(one, [right]), (two, []), (three, [])]]
    assert found.best_rate == pytest.approx((sum(best) + 3 * 2 / 8) / 120)
    assert (found.accuracy, found.execution) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert found.statuses == {"error": 1, "passed": 1, "wrong": 1}
    assert found.paper_rate is None  # the right program is not of the language


def test_bits_of_programs_of_the_language() -> None:
    program = next(p for p in kt.sample_programs(50) if len(p.run()) > 30)
    wrong = [5, 6] * 30
    results = [
        result(program.run(), program.to_text(), program.run(), "passed"),
        result(wrong, "x", None, "error"),
    ]
    found = kt_task.score_results(results)
    whole = 8 * (len(program.run()) + 60)
    failing = 8 * len(gzip.compress(bytes(wrong))) + 2
    assert found.paper_rate == pytest.approx(math.ceil(kt.paper_bits(program) + failing) / whole)


def test_failures_of_the_sandbox_and_nothing_are_no_scores() -> None:
    with pytest.raises(InputError, match="No answers"):
        kt_task.score_results([])
    with pytest.raises(InputError, match="sandbox failed on 1 of 1"):
        kt_task.score_results([result([1], "x", None, "infra_error")])


HOSTILE = [
    ("output = [1, 2, 3]", "passed"),
    ("output = [1, 2, 3.0]", "wrong"),
    ("output = [True, 2, 3]", "wrong"),
    ("output = (1, 2, 3)", "wrong"),
    ("output = b'\\x01\\x02\\x03'", "wrong"),
    ("class L(list):\n  def __eq__(s, o): return True\noutput = L()", "wrong"),
    ("class I(int):\n  def __eq__(s, o): return True\noutput = [I(), I(), I()]", "wrong"),
    ("output = [1, 2, 3, 4]", "wrong"),
    ("output = [0] * 300", "wrong"),
    ("x = [1, 2, 3]", "error"),
    ("output = [1, 2, 3]; raise SystemExit(0)", "exited"),
    ("import os; output = [1, 2, 3]; os._exit(0)", "exited"),
    ("output = [1, 2,", "syntax_error"),
    ("while True: pass", "timeout"),
    ("output = list(range(10**9))", "memory"),
    ("", "empty"),
]


@pytest.mark.slow
def test_scoring_is_strict_and_can_not_be_fooled(sandbox: Sandbox) -> None:
    answers = [Answer((1, 2, 3), program) for program, _ in HOSTILE]
    results = kt_task.run_answers(answers, sandbox)
    assert [r.status for r in results] == [status for _, status in HOSTILE]


@pytest.mark.slow
def test_drawn_programs_run_in_the_sandbox_as_here(sandbox: Sandbox) -> None:
    programs = list(kt.sample_programs(60, seed=3))
    answers = [Answer(tuple(p.run()), p.to_text()) for p in programs]
    assert all(r.correct for r in kt_task.run_answers(answers, sandbox, language=True))
    plain = kt_task.run_answers(answers[:3], sandbox)
    assert [r.status for r in plain] == ["error"] * 3


@pytest.mark.slow
def test_the_500_real_programs_get_the_known_figures(data_folder: Path, sandbox: Sandbox) -> None:
    """Specification §4.4: accuracy 52.6%, precision 1.68, best-of .931 against gzip .935."""
    path = data_folder / "kolmogorov" / "o1_mini_generated_programs_text.jsonl.gz"
    found = kt_task.score_results(kt_task.run_answers(list(kt_task.read_answers(path)), sandbox))
    assert found.items == 500
    assert found.accuracy == 0.526
    assert found.gzip == pytest.approx(0.449, abs=5e-4)
    assert found.gzip_each == pytest.approx(0.935, abs=5e-4)
    assert found.best_rate == pytest.approx(0.931, abs=5e-4)
    assert found.program_characters == pytest.approx(338, abs=0.5)
    # What the specification leaves open (how programs are cut out and separated) moves these.
    assert found.precision == pytest.approx(1.68, abs=0.01)
    assert found.rate == pytest.approx(0.655, abs=0.015)


@pytest.fixture(scope="module")
def drawn() -> tasks.Task:
    return tasks.load("kolmogorov")


def test_the_task_needs_no_data_and_asks_in_each_style(drawn: tasks.Task) -> None:
    problems = drawn.problems()
    assert len(problems) == 500
    assert len({p.id for p in problems}) == 500
    assert max(len(p.sequence) for p in problems) <= 256
    for style in ("chat", "plain", "continue"):
        request = drawn.request(problems[0], tasks.find_style(style), 0)
        assert kt_task.sequence_in(request.prompt) == problems[0].sequence
        assert "###" in request.stop


def test_an_answer_is_read_by_its_style(drawn: tasks.Task) -> None:
    problem = drawn.problems()[0]

    def sample(completion: str, style: str) -> Sample:
        return Sample("kolmogorov", problem.id, 0, "", completion, "stop", {}, 0, 0, 0,
                      meta={"style": style})  # fmt: skip

    for style in ("chat", "continue", "solution"):
        assert drawn.extract(problem, sample("output = [1]\n###", style)).program == "output = [1]"
    assert drawn.extract(problem, sample("  ", "chat")).status == "empty"
    found = drawn.extract(problem, sample("output = open('x')", "chat"))
    assert (found.program, found.status) == ("", "no_answer")


@pytest.mark.slow
def test_references_pass_and_near_misses_do_not(drawn: tasks.Task, sandbox: Sandbox) -> None:
    problems = drawn.problems()[::25]
    jobs: list[tuple[tuple[int, int], Job]] = []
    for number, problem in enumerate(problems):
        for kind, program in enumerate([drawn.reference(problem), *drawn.buggy(problem)]):
            job = drawn.job(problem, program)
            assert isinstance(job, Job)
            jobs.append(((number, kind), job))
    outcomes = dict(sandbox.map(jobs))
    assert all(outcomes[number, 0].passed for number in range(len(problems)))
    assert {outcome.status for (_, kind), outcome in outcomes.items() if kind} == {"wrong"}


def test_pieces_of_a_file_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "noise.bin.gz"
    path.write_bytes(gzip.compress(random.Random(1).randbytes(1000)))
    task = tasks.load("kolmogorov", str(path))
    assert [p.id for p in task.problems()] == [f"noise/{i * 128}" for i in range(7)]
    with pytest.raises(InputError, match="Cannot read"):
        tasks.load("kolmogorov", str(tmp_path / "none"))
    path.write_bytes(b"\x1f\x8bbroken")
    with pytest.raises((InputError, zlib.error)):
        tasks.load("kolmogorov", str(path))


def test_rows_of_samples_are_read(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    prompt = kt_task.instruction([5, 6])
    rows = [
        {"task": "kolmogorov", "prompt": prompt, "completion": "output = [5, 6]"},
        json.dumps({"prompt": "[1, 2, 3]", "generation": "```python\noutput = [1]\n```###"}),
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(kt_task.read_answers(path)) == [
        Answer((5, 6), "output = [5, 6]"),
        Answer((1, 2, 3), "output = [1]"),
    ]
