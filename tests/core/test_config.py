"""Configurations: what is accepted, one clear line for each mistake, tables and old names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from codegen.core import config
from codegen.core.config import (
    Config,
    Text,
    keys,
    override,
    parse_config,
    read_config,
    setting,
    table,
    value_of,
)
from codegen.core.errors import CodegenError, ConfigError


class Adapter(Config):
    """A section."""

    rank: int = setting(16, "rank of the update", ge=1, le=1024)
    exits: tuple[int, ...] = setting((), "depths")


class Run(Config):
    """A configuration with a field of each kind."""

    model: Text = setting(..., "the model")
    data: Text | Annotated[tuple[Text, ...], Field(min_length=1)] | dict[Text, Text] = setting(
        ..., "where the data is"
    )
    rate: float = setting(3e-4, "learning rate", ge=0, le=1)
    method: Literal["lora", "full"] = setting("lora", "what is trained")
    adapter: Adapter = setting(Adapter(), "the adapter")
    seed: int | None = setting(None, "of the order")
    folder: Path = setting(Path("runs"), "where it goes")
    fast: bool = setting(False, "hurry")
    muon_learning_rate: float = setting(0.02, "Muon learning rate", gt=0)

    def _check(self) -> None:
        if self.fast and self.method == "full":
            raise ConfigError("fast needs method: lora.", "Leave fast out.")


GOOD: dict[str, Any] = {"model": "m", "data": "d"}


def test_plain_data_becomes_a_configuration() -> None:
    made = parse_config(
        Run,
        GOOD
        | {"data": ["a", "b"], "rate": "1e-4", "adapter": {"exits": [1, 2]}, "folder": "x"}
        | {"seed": 3},
        "f.yaml",
    )
    assert (made.data, made.rate, made.folder) == (("a", "b"), 1e-4, Path("x"))
    assert made.adapter.exits == (1, 2) and made.seed == 3
    assert parse_config(Run, made.model_dump(), "f.yaml") == made


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValidationError):
        Adapter().rank = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": 1}, "unknown key 'modle'. Did you mean 'model'? Allowed keys: model, data"),
        ({"adapter": {"rnk": 1}}, "unknown key 'adapter.rnk'. Did you mean 'adapter.rank'?"),
        ({3: 4}, "unknown key '3'. Allowed keys"),
        ({"adapter": 3}, "'adapter' must be a section of keys and values."),
        ({"rate": 2}, "rate is 2. It must be a number from 0 to 1."),
        ({"rate": "fast"}, "rate is 'fast'. It must be a number from 0 to 1."),
        ({"rate": True}, "rate is True."),
        ({"rate": float("nan")}, "rate is nan."),
        ({"seed": "3"}, "seed is '3'. It must be a whole number or null."),
        ({"seed": 2.0}, "seed is 2.0."),
        ({"adapter": {"rank": 0}}, "adapter.rank is 0. It must be a whole number from 1 to 1024."),
        ({"adapter": {"exits": [1, "x"]}}, "adapter.exits is [1, 'x']. It must be a list of whole"),
        ({"method": "lara"}, "method is 'lara'. It must be lora or full. Did you mean 'lora'?"),
        ({"data": []}, "data is []. It must be text, a list of texts or a mapping of names"),
        ({"data": {"a": ""}}, "data is {'a': ''}."),
        ({"model": ""}, "model is ''. It must be text."),
        ({"fast": "yes"}, "fast is 'yes'. It must be true or false."),
        ({"muon_learning_rate": 0}, "muon_learning_rate is 0. It must be a number above 0."),
        ({"fast": True, "method": "full"}, "fast needs method: lora. Leave fast out."),
        ({"model": "x" * 200 + "\n", "rate": 3}, "rate is 3."),
        ({"method": "x" * 200}, f"method is '{'x' * 78}…. It must be"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_value_and_remedy(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(Run, GOOD | change, "f.yaml")
    text = str(raised.value)
    assert text.startswith(f"f.yaml: {message}")
    assert "\n" not in text


def test_a_missing_key_says_what_it_is() -> None:
    with pytest.raises(ConfigError, match=r"'model' is missing. Set it to text: the model"):
        parse_config(Run, {"data": "d"}, "f.yaml")
    with pytest.raises(ConfigError, match=r"f\.yaml: it must be a section"):
        parse_config(Run, ["model"], "f.yaml")


def test_mistakes_in_python_are_the_same_errors() -> None:
    with pytest.raises(ConfigError, match=r"Run: adapter\.rank is 0"):
        Run(**GOOD, adapter={"rank": 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^fast needs method: lora"):
        Run(**GOOD, fast=True, method="full")
    assert Run(**GOOD, adapter=Adapter(rank=2)).adapter.rank == 2


def test_files_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("model: m\ndata: d\nadapter:\n  rank: 4\n")
    made = read_config(Run, path, ["adapter.exits=[1,2]", "rate=1e-4", "seed=7"])
    assert (made.adapter.rank, made.adapter.exits, made.rate) == (4, (1, 2), 1e-4)
    assert made.seed == 7


@pytest.mark.parametrize(
    "text", ["a: [", "- 1\n- 2\n", "\x00", "just words", "[" * 5000, "d: 2-99"]
)
def test_broken_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(CodegenError, match=r"r\.yaml"):
        read_config(Run, path, what="recipe")
    with pytest.raises(CodegenError, match=r"Cannot read the recipe .*absent\.yaml"):
        read_config(Run, tmp_path / "absent.yaml", what="recipe")


@pytest.mark.parametrize("key", ["model", "steps", "adapter"])
def test_aliases_do_not_multiply(tmp_path: Path, key: str) -> None:
    lists = ["&a0 [x, x, x, x, x, x, x, x, x]"]
    lists += [f"&a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(40)]
    path = tmp_path / "r.yaml"
    for text in (f"{key}: [{', '.join(lists)}]\n", f"{key}: &a [*a]\n"):
        path.write_text(text)
        with pytest.raises(CodegenError, match="an alias inside an anchor"):
            read_config(Run, path, what="recipe")
    path.write_text("model: &m m\ndata: *m\n")
    assert read_config(Run, path).data == "m"
    path.write_text("model: &m m\ndata: [" + "*m, " * 101 + "]\n")
    with pytest.raises(CodegenError, match="too many aliases"):
        read_config(Run, path)


def test_a_file_that_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for place in (tmp_path / "pipe.yaml", "/dev/zero"):
        with pytest.raises(CodegenError, match="not a plain file"):
            read_config(Run, place)


@pytest.mark.parametrize("text", ["steps", "=3", " =3", "model.x=1", "model=["])
def test_broken_overrides(text: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        override({"model": "m"}, text)


def test_values_of_the_command_line() -> None:
    texts = "3", "3e-4", "True", "on", "2025-01-31", "[a, yes, 1]", "null", "'3'", "a: b"
    values = [3, 3e-4, True, "on", "2025-01-31", ["a", "yes", 1], None, "3", "a: b"]
    assert list(map(value_of, texts)) == values


def test_every_key_is_described() -> None:
    found = {key.name: key for key in keys(Run)}
    assert found["adapter.rank"] == (
        "adapter.rank", "a whole number from 1 to 1024", "rank of the update", "16",
    )  # fmt: skip
    assert found["model"].default == "required"
    lines = table(Run).splitlines()
    assert lines[0] == "| key | default | allowed | meaning |"
    assert "| `adapter.rank` | 16 | a whole number from 1 to 1024 | rank of the update |" in lines
    assert len(lines) == len(found) + 2


def test_a_file_that_gives_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: 1\nb:\n  c: 2\n  c: 3\n")
    with pytest.raises(CodegenError, match="line 4 repeats 'c'"):
        config.read_yaml(path)
