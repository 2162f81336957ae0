"""The benchmarks are reached by a link, and are in the wheel."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_folder_is_reached_by_a_link_and_leaves_its_bare_name_to_others() -> None:
    link = ROOT / "codegen" / "benchmarks"
    assert link.is_symlink() and link.readlink() == Path("..", "benchmarks")
    assert not (ROOT / "benchmarks" / "__init__.py").exists()


@pytest.mark.slow
def test_an_installed_wheel_has_them(tmp_path: Path) -> None:
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("pip install setuptools>=77 to build the wheel")
    tree = tmp_path / "tree"
    hidden = shutil.ignore_patterns(".*", "tests", "docs", "build", "dist", "*.egg-info", "runs")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=hidden)
    build = f"from setuptools import build_meta\nprint(build_meta.build_wheel({str(tmp_path)!r}))\n"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    installed = tmp_path / "installed"
    zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).extractall(installed)
    script = (
        f"import sys; sys.path.insert(0, {str(installed)!r})\n"
        "import codegen, codegen.benchmarks.lintseq as b\n"
        f"assert b.__file__.startswith({str(installed)!r}), b.__file__\n"
        "from codegen.benchmarks.tools import human_eval_worker, pylintseq_worker\n"
        "from codegen.cli import main\n"
        "main(['bench', '--list', '--json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    names = {row["name"] for row in json.loads(done.stdout)["benchmarks"]}
    assert names >= {"lintseq", "million", "sandbox"}
