"""``codegen data``: its exit codes, what goes to which stream, and the views."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from codegen.cli import cli
from codegen.cli.data import command_line
from codegen.data import read_texts
from tests.processes import run, wait_for

GOOD = '{"instruction": "do", "program": "def f(x):\\n    y = x\\n    return y\\n"}\n'


def codegen(*args: str | int | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "codegen", "data", *map(str, args)]
    return run(*command, cwd=cwd, timeout=60)


def test_lintseq_json_is_all_of_standard_output(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD * 3 + "not json\n")
    args = ["lintseq", "rows.jsonl", "--out", "out", "--sequences", 2, "--json", "--workers", 1]
    done = codegen(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["counts"] == {"inputs": 4, "kept": 3, "skipped": {}, "failed": {"bad_json": 1}}
    assert summary["texts"] == 6 and not summary["already_finished"]
    assert "data lintseq: 4" in done.stderr
    again = codegen(*args, cwd=tmp_path)
    assert again.returncode == 0 and "already finished" in again.stderr
    assert json.loads(again.stdout)["already_finished"]
    other = codegen(*args, "--seed", 1, cwd=tmp_path)
    assert other.returncode == 1 and other.stdout == ""
    assert "Changed: seed from 0 to 1" in other.stderr


def test_whole(tmp_path: Path) -> None:
    done = codegen("whole", "humaneval", "--out", "out", "--limit", 3, "--workers", 1, cwd=tmp_path)
    assert done.returncode == 0
    assert "kept     3" in done.stdout and "MIT 3" in done.stdout
    assert [t.generator for t in read_texts(tmp_path / "out")] == ["whole"] * 3


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["lintseq", "rows.jsonl"], 2, "Missing option '--out'"),
        (["lintseq", "rows.jsonl", "--out", "o", "--sequences", "0"], 2, "0 is not in the range"),
        (["lintseq", "rows.jsonl", "--out", "o", "--verify", "hope"], 2,
         "'hope' is not one of 'static'"),
        (["lintseq", "rows.jsonl", "--out", "o", "-o", "granularity=word"], 2,
         "'word' is not one of"),
        (["lintseq", "missing.jsonl", "--out", "o"], 1, "No file or directory at 'missing.jsonl'"),
        (["lintseq", "rows.jsonl", "--out", "rows.jsonl"], 1, "rows.jsonl is a file"),
        (["lintseq", "rows.jsonl", "--out", "o", "--program-column", "code"], 1, "column 'code'"),
        (["lintseq", "bad.jsonl", "--out", "o"], 1,
         "Error: No examples kept from bad.jsonl (1 bad_json); see o/rejects.jsonl."),
        (["whole", "bad.jsonl", "--out", "o", "--json"], 1, "No examples kept"),
        (["inspect", "nowhere"], 1, "No file or directory at nowhere"),
        (["inspect", "."], 1, "contains no data-*.jsonl"),
        (["lintsek"], 2, "No such command 'lintsek'"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line_and_a_code(
    tmp_path: Path, args: list[str], code: int, message: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD)
    (tmp_path / "bad.jsonl").write_text("not json\n")
    done = codegen(*args, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if "--json" in args:
        assert json.loads(done.stdout)["counts"]["failed"] == {"bad_json": 1}


def test_a_wrong_column_can_be_put_right_in_the_same_directory(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD.replace("program", "code") * 3)
    args = ["whole", "rows.jsonl", "--out", "out", "--workers", 1]
    wrong = codegen(*args, cwd=tmp_path)
    assert wrong.returncode == 1 and "--program-column" in wrong.stderr
    right = codegen(*args, "--program-column", "code", "--json", cwd=tmp_path)
    assert right.returncode == 0, right.stderr
    summary = json.loads(right.stdout)
    assert summary["ok"] and summary["counts"]["kept"] == 3


def test_the_card_has_the_options_that_decide_the_data(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(GOOD)
    args = ["plain", "rows.jsonl", "--out", "out", "--workers", 1, "--license", "MIT"]
    done = codegen(*args, "-o", "item_timeout=9", "-o", "chunk_size=5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["command"] == (
        "codegen data plain rows.jsonl --license MIT -o item_timeout=9.0 --out DIR"
    )


def test_interrupt_and_go_on(tmp_path: Path) -> None:
    args = [sys.executable, "-m", "codegen", "data", "lintseq", "humaneval", "--out", "out"]
    args += ["--sequences", "100", "--workers", "2"]
    process = subprocess.Popen(args, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out" / ".partial" / "journal.jsonl"
    # The first line says what is run, each further one commits some of it.
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") > 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Run the same command again" in error and "Traceback" not in error
    done = codegen(*args[4:], "--json", cwd=tmp_path)
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert summary["resumed_after"] > 0 and summary["counts"]["kept"] == 164
    assert len(list(read_texts(tmp_path / "out"))) == 164 * 100


SEEN: list[tuple[str, dict[str, Any]]] = []


@click.command()
@click.argument("source")
@click.option("--out", required=True)
@click.option("--limit", type=int)
@click.option("-s", "--seed", type=int, default=0)
@click.option("--strict/--no-strict", default=True)
@click.option("--keep", is_flag=True)
@click.option("--against", multiple=True)
@click.option("--pair", nargs=2, type=float)
@click.option("--workers", type=int)
@click.option("--password", hide_input=True)
@click.pass_context
def make(context: click.Context, /, **options: Any) -> None:
    SEEN.append((command_line(context), options))


@pytest.mark.parametrize(
    "given",
    [
        ["a.jsonl", "--out", "x"],
        ["a b's.jsonl", "--out", "x", "-s", "3", "--limit", "0", "--no-strict", "--keep"],
        ["a", "--out", "x", "--against", "b", "--against", "c d", "--pair", "1", "2.5", "--strict"],
    ],
)
def test_it_means_the_same(given: list[str]) -> None:
    group = click.Group("data", {"make": make})
    SEEN.clear()
    assert CliRunner().invoke(group, ["make", *given]).exit_code == 0
    text = SEEN[0][0]
    assert text.startswith("data make ") and text.endswith("--out DIR")
    assert CliRunner().invoke(group, shlex.split(text)[1:]).exit_code == 0
    assert SEEN[1][1] == {**SEEN[0][1], "out": "DIR"}
    assert SEEN[1][0] == text


def test_what_does_not_change_the_data_or_is_secret_is_left_out() -> None:
    SEEN.clear()
    options = ["a", "--out", "x", "--workers", "7", "--password", "secret"]
    assert CliRunner().invoke(make, options).exit_code == 0
    assert SEEN[0][0] == "make a --out DIR"


@pytest.mark.parametrize("name", ["export", "push"])
def test_the_commands_have_help(name: str) -> None:
    answer = CliRunner().invoke(cli, ["data", name, "--help"])
    assert answer.exit_code == 0 and "Example:" in answer.output
