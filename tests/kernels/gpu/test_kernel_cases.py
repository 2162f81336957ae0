"""What the benchmark times on a GPU agrees with its references, at small sizes."""

from __future__ import annotations

import torch

from codegen.benchmarks.tools import kernel_cases
from codegen.kernels import backend
from codegen.kernels.backend import KERNELS


def test_right_kernels_pass_their_trials(device, monkeypatch) -> None:
    """Each operation as a GPU would first run it: compared with its reference, types and all."""
    trials = backend.KernelTrials(announced={torch.device(device)})
    monkeypatch.setattr(backend, "trials", trials)
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    monkeypatch.setattr(backend, "use_triton", lambda tensor: True)
    for name in kernel_cases.cases():
        if "bf16" in name and device == "cpu":
            continue
        kernel_cases.make(name, 0, kernel_cases.TINY, device).kernel()
    assert not trials.failed
    names = {form.split()[0] for _, form in trials.left}
    assert names == set(KERNELS)
    assert set(trials.left.values()) == {backend.TRIALS - 1}
