"""Efficiency: programs of known growth are told apart, and nothing else decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codegen.errors import InputError, SandboxError
from codegen.evals import tasks
from codegen.evals.sandbox import Sandbox
from codegen.evals.scoring import score
from codegen.records import Sample, Verdict, read_jsonl

HEAD = "def total(n):\n"
# The same work several times over, so that the ratios are known.
FAST, MIDDLE, SLOW = (
    f"{HEAD}    s = 0\n    for _ in range({times} * n):\n        s += 1\n    return s // {times}\n"
    for times in (2, 8, 32)
)
ROW = {
    "task_id": "Perf/1",
    "prompt": f'{HEAD}    """How often a loop runs."""\n',
    "entry_point": "total",
    "reference": [SLOW, MIDDLE, FAST],
    "pe_input": [150_000],
}


@pytest.mark.slow
@pytest.mark.usefixtures("cache")
def test_references_beaten(
    write_rows: Callable[[list[Any]], Path],
    tmp_path: Path,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("codegen.evals.tasks.efficiency.REPEATS", 3)
    task = tasks.load("evalperf", str(write_rows([ROW])))
    programs = [
        f"{HEAD}    return n\n",  # at once
        MIDDLE.replace("8", "4"),
        MIDDLE.replace("8", "16"),
        SLOW.replace("32", "64"),
        f"{HEAD}    return n + 1\n",
        # Its own clock says nothing.
        "import time\ntime.process_time = time.thread_time = lambda: 0.0\n"
        + SLOW.replace("32", "64"),
    ]
    samples = [
        Sample("", "Perf/1", i, "", program, "stop", {}, 0, 1, 1, meta={"style": "solution"})
        for i, program in enumerate(programs)
    ]
    result = score(samples, task, out=tmp_path / "out", sandbox=sandbox)
    problem = task.problems()[0]
    lines = (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()
    assert len(lines) == len(programs)
    beaten = [
        round(3 * task.measure_verdict(problem, v).get("references_beaten", -1))
        for v in read_jsonl(Verdict, tmp_path / "out" / "verdicts.jsonl")
    ]
    assert beaten == [3, 2, 1, 0, 0, 0], (beaten, lines)
    assert result.measures["references_beaten"].mean == pytest.approx(6 / 18)
    assert result.statuses == {"passed": 5, "wrong": 1}


@pytest.mark.usefixtures("cache")
def test_references_that_disagree_or_fail(
    write_rows: Callable[[list[Any]], Path], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen.evals.tasks.efficiency.REPEATS", 1)
    for wrong, said in ((f"{HEAD}    return 1\n", "different"), (f"{HEAD}    1 / 0\n", "Zero")):
        row = {**ROW, "reference": [f"{HEAD}    return n\n", wrong]}
        task = tasks.load("evalperf", str(write_rows([row])))
        with pytest.raises(SandboxError, match=said):
            task.prepare(task.problems(), sandbox)
    quick = tasks.load(
        "evalperf", str(write_rows([{**ROW, "reference": [f"{HEAD}    return n\n"]}]))
    )
    quick.prepare(quick.problems(), sandbox)
    assert "less than" in quick.reference_exceptions["Perf/1"]


@pytest.mark.parametrize(
    "change", [{"reference": []}, {"pe_input": "["}, {"pe_input": []}, {"pe_input": 3}]
)
def test_rows_that_cant_be_used(
    change: dict[str, Any], write_rows: Callable[[list[Any]], Path]
) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl:1"):
        tasks.load("evalperf", str(write_rows([{**ROW, **change}])))
