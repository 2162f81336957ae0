"""The soak, shortened: many jobs, some of which leave all they can, and nothing is left of them."""

from __future__ import annotations

import pytest

from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.soak import NUISANCES, soak
from codegen.core.errors import SandboxError
from codegen.sandbox import Sandbox
from codegen.sandbox.launch import SLOTS

DESCRIPTORS_OF_A_PLACE = 6


@pytest.mark.long
def test_a_short_soak_leaves_nothing() -> None:
    try:
        Sandbox(workers=1).run("pass")
    except SandboxError as error:
        pytest.skip(str(error))
    report = Report()
    soak(report, seconds=9.0, hostile_share=0.3)
    figures = report.figures
    assert figures["wrong_verdicts"] == 0, report.notes
    assert figures["jobs"] > len(NUISANCES)
    for what in ("processes", "files", "mounts", "ipc_objects"):
        # Fewer is no leak: a process of tests that is due to be replaced is missing then.
        assert figures[f"leaked_{what}"] <= 0, what
    assert figures["processes_after_closing"] == 0
    # Zygotes may have made more sets of namespaces since the warm-up, up to a maximum.
    leaked = figures["leaked_descriptors"]
    assert leaked % DESCRIPTORS_OF_A_PLACE == 0
    assert leaked <= 4 * SLOTS * DESCRIPTORS_OF_A_PLACE
    assert figures["memory_growth_mib"] < 64
