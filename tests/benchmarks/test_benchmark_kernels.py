"""The benchmark of kernels where no GPU is."""

from __future__ import annotations

import pytest
import torch

from codegen.benchmarks import kernels
from codegen.errors import ConfigError

pytest.importorskip("triton", reason="Triton is not installed (Linux: pip install triton)")


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU would be timed")
def test_without_a_gpu() -> None:
    found = kernels.run(quick=True)
    rows = found["kernels"]
    assert isinstance(rows, list) and found["samples"] == {"kernels": len(rows)}
    assert {row["kernel"].split(".")[0].split()[0] for row in rows} == {
        "tree_attention", "accept", "gumbel", "logits", "compaction", "rotation",
    }  # fmt: skip
    assert all(row["architecture"] == "sm_90" and row["registers"] > 0 for row in rows)
    assert found["timings"] is None
    assert any("nothing was timed" in note for note in found["notes"])  # type: ignore[union-attr]


def test_options() -> None:
    with pytest.raises(ConfigError, match="batch"):
        kernels.run(batch=0)
