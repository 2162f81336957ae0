"""The benchmarks of the suffix structure and of drafts, on small samples and bytes as tokens."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks import drafts, suffix
from codegen.benchmarks.tools import arctic, code_tokens
from codegen.errors import CodegenError, ConfigError, InputError


class Bytes(code_tokens.Code):
    """Tokens without a model."""

    def __init__(self) -> None:
        pass

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def line_ends(self) -> frozenset[int]:
        return frozenset([10])


@pytest.fixture(autouse=True)
def without_model_and_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (drafts, suffix):
        monkeypatch.setattr(module, "Code", Bytes)
        monkeypatch.setattr(module, "find_arctic", lambda: None)


@pytest.mark.slow
def test_suffix_figures() -> None:
    figures: dict[str, Any] = dict(suffix.run(tokens=20_000, contexts=8, repeats=2))
    for key in ("append_us", "append_one_us", "speculate_us", "bytes_per_token"):
        assert figures[key] > 0
    assert figures["match_64_known"] == 64 and figures["match_512_known"] == 512
    assert figures["match_512_new"] < 512
    assert figures["arctic"] is None and "arctic-inference" in figures["install"]
    assert figures["samples"]["runs"] == 2 and figures["spread"]["append_us"][0] > 0
    with pytest.raises(ConfigError, match="contexts"):
        suffix.run(contexts=0)


@pytest.mark.slow
def test_draft_figures(tmp_path: Path) -> None:
    repository, traces = tmp_path / "repository", tmp_path / "traces"
    repository.mkdir()
    traces.mkdir()
    _git(repository, "init", "-q")
    text = Path(json.__file__).read_text(encoding="utf-8")[:4000]
    for change in ("import", "from", "def"):
        (repository / "a.py").write_text(text.replace(change, "changed", 1), encoding="utf-8")
        _git(repository, "add", "a.py")
        _git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", change)
    steps = [{"action": "ls", "observation": "a\nb\n", "response": "I look.\n```\nls\n```"}] * 3
    with gzip.open(traces / "one.traj.gz", "wt", encoding="utf-8") as file:
        json.dump({"trajectory": steps}, file)
    figures: dict[str, Any] = dict(
        drafts.run(files=2, commits=5, limit=32, repository=str(repository), traces=str(traces))
    )
    for workload in ("edit_2pct", "edit_05pct", "history", "traces", "new"):
        key = f"{workload}_tokens_per_step"
        assert 1 <= figures[key] <= 33
        assert figures["chain"][key] == pytest.approx(figures[key], rel=1e-3)
        assert figures["prompt_lookup"][key] >= 1 and figures["arctic"] == {
            f"{name}_{part}": None
            for name in ("edit_2pct", "edit_05pct", "history", "traces", "new")
            for part in ("tokens_per_step", "drafted_per_step", "accepted", "cpu_us_per_step")
        }
    assert figures["edit_05pct_tokens_per_step"] > figures["edit_2pct_tokens_per_step"] > 10
    assert figures["samples"]["history_tokens_per_step"] == 2
    assert figures["samples"]["traces_tokens_per_step"] == 3
    assert figures["traces_tokens_per_step"] > 2  # the second answer is the first one again


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def test_what_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \.traj\.gz file"):
        code_tokens.trace_steps(tmp_path)
    with pytest.raises(InputError, match="Git can't read"):
        Bytes().history(str(tmp_path), 3, 100)


def test_random_edits_have_their_rate() -> None:
    tokens = list(range(20_000))
    assert code_tokens.random_edits(tokens, 0.0, random.Random(1)) == tokens
    edited = code_tokens.random_edits(tokens, 0.03, random.Random(1))
    kept = len(set(tokens) & set(edited))
    assert 350 <= len(tokens) - kept <= 450  # two thirds of 3 % are gone
    assert abs(len(edited) - len(tokens)) <= 60


def test_a_peer_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(arctic.VARIABLE, "/no/such/python")
    with pytest.raises(CodegenError, match="CODEGEN_ARCTIC_PYTHON"):
        arctic.find_arctic()
