"""A kernel proves itself on a device before its results count."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from codegen.cli import doctor
from codegen.kernels import backend
from codegen.kernels import kv_cache as kernel
from codegen.kernels.backend import TuningCache, read_cache


@pytest.fixture(autouse=True)
def facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TuningCache:
    """As on a GPU: Triton could run, and nothing is known of it yet."""
    facts = TuningCache(tmp_path / "kernels" / "gpu.json", "A GPU")
    monkeypatch.setattr(backend, "use_triton", lambda tensor: True)
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    trials = backend.KernelTrials(announced={torch.device("cpu")})
    monkeypatch.setattr(backend, "trials", trials)
    monkeypatch.setattr(backend, "known", lambda device: facts)
    return facts


KNOWN = backend.known
NUMBERS = "BLOCK_M", "BLOCK_N", "num_warps", "num_stages"


class Doubling:
    """A kernel that doubles and counts its calls; wrong from call ``wrong_at`` on."""

    def __init__(self, wrong_at: int = 1 << 30) -> None:
        self.calls, self.wrong_at = 0, wrong_at

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls >= self.wrong_at:
            return 3 * x
        return 2 * x.clone()


def double(
    x: torch.Tensor, kernel: Doubling, variant: tuple[int, ...] = ()
) -> tuple[torch.Tensor, bool]:
    """The result and whether the reference made it."""
    by_reference: list[torch.Tensor] = []

    def reference() -> torch.Tensor:
        by_reference.append(x + x)
        return by_reference[-1]

    found = backend.run(
        "double", x, lambda: kernel(x), reference, backend.equal, variant=lambda: variant
    )
    return found, bool(by_reference)


def test_a_right_kernel_is_trusted_after_its_trials() -> None:
    kernel, x = Doubling(), torch.arange(4.0)
    made = [double(x, kernel) for _ in range(backend.TRIALS + 3)]
    assert all(torch.equal(found, 2 * x) for found, _ in made)
    assert [by_reference for _, by_reference in made] == [True] * backend.TRIALS + [False] * 3
    assert kernel.calls == len(made)
    # Another type, row length or variant is another kernel to the compiler.
    assert double(x.double(), kernel)[1] and double(torch.arange(5.0), kernel)[1]
    assert double(x, kernel, (1,))[1] and not double(x, kernel)[1]


def test_what_a_device_proved_is_remembered(facts, monkeypatch) -> None:
    """By later processes, along with the settings that others measured meanwhile."""
    other = TuningCache(facts.path, "A GPU", {"other"}, {"M=16": dict.fromkeys(NUMBERS, 16)})
    other.save()
    kernel, x = Doubling(), torch.arange(4.0)
    for _ in range(backend.TRIALS):
        double(x, kernel)
    later = read_cache(facts.path, "A GPU")
    assert later.proved == {"double float32 4", "other"}
    assert later.settings == {"M=16": dict.fromkeys(NUMBERS, 16)}
    monkeypatch.setattr(backend, "trials", backend.KernelTrials())
    monkeypatch.setattr(backend, "known", lambda device: later)
    assert not double(x, kernel)[1]  # at once
    for damage in ("{", '{"proved": 3, "settings": {}}', '{"proved": [], "settings": {"a": 1}}'):
        facts.path.write_text(damage)
        assert read_cache(facts.path, "A GPU") == TuningCache(facts.path, "A GPU")
    facts.path.write_text('{"proved": [], "settings": {"M=16": {"BLOCK_M": -1}}}')
    assert not read_cache(facts.path, "A GPU").settings


def test_doctor_tells_what_agreed_here(monkeypatch, tmp_path) -> None:
    pytest.importorskip("triton", reason="its version is part of what is known")
    if not torch.cuda.is_available():
        assert doctor.gpu_kernels().ok is None
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "../GPU\n9")
    monkeypatch.setattr(backend, "triton_installed", lambda: True)
    monkeypatch.setattr(backend, "known", KNOWN)
    KNOWN.cache_clear()
    found = KNOWN(torch.device("cuda", 0))
    assert found.path is not None and found.path.parent == tmp_path / "kernels"
    assert doctor.gpu_kernels().detail.startswith("0 of 7 agree with PyTorch on ../GPU")
    found.proved = {f"{name} float16 128" for name in backend.KERNELS[1:]}
    check = doctor.gpu_kernels()
    assert check.ok is None and check.detail.endswith("not yet tree_attention")
    found.proved.add("tree_attention float16 128")
    assert doctor.gpu_kernels().ok is True
    KNOWN.cache_clear()


def test_a_new_device_is_announced_once(monkeypatch) -> None:
    monkeypatch.setattr(backend, "trials", backend.KernelTrials())
    kernel, x = Doubling(), torch.arange(4.0)
    with pytest.warns(RuntimeWarning, match="have not run on A GPU before"):
        double(x, kernel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        double(x, kernel)
        double(torch.arange(5.0), kernel)


def test_a_wrong_kernel_is_dropped_and_its_results_never_count() -> None:
    kernel, x = Doubling(wrong_at=3), torch.arange(4.0)
    with pytest.warns(RuntimeWarning, match=r"kernel double is not used on cpu \(its result diff"):
        made = [double(x, kernel) for _ in range(20)]
    assert all(torch.equal(found, 2 * x) and by_reference for found, by_reference in made)
    assert kernel.calls == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        double(x, kernel)


def test_a_kernel_that_does_not_compile_is_dropped() -> None:
    def fails() -> torch.Tensor:
        raise RuntimeError("out of resources: shared memory\nRequired: 300000")

    x = torch.arange(4.0)
    with pytest.warns(RuntimeWarning, match=r"RuntimeError: out of resources: shared memory\)"):
        found = backend.run("x", x, fails, lambda: x, backend.equal)
    assert torch.equal(found, x)


def test_a_kernel_on_trial_does_not_touch_what_it_would_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = pytest.importorskip("codegen.kernels.gpu.kv_cache")

    def ruin(states: list[torch.Tensor], *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for tensor in states:
            tensor.zero_()
        return states[0], states[-1]

    monkeypatch.setattr(module, "launch_compact", ruin)
    states = [torch.randn(2, 3, 9, 4) for _ in range(4)]
    expected = [tensor.clone() for tensor in states]
    moves = torch.tensor([[3, 5], [8, 7]]), torch.tensor([[2, 3], [6, 7]])
    kernel.reference_compact(expected, *moves)
    with pytest.warns(RuntimeWarning, match="compact"):
        kernel.compact(states, *moves)
    assert all(map(torch.equal, states, expected))
