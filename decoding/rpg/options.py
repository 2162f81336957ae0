"""The rules' settings, by name; light, imports no tensor library."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from codegen.decoding.rpg.languages import find_language
from codegen.errors import ConfigError

Mode = Literal["ours", "paper", "reference"]
MODES: tuple[Mode, ...] = ("ours", "paper", "reference")


@dataclass(frozen=True, slots=True)
class RpgOptions:
    """Settings of RPG.

    Attributes:
        mode: ``ours``, ``paper`` or ``reference``.
        language: of the program; ``reference`` knows Python only.
        k_min: ``ours``: copies, counted by how little they say, before a penalty begins; 2 or more.
        strength: ``ours``: the first penalty, in logits (nats).
        growth: ``ours``: how much of ``strength`` each further copy adds.
        cap: ``ours``: the largest penalty, in logits.
        bonus: ``ours``: what the ways out gain, as a share of the penalty; 0 for none.
        decay: ``paper`` and ``reference``: the paper's lambda.
        period: statements or elements of the longest block that is looked for.
        tokens: tokens of the longest cycle that is looked for.
    """

    mode: Mode = "ours"
    language: str = "python"
    k_min: int = 4
    strength: float = 2.0
    growth: float = 1.0
    cap: float = 8.0
    bonus: float = 0.5
    decay: float = 0.9
    period: int = 32
    tokens: int = 256

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigError(f"There is no mode {self.mode!r}.", f"Modes are: {', '.join(MODES)}.")
        language = find_language(self.language)
        if self.mode == "reference" and language.name != "python":
            raise ConfigError(
                f"The mode 'reference' knows Python only, not {language.name}.",
                "Take the mode 'paper' or 'ours'.",
            )
        _check(self, "k_min", 2, 1000)
        _check(self, "strength", 0, 100)
        _check(self, "growth", 0, 100)
        _check(self, "cap", 0, 1000)
        _check(self, "bonus", 0, 10)
        _check(self, "decay", 0.01, 1)
        _check(self, "period", 1, 1024)
        _check(self, "tokens", 1, 4096)


@dataclass(frozen=True, slots=True)
class RepetitionPenaltyOptions:
    """``penalty``: what positive logits of seen tokens are divided by, and negative multiplied."""

    penalty: float = 1.1

    def __post_init__(self) -> None:
        _check(self, "penalty", 1, 100)


@dataclass(frozen=True, slots=True)
class NoRepeatNgramOptions:
    """``size``: tokens of the n-grams that may occur once only."""

    size: int = 10

    def __post_init__(self) -> None:
        _check(self, "size", 1, 1000)


@dataclass(frozen=True, slots=True)
class DryOptions:
    """Settings of DRY, with its author's defaults.

    Attributes:
        multiplier: the penalty of the shortest repetition that is penalised, in logits.
        base: what it grows by with each token.
        allowed: tokens of the longest repetition that is not penalised.
        cap: the largest penalty.
        breakers: whether repetitions end at newlines, colons, quotes and asterisks.
    """

    multiplier: float = 0.8
    base: float = 1.75
    allowed: int = 2
    cap: float = 100.0
    breakers: bool = True

    def __post_init__(self) -> None:
        _check(self, "multiplier", 0, 100)
        _check(self, "base", 1, 100)
        _check(self, "allowed", 1, 1000)
        _check(self, "cap", 0, 1000)


def _check(options: object, name: str, least: float, most: float) -> None:
    value = getattr(options, name)
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value}; it must lie in [{least:g}, {most:g}].")


Options = RpgOptions | RepetitionPenaltyOptions | NoRepeatNgramOptions | DryOptions

METHODS: Mapping[str, type[Options]] = {
    "rpg": RpgOptions,
    "repetition_penalty": RepetitionPenaltyOptions,
    "no_repeat_ngram": NoRepeatNgramOptions,
    "dry": DryOptions,
}


def read_options(method: str, given: Mapping[str, Any]) -> Options:
    """The options of a method from names and values; texts are read as the option's type.

    Raises:
        ConfigError: for an unknown method or option, or a value that it can't have.
    """
    if method not in METHODS:
        raise ConfigError(f"There is no method {method!r}.", f"There are: {', '.join(METHODS)}.")
    kind = METHODS[method]
    fields = {field.name: type(field.default) for field in dataclasses.fields(kind)}
    values = {}
    for name, value in given.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"{method} has no option {name!r}.", f"{hint}Its options are: {', '.join(fields)}."
            )
        values[name] = _read(method, name, value, fields[name])
    return kind(**values)


def _read(method: str, name: str, value: Any, kind: type) -> Any:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        if kind is bool:
            return value if isinstance(value, bool) else words[str(value).lower()]
        if kind is str and not isinstance(value, str):
            raise ValueError
        if kind is int and (isinstance(value, bool) or float(value) != int(value)):
            raise ValueError
        if isinstance(value, (str, int, float)):
            return kind(value)
        raise ValueError
    except (ValueError, KeyError, OverflowError):
        names = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}
        raise ConfigError(
            f"Option {name} of {method} is {value!r}; it must be {names[kind]}."
        ) from None
