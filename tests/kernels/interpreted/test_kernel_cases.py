"""What the benchmark times on a GPU agrees with its references, at small sizes."""

from __future__ import annotations

import torch

from codegen.benchmarks.tools import kernel_cases
from codegen.kernels import accept, backend


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


def test_right_kernels_pass_their_trials(device, monkeypatch) -> None:
    """Each operation as a GPU would first run it: compared with its reference, types and all."""
    monkeypatch.setattr(kernel_cases, "_VOCABULARY", 3200)
    monkeypatch.setattr(kernel_cases, "_LAYERS", 2)
    monkeypatch.setattr(backend, "_trusting", False)
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    monkeypatch.setattr(backend, "use_triton", lambda tensor: True)
    monkeypatch.setattr(backend, "_left", {})
    monkeypatch.setattr(backend, "_failed", set())
    for case in kernel_cases.cases(0, 64, 2, device):
        case.kernel()
    children = torch.tensor([[[1, 2], [-1, -1], [-1, -1]]], device=device)
    best = torch.tensor([[7, 1, 2]], device=device)
    accept.accept_greedy(children, torch.tensor([[5, 7]], device=device), best, 1)
    assert not backend._failed
    assert len({name for name, *_ in backend._left}) == 8
    assert set(backend._left.values()) == {backend.TRIALS - 1}
