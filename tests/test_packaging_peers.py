"""The package beside other frameworks: pip's or uv's resolver finds versions for both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.processes import run

ROOT = Path(__file__).parents[1]
PEERS = {
    "verifiers==0.4.0": ("models", "rl", "serve"),
    "nemo-gym==0.7.0": ("models", "rl", "serve"),
    "verl==0.9.1": ("mcp", "serve"),  # needs an older transformers
    "inspect-ai==0.3.285": ("mcp", "models", "rl", "serve"),
    "evaluate==0.4.6": ("mcp", "models", "rl", "serve"),
    "lm_eval==0.4.13": ("mcp", "models", "rl", "serve"),
    "openenv==0.10.0": ("models", "rl", "serve"),
    "harbor==0.26.0": ("mcp", "models", "rl", "serve"),
}


@pytest.mark.long
@pytest.mark.parametrize("peer", PEERS)
def test_it_can_be_installed_with(peer: str, tmp_path: Path) -> None:
    if not (uv := shutil.which("uv")):
        pytest.skip("uv is not installed")
    (tmp_path / "peer.in").write_text(peer)
    python = "3.13.14" if peer.startswith("nemo") else "3.12"
    command = [uv, "pip", "compile", "-q", "--python-version", python, "pyproject.toml"]
    for extra in ("", *PEERS[peer]):
        chosen = ["--extra", extra] if extra else []
        done = run(*command, tmp_path / "peer.in", *chosen, cwd=ROOT)
        assert done.returncode == 0, f"{peer} and {extra or 'the base package'}: {done.stderr}"
