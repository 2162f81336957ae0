"""Recipes: a fine-tuning run as a typed YAML file.

Every key is checked for its name, type and range before anything heavy is loaded; an error names
the file, the key, what was given and what is allowed.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from codegen.errors import ConfigError, InputError


def _setting(default: Any = MISSING, *, about: str, low: float | None = None,
             high: float | None = None) -> Any:  # fmt: skip
    """A recipe key: its help, and the closed range of its numbers."""
    metadata = {"about": about, "low": low, "high": high}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class LoRA:
    """Low-rank adapters (Hu et al. 2021) on linear layers."""

    rank: int = _setting(16, about="rank of the update", low=1, high=1024)
    alpha: int = _setting(32, about="the update is scaled by alpha / rank", low=1, high=4096)
    dropout: float = _setting(0.0, about="dropout on the adapter's input", low=0, high=0.9)
    targets: str | tuple[str, ...] = _setting(
        "all-linear", about="'all-linear' or the names of the layers"
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """One fine-tuning run."""

    model: str = _setting(about="'embedded', a directory or a hub id")
    data: str | tuple[str, ...] = _setting(about="data directories or JSONL files")
    output: str = _setting(about="directory for checkpoints, the result and the curves")
    steps: int = _setting(about="optimizer steps", low=1, high=10_000_000)
    method: Literal["lora", "full"] = _setting("lora", about="what is trained")
    lora: LoRA = _setting(LoRA, about="adapter settings, for method lora")
    format: Literal["chat", "plain"] = _setting(
        "chat", about="whether the prompt is wrapped in the model's chat template"
    )
    decoder: Literal["sample", "edit_sequence"] = _setting(
        "sample", about="the decoder that reads this model's outputs"
    )
    batch_size: int = _setting(8, about="examples per optimizer step", low=1, high=65536)
    micro_batch_size: int = _setting(
        2, about="examples per forward pass; must divide batch_size", low=1, high=4096
    )
    max_length: int = _setting(512, about="longest example in tokens", low=8, high=1_048_576)
    overlong: Literal["drop", "cut"] = _setting(
        "drop", about="what happens to longer examples; both are counted"
    )
    learning_rate: float = _setting(3e-4, about="peak learning rate", low=0, high=1)
    schedule: Literal["linear", "cosine", "constant"] = _setting(
        "linear", about="how the rate falls after the warm-up"
    )
    warmup: float = _setting(0.03, about="share of the steps for the warm-up", low=0, high=1)
    weight_decay: float = _setting(0.01, about="AdamW's weight decay", low=0, high=1)
    max_grad_norm: float = _setting(1.0, about="gradient clipping", low=0, high=1e6)
    gradient_checkpointing: bool = _setting(False, about="less memory for more computing")
    dtype: Literal["auto", "float32", "bfloat16"] = _setting(
        "auto", about="of the computation; the trained weights stay float32"
    )
    save_every: int = _setting(50, about="steps between checkpoints", low=1, high=10_000_000)
    seed: int = _setting(0, about="decides order and initialisation", low=0, high=2**32 - 1)

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batch_size:
            raise ConfigError(
                f"micro_batch_size {self.micro_batch_size} does not divide batch_size "
                f"{self.batch_size}.",
                "Choose a divisor.",
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """``data`` as a tuple."""
        return (self.data,) if isinstance(self.data, str) else self.data


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe file and applies ``key=value`` overrides (dots reach into sections).

    Raises:
        InputError: if the file can't be read or is not YAML.
        ConfigError: naming the key that is unknown, missing, of a wrong type or out of range.
    """
    import yaml

    path = Path(path)
    try:
        row = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read the recipe {path}: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for bytes or dates that are none
        reason = " ".join(str(error).split())
        raise InputError(f"The recipe {path} is not valid YAML: {reason}.") from None
    if not isinstance(row, dict):
        raise ConfigError(f"The recipe {path} must be a mapping of keys to values.")
    for override in overrides:
        _override(row, override)
    return parse_recipe(row, str(path))


