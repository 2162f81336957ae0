"""The benchmark of cache editing, on a tiny random model."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from codegen.benchmarks import cache_edit
from codegen.benchmarks.tools import llama
from codegen.benchmarks.tools.cache_methods import METHODS, compare, logits_behind
from codegen.benchmarks.tools.cache_peers import encoded as encoded_by
from codegen.benchmarks.tools.cache_peers import small_model
from codegen.benchmarks.tools.cache_speed import edits_of
from codegen.benchmarks.tools.edit_cases import history_cases, make_case
from codegen.benchmarks.tools.editor_workloads import LAYOUTS, lay_out, workloads
from codegen.benchmarks.tools.related_edits import RELATED
from codegen.errors import ConfigError

OLD = '''"""A module."""

import os


def first(path):
    """Where it is."""
    return os.path.abspath(path)


def second(path, base):
    """Where it is below the base."""
    found = os.path.relpath(path, base)
    if found.startswith(".."):
        raise ValueError(found)
    return found


def third(path):
    """What it is called."""
    return os.path.basename(path)
'''
NEW = OLD.replace("import os\n", "import os\nimport sys\n").replace('"Where', '"Tells where')


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.fixture
def repository(tmp_path: Path) -> str:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        dates = dict.fromkeys(("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"), "2026-01-01T00:00:00Z")
        environment = os.environ | dates  # the same commits each time
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, env=environment)

    git("init", "-q")
    for text in (OLD, NEW):
        (tmp_path / "module.py").write_text(text)
        git("add", "module.py")
        git("commit", "-q", "-m", "change")
    return str(tmp_path)


def test_cases_of_a_history(repository: str, tokenizer: Any) -> None:
    seen = set()
    for seed in range(12):
        (case,) = history_cases(tokenizer, repository, count=5, window=400, seed=seed)
        before, after = tokenizer.decode(case.before), tokenizer.decode(case.after)
        assert OLD.startswith(before) and NEW.startswith(after)
        # Both end at the same place, behind the last difference.
        assert before.count("Where it is b") and before[-30:] == after[-30:]
        assert 0 <= case.statement <= case.tail <= len(case.after)
        assert not case.otherwise
        seen.add(after)
    assert len(seen) > 3
    found = [
        case
        for seed in range(12)
        for case in history_cases(tokenizer, repository, count=5, window=120, seed=seed)
    ]
    assert found and all(len(case.after) <= 120 for case in found)
    starts = {tokenizer.decode(case.after)[:20] for case in found}
    assert NEW[:20] not in starts or len(starts) > 1
    assert all(f"\n{start}" in NEW for start in starts - {NEW[:20]})  # whole lines


def test_methods_against_plain_forward_passes(model: Any, tokenizer: Any) -> None:
    case = make_case(tokenizer, "case", OLD[:300], NEW[:330])
    logits = logits_behind(model, case)
    with torch.inference_mode():
        for name, tokens in (("full", case.after), ("ignored", case.before)):
            wanted = model(torch.tensor([tokens])).logits[0, -1]
            torch.testing.assert_close(logits[name], wanted, rtol=1e-3, atol=1e-3)
    found = compare(model, frozenset(), case)
    assert found["full"].same_line and found["full"].kl == 0
    assert found["ignored"].encoded == 0 and found["pie"].encoded < found["ours"].encoded
    assert found["conflict"].kl > found["pie"].kl > found["ours_fast"].kl > 0
    assert set(found) == {"full", *METHODS}


def test_workloads_of_an_editor(tokenizer: Any) -> None:
    small = small_model(len(tokenizer))
    for name, states in workloads().items():
        assert all(one != other for one, other in pairwise(states)), name
        for layout in LAYOUTS:
            contexts = [lay_out(tokenizer, state, layout) for state in states]
            total = sum(len(context.tokens) for context in contexts[1:])
            encoded = encoded_by(small, contexts)
            assert encoded <= total / 2
            if name == "type at the cursor" and layout == "prefix":
                assert encoded <= 2 * len(states)


def test_edits_for_speed() -> None:
    text = inspect.getsource(argparse)[:16_000]
    edited = edits_of(text)
    assert len({text, *edited.values()}) == 6
    assert all(after[-7000:] == text[-7000:] for after in edited.values())


def test_related_edits_have_two_different_continuations(tokenizer: Any) -> None:
    for edit in RELATED:
        right, wrong = (tokenizer.encode(text)[0] for text in (edit.right, edit.wrong))
        assert right != wrong and edit.before != edit.after, edit.name


@pytest.mark.slow
def test_figures(
    repository: str, model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_edit, "find_llama", lambda: None)
    monkeypatch.setattr(cache_edit, "_speed", lambda report, *_: report.set("speedup_4k", 1.0))
    monkeypatch.setattr(
        "codegen.models.load", lambda _: SimpleNamespace(model=model, tokenizer=tokenizer)
    )
    results = tmp_path / "results.jsonl"
    options = {"repositories": repository, "window": 300, "results": str(results)}
    figures: dict[str, Any] = dict(cache_edit.run(True, **options))  # type: ignore[arg-type]
    json.dumps(figures)
    assert figures["speedup_4k"] > 0 and 0 <= figures["related_within_half_logit"] <= 1
    assert (
        figures["real"]["full"]["same_line"] == 1 and figures["samples"]["real_next_line_same"] == 1
    )
    assert figures["llama_real"] is None and "llama.cpp" in figures["install"]
    assert figures["tokens_encoded"]["spm"]["paste"]["llama_8"] is None
    assert len(results.read_text().splitlines()) == 1
    again: dict[str, Any] = dict(cache_edit.run(True, **options))  # type: ignore[arg-type]
    assert again["real"] == figures["real"]
    assert dict(cache_edit.run(True))["real_next_line_same"] is None
    with pytest.raises(ConfigError, match="edits"):
        cache_edit.run(edits=0)
    with pytest.raises(ConfigError, match="no part 'speeed'"):
        cache_edit.run(parts="speeed,real")


def test_a_peer_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(llama.PYTHON, raising=False)
    monkeypatch.setenv(llama.MODEL, str(tmp_path / "no.gguf"))
    with pytest.raises(ConfigError, match=r"no\.gguf"):
        llama.find_llama()
    monkeypatch.delenv(llama.MODEL)
    assert llama.find_llama() is None
    monkeypatch.setenv(llama.PYTHON, "/bin/false")
    with pytest.raises(ConfigError, match="can't import xllamacpp"):
        llama.find_llama()
