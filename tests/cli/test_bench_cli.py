"""``codegen bench``: one JSON object, figures with what belongs to them, one-line mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen.cli import bench, main

TOY = '''\
"""Toy: adds.

Nothing else.
"""

from collections.abc import Mapping


def run(quick: bool = False, *, seed: int = 3, scale: float = 1.0, where: str = "") -> Mapping:
    """Measures."""
    print("noise of a library")
    return {
        "toy_ms": 12.345 * scale if quick else 99.0,
        "peer_ms": None,
        "intervals": {"toy_ms": [11.0, 13.5]},
        "samples": {"toy_ms": 7, "programs": 2},
        "seed": seed,
        "versions": {"python": "3"},
        "notes": ["First note.", f"where is {where!r}"],
        "install": {"peer": "pip install peer"},
    }
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of one benchmark in the place of the real ones."""
    package = f"toy_benchmarks_{tmp_path.name.replace('-', '_')}"
    folder = tmp_path / package
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "__init__.py").write_text("")
    (folder / "toy.py").write_text(TOY)
    (folder / "_private.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(bench, "_PACKAGE", package)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_json_is_one_object_with_what_the_table_promises(
    toy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("toy", "--quick", "--json", "-o", "scale=2", "-o", "where=a=b") == 0
    captured = capsys.readouterr()
    result: dict[str, Any] = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert "noise of a library" in captured.err
    assert result["toy_ms"] == pytest.approx(24.69)
    assert result["peer_ms"] is None and result["install"] == {"peer": "pip install peer"}
    assert (result["benchmark"], result["quick"], result["seed"]) == ("toy", True, 3)
    assert result["options"] == {"scale": 2.0, "where": "a=b"}
    assert set(result["machine"]) >= {"cpu", "cores", "load_average", "load_average_after"}
    assert {"samples", "versions", "wall_s", "cpu_s"} <= result.keys()


def test_the_table_shows_figures_intervals_and_samples(
    toy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("toy") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["toy_ms"].split() == ["toy_ms", "99", "[11,", "13.5]", "n=7"]
    assert rows["peer_ms"].split() == ["peer_ms", "-"]
    assert "samples: programs 2" in lines
    assert [line for line in lines if line.startswith("notes")] == [
        "notes: First note.",
        "notes: where is ''",
    ]
    assert "install: peer pip install peer" in lines


def test_the_list_names_the_benchmarks(toy: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list") == 0
    listed = capsys.readouterr().out
    assert listed.startswith("toy ") and "Toy: adds." in listed and "-o scale=1.0" in listed
    assert run("--list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["benchmarks"]
    assert [(row["name"], row["options"]["seed"]) for row in rows] == [("toy", 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tyo"], "Unknown benchmark 'tyo'. Did you mean 'toy'? Choose from toy."),
        (["tools"], "Unknown benchmark 'tools'."),
        (["_private"], "Unknown benchmark '_private'."),
        (["../toy"], "Unknown benchmark '../toy'."),
        ([], "Name a benchmark. Choose from toy."),
        (["toy", "-o", "sed=1"], "no option 'sed'. Did you mean 'seed'?"),
        (["toy", "-o", "seed"], "Option seed has no value. Pass -o seed=VALUE."),
        (["toy", "-o", "quick=1"], "no option 'quick'. Its options are seed, scale, where."),
        (["toy", "-o", "seed=x"], "Option seed of benchmark toy is 'x'; it must be of type int."),
    ],
)
def test_mistakes_give_one_line(
    toy: None, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "option", "least"),
    [
        ("lintseq", "passes=0", 1),
        ("lintseq", "million=-1", 0),
        ("sandbox", "rounds=0", 1),
    ],
)
def test_options_out_of_range_are_refused_before_anything_runs(
    name: str, option: str, least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "-o", option) == 2
    assert f"must be at least {least}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "option", "said"),
    [
        ("completion", "model=x", "no option 'model'"),
        ("sandbox", "minutes=1", "Option minutes has no effect without -o parts=soak."),
        ("lintseq", "out=DIR", "Option out has no effect without -o million=N."),
        ("next_edit", "decoder=sample", "Option decoder has no effect without -o model=NAME."),
        ("sandbox", "parts=sok", "Unknown part 'sok'. Did you mean 'soak'?"),
    ],
)
def test_options_without_effect_are_refused(
    name: str, option: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(name, "-o", option) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1


def test_help_does_not_import_the_benchmarks() -> None:
    script = (
        "import sys, contextlib\n"
        "from codegen.cli import cli\n"
        "with contextlib.suppress(SystemExit):\n"
        "    cli.main(['bench', '--help'], prog_name='codegen')\n"
        "sys.exit(','.join(m for m in sys.modules if m.startswith('codegen.benchmarks.')) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
