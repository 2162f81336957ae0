"""Programs that write to their standard error are judged by what they do."""

from __future__ import annotations

from typing import Any

import pytest

from codegen.sandbox import Job, Sandbox

PROGRAM = (
    "import sys\n\n\ndef f():\n    print('a note', file=sys.stderr, flush=True)\n    return 1\n"
)


@pytest.mark.parametrize(
    "job",
    [
        Job(PROGRAM, test="assert f() == 1"),
        Job(PROGRAM, test="assert f() == 1", mode="in_sandbox"),
        Job(PROGRAM + "\nf()\nprint(2)\n", mode="stdio", expected_stdout="2\n"),
        Job(PROGRAM, mode="calls", calls=[("f", [])]),
    ],
    ids=lambda job: job.mode,
)
def test_a_note_on_standard_error_is_no_fault(job: Any, sandbox: Sandbox) -> None:
    outcome = sandbox.run(job)
    assert (outcome.status, outcome.message) == ("passed", "")
