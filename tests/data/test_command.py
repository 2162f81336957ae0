"""The command on the card: run again, it means the same."""

from __future__ import annotations

import shlex
from typing import Any

import click
import pytest
from click.testing import CliRunner

from codegen.cli import cli
from codegen.cli.data import command_line

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
