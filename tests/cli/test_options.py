"""Options of commands come from the fields of a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from codegen.cli.options import command, options
from codegen.core import config
from codegen.core.config import Config, setting
from codegen.core.errors import ConfigError


class Choice(Config):
    """One field of each kind of option."""

    model: str = setting(..., "The model.")
    n: int = setting(1, "Samples per problem.", flags=("-n",), ge=1)
    rate: float = setting(0.5, "How fast.", gt=0, le=1)
    kind: Literal["fast", "exact"] = setting("fast", "Which algorithm.")
    backend: Literal["transformers", "vllm"] = setting("transformers", "What runs the model.")
    license: str = setting("", "License of the programs.", metavar="SPDX")
    limit: int | None = setting(None, "At most so many.", ge=1)
    steps: int | None = setting(None, "Steps.", shown="planned")
    strict: bool = setting(True, "Strict rules.", is_pair=True)
    chat: bool | None = setting(None, "Chat template.")
    quick: bool = setting(False, "Smaller samples.")
    against: tuple[str, ...] = setting((), "Other sources.")
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = setting((16, 32), "Sizes.")
    styles: tuple[str, ...] = setting(("a", "b"), "Some.", commas=True)
    extra: dict[str, Any] = setting({}, "More.")
    folder: Path | None = setting(None, "Where.")

    def _check(self) -> None:
        if self.quick and self.limit:
            raise ConfigError("--quick and --limit exclude each other.", "Give one of them.")


class Rare(Config):
    """Settings that have no option."""

    retries: int = setting(3, "Tries after a failure.", ge=0, key=True)
    pace: float | None = setting(None, "Requests per second.", gt=0, key=True)
    is_strict: bool = setting(False, "Strict rules.", key=True)
    suffixes: tuple[str, ...] = setting((), "File suffixes.", key=True)
    level: Literal["low", "high"] = setting("low", "How hard.", key=True)
    load: dict[str, Any] = setting({}, "How the model is loaded.", key=True)
    decoder: dict[str, Any] = setting({}, "An option of the decoder.", rest=True)
    usual: int = setting(1, "A usual option.", heading="Input")


@command(example="codegen tune")
@options(Rare, "rare", heading="Execution")
def tune(rare: Rare) -> dict[str, Any]:
    """Tune something."""
    return {**rare.model_dump(mode="json"), "given": sorted(rare.model_fields_set)}


def test_settings_are_given_by_key() -> None:
    given = (
        *("-o", "retries=5", "-o", "pace=1e-1", "-o", "is_strict=true", "-o", "suffixes=.py, .pyi"),
        *("-o", "level=high", "-o", "load.dtype=bfloat16", "-o", "load.bits=4", "--usual", "2"),
        *("-o", "k_min=5", "-o", "draft.dir=a=b"),
    )
    done = CliRunner().invoke(tune, ["--json", *given])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "retries": 5, "pace": 0.1, "is_strict": True, "suffixes": [".py", ".pyi"], "level": "high",
        "load": {"dtype": "bfloat16", "bits": 4}, "decoder": {"k_min": 5, "draft.dir": "a=b"},
        "usual": 2, "given": sorted(Rare.model_fields),
    }  # fmt: skip


def test_an_unknown_setting_is_named_where_nothing_takes_it() -> None:
    class Few(Config):
        retries: int = setting(3, "Tries after a failure.", key=True)

    @command(example="codegen few")
    @options(Few, "few")
    def few(few: Few) -> None:
        """Few settings."""

    shown = CliRunner().invoke(few, ["-o", "retry=1"]).output
    assert "unknown setting 'retry'. Did you mean 'retries'?" in shown


def test_the_help_lists_options_by_heading_and_settings_last() -> None:
    text = CliRunner().invoke(tune, ["--help"]).output
    places = [text.index(part) for part in ("Options:", "-o, --set", "Input:", "--usual INTEGER")]
    places += [
        text.index("Settings (-o NAME=VALUE):"),
        text.index("load.KEY"),
        text.index("  KEY "),
    ]
    assert places == sorted(places), text
    assert "Tries after a failure.  [default: 3; x>=0]" in text and "--retries" not in text


@command(example="codegen make x.jsonl --model m")
@options(Choice, "choice")
def make(choice: Choice) -> dict[str, Any]:
    """Make something."""
    given = sorted(choice.model_fields_set)
    return {**choice.model_dump(mode="json"), "given": given, "ok": choice.model != "bad"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(make, ["--model", "m", *arguments])


@pytest.fixture(autouse=True)
def fresh_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "NOTED", set())


def made(*arguments: str) -> dict[str, Any]:
    done = run("--json", *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_only_the_summary_goes_to_standard_output() -> None:
    @command(example="codegen noisy")
    def noisy() -> dict[str, int]:
        print("a library prints")
        return {"n": 1}

    done = CliRunner().invoke(noisy, ["--json"])
    assert (done.stdout, done.stderr) == ('{"n": 1}\n', "a library prints\n")
    assert CliRunner().invoke(noisy, []).stdout == "a library prints\n"


def test_defaults_are_those_of_the_model() -> None:
    found = made()
    expected = Choice(model="m").model_dump(mode="json")
    assert found == {**expected, "given": ["model"], "ok": True}


def test_every_kind_of_option() -> None:
    found = made(
        *("-n", "3", "--rate", "1", "--kind", "exact", "--license", "MIT", "--limit", "4"),
        *("--no-strict", "--no-chat", "--against", "a b", "--against", "c", "--sizes", "8"),
        *("--styles", "x, y", "--extra", "k=1", "--extra", "word=text=2", "--folder", "f"),
    )
    expected = {
        "n": 3, "rate": 1.0, "kind": "exact", "license": "MIT", "limit": 4, "strict": False,
        "chat": False, "against": ["a b", "c"], "sizes": [8], "styles": ["x", "y"],
        "extra": {"k": 1, "word": "text=2"}, "folder": "f",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert set(found["given"]) == {"model", *expected}


def test_the_help_shows_names_ranges_defaults_and_the_example() -> None:
    text = run("--help").output
    for part in (
        "-n INTEGER", "[default: 1; x>=1]", "[default: 0.5; 0<x<=1]", "[fast|exact]",
        "--strict / --no-strict", "--chat / --no-chat", "--license SPDX", "[default: planned]",
        "--styles TEXT", "[default: a,b]", "--extra KEY=VALUE", "[required]", "--json",
        "Example:\n    codegen make x.jsonl --model m",
    ):  # fmt: skip
        assert part in text, text


@pytest.mark.parametrize(
    ("made", "arguments", "message"),
    [
        (tune, ["-o", "retries"], "'retries' is not NAME=VALUE"),
        (tune, ["-o", "retries=x"], "'-o retries': 'x' is not a valid integer"),
        (tune, ["-o", "retries=-1"], "'-o retries': -1 is not in the range x>=0"),
        (tune, ["-o", "retries=1", "-o", "retries=2"], "'-o retries': passed twice"),
        (tune, ["-o", "pace=nan"], "-o pace is nan."),
        (tune, ["-o", "level=mid"], "'-o level': 'mid' is not one of 'low', 'high'"),
        (tune, ["-o", "load.bits=1", "-o", "load.bits=2"], "'-o load': 'bits' is passed twice"),
        (tune, ["--retries", "5"], "--retries is a setting; pass -o retries=VALUE."),
        (tune, ["--load", "a=1"], "--load is a setting; pass -o load.KEY=VALUE."),
        (make, ["-n", "0"], "0 is not in the range x>=1"),
        (make, ["--sizes", "0"], "0 is not in the range x>=1"),
        (make, ["--kind", "slow"], "'slow' is not one of 'fast', 'exact'"),
        (make, ["--rate", "nan"], "--rate is nan. It must be a number above 0, up to 1."),
        (make, ["--extra", "k"], "'k' is not KEY=VALUE"),
        (make, ["--extra", "k=1", "--extra", "k=2"], "'k' is passed twice"),
        (make, ["--quik"], "Did you mean '--quick'?"),
        (make, ["--quick", "--limit", "1"], "--quick and --limit exclude each other."),
    ],
)
def test_mistakes_are_named(made: Any, arguments: list[str], message: str) -> None:
    given = [*arguments, "--model", "m"] if made is make else arguments
    done = CliRunner().invoke(made, given)
    shown = done.output + (str(done.exception) if isinstance(done.exception, ConfigError) else "")
    assert done.exit_code != 0 and message in shown, shown


def test_a_summary_that_is_not_ok_fails() -> None:
    assert CliRunner().invoke(make, ["--model", "bad", "--json"]).exit_code == 1
    assert CliRunner().invoke(make, []).exit_code == 2