def parse_recipe(row: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Builds a recipe from plain data; errors name ``where``."""
    return _parse(Recipe, row, where, "")


def describe_keys() -> list[tuple[str, str, str]]:
    """(key, type, help) of every recipe key, for the documentation and ``--help``."""
    return list(_describe(Recipe, ""))


def _describe(kind: type, prefix: str) -> typing.Iterator[tuple[str, str, str]]:
    hints = typing.get_type_hints(kind)
    for f in fields(kind):
        if is_dataclass(hints[f.name]):
            yield from _describe(hints[f.name], prefix + f.name + ".")
        else:
            yield prefix + f.name, _allowed(hints[f.name], f.metadata), f.metadata["about"]


def _override(row: dict[str, Any], text: str) -> None:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"The override {text!r} is not of the form key=value.")
    *sections, last = key.strip().split(".")
    target = row
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"The override {text!r}: {section!r} is not a section.")
    try:
        target[last] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"The override {text!r}: the value is not valid YAML.") from None


def _parse(kind: type, row: Any, where: str, prefix: str) -> Any:
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where}: {prefix.rstrip('.')!r} must be a section of keys and values.")
    known = {f.name: f for f in fields(kind)}
    for key in row:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {prefix + near[0]!r}?" if near else ""
            raise ConfigError(
                f"{where}: unknown key {prefix + str(key)!r}.",
                f"{hint} Allowed are: {', '.join(known)}.".strip(),
            )
    hints = typing.get_type_hints(kind)
    values = {}
    for name, f in known.items():
        if name in row:
            values[name] = _value(row[name], hints[name], f.metadata, where, prefix + name)
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(
                f"{where}: the key {prefix + name!r} is missing.",
                f"It is {f.metadata['about']}: {_allowed(hints[name], f.metadata)}.",
            )
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.remedy) from None


def _value(value: Any, hint: Any, metadata: Mapping[str, Any], where: str, key: str) -> Any:
    if is_dataclass(hint):
        return _parse(typing.cast(type, hint), value, where, key + ".")
    if isinstance(value, list):
        value = tuple(value)
    if float in _arms(hint):
        value = _as_float(value)
    if not _fits(value, hint) or not _in_range(value, metadata):
        shown = list(value) if isinstance(value, tuple) else value
        raise ConfigError(
            f"{where}: {key} is {shown!r}.", f"Allowed is: {_allowed(hint, metadata)}."
        )
    return value


def _as_float(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):  # YAML 1.1 reads 3e-4, without a dot, as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _arms(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _fits(value: Any, hint: Any) -> bool:
    for arm in _arms(hint):
        origin = typing.get_origin(arm)
        if origin is Literal:
            fits = isinstance(value, str) and value in typing.get_args(arm)
        elif origin is tuple:
            fits = isinstance(value, tuple) and len(value) > 0
            fits = fits and all(isinstance(item, str) for item in typing.cast(tuple, value))
        elif arm is int:
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif arm is str:
            fits = isinstance(value, str) and value != ""
        else:
            fits = isinstance(value, arm)
        if fits:
            return True
    return False


def _in_range(value: Any, metadata: Mapping[str, Any]) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    low, high = metadata["low"], metadata["high"]
    return (low is None or value >= low) and (high is None or value <= high)


def _allowed(hint: Any, metadata: Mapping[str, Any]) -> str:
    names = []
    for arm in _arms(hint):
        if typing.get_origin(arm) is Literal:
            names.append(" or ".join(typing.get_args(arm)))
        elif typing.get_origin(arm) is tuple:
            names.append("a list of texts")
        else:
            kinds = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
            names.append(kinds[arm])
    text = ", or ".join(names)
    if metadata["low"] is not None:
        text += f" from {metadata['low']:g} to {metadata['high']:g}"
    return text
