"""The benchmark of cache editing, on a tiny random model."""

from __future__ import annotations

import argparse
import ast
import difflib
import gzip
import inspect
import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import codegen.models
from codegen.benchmarks import cache_edit
from codegen.benchmarks.tools import llama, settled_edits
from codegen.benchmarks.tools.cache_methods import METHODS, compare, logits_behind
from codegen.benchmarks.tools.cache_peers import encoded as encoded_by
from codegen.benchmarks.tools.cache_peers import small_model
from codegen.benchmarks.tools.cache_speed import edits_of
from codegen.benchmarks.tools.edit_cases import make_case
from codegen.benchmarks.tools.editor_workloads import LAYOUTS, lay_out, workloads
from codegen.benchmarks.tools.history_edits import FILES, KINDS, history_edits, patched
from codegen.benchmarks.tools.related_edits import RELATED
from codegen.errors import ConfigError
from codegen.server.model import CompletionModel
from codegen.server.prompts import Family, Prompter
from codegen.server.requests import ServerLimits

LIMITS = ServerLimits(context_tokens=512)
TINY = {
    "prefix": None,
    "psm": Family("psm", "<|endoftext|>{prefix}<|im_start|>{suffix}<|im_end|>"),
}

MODULE = '''"""A module."""

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


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model_dir)


def commit(
    old: str, new: str, number: int = 0, repository: str = "pallets/flask"
) -> dict[str, Any]:
    """A row of the data."""
    diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/m.py", "b/m.py")
    return {
        "repository": repository,
        "commit": str(number) * 40,
        "path": "module.py",
        "old": old,
        "diff": "".join(diff),
    }


CHANGES = {
    "insert": MODULE.replace("    return found\n", "    found = found.strip()\n    return found\n"),
    "delete": MODULE.replace(
        '    if found.startswith(".."):\n        raise ValueError(found)\n', ""
    ),
    "top": MODULE.replace("import os\n", "import os\nimport sys\n"),
    "several": MODULE.replace('"""Where', '"""Tells where').replace("third", "last"),
    "paste": MODULE.replace(
        "def third",
        "def again(path):\n" + MODULE.split("(path):\n")[1].rstrip() + "\n\n\ndef third",
    ),
    "rename": MODULE.replace("found", "below"),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one change of each kind."""
    folder = tmp_path / "data" / "next_edit"
    folder.mkdir(parents=True)
    rows = [commit(MODULE, new, number) for number, new in enumerate(CHANGES.values())]
    for name, some in zip(FILES, (rows[:3], rows[3:]), strict=True):
        with gzip.open(folder / name, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in some)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_edits_of_each_kind(kind: str, data: Path) -> None:
    seen = set()
    for seed in range(20):
        edits = [
            e for e in history_edits(data, fitted=False, a_kind=9, seed=seed) if e.kind == kind
        ]
        wanted = CHANGES[kind]
        # Other changes may hold an edit of the kind, too.
        edits = [e for e in edits if int(e.name.split()[1][0]) == list(CHANGES).index(kind)]
        assert len(edits) == 1
        (edit,) = edits
        for text, whole in ((edit.before, MODULE), (edit.after, wanted)):
            head, rest = text
            assert whole.startswith(head) and rest.startswith("\n")
            line_end = whole.index("\n", len(head))
            assert whole[line_end:] == rest  # but for the rest of the cursor's line
        assert edit.before[0] != edit.after[0] and edit.before[1] == edit.after[1]
        seen.add(edit.after)
    assert len(seen) > 3
    assert not history_edits(data, fitted=True, a_kind=9)


def test_patches_are_applied_as_by_difflib(data_folder: Path) -> None:
    with gzip.open(data_folder / "next_edit" / FILES[1], "rt") as file:
        rows = [json.loads(next(file)) for _ in range(60)]
    for row in rows:
        new, hunks = patched(row["old"], row["diff"])
        diff = difflib.unified_diff(row["old"].splitlines(True), new)
        assert [line for line in diff if line[0] in "+-"][2:] == [
            line for line in row["diff"].splitlines(True) if line[0] in "+-"
        ][2:]
        ast.parse("".join(new))
        assert [line for a, b, _, _ in hunks for line in row["old"].splitlines(True)[a:b]] == [
            line[1:] for line in row["diff"].splitlines(True)[2:] if line[0] == "-"
        ]


def test_methods_against_plain_forward_passes(model: Any, tokenizer: Any) -> None:
    case = make_case(tokenizer, "case", MODULE[:300], CHANGES["top"][:311])
    logits = logits_behind(model, case)
    with torch.inference_mode():
        for name, tokens in (("full", case.after), ("ignored", case.before)):
            wanted = model(torch.tensor([tokens])).logits[0, -1]
            torch.testing.assert_close(logits[name], wanted, rtol=1e-3, atol=1e-3)
    found = compare(model, frozenset(), case)
    assert found["full"].same_line and found["full"].kl == 0
    assert found["ignored"].encoded == 0 and found["pie"].encoded < found["ours"].encoded
    assert found["conflict"].kl > found["pie"].kl > found["ours"].kl > 0
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
    data: Path, model: Any, tokenizer: Any, tiny_model_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def served(layout: str, _: int) -> CompletionModel:
        made = CompletionModel(load(str(tiny_model_dir), dtype=torch.float32), limits=LIMITS)
        made.family = TINY[layout]
        made.prompter = Prompter(made.tokenizer, made.family, made.vocabulary, made.limit)
        return made

    monkeypatch.setattr(cache_edit, "find_llama", lambda: None)
    monkeypatch.setattr(cache_edit, "_speed", lambda report, *_: report.set("speedup_4k", 1.0))
    monkeypatch.setattr(settled_edits, "served_model", served)
    load = codegen.models.load
    monkeypatch.setattr(
        "codegen.models.load", lambda *_: SimpleNamespace(model=model, tokenizer=tokenizer)
    )
    results = tmp_path / "results.jsonl"
    options = {"data": str(data.parent), "results": str(results)}
    figures: dict[str, Any] = dict(cache_edit.run(True, **options))  # type: ignore[arg-type]
    json.dumps(figures)
    assert figures["speedup_4k"] > 0 and 0 <= figures["related_within_half_logit"] <= 1
    assert figures["samples"]["real_next_line_same"] == 2 * len(KINDS)
    for layout in cache_edit.LAYOUTS:
        table = figures["real"][layout]
        assert set(table) == {*KINDS, "all"} and table["all"]["edits"] == len(KINDS)
        assert table["all"]["behind"] >= table["all"]["encoded"] > 0
        assert table["all"]["same"] >= table["all"]["fast_same"]
    assert figures["tokens_encoded"]["spm"]["paste"]["llama_8"] is None
    assert len(results.read_text().splitlines()) == 2 * len(KINDS)
    again: dict[str, Any] = dict(cache_edit.run(True, **options))  # type: ignore[arg-type]
    assert again["real"] == figures["real"]
    monkeypatch.delenv("CODEGEN_TEST_DATA", raising=False)
    assert dict(cache_edit.run(True))["real_next_line_same"] is None
    with pytest.raises(ConfigError, match="edits"):
        cache_edit.run(edits=0)
    with pytest.raises(ConfigError, match="no part 'speeed'"):
        cache_edit.run(parts="speeed,real")
    with pytest.raises(ConfigError, match="no folder"):
        cache_edit.run(True, parts="real", data=str(tmp_path / "none"))


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
