"""EvalPlus's tests, which the search never sees, agree with its proofs."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.evals.audit import AuditSettings, audit
from codegen.evals.tasks import load
from codegen.evals.tasks.humaneval import HumanEval
from codegen.sandbox import Sandbox


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
