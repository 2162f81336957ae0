"""The documentation: the site builds without a warning, and the tutorials' blocks run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
QUICK = {"database.md"}  # the others take a minute or two
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


def tutorials() -> list[object]:
    return [
        pytest.param(path.name, marks=pytest.mark.slow if path.name in QUICK else pytest.mark.long)
        for path in sorted(TUTORIALS.glob("*.md"))
    ]


@pytest.mark.parametrize("name", tutorials())
def test_a_tutorial_runs_as_it_stands(name: str, tmp_path: Path) -> None:
    """Blocks with a title are files; those in bash run one after another in one shell."""
    script = []
    for language, title, text in BLOCK.findall((TUTORIALS / name).read_text()):
        if title:
            (tmp_path / title).write_text(text)
        elif language == "bash":
            script.append(text)
    assert script
    bin = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    for page in tmp_path.glob("*.html"):
        assert "pass@1" in page.read_text()


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links and anchors included."""
    pytest.importorskip("material", reason="pip install 'codegen-toolkit[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "cli.html").is_file()
    documented = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    listed = set(re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert listed == documented
