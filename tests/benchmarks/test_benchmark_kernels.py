"""The benchmark of compiled kernels."""

from __future__ import annotations

import pytest

from codegen.benchmarks import kernels

pytest.importorskip("triton", reason="Triton is not installed (Linux: pip install triton)")


@pytest.mark.slow
def test_compiled_not_run() -> None:
    found = kernels.run(quick=True)
    rows = found["kernels"]
    assert isinstance(rows, list) and found["samples"] == {"kernels": len(rows)}
    assert {row["kernel"].split(".")[0].split()[0] for row in rows} == {
        "tree_attention", "accept", "gumbel", "logits", "compaction", "rotation",
    }  # fmt: skip
    assert all(row["architecture"] == "sm_90" and row["registers"] > 0 for row in rows)
    assert found["timings"] is None
    assert any("codegen bench gpu" in note for note in found["notes"])  # type: ignore[union-attr]
