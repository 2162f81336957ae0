"""How many files a reader of a command enters; docs/architecture.md has the counts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.walks import ROOT, Walk, trace

Codegen = Callable[..., Any]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walks") / "data"


def check(name: str, walk: Walk) -> None:
    """Compares a walk with the table of docs/architecture.md, whose counts are its budget."""
    row = re.search(rf"^\| `{name}`.*\| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert row, name
    files, returns = map(int, row.groups())
    message = f"{name}: {walk.files} files, {walk.returns} returns\n" + "\n".join(walk.visits)
    assert walk.files <= files and walk.returns <= 1.05 * returns, message
    assert walk.files >= files - 5, f"{message}\nUpdate the table of docs/architecture.md."


@pytest.mark.slow
def test_data(codegen: Codegen, data: Path) -> None:
    def make() -> None:
        shutil.rmtree(data, ignore_errors=True)
        done = codegen("data", "lintseq", ROOT / "evals/report", "--out", data, "--workers", 1)
        assert done.code == 0, done.err

    check("data lintseq", trace(make))


@pytest.mark.slow
def test_recipe(codegen: Codegen, data: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    if not data.exists():
        codegen("data", "lintseq", ROOT / "evals/report", "--out", data, "--workers", 1)

    def train() -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        options = (f"model={tiny_model_dir}", f"data={data}", f"output={tmp_path / 'run'}")
        settings = [word for one in (*options, "steps=1") for word in ("-o", one)]
        done = codegen("finetune", "lintseq", *settings)
        assert done.code == 0, done.err

    check("finetune lintseq", trace(train))


@pytest.mark.slow
def test_evaluation(
    codegen: Codegen, tiny_model_dir: Path, humaneval_rows: object, tmp_path: Path
) -> None:
    def evaluate() -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        few = ("--limit", 2, "--max-new-tokens", 8, "--style", "continue")
        options = (
            "--model",
            tiny_model_dir,
            "--style",
            "continue",
            "--out",
            tmp_path / "run",
            *few,
        )
        for words in (("run", "humaneval", *options), ("score", tmp_path / "run")):
            done = codegen("eval", *words)
            assert done.code == 0, done.err

    check("eval run", trace(evaluate))
