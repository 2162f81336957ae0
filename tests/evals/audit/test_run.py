"""An audit of a set with broken rows: states, proofs, resumption, and any number of workers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ResumeError
from codegen.evals.audit import AuditRow, AuditSettings, audit, hardened_rows, open_task
from codegen.evals.tasks import load
from codegen.evals.tasks.humaneval import HumanEval
from codegen.evals.tasks.validate import check
from codegen.sandbox import Sandbox

SETTINGS = AuditSettings(mutants=20, inputs=50)


def audited(path: Path, out: Path, workers: int = 1, **options: Any) -> list[AuditRow]:
    task, unreadable = open_task(str(path))
    with Sandbox(workers=workers) as sandbox:
        rows, _ = audit(
            task, out=out, sandbox=sandbox, settings=SETTINGS, unreadable=unreadable, **options
        )
    return [replace(row, cpu_s=0.0) for row in rows]


def called(program: str, call: str) -> object:
    space: dict[str, Any] = {}
    exec(program, space)
    try:
        return eval(call, space)  # noqa: S307
    except Exception as error:  # noqa: BLE001
        return type(error)


@pytest.mark.slow
def test_each_row_ends_in_a_state_and_proofs_hold(rows_file: Path, tmp_path: Path) -> None:
    rows = {row.id: row for row in audited(rows_file, tmp_path / "out")}
    assert {id_: row.state for id_, row in rows.items() if row.state != "audited"} == {
        "no reference": "no_reference", "fails": "reference_fails", "endless": "reference_fails",
        "javascript": "not_python", "huge": "too_large", "nothing": "tests_nothing",
        "open bracket": "bad_tests",
        "flaky": rows["flaky"].state, f"{rows_file}:12": "unreadable",
    }  # fmt: skip
    assert rows["flaky"].state in ("reference_fails", "flaky_reference")
    assert rows["endless"].message.startswith("timeout")
    assert rows["strong"].proved == [] and rows["strong"].dead == ()
    assert rows["dead"].dead == ("assert clamp", "assert clamp(1, 2, 3) == 9 or True")
    weak = rows["weak"]
    assert len(weak.proved) >= 3 and weak.added
    for survivor in weak.proved:
        right = called(weak.reference, survivor.input)
        assert repr(right) == survivor.expected != repr(called(survivor.program, survivor.input))
        assert survivor.killed
    assert weak.forgers == () and weak.trust in ("isolated", "blinded")


@pytest.mark.slow
def test_the_hardened_file_is_a_task_that_kills_the_proved_programs(
    rows_file: Path, tmp_path: Path
) -> None:
    rows = audited(rows_file, tmp_path / "out")
    task, _ = open_task(str(rows_file))
    written = [json.loads(line) for line in hardened_rows(task, rows)]
    proved = {row.id: [s.program for s in row.proved] for row in rows}
    (tmp_path / "hard.jsonl").write_text(
        "".join(json.dumps({**row, "buggy": proved[row["id"]]}) + "\n" for row in written)
    )
    with Sandbox(workers=1) as sandbox:
        found = check(load(f"file:{tmp_path / 'hard.jsonl'}"), sandbox)
    assert found.passed == found.references == 3
    assert found.accepted == [] and found.buggy == sum(map(len, proved.values())) > 3
    originals = {
        row["id"]: row["tests"] for row in map(json.loads, rows_file.open()) if "id" in row
    }
    assert all(row["tests"].startswith(originals[row["id"]]) for row in written)


def steady(rows: list[AuditRow]) -> list[AuditRow]:
    """Without the rows whose messages have times."""
    return [row for row in rows if row.id not in ("flaky", "endless")]


@pytest.mark.slow
def test_a_killed_audit_resumes_and_workers_do_not_matter(rows_file: Path, tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audited(rows_file, tmp_path / "one", on_progress=stop)
    before = (tmp_path / "one" / "rows.jsonl").read_text()
    assert before.count("\n") == 4
    seen: list[int] = []
    one = audited(rows_file, tmp_path / "one", on_progress=lambda done, _: seen.append(done))
    assert seen[0] == 5 and (tmp_path / "one" / "rows.jsonl").read_text().startswith(before)
    two = audited(rows_file, tmp_path / "two", workers=2)
    assert steady(one) == steady(two)
    with pytest.raises(ResumeError, match="mutants"):
        task, _ = open_task(str(rows_file))
        with Sandbox(workers=1) as sandbox:
            audit(task, out=tmp_path / "two", sandbox=sandbox, settings=AuditSettings(mutants=5))


@pytest.mark.slow
def test_a_reference_that_depends_on_the_hash_seed_is_flaky(tmp_path: Path) -> None:
    program = "def f(words):\n    return list(set(words))\n"
    with Sandbox(workers=1) as sandbox, Sandbox(workers=1, hash_seed=1) as reseeded:
        first, other = (each.run(program, calls=["f('abcdefgh')"]) for each in (sandbox, reseeded))
        assert first.values[0] != other.values[0]
        row = {"id": "a", "prompt": "Set.", "entry_point": "f", "solution": program}
        row["tests"] = f"assert f('abcdefgh') == {first.values[0]!r}"
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        for other, state in ((None, "audited"), (reseeded, "flaky_reference")):
            (found,) = audited(tmp_path / "a.jsonl", tmp_path / state, reseeded=other)
            assert found.state == state


@pytest.mark.slow
def test_most_proofs_and_the_suite_agree(tmp_path: Path, data_folder: Path) -> None:
    whole = load("humaneval")
    chosen = [p for p in whole.problems() if int(p.id.partition("/")[2]) in (40, 43, 71, 105)]
    task = HumanEval(whole.name, "", chosen, whole.source)
    suite = load("humaneval-plus", str(data_folder / "evalplus" / "HumanEvalPlus.jsonl.gz"))
    with Sandbox(workers=1) as sandbox:
        _, summary = audit(
            task, out=tmp_path / "out", sandbox=sandbox, settings=AuditSettings(), suite=suite
        )
    found = summary["agreement"]
    assert found["problems"] == 4
    both, missed = found["mutants"]["both"], found["mutants"]["only_suite"]
    assert both >= 2 * missed and both > found["mutants"]["only_inputs"]
