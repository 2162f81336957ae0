"""The probes hold here and on a slow machine, and say why they cannot run."""

from __future__ import annotations

import pytest

from codegen.core.errors import SandboxError
from codegen.sandbox import Limits, launch, probe

pytestmark = pytest.mark.usefixtures("needs_a_sandbox")


def test_probes_hold_here() -> None:
    probes = probe()
    assert len(probes) == 10
    assert [p for p in probes if not p.ok] == []


def test_probes_hold_on_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times slower: the limit of CPU time may end each program, but tells nothing."""
    from codegen.sandbox import probes

    monkeypatch.setattr(probes, "LIMITS", Limits(cpu_s=0.05, memory_mib=256))
    assert [p for p in probe() if not p.ok] == []


def test_a_probe_without_a_sandbox_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SandboxError("nothing works")

    monkeypatch.setattr(launch, "start", refuse)
    (only,) = probe()
    assert not only.ok and "bubblewrap" in only.detail
