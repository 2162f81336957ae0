"""``codegen bench``: one JSON object, figures with what belongs to them, one-line mistakes."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from codegen.cli import bench, main

TOY = '''\
"""Toy: adds.

Nothing else.
"""
from collections.abc import Mapping
from codegen.benchmarks.tools.report import options
@options(quick={"scale": 3.0, "seed": 4})
def run(quick: bool = False, *, seed: int = 3, scale: float = 1.0, where: str = "") -> Mapping:
    """Runs the benchmark."""
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
    monkeypatch.setattr(bench, "PACKAGE", package)


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
    assert (result["benchmark"], result["quick"], result["seed"]) == ("toy", True, 4)
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
        (["tyo"], "Unknown benchmark 'tyo'. Did you mean 'toy'? Choose from: toy."),
        (["tools"], "Unknown benchmark 'tools'."),
        (["_private"], "Unknown benchmark '_private'."),
        (["../toy"], "Unknown benchmark '../toy'."),
        ([], "No benchmark given. Choose from: toy."),
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


@pytest.mark.parametrize("name", bench.benchmarks())
def test_an_unknown_option_is_refused_and_a_known_one_is_read(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    function = inspect.unwrap(bench.load_benchmark(name))
    options = bench.default_options(function)
    assert run(name, "-o", "colour=1") == 2
    said = capsys.readouterr().err
    assert f"Its options are {', '.join(options) or 'none'}." in said and said.count("\n") == 1
    names = [n for n in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(n, ast.Name)]
    assert options.keys() <= {n.id for n in names if isinstance(n.ctx, ast.Load)}
    # Rebound would mean that --quick, say, wins over what the user passes.
    assert not options.keys() & {n.id for n in names if isinstance(n.ctx, ast.Store)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("lintseq passes=0", "Option passes is 0; it must be at least 1."),
        ("completion engine=fast", "Unknown engine 'fast'. Choose from: auto, llamacpp,"),
        ("completion engine=llamacpp model=a/b", "a/b is not a GGUF file; llamacpp cannot run it."),
        ("sandbox parts=sok", "Unknown part 'sok'. Did you mean 'soak'?"),
        ("sandbox seed=1 seed=2", "Option seed is passed twice."),
        ("sandbox minutes=60", "Option minutes has no effect without -o parts=soak."),
        ("sandbox parts=honest seed=1", "Option seed has no effect without -o parts=speed."),
        ("sandbox parts=soak workers=1", "Option workers has no effect on part soak."),
        ("cache_edit parts=tokens edits=50", "Option edits has no effect without -o parts=real."),
        ("gpu parts=kernels model=x", "Option model has no effect on parts device and kernels."),
        ("insertion --quick seed=0", "Option seed has no effect with --quick"),
        (
            "insertion --quick asked=5",
            "Option asked has no effect with --quick but no -o runs=DIR.",
        ),
        ("sandbox parts=honest peers=DIR", "Option peers has no effect without -o parts=graders."),
        ("lintseq limit=0", "Option limit has no effect without -o languages=NAMES."),
        ("lintseq languages=go passes=3", "Option passes has no effect with -o languages."),
        ("next_edit decoder=edit", "Option decoder has no effect without -o model=NAME or"),
        ("next_edit upstream=x max_new_tokens=9", "no effect on the language server's answers."),
        ("next_edit upstream=x", "format is unknown. Pass -o style=edit-FORMAT."),
        ("sqlnet model=DIR", "Option model has no effect without -o data=DIR."),
    ],
)
def test_options_without_effect_are_refused_before_anything_runs(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CODEGEN_TEST_DATA", raising=False)
    name, *words = arguments.split()
    assert run(name, *(w for word in words for w in (["-o", word] if "=" in word else [word]))) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1
