"""The core is built where there is a compiler, and nothing fails where there is none."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.processes import run

ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What the build needs, and no compiled core."""
    # Not imported: it refuses to load after another package has loaded distutils.
    if find_spec("setuptools") is None:
        pytest.skip("install setuptools to run this test")
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT / "decoding", tree / "decoding", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (tree / "codegen").mkdir()
    (tree / "codegen" / "decoding").symlink_to(Path("..", "decoding"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    return tree


def _build(tree: Path, **environment: str) -> list[Path]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "out"]
    done = run(*command, env=environment, cwd=tree)
    assert done.returncode == 0, done.stderr[-2000:]
    return list((tree / "out").rglob("_core*"))


@pytest.mark.slow
def test_without_a_compiler(tree: Path) -> None:
    assert _build(tree, CC="/bin/false", CXX="/bin/false") == []


@pytest.mark.slow
def test_with_a_compiler(tree: Path) -> None:
    if not (shutil.which("c++") or shutil.which("g++")):
        pytest.skip("install a C++ compiler to run this test")
    (built,) = _build(tree)
    assert ".abi3." in built.name  # one build for all later versions of Python
