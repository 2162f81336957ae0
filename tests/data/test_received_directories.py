"""A run directory that came from a stranger: nothing outside of it may be written, cut or sent."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_generators import Counter, Echo

from codegen.cli.data import summary_lines
from codegen.core.errors import CodegenError, InputError, ResumeError
from codegen.core.records import Segment, TrainingText
from codegen.data import load_manifest, run
from codegen.data.manifest import Shard, statistics_lines
from codegen.data.merge import merge
from codegen.data.publish import export_parquet, push
from codegen.data.view import step_name


def _interrupted(folder: Path) -> Path:
    """A run that was stopped after some inputs: its journal is a true one."""

    class Stop(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.inputs >= 64:
            raise Stop

    with pytest.raises(Stop):
        run(Echo(), Counter(200), folder, seed=5, workers=1, on_progress=stop)
    assert (folder / ".partial" / "journal.jsonl").stat().st_size
    return folder


def _last_state(folder: Path) -> tuple[Path, str, dict[str, Any]]:
    journal = folder / ".partial" / "journal.jsonl"
    first, *_, last = journal.read_text().splitlines()
    return journal, first, json.loads(last)


def _outside(tmp_path: Path) -> Path:
    secret = tmp_path / "home" / "secret.txt"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("precious " * 100)
    return secret


def _names(tmp_path: Path, secret: Path) -> list[Any]:
    return [
        str(secret),
        "../../home/secret.txt",
        "./../../home/secret.txt",
        "data-00000.jsonl/../../../home/secret.txt",
        "../manifest.json",
        "sub/data-00000.jsonl",
        "journal.jsonl",
        "seen.sqlite",
        "rejects.jsonl",
        "data-00000.jsonl\0",
        "data-00001.jsonl",
        "",
        ".",
        None,
        3,
        ["data-00000.jsonl"],
    ]


@pytest.mark.parametrize("same_settings", [True, False], ids=["same", "other"])
def test_names_in_a_journal_never_lead_out(tmp_path: Path, same_settings: bool) -> None:
    begun = _interrupted(tmp_path / "begun")
    secret = _outside(tmp_path)
    for number, name in enumerate(_names(tmp_path, secret)):
        out = tmp_path / f"out-{number}"
        shutil.copytree(begun, out)
        journal, first, state = _last_state(out)
        size = (out / ".partial" / "data-00000.jsonl").stat().st_size
        state["files"] = [{"name": name, "bytes": 0, "texts": 0}]
        journal.write_text(f"{first}\n{json.dumps(state)}\n")
        with pytest.raises(ResumeError):
            run(Echo(), Counter(200), out, seed=5 if same_settings else 6, workers=1)
        assert secret.read_text() == "precious " * 100
        assert (out / ".partial" / "data-00000.jsonl").stat().st_size == size, name


def test_nothing_is_cut_before_the_settings_are_compared(tmp_path: Path) -> None:
    out = _interrupted(tmp_path / "out")
    journal, first, state = _last_state(out)
    state["files"][0]["bytes"] = state["rejects_bytes"] = 0
    journal.write_text(f"{first}\n{json.dumps(state)}\n")
    before = (out / ".partial" / "data-00000.jsonl").read_bytes()
    with pytest.raises(ResumeError, match=r"Changed: run\.seed"):
        run(Echo(), Counter(200), out, seed=6, workers=1)
    assert (out / ".partial" / "data-00000.jsonl").read_bytes() == before


def _mutations(state: dict[str, Any]) -> list[dict[str, Any]]:
    odd = [None, -1, 1.5, "x", [], {}, True, 10**400, [[1]], {"a": {}}]
    found = [{**state, key: value} for key, value in itertools.product(state, odd)]
    for key, value in itertools.product(state["files"][0], odd):
        found.append({**state, "files": [{**state["files"][0], key: value}]})
    for key, value in itertools.product(state["statistics"], odd):
        found.append({**state, "statistics": {**state["statistics"], key: value}})
    found += [{k: v for k, v in state.items() if k != key} for key in state]
    return [*found, {**state, "further": 1}]


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    """Every field of the state as another type: resumed if it makes sense, else one clear error."""
    begun = _interrupted(tmp_path / "begun")
    _, first, state = _last_state(begun)
    rows: list[Any] = [*_mutations(state), None, 3, "x", [], [state]]
    for number, row in enumerate(rows):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(begun, out)
        (out / ".partial" / "journal.jsonl").write_text(f"{first}\n{json.dumps(row)}\n")
        try:
            run(Echo(), Counter(200), out, seed=5, workers=1)
        except CodegenError as error:
            assert "\n" not in str(error), number
    for header in ("null", "3", "[]", '"x"', "{", '{"run": 3}', "[" * 3000):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        shutil.copytree(begun, tmp_path / "out")
        (tmp_path / "out/.partial/journal.jsonl").write_text(f"{header}\n{json.dumps(state)}\n")
        with pytest.raises(ResumeError):
            run(Echo(), Counter(200), tmp_path / "out", seed=5, workers=1)


LINKED = [
    "journal.jsonl",
    "data-00000.jsonl",
    "data-00001.jsonl",
    "rejects.jsonl",
    "kept.jsonl",
    "seen.sqlite",
    "manifest.json",
    "anything",
]


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "new"])
def test_links_in_a_run_in_progress_are_refused(tmp_path: Path, name: str, begun: bool) -> None:
    out, secret = tmp_path / "out", _outside(tmp_path)
    if begun:
        _interrupted(out)
    place = out / ".partial" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(secret)
    with pytest.raises(InputError, match="symbolic link"):
        run(Echo(), Counter(200), out, seed=5, workers=1)
    assert secret.read_text() == "precious " * 100


@pytest.mark.parametrize("name", ["journal.jsonl", "data-00000.jsonl", "rejects.jsonl"])
def test_hard_links_in_a_run_in_progress_are_refused(tmp_path: Path, name: str) -> None:
    out, secret = _interrupted(tmp_path / "out"), _outside(tmp_path)
    place = out / ".partial" / name
    secret.write_bytes(place.read_bytes() + b"precious")
    before = secret.read_bytes()
    place.unlink()
    place.hardlink_to(secret)
    with pytest.raises(InputError, match="hard link"):
        run(Echo(), Counter(200), out, seed=5, workers=1)
    assert secret.read_bytes() == before


def test_the_folder_of_a_run_in_progress_is_no_link(tmp_path: Path) -> None:
    secret = _outside(tmp_path)
    (secret.parent / "data-00000.jsonl").write_text("theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".partial").symlink_to(secret.parent)
    with pytest.raises(InputError, match="symbolic link"):
        run(Echo(), Counter(5), tmp_path / "out", seed=5, workers=1)
    assert (secret.parent / "data-00000.jsonl").read_text() == "theirs"


def test_finished_files_replace_links(tmp_path: Path) -> None:
    secret, out = _outside(tmp_path), _interrupted(tmp_path / "out")
    for name in ("data-00000.jsonl", "rejects.jsonl", "README.md", "card.md"):
        (out / name).symlink_to(secret)
    run(Echo(), Counter(200), out, seed=5, workers=1)
    assert secret.read_text() == "precious " * 100
    assert not any(path.is_symlink() for path in out.iterdir())


@pytest.mark.parametrize("name", ["README.md", "card.md", "rejects.jsonl", "data-00000.jsonl",
                                  "parquet/data-00000.parquet", "parquet"])  # fmt: skip
def test_what_links_point_at_is_not_uploaded(tmp_path: Path, name: str) -> None:
    secret, out = _outside(tmp_path), tmp_path / "out"
    run(Echo(), Counter(20), out, seed=5, workers=1)
    place = out / name
    place.parent.mkdir(exist_ok=True)
    content = place.read_bytes() if place.is_file() else b"x"
    place.unlink(missing_ok=True)
    secret.write_bytes(content)
    place.symlink_to(secret.parent if name == "parquet" else secret)
    with pytest.raises(InputError, match="symbolic link"):
        push(out, "hub:me/data", api=object())  # type: ignore[arg-type]


def test_an_export_goes_through_no_link(tmp_path: Path) -> None:
    secret, out = _outside(tmp_path), tmp_path / "out"
    run(Echo(), Counter(20), out, seed=5, workers=1)
    (secret.parent / "data-00000.parquet").write_text("theirs")
    secret.unlink()
    (out / "parquet").symlink_to(secret.parent)
    with pytest.raises(InputError, match="symbolic link"):
        export_parquet(out)
    assert (secret.parent / "data-00000.parquet").read_text() == "theirs"


@pytest.mark.parametrize("name", ["rejects.jsonl", "kept.jsonl", "data-00000.jsonl"])
def test_a_merge_reads_through_no_link(tmp_path: Path, name: str) -> None:
    for index in range(2):
        shard = Shard(index, 2)
        run(Echo(), Counter(20), tmp_path / str(index), seed=5, workers=1, shard=shard)
    real = tmp_path / "elsewhere"
    (tmp_path / "1" / name).rename(real)
    (tmp_path / "1" / name).symlink_to(real)
    with pytest.raises(InputError, match="symbolic link"):
        merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out")


@pytest.mark.parametrize("name", ["manifest.json", "data-00000.jsonl", "rejects.jsonl"])
def test_a_file_nested_too_deeply_is_one_line(tmp_path: Path, name: str, codegen: Any) -> None:
    run(Echo(), Counter(5), tmp_path / "data", seed=5, workers=1)
    (tmp_path / "data" / name).write_text("[" * 100_000 + "\n")
    for words in (("inspect",), ("merge", "--out", str(tmp_path / "out"))):
        code, _, told = codegen("data", words[0], tmp_path / "data", *words[1:])
        if name != "rejects.jsonl" or code:
            assert code == 1 and len(told.strip().splitlines()) == 1, told
            assert "bug in codegen" not in told


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    """Every field as another type: shown if it makes sense, else one clear error."""
    run(Echo(), Counter(60), tmp_path, seed=5, workers=1)
    whole = json.loads((tmp_path / "manifest.json").read_text())
    odd = [None, -1, "x", [], {}, True, 10**400, [[1]], {"a": {}}, [{"name": ["x"]}]]
    rows: list[Any] = [{**whole, key: value} for key, value in itertools.product(whole, odd)]
    for part in ("counts", "statistics"):
        for key, value in itertools.product(whole[part], odd):
            rows.append({**whole, part: {**whole[part], key: value}})
    rows += [{k: v for k, v in whole.items() if k != key} for key in whole]
    texts = [*map(json.dumps, rows), "3", "null", "[" * 3000]
    for text in texts:
        (tmp_path / "manifest.json").write_text(text)
        try:
            manifest = load_manifest(tmp_path)
            list(summary_lines(manifest))
            list(statistics_lines(manifest.statistics))
        except CodegenError as error:
            assert "\n" not in str(error), text


@pytest.mark.parametrize("name", ["kept.jsonl", "rejects.jsonl", "data-00000.jsonl"])
@pytest.mark.parametrize("line", ["{", "3", "{}", '{"input": "x"}', "[" * 3000, '{"input": 0}'])
def test_a_damaged_shard_is_one_line(tmp_path: Path, name: str, line: str) -> None:
    for index in range(2):
        run(Echo(), Counter(60), tmp_path / f"{index}", seed=5, workers=1, shard=Shard(index, 2))
    file = tmp_path / "0" / name
    file.write_text(line + "\n" + file.read_text().partition("\n")[2])
    with pytest.raises(CodegenError) as error:
        merge([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert "\n" not in str(error.value)


def test_steps_of_other_pairs_are_named() -> None:
    segments = (Segment("", False), Segment("x", True))
    for meta in ({}, {"pair": 1}, {"pair": "x", "pairs": 2}, {"pair": 0, "pairs": None}):
        text = TrainingText("t", "e", "lintseq", segments, meta)
        assert step_name(text, 0, 3) == "edit 1 of 3"
