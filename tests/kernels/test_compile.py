"""Every kernel compiles for three architectures, fits a multiprocessor without spilling, and reads
rows of a vocabulary, keys and values sixteen bytes at a time.
"""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton is not installed (Linux: pip install triton)")

from codegen.benchmarks.tools.compile_kernels import ARCHITECTURES, compile_variant, variants
from codegen.core.errors import MachineError

_EVERY_RUN = {("accept.sibling fp32", 90), ("tree_attention.prefix fp16 D=128 T=64 paged", 80)}
_WIDE = "tree_attention.prefix", "accept.sibling", "accept.walk", "gumbel.block"
_SHARED = 99 * 1024  # what a block of sm_80's smaller relatives (sm_86, sm_89) may have

CASES = [
    pytest.param(
        variant,
        architecture,
        marks=() if (variant.name, architecture) in _EVERY_RUN else pytest.mark.long,
        id=f"{variant.name}, sm_{architecture}",
    )
    for variant in variants()
    for architecture in ARCHITECTURES
]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "architecture"), CASES)
def test_fits(variant, architecture, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # nothing compiled earlier counts
    figures = compile_variant(variant, architecture)
    assert f".target sm_{architecture}" in figures.ptx
    assert 0 < figures.registers <= 255
    assert figures.registers * figures.threads <= 65536
    assert figures.spilled == 0
    assert figures.shared <= _SHARED
    if variant.name.startswith(_WIDE):
        assert figures.vector == 16
    if "fp16" in variant.name and "attention" in variant.name:
        assert "mma" in figures.ptx  # on tensor cores


def test_the_interpreter_compiles_nothing(monkeypatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(MachineError, match="TRITON_INTERPRET"):
        compile_variant(next(variants()), 80)
