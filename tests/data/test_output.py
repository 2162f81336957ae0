"""The directory of a run: held by another run, foreign, read-only, on a full disk, interrupted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engine_helpers import HELPER, contents, programs
from tiny_generators import Counter, Echo

from codegen.core.errors import InputError
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
