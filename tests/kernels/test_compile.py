"""Every kernel compiles for the two architectures and fits a multiprocessor without spilling."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton is not installed (Linux: pip install triton)")

from codegen.errors import MachineError
from codegen.kernels.gpu.compile import ARCHITECTURES, compile_variant, variants

_EVERY_RUN = "fp16 D=128", "k=4", "accept", "logits"
_SHARED = 99 * 1024  # what a block of sm_80's smaller relatives (sm_86, sm_89) may have

CASES = [
    pytest.param(
        variant,
        marks=() if any(part in variant.name for part in _EVERY_RUN) else pytest.mark.long,
        id=variant.name,
    )
    for variant in variants()
]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", CASES)
def test_fits(variant, architecture, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # nothing compiled earlier counts
    figures = compile_variant(variant, architecture)
    assert f".target sm_{architecture}" in figures.ptx
    assert 0 < figures.registers <= 255
    assert figures.registers * figures.threads <= 65536
    assert figures.spilled == 0
    assert figures.shared <= _SHARED
    if "fp16" in variant.name and "attention" in variant.name:
        assert "mma" in figures.ptx  # on tensor cores


def test_the_interpreter_compiles_nothing(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(MachineError, match="TRITON_INTERPRET"):
        compile_variant(next(variants()), 80)
