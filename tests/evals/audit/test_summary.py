"""Counts and intervals of the summary, and pages that show hostile text as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.core.errors import InputError
from codegen.core.runs import RunDirectory
from codegen.evals.audit.problem import AuditRow, Survivor
from codegen.evals.audit.summary import fraction, read_finding, summarize, write_pages

HOSTILE = "</pre><script>alert(1)</script>"


def survivor(kind: str, *by: str, killed: bool = False) -> Survivor:
    return Survivor(kind, f"x = 2  # {HOSTILE}", by, f"f({HOSTILE!r})", "1", "2", killed)


ROWS = [
    AuditRow("fine", mutants={"call": 2}, suite=True, trust="isolated"),
    AuditRow("bad", reference="x = 1", mutants={"call": 1, "branch": 3}, suite=True, survivors=(
        survivor("call", "inputs", "suite", killed=True), survivor("branch", "suite"),
        survivor("branch"), survivor("branch", "inputs"),
    ), dead=(HOSTILE,)),
    AuditRow("worse", reference="x = 1", mutants={"call": 1}, survivors=(
        survivor("call", "inputs"),
    )),
    AuditRow("broken", "reference_fails", HOSTILE),
]  # fmt: skip
ABOUT = {"task": "toy", "suite": "big", "seed": 0, "harness": "isolated"}


def test_counts() -> None:
    found = summarize(ROWS, ABOUT)
    assert (found["made"], found["survivors"], found["proved"]) == (7, 5, 4)
    assert (found["weak"]["count"], found["weak"]["of"]) == (2, 3)
    assert (found["references"]["count"], found["references"]["of"]) == (3, 4)
    call = found["classes"]["call"]
    assert (call["mutants"], call["proved"], call["weak"]["of"]) == (4, 2, 3)
    mutants = found["agreement"]["mutants"]
    assert (mutants["both"], mutants["only_inputs"], mutants["only_suite"]) == (1, 1, 1)
    assert mutants["recall"]["value"] == mutants["precision"]["value"] == 0.5
    assert found["agreement"]["tasks"]["both"] == 1
    assert found["agreement"]["hardened"]["value"] == 0.5


@pytest.mark.parametrize(("count", "total"), [(0, 9), (3, 20), (120, 120), (57, 378)])
def test_intervals_are_wilsons(count: int, total: int) -> None:
    found = fraction(count, total)
    for bound in (found["low"], found["high"]):
        if 0 < bound < 1:  # where the score test is exactly significant
            z = abs(count / total - bound) / (bound * (1 - bound) / total) ** 0.5
            assert z == pytest.approx(1.959964, abs=1e-4)
    assert found["low"] <= found["value"] <= found["high"]
    assert fraction(0, 0)["value"] is None


def test_pages_show_the_worst_first_and_hostile_text_as_text(tmp_path: Path) -> None:
    write_pages(RunDirectory(tmp_path), ROWS, summarize(ROWS, ABOUT))
    page = (tmp_path / "audit.html").read_text()
    assert page.index(">worse<") < page.index(">bad<") and ">fine<" not in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "reference fails" in page
    assert (
        "| accept a program that is proved wrong | 2 | 3 |" in (tmp_path / "README.md").read_text()
    )


def test_a_report_says_what_an_audit_found(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(summarize(ROWS, ABOUT)))
    task, sentence = read_finding(tmp_path)
    assert task == "toy" and sentence.startswith("The tests of 2 of 3 problems of this task accept")
    for text in ("", "[]", '{"task": "toy", "weak": {"count": "x"}}'):
        (tmp_path / "audit.json").write_text(text)
        with pytest.raises(InputError, match="has no audit"):
            read_finding(tmp_path)
