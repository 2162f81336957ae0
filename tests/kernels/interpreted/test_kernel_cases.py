"""What the benchmark times on a GPU agrees with its references, at small sizes."""

from __future__ import annotations

import torch

from codegen.benchmarks.tools import kernel_cases


def test_benchmark_cases(device, monkeypatch) -> None:
    monkeypatch.setattr(kernel_cases, "_VOCABULARY", 3200)
    monkeypatch.setattr(kernel_cases, "_LAYERS", 2)
    seen = []
    for case in kernel_cases.cases(0, 64, 2, device):
        for one, other in zip(case.kernel(), case.reference(), strict=True):
            torch.testing.assert_close(one, other, atol=case.tolerance, rtol=case.tolerance)
        assert case.bytes > 0
        seen.append(case.name.split()[0])
    assert len(seen) == len(set(seen)) == 7
