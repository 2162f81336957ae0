"""The GGUF benchmark runs both sides for real and leaves no server behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codegen.benchmarks import gguf
from codegen.errors import ConfigError
from codegen.models import embedded


def llama_children() -> set[str]:
    """The process ids of this process's llama.cpp servers; other tests may have one."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = {pid for task in tasks for pid in task.read_text().split()}
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in pids}
    return {
        pid for pid, one in commands.items() if one.exists() and b"llama_child" in one.read_bytes()
    }


@pytest.mark.long
def test_both_sides_are_measured(embedded_gguf: Path) -> None:
    if embedded.find() is None:
        pytest.skip("the embedded model is not on this machine")
    before = llama_children()
    report = gguf.run(prompts=1, max_new_tokens=3)
    for side in ("ours", "llama"):
        for batch in (1, 8):
            assert report[f"{side}_prompt_tokens_per_s_batch_{batch}"] > 0  # type: ignore[operator]
            assert report[f"{side}_tokens_per_s_batch_{batch}"] > 0  # type: ignore[operator]
    # The file is mapped whole, and read.
    peak = report["llama_peak_mib_batch_1"]
    assert isinstance(peak, float) and peak > embedded_gguf.stat().st_size / 2**20
    assert report["samples"]["same_rate"] == 1  # type: ignore[index]
    assert llama_children() <= before


def test_common_characters() -> None:
    assert gguf._common("abc", "abd") == 2
    assert gguf._common("ab", "abd") == gguf._common("abd", "ab") == 2
    assert gguf._first_line("```python\nx = 1\ny") == gguf._first_line("x = 1") == "x = 1"
    with pytest.raises(ConfigError, match="prompts"):
        gguf.run(prompts=0)
