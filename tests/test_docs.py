"""The documentation: the site builds without a warning, and the tutorials' blocks run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import click
import pytest
import yaml

from codegen.cli import cli
from tests.processes import python, run

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
QUICK = {"database.md"}  # the others take a minute or two
PLACEHOLDERS = {"GENERATOR", "NAME", "...", "--help", "shout"}  # the last: a plug-in of the docs
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


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
    command = ["bash", "-euo", "pipefail", "-c", "".join(script)]
    done = run(*command, env={"PATH": f"{bin}:{os.environ['PATH']}"}, cwd=tmp_path, timeout=900)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    for page in tmp_path.glob("*.html"):
        assert "pass@1" in page.read_text()


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow if path.stem == "data" else pytest.mark.long)
        for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
    ],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_as_it_stands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell without an error, but for the one that installs."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(path, as_version=4)
    install, *cells = (cell for cell in book.cells if cell.cell_type == "code")
    assert install.source.startswith("%pip install -q 'codegen-toolkit[")
    book.cells = cells
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    client = nbclient.NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises at the first cell that fails
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """Links, anchors and docstrings included; with --quiet, no warning would count."""
    pytest.importorskip("material", reason="pip install 'codegen-toolkit[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", tmp_path / "site"]
    done = run(*command, env={"NO_MKDOCS_2_WARNING": "1"}, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "reference" / "cli.html").is_file()
    pages = [page.read_text() for page in (tmp_path / "site").glob("**/*.html")]
    assert not [page for page in pages if re.search(r'<(script|link)[^>]* (src|href)="http', page)]


def test_each_page_is_in_the_navigation_and_linked_from_the_index() -> None:
    documented = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    listed = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(documented)  # each once
    linked = set(re.findall(r"\]\(([\w/]+\.md)\)", (ROOT / "docs" / "index.md").read_text()))
    assert linked == documented - {"index.md"}


def test_the_page_of_numbers_is_in_step_with_the_docs() -> None:
    """Each figure stands on its page and in the README, and its command exists."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec and spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    assert (ROOT / "docs" / "numbers.md").read_text() == hooks.numbers()
    known = yaml.safe_load((ROOT / "docs" / "results" / "numbers.yaml").read_text())["figures"]
    readme = squashed(ROOT / "README.md")
    for one in known:
        assert squashed(one["figure"]) in squashed(ROOT / "docs" / one["page"]), one
        assert one.get("readme", "") in readme, one
        if found := re.match(
            r"codegen bench (\w+)|python -m codegen\.(benchmarks\S+)", one["command"]
        ):
            module = found[1] or found[2].removeprefix("benchmarks.").replace(".", "/")
            assert (ROOT / "benchmarks" / f"{module}.py").is_file(), one
        else:
            assert one["command"].startswith("codegen eval "), one


def test_the_readme_claims_no_figure_that_the_page_of_numbers_lacks() -> None:
    known = yaml.safe_load((ROOT / "docs" / "results" / "numbers.yaml").read_text())["figures"]
    words = " ".join(one["readme"] for one in known if "readme" in one)
    why = (ROOT / "README.md").read_text().partition("## Why")[2].partition("## ")[0]
    claimed = set(re.findall(r"\d[\d,.]*\d|\d", re.sub(r"\(\S*\)|pass@\w|135M", "", why)))
    assert claimed
    assert claimed <= set(re.findall(r"\d[\d,.]*\d|\d", words))


def test_the_table_of_reward_hacking_is_that_of_its_results() -> None:
    runs = json.loads((ROOT / "docs" / "results" / "reward_hacking.json").read_text())
    page = (ROOT / "docs" / "reward_hacking.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([\d.]+) ± \S+ \| ([\d.]+) ± ", page, re.M)
    assert len(rows) == 6
    for world, reward, claimed, right in rows:
        last = [r["last"] for r in runs if (r["world"], r["reward"]) == (world, reward)]
        assert len(last) == 3
        assert fmean(one["claimed"] for one in last) == pytest.approx(float(claimed), abs=6e-4)
        assert fmean(one["right"] for one in last) == pytest.approx(float(right), abs=6e-4)


def test_the_code_of_the_readme_runs(tmp_path: Path) -> None:
    (block,) = (
        text
        for kind, _, text in BLOCK.findall((ROOT / "README.md").read_text())
        if kind == "python"
    )
    done = python(block, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def commands_of(text: str) -> Iterator[str]:
    """The lines of shell blocks, and the code in the text, that begin with ``codegen``."""
    for kind, _, block in BLOCK.findall(text):
        if kind in ("", "bash"):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if re.match("codegen [a-z]", line))
    yield from re.findall(r"`(codegen [a-z][^`\n]*)`", BLOCK.sub("", text))


def test_commands_of_the_docs_have_the_options_that_they_use() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    seen = 0
    for page in pages:
        for line in commands_of(page.read_text()):
            words = shlex.split(re.split(r"\s\d?[<>]|\\?\||;|&|\s#|\.\.\. ", line)[0])[1:]
            command: click.Command = cli
            context = click.Context(cli)
            while isinstance(command, click.Group) and words and words[0] not in PLACEHOLDERS:
                name, found, words = command.resolve_command(context, words)
                assert found, f"{page.name}: {line}"
                command, context = found, click.Context(found, parent=context, info_name=name)
            if isinstance(command, click.Group):
                continue
            try:
                command.make_parser(context).parse_args(words)
            except click.exceptions.Exit:
                pass  # --help
            except click.UsageError as error:
                pytest.fail(f"{page.name}: {line}: {error.format_message()}")
            seen += 1
    assert seen > 250


def squashed(text: Path | str) -> str:
    """With single blanks, as a line may break anywhere."""
    return " ".join((text if isinstance(text, str) else text.read_text()).split())
