"""The directory of a run: held by another run, foreign, read-only, on a full disk, interrupted."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import HELPER, SMALL, Breaking, contents, programs, survives_kills
from tiny_generators import Counter, Echo, Rows

from codegen.core.errors import CodegenError, InputError, ResumeError
from codegen.core.records import Example
from codegen.data import run
from codegen.data.manifest import data_files
from tests.processes import wait_for


def test_a_run_that_kept_nothing_says_where_the_reasons_are(tmp_path: Path) -> None:
    run(Echo(), programs("skip a", "skip b"), tmp_path / "out", workers=1)
    with pytest.raises(
        InputError, match=r"No examples were kept in .*rejects\.jsonl lists the reasons"
    ):
        data_files(tmp_path / "out")
    with pytest.raises(InputError, match=r"also accepts JSONL or Parquet files with messages"):
        data_files(tmp_path / "typo.jsonl")


def test_second_run_on_the_same_directory(tmp_path: Path) -> None:
    command = [sys.executable, str(HELPER), "2000", "1", "none", str(tmp_path / "a")]
    with subprocess.Popen(command) as first:
        try:
            wait_for((tmp_path / "a" / ".partial" / "data-00000.jsonl").exists)
            with pytest.raises(InputError, match="written by another process"):
                run(Echo(delay_s=0.002), Counter(2000), tmp_path / "a", seed=5, workers=1)
        finally:
            first.kill()


@pytest.mark.parametrize("make", ["file", "foreign"])
def test_foreign_directories_are_refused(tmp_path: Path, make: str) -> None:
    out = tmp_path / "out"
    if make == "file":
        out.write_text("x")
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("x")
    with pytest.raises(InputError):
        run(Echo(), Counter(3), out, workers=1)
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(
        ["out"] if make == "file" else ["out", "thesis.tex"]
    )


def test_full_disk_is_one_clear_line_and_resumes(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk: writes past it fail as they do there."""
    out = tmp_path / "a"
    script = (
        "import sys, resource; from tiny_generators import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        "from codegen.core.errors import CodegenError\n"
        "try: main('200', '1', 'none', sys.argv[1])\n"
        "except CodegenError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=HELPER.parent, check=True, timeout=60
    )
    assert "Cannot write to" in done.stdout and "run the same command again" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    subprocess.run([sys.executable, HELPER, "200", "1", "none", out], check=True, timeout=60)
    subprocess.run(
        [sys.executable, HELPER, "200", "1", "none", tmp_path / "b"], check=True, timeout=60
    )
    assert contents(out) == contents(tmp_path / "b")


def test_really_full_disk(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    make = f"{sys.executable} {HELPER} 400 1 none {mount}/a"
    script = (
        f"mount -t tmpfs -o size=64k none {mount} || exit 77\n"
        f"{make} 2>{tmp_path}/first; echo $? >{tmp_path}/code\n"
        f"mount -o remount,size=64m {mount}\n"
        f"{make} && cp -r {mount}/a {tmp_path}/a\n"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, timeout=60)
    if done.returncode == 77 or b"unshare" in done.stderr:
        pytest.skip("needs the right to mount a tmpfs in a private namespace")
    assert (tmp_path / "code").read_text().strip() == "1"
    assert "No space left on device" in (tmp_path / "first").read_text().splitlines()[-1]
    subprocess.run(
        [sys.executable, HELPER, "400", "1", "none", tmp_path / "b"], check=True, timeout=60
    )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


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


def outside(tmp_path: Path) -> Path:
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
    secret = outside(tmp_path)
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
    out, secret = tmp_path / "out", outside(tmp_path)
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
    out, secret = _interrupted(tmp_path / "out"), outside(tmp_path)
    place = out / ".partial" / name
    secret.write_bytes(place.read_bytes() + b"precious")
    before = secret.read_bytes()
    place.unlink()
    place.hardlink_to(secret)
    with pytest.raises(InputError, match="hard link"):
        run(Echo(), Counter(200), out, seed=5, workers=1)
    assert secret.read_bytes() == before


def test_the_folder_of_a_run_in_progress_is_no_link(tmp_path: Path) -> None:
    secret = outside(tmp_path)
    (secret.parent / "data-00000.jsonl").write_text("theirs")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".partial").symlink_to(secret.parent)
    with pytest.raises(InputError, match="symbolic link"):
        run(Echo(), Counter(5), tmp_path / "out", seed=5, workers=1)
    assert (secret.parent / "data-00000.jsonl").read_text() == "theirs"


