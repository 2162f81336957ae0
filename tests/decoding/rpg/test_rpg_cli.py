"""Decoder options on the command line: what is wrong is said before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.cli import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "rgp"], "Did you mean 'rpg'"),
        (["--decoder", "rpg", "-o", "kmin=3"], "Did you mean 'k_min'"),
        (["--decoder", "rpg", "-o", "k_min=many"], "whole number"),
        (["--decoder", "rpg", "-o", "k_min"], "is not NAME=VALUE"),
        (["--decoder", "rpg", "-o", "=3"], "is not NAME=VALUE"),
        (["--decoder", "rpg", "-o", "k_min=3", "-o", "k_min=4"], "given twice"),
        (["-o", "k_min=3"], "takes no option 'k_min'"),
        (["--decoder", "rpg", "-o", "language=cobol"], "Languages are: python"),
    ],
)
def test_mistakes_are_said_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--prompt", "x", *options])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert not said.out and message in said.err
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_options_reach_the_sample(tiny_model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([
            "generate", "--model", str(tiny_model_dir), "--no-chat", "--prompt", "x = 'é'\n" * 4,
            "--max-new-tokens", "8", "--json", "--decoder", "repetition_penalty",
            "-o", "penalty=5",
        ])  # fmt: skip
    assert not ended.value.code
    settings = json.loads(capsys.readouterr().out)["samples"][0]["settings"]
    assert settings["decoder"] == "repetition_penalty"
    assert settings["decoder_options"] == {"penalty": 5}