def test_finished_files_replace_links(tmp_path: Path) -> None:
    secret, out = outside(tmp_path), _interrupted(tmp_path / "out")
    for name in ("data-00000.jsonl", "rejects.jsonl", "README.md", "card.md"):
        (out / name).symlink_to(secret)
    run(Echo(), Counter(200), out, seed=5, workers=1)
    assert secret.read_text() == "precious " * 100
    assert not any(path.is_symlink() for path in out.iterdir())


@pytest.fixture
def problems(tmp_path: Path) -> str:
    """A test set that holds two of the programs of Rows."""
    path = tmp_path / "problems.jsonl"
    rows = [item for item in Rows(20) if isinstance(item, Example)]
    chosen = [rows[4], rows[13]]
    path.write_text(
        "".join(
            json.dumps({"id": e.id, "instruction": e.instruction, "program": e.program}) + "\n"
            for e in chosen
        )
    )
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_few_kills(tmp_path: Path, workers: str) -> None:
    survives_kills([sys.executable, str(HELPER), "240", workers, "none"], tmp_path, 3, seed=1)


@pytest.mark.long
def test_a_few_kills_with_filters(tmp_path: Path, problems: str) -> None:
    survives_kills([sys.executable, str(HELPER), "240", "2", problems], tmp_path, 3, seed=2)
    counts = json.loads((tmp_path / "whole" / "manifest.json").read_text())["counts"]
    assert counts["skipped"]["near_duplicate"] > 20
    assert counts["skipped"]["contaminated"] >= 2


@pytest.mark.long
def test_a_few_kills_of_a_real_generator(tmp_path: Path) -> None:
    """Edit sequences of HumanEval, with ruff and an audit by pylint."""
    survives_kills([sys.executable, str(HELPER), "60", "2", "lintseq"], tmp_path, 2, seed=4)


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("screened", [False, True])
def test_twenty_kills(tmp_path: Path, problems: str, workers: str, screened: bool) -> None:
    command = [sys.executable, str(HELPER), "400", workers, problems if screened else "none"]
    survives_kills(command, tmp_path, 20, seed=3)


def test_cut_at_every_state_of_the_journal(tmp_path: Path) -> None:
    """Crashes replayed: a torn line of the journal, and data beyond the last state."""
    whole = tmp_path / "whole"
    run(Echo(), Counter(60), whole, seed=5, workers=1, options=SMALL)
    expected = contents(whole)
    broken = tmp_path / "broken"
    with pytest.raises(RuntimeError):
        run(Echo(), Breaking(60), broken, seed=5, workers=1, options=SMALL)
    journal = broken / ".partial" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) > 5
    for keep in range(len(lines) + 1):
        out = tmp_path / f"cut-{keep}"
        subprocess.run(["cp", "-r", broken, out], check=True)
        torn = b"".join(lines[:keep]) + (lines[keep][:20] if keep < len(lines) else b"")
        (out / ".partial" / "journal.jsonl").write_bytes(torn)
        with (out / ".partial" / "rejects.jsonl").open("ab") as file:
            file.write(b'{"half a li')
        run(Echo(), Counter(60), out, seed=5, workers=1, options=SMALL)
        assert contents(out) == expected


def test_killed_between_the_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.data import output

    run(Echo(), Counter(60), tmp_path / "whole", workers=1, options=SMALL)
    calls = 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == step:
            raise RuntimeError("killed here")
        return original(self, target)

    original = Path.replace
    step = 0
    for step in range(1, 30):
        calls = 0
        out = tmp_path / f"step-{step}"
        monkeypatch.setattr(output.Path, "replace", failing)
        try:
            run(Echo(), Counter(60), out, workers=1, options=SMALL)
        except RuntimeError:
            monkeypatch.undo()
            run(Echo(), Counter(60), out, workers=1, options=SMALL)
            assert contents(out) == contents(tmp_path / "whole")
        else:
            monkeypatch.undo()
            break
    assert step > 5
